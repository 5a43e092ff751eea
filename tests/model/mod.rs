//! A naive model of the contract, against which the compiled snapshot is checked with generated worlds.
//!
//! It follows the documents sentence by sentence, without any table that is made in advance, and shares no code with
//! the program but the manifest's types.

pub mod generate;
pub mod names;
pub mod networks;
pub mod oracle;
pub mod program;
pub mod zone;

use generate::Dice;
use names::ANY;
use oracle::{Ask, Expect, World};
use program::Got;
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner},
};
use std::cell::Cell;

/// How many questions each world is asked.
const QUESTIONS: usize = 40;

/// Runs `check` over generated worlds: the same ones each time, unless `PROPTEST_CASES` asks for more. Worlds that the
/// program refuses are left out; most must not be.
pub fn worlds(
    cases: u32,
    seed: u64,
    check: impl Fn(&World, &zonal::snapshot::Snapshot, &mut Dice) -> Result<(), TestCaseError>,
) {
    let default = Config::default();
    let asked_for = std::env::var("PROPTEST_CASES").is_ok();
    let config = Config {
        cases: if asked_for { default.cases } else { cases },
        rng_seed: if asked_for { default.rng_seed } else { RngSeed::Fixed(seed) },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model/regressions"))),
        max_shrink_iters: 1500,
        ..default
    };
    let (good, refused) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&vec(any::<u16>(), 0..1500), |numbers| {
        let mut dice = Dice::new(&numbers);
        let world = generate::world(&mut dice);
        match program::snapshot(&world) {
            Err(problems) => {
                refused.set(refused.get() + 1);
                if std::env::var("MODEL_VERBOSE").is_ok() {
                    problems.iter().for_each(|problem| eprintln!("refused: {problem}"));
                }
                Ok(())
            }
            Ok(snapshot) => {
                good.set(good.get() + 1);
                check(&world, &snapshot, &mut dice)
            }
        }
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("after {} worlds; the smallest case found: {reason}", good.get()),
        Err(error) => panic!("{error}"),
    }
    assert!(good.get() >= refused.get(), "{} worlds are accepted, {} refused", good.get(), refused.get());
}

/// Whether the reply is what the model expects.
pub fn agrees(ask: &Ask, expect: &Expect, got: &Got) -> Result<(), String> {
    let differs = |what: &str, want: String, have: String| Err(format!("{what}: expected {want}, got {have}"));
    if expect.rcode != got.rcode {
        return differs("rcode", expect.rcode.to_string(), got.rcode.to_string());
    }
    if expect.ede.is_some() && expect.ede != got.ede {
        return differs("EDE", format!("{:?}", expect.ede), format!("{:?}", got.ede));
    }
    // A chain that is too long is a failure: what was collected does not matter.
    if expect.rcode == 2 {
        return if got.ede.is_some() { Ok(()) } else { Err("SERVFAIL without EDE".into()) };
    }
    if expect.ede.is_none() && got.ede.is_some() {
        return differs("EDE", "none".into(), format!("{:?} {}", got.ede, got.ede_text));
    }
    if expect.aa != got.aa {
        return differs("AA", expect.aa.to_string(), got.aa.to_string());
    }
    // The documents leave the apexes of autodefined zones open, and so who has SOA and NS records.
    if expect.any_soa
        && expect.rcode == 0
        && matches!(ask.qtype, names::SOA | names::NS | ANY)
        && !got.answer.is_empty()
    {
        return Ok(());
    }
    // RFC 8482: ANY may be answered with some of the records.
    let any = ask.qtype == ANY && !expect.answer.is_empty();
    let same =
        if any { !got.answer.is_empty() && got.answer.is_subset(&expect.answer) } else { got.answer == expect.answer };
    if !same {
        return differs("answer", format!("{:#?}", expect.answer), format!("{:#?}", got.answer));
    }
    if expect.any_soa {
        let soa = got.authority.iter().any(|(_, rtype, _)| *rtype == names::SOA);
        return if soa && got.authority.len() == 1 { Ok(()) } else { Err("no SOA record in an empty answer".into()) };
    }
    if !expect.authority.is_empty() && got.authority != expect.authority {
        return differs("authority", format!("{:?}", expect.authority), format!("{:?}", got.authority));
    }
    Ok(())
}

/// What is printed of a failure.
pub fn story(world: &World, ask: &Ask, got: &Got) -> String {
    let mut out = format!(
        "{} asks {} for {} {} (RD {})\nwho: {:?}\n",
        ask.source,
        ask.local,
        names::text(&ask.name),
        names::type_text(ask.qtype),
        ask.rd,
        world.who(ask.source, ask.local)
    );
    out += &format!("got rcode {} aa {} ede {:?} {}\n", got.rcode, got.aa, got.ede, got.ede_text);
    out += &format!("answer {:?}\nauthority {:?}\n", got.answer, got.authority);
    out += &serde_json::to_string(&world.manifest).unwrap_or_default();
    for (id, records) in &world.data {
        out += &format!("\n{id}:");
        for rr in records {
            let (owner, _, ttl, data) = names::Seen::from(rr);
            out += &format!("\n  {owner} {ttl} {} {data}", names::type_text(rr.rtype));
        }
    }
    out
}

#[test]
fn the_program_does_what_the_model_does() {
    let empty = Cell::new(0);
    let asked = Cell::new(0);
    worlds(400, 20_261_123, |world, snapshot, dice| {
        let pool = generate::interesting(world);
        for number in 0..QUESTIONS {
            let ask = generate::ask(dice, world, &pool);
            let got = program::ask(snapshot, &ask, world.now, number as u32 * 7919);
            let verdicts = [true, false].map(|keeps| agrees(&ask, &world.ask(&ask, keeps), &got));
            if let [Err(reason), Err(_)] = verdicts {
                if std::env::var("MODEL_SURVEY").is_ok() {
                    eprintln!("@@{reason}\n{}", story(world, &ask, &got));
                    continue;
                }
                return Err(TestCaseError::fail(format!("{reason}\n{}", story(world, &ask, &got))));
            }
            asked.set(asked.get() + 1);
            empty.set(empty.get() + u32::from(got.answer.is_empty()));
        }
        Ok(())
    });
    // The generator is worth nothing if it finds nothing.
    assert!(empty.get() * 10 < asked.get() * 8, "{} of {} answers are empty", empty.get(), asked.get());
}
