//! The query logs: the configurations that log the queries of each view.
//!
//! Each configuration has a slot, which it keeps until it is deleted. A log entry says in one 64-bit number which slots it is
//! for. The members of an entry that are equal for a whole view are text already. Nothing is written here: that is the work
//! of [`query_log`](crate::query_log).

use super::{
    Node, Snapshot,
    networks::{NetworkAt, Networks},
    views::Views,
};
use crate::manifest::{Id, LogDestination, Manifest, Problem, QueryLogConfig, connectivity::Network};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// The number of slots. An entry has 64 bits for them, and the last bit is for dnstap.
pub const SLOTS: usize = 63;

/// The destinations of query logs that the node allows.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// The directory for files; none: files are not allowed.
    pub directory: Option<PathBuf>,
    /// Other destinations, as [`LogDestination::given`] returns them.
    pub destinations: BTreeSet<String>,
}

impl Allowed {
    /// The reason why the node does not allow a destination; none if it does.
    fn reason_against(&self, destination: &LogDestination) -> Option<String> {
        let given = destination.given().into_iter().next()?;
        match (&destination.file, &self.directory) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some("this node has no `query_log.directory` for files".into()),
            _ if self.destinations.contains(&given) => None,
            _ => Some(format!("this node does not list `{given}` in `query_log.allow`")),
        }
    }
}

/// A configuration in its slot.
pub struct Configured {
    /// Its identifier.
    pub id: Id,
    /// The configuration in the manifest.
    pub resource: Arc<QueryLogConfig>,
    /// The generation that gave it the slot. Older entries belong to the configuration that had the slot before.
    pub since: u64,
    /// The node allows its destination.
    pub is_allowed: bool,
}

/// The queries of a view that one configuration logs.
struct Filter {
    slot: u8,
    /// The RCODEs; none: all.
    rcodes: Option<Box<[u16]>>,
    slower_than: Duration,
    /// The sampled share: a query is logged if its random 32-bit number is not greater.
    share: u32,
}

/// The logging of a view's queries. It has no filters if only DNS Firewall events are made of them.
pub struct Logged {
    filters: Box<[Filter]>,
    /// The members of an entry about the VPC: `"account_id":…,"region":…,"vpc_id":…`
    pub front: Box<str>,
    /// The members of an entry about the view: `"view":…,"path":…`
    pub back: Box<str>,
}

impl Logged {
    /// The slots of the configurations that log an answer, as bits. `chance` is a random number.
    #[inline]
    pub fn wanted_by(&self, rcode: u16, latency: Duration, chance: u32) -> u64 {
        let mut slots = 0;
        for filter in &self.filters {
            let is_wanted = chance <= filter.share
                && latency >= filter.slower_than
                && filter.rcodes.as_ref().is_none_or(|rcodes| rcodes.contains(&rcode));
            slots |= u64::from(is_wanted) << filter.slot;
        }
        slots
    }
}

/// All query logs.
#[derive(Default)]
pub struct QueryLogs {
    /// The configurations, by slot.
    pub slots: Vec<Option<Configured>>,
    /// The logging of each view, by its slot.
    views: Vec<Option<Box<Logged>>>,
    /// Whether a view has filters. Without filters, zonal makes only DNS Firewall events.
    has_filters: bool,
}

impl QueryLogs {
    /// Whether zonal logs no queries and makes no DNS Firewall events.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Whether a configuration logs the queries of a view.
    #[inline]
    pub fn has_filters(&self) -> bool {
        self.has_filters
    }

    /// The logging of a view, by its slot.
    #[inline]
    pub fn of(&self, view: u32) -> Option<&Logged> {
        self.views.get(view as usize)?.as_deref()
    }

    /// Compiles the query logs of a manifest. Configurations of the previous snapshot keep their slots.
    pub(super) fn compile(
        manifest: &Manifest,
        networks: &Networks,
        views: &Views,
        node: &Node,
        previous: Option<&Snapshot>,
    ) -> QueryLogs {
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let mut this = QueryLogs::default();
        if manifest.query_log_configs.is_empty() && !node.sends_firewall_events {
            return this;
        }
        this.slots.resize_with(SLOTS, || None);
        let make = |id: &Id, resource: &Arc<QueryLogConfig>, since| Configured {
            id: id.clone(),
            resource: resource.clone(),
            since,
            is_allowed: node
                .query_logs
                .as_ref()
                .is_some_and(|allowed| allowed.reason_against(&resource.destination).is_none()),
        };
        let old = previous.map_or(&[][..], |previous| &previous.query_logs.slots);
        for (slot, old) in old.iter().enumerate() {
            let same = old.as_ref().and_then(|old| Some((old, manifest.query_log_configs.get(&old.id)?)));
            this.slots[slot] = same.map(|(old, resource)| make(&old.id, resource, old.since));
        }
        for (id, resource) in &manifest.query_log_configs {
            let is_there = this.slots.iter().flatten().any(|other| other.id == *id);
            let free = this.slots.iter_mut().find(|slot| slot.is_none());
            if let Some(free) = free.filter(|_| !is_there) {
                *free = Some(make(id, resource, generation));
            }
        }
        let mut of_profiles = vpcs_of_profiles(manifest, networks);
        let logged_networks = this.slots.iter().map(|slot| {
            let Configured { id, resource, .. } = slot.as_ref()?;
            let mut logged = LoggedNetworks::of(resource, networks);
            logged.vpcs.append(&mut of_profiles.remove(id).unwrap_or_default());
            Some(logged)
        });
        let logged_networks: Vec<Option<LoggedNetworks>> = logged_networks.collect();
        for view in views.iter() {
            let is_here = |logged: &LoggedNetworks| {
                logged.vpcs.contains(&view.vpc) || view.client().is_some_and(|client| logged.networks.contains(&client))
            };
            let filters: Box<[Filter]> = (0..)
                .zip(&logged_networks)
                .filter(|(_, logged)| logged.as_ref().is_some_and(is_here))
                .filter_map(|(slot, _)| Some(Filter::new(slot, &this.slots[usize::from(slot)].as_ref()?.resource)))
                .collect();
            if filters.is_empty() && !node.sends_firewall_events {
                continue;
            }
            this.has_filters |= !filters.is_empty();
            let id = networks.info(view.vpc).network.id();
            let vpc = networks.vpc(view.vpc);
            let (owner, region) = vpc.map_or(("", ""), |vpc| (&*vpc.owner_id, &*vpc.region));
            let logged = Logged {
                filters,
                front: members([("account_id", owner), ("region", region), ("vpc_id", id)]),
                back: members([("view", &view.label), ("path", view.path.label())]),
            };
            let at = view.slot as usize;
            if this.views.len() <= at {
                this.views.resize_with(at + 1, || None);
            }
            this.views[at] = Some(Box::new(logged));
        }
        this
    }
}

/// A warning for each configuration whose destination the node does not allow.
pub(super) fn warnings(manifest: &Manifest, allowed: &Allowed) -> Vec<Problem> {
    let warnings = manifest.query_log_configs.iter().filter_map(|(id, config)| {
        let message = allowed.reason_against(&config.destination)?;
        Some(Problem::warning("query_log_configs", id, "destination", format!("the log is not written: {message}")))
    });
    warnings.collect()
}

/// The VPCs that have a configuration by a Profile, for each configuration.
fn vpcs_of_profiles<'m>(manifest: &'m Manifest, networks: &Networks) -> BTreeMap<&'m Id, BTreeSet<NetworkAt>> {
    let mut vpcs: BTreeMap<&Id, BTreeSet<NetworkAt>> = BTreeMap::new();
    for (id, vpc) in &manifest.vpcs {
        let Some(at) = networks.vpc_at(id) else { continue };
        for config in manifest.profiles_of(vpc).flat_map(|(_, profile)| &profile.query_log_configs) {
            vpcs.entry(config).or_default().insert(at);
        }
    }
    vpcs
}

/// The networks of a configuration.
struct LoggedNetworks {
    vpcs: BTreeSet<NetworkAt>,
    networks: BTreeSet<NetworkAt>,
}

impl LoggedNetworks {
    fn of(config: &QueryLogConfig, networks: &Networks) -> LoggedNetworks {
        let on_premises = |id: &Id| networks.at(&Network::OnPremises(id.clone()));
        LoggedNetworks {
            vpcs: config.vpc_ids.iter().filter_map(|id| networks.vpc_at(id)).collect(),
            networks: config.on_premises_network_ids.iter().filter_map(on_premises).collect(),
        }
    }
}

impl Filter {
    fn new(slot: u8, config: &QueryLogConfig) -> Filter {
        let rcodes = config.rcodes.iter().map(|rcode| rcode.number());
        Filter {
            slot,
            rcodes: (!config.rcodes.is_empty()).then(|| rcodes.collect()),
            slower_than: config.slower_than_ms.map_or(Duration::ZERO, |ms| Duration::from_millis(ms.into())),
            share: (config.sampling * f64::from(u32::MAX)) as u32,
        }
    }
}

/// Members of a JSON object, without the braces.
fn members<const N: usize>(members: [(&str, &str); N]) -> Box<str> {
    let written = members.map(|(name, value)| format!("\"{name}\":{}", serde_json::Value::from(value)));
    written.join(",").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::Loaded, snapshot::compile};

    const NETWORKS: &str = r#""vpcs": {
        "a": {"region": "r", "owner_id": "1\"2", "cidr_blocks": ["10.1.0.0/16"]},
        "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]}
    }"#;

    fn compile_after(logs: &str, previous: Option<&Snapshot>) -> Snapshot {
        let text = format!("{{{NETWORKS}, \"query_log_configs\": {{{logs}}}}}");
        let manifest = Arc::new(serde_json::from_str(&text).unwrap());
        let allowed = Allowed { directory: None, destinations: ["stdout".to_string()].into() };
        let node = Arc::new(Node { query_logs: Some(allowed), ..Node::default() });
        compile(&Loaded { manifest, ..Loaded::default() }, &node, previous).unwrap_or_else(|_| panic!("{text}")).0
    }

    /// The identifiers of the configurations, by slot, with the generations that they began in.
    fn slots(snapshot: &Snapshot) -> Vec<(&str, u64)> {
        let slots = snapshot.query_logs.slots.iter();
        slots.map_while(Option::as_ref).map(|slot| (&*slot.id, slot.since)).collect()
    }

    #[test]
    fn configurations_keep_their_slots_and_free_slots_are_used_again() {
        let log =
            |id: &str, vpc: &str| format!(r#""{id}": {{"vpc_ids": ["{vpc}"], "destination": {{"stdout": {{}}}}}}"#);
        let (x, y, z) = (log("x", "a"), log("y", "b"), log("w", "a"));
        let first = compile_after(&[&*x, &y].join(","), None);
        assert_eq!(slots(&first), [("x", 1), ("y", 1)]);
        let second = compile_after(&[&*y, &z].join(","), Some(&first));
        assert_eq!(slots(&second), [("w", 2), ("y", 1)]);
        let third = compile_after(&y, Some(&second));
        assert!(third.query_logs.slots[0].is_none());
        let nothing = compile_after("", Some(&third));
        assert!(nothing.query_logs.is_empty());
        assert_eq!(slots(&compile_after(&y, Some(&nothing))), [("y", 5)]);
        let same =
            compile(&Loaded { manifest: first.manifest.clone(), ..Loaded::default() }, &first.node, Some(&first));
        assert!(same.is_ok_and(|(same, _)| Arc::ptr_eq(&same.query_logs, &first.query_logs)));
    }

    #[test]
    fn logs_the_queries_that_the_configuration_selects() {
        let log = r#""l": {"vpc_ids": ["a"], "destination": {"unix": "/x"}, "rcodes": ["NXDOMAIN"], "slower_than_ms": 5,
                    "sampling": 0.5}"#;
        let snapshot = compile_after(log, None);
        let logs = &snapshot.query_logs;
        assert!(!logs.slots[0].as_ref().unwrap().is_allowed);
        let view = |vpc: &str| {
            let at = snapshot.networks.vpc_at(vpc).unwrap();
            snapshot.views.iter().find(|view| view.vpc == at).unwrap().slot
        };
        assert!(logs.of(view("b")).is_none() && logs.of(1000).is_none());
        let logged = logs.of(view("a")).unwrap();
        assert_eq!(&*logged.front, r#""account_id":"1\"2","region":"r","vpc_id":"a""#);
        assert_eq!(&*logged.back, r#""view":"a","path":"in-vpc""#);
        let ms = Duration::from_millis;
        for (rcode, latency, chance, expected) in [
            (3, ms(5), 0, 1),
            (3, ms(5), u32::MAX / 2, 1),
            (3, ms(5), u32::MAX / 2 + 2, 0),
            (3, ms(4), 0, 0),
            (0, ms(5), 0, 0),
        ] {
            assert_eq!(logged.wanted_by(rcode, latency, chance), expected, "{rcode} {latency:?} {chance}");
        }
        let problems = warnings(&snapshot.manifest, snapshot.node.query_logs.as_ref().unwrap());
        assert!(problems[0].message.contains("does not list `unix:/x` in `query_log.allow`"), "{problems:?}");
    }
}
