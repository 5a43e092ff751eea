//! The answers of upstream servers. They are computed from the question alone.

use super::{
    names::{A, AAAA, ANY, CNAME, Data, N, Rr, SOA, name, under},
    oracle::World,
    program,
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use zonal::{
    answer::known::{Entry, KnownAnswer, KnownAnswers, OWNER, Question, Records},
    snapshot::{
        Snapshot,
        routes::{RouteId, Rule},
    },
};

/// The name of the internet resolver among the rules.
pub const INTERNET: &str = "";

/// The TTL of all upstream answers, in seconds.
const TTL: u32 = 60;

/// The cached answer to a question.
#[derive(Clone, Debug)]
pub enum UpstreamAnswer {
    /// The cache has no answer: the question is forwarded.
    Unasked,
    Records(Vec<Rr>),
    /// A CNAME record, and its target.
    Follow(Vec<Rr>, N),
    /// NODATA or NXDOMAIN, with the SOA record.
    Empty(u16, Rr),
    Failed,
}

/// The cached answer of the targets of a rule, and whether it is stale.
pub fn upstream_answer(rule: &str, asked: &[String], qtype: u16) -> (UpstreamAnswer, bool) {
    let number = |of: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        of(&mut hasher);
        hasher.finish()
    };
    let of_name = number(&|hasher| (rule, asked).hash(hasher));
    let of_question = number(&|hasher| (rule, asked, qtype).hash(hasher));
    let is_stale = of_question >> 8 & 7 == 0;
    if of_question % 5 == 0 {
        return (UpstreamAnswer::Unasked, false);
    }
    let soa = || {
        let apex = &asked[asked.len().saturating_sub(2)..];
        Rr::new(apex, SOA, TTL, Data::Soa(apex.to_vec(), under("them", apex), [1, 2, 3, 4, 5]))
    };
    let targets = [
        "www.test",
        "a.test",
        "b.a.test",
        "x.onprem.example",
        "nowhere.example",
        "a.c.test",
        "ip-10-0-0-5.ec2.internal",
    ];
    let out = match of_name % 8 {
        0 | 1 => {
            let target = name(targets[(of_name >> 8) as usize % targets.len()]);
            let record = vec![Rr::new(asked, CNAME, TTL, Data::Name(target.clone()))];
            if matches!(qtype, CNAME | ANY) {
                UpstreamAnswer::Records(record)
            } else {
                UpstreamAnswer::Follow(record, target)
            }
        }
        2 => UpstreamAnswer::Failed,
        3 => UpstreamAnswer::Empty(3, soa()),
        _ => match qtype {
            A | ANY => UpstreamAnswer::Records(
                (1..3).map(|last| Rr::new(asked, A, TTL, Data::v4(198, 51, 100, last))).collect(),
            ),
            AAAA => UpstreamAnswer::Records(vec![Rr::new(asked, AAAA, TTL, Data::v6(7))]),
            _ => UpstreamAnswer::Empty(0, soa()),
        },
    };
    (out, is_stale)
}

/// The cached answers, in the form that zonal reads.
pub struct Upstream(HashMap<RouteId, String>);

impl Upstream {
    /// The answers by the routes of a world's rules and of the internet resolver.
    pub fn new(world: &World, snapshot: &Snapshot) -> Upstream {
        let rules = world.manifest.resolver_rules.iter();
        let routes = rules.map(|(id, rule)| (Rule::new(&world.manifest, id, rule).route.id, id.clone()));
        let internet = snapshot.node.internet.iter().map(|route| (route.id, INTERNET.to_owned()));
        Upstream(routes.chain(internet).collect())
    }
}

impl KnownAnswers for Upstream {
    fn with<R>(
        &self,
        route: RouteId,
        question: &Question,
        now: i64,
        use_it: impl FnOnce(Option<KnownAnswer>) -> R,
    ) -> R {
        let rule = self.0.get(&route).expect("a route of the world");
        let asked = program::name_of(question.name.wire());
        let (answer, stale) = upstream_answer(rule, &asked, question.qtype);
        let mut entry = Entry { ttl: TTL, ..Entry::failure(22, "they fail", now, TTL) };
        match answer {
            UpstreamAnswer::Unasked => return use_it(None),
            UpstreamAnswer::Failed => {}
            UpstreamAnswer::Records(list) => {
                entry = Entry { rcode: 0, ede: None, answer: records(&list, &asked), ..entry }
            }
            UpstreamAnswer::Follow(list, _) => {
                let answer = records(&list, &asked);
                entry = Entry { rcode: 0, ede: None, target: Some(12), answer, ..entry };
            }
            UpstreamAnswer::Empty(rcode, soa) => {
                entry = Entry { rcode, ede: None, authority: records(&[soa], &asked), ..entry };
            }
        }
        use_it(Some(KnownAnswer { entry: &entry, ttl: TTL, stale, refresh: false }))
    }
}

/// Records in zonal's form. All owners are suffixes of the queried name.
fn records(list: &[Rr], asked: &[String]) -> Records {
    let mut octets = Vec::new();
    for rr in list {
        octets.extend([OWNER, (asked.len() - rr.owner.len()) as u8]);
        octets.extend(rr.rtype.to_be_bytes());
        octets.extend([0, 1, 0, 0, 0, 0]);
        let data = rr.data.wire();
        octets.extend((data.len() as u16).to_be_bytes());
        octets.extend(data);
    }
    Records { count: list.len() as u16, octets: octets.into() }
}
