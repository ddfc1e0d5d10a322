use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::model::{Act, Fake, Plan, Visit, World};
use super::*;

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    right: u64,
    /// What was claimed, and the truth.
    wrong: Vec<(u64, Option<u64>)>,
    refused: BTreeMap<&'static str, u64>,
}

/// Runs a plan to its end, all calls looked up as they come, with these rules off.
fn run(plan: &Plan, off: &[Rule]) -> Outcome {
    let world = Rc::new(RefCell::new(World::new(plan)));
    let mut kernel = Fake(world.clone());
    let mut serial = Serial::<Fake> {
        off: off.to_vec(),
        ..Serial::default()
    };
    serial.app(Place::Tcp("127.0.0.1:8000".parse().unwrap()));
    let mut outcome = Outcome::default();
    for _ in 0..4_000 {
        let mut world = world.borrow_mut();
        if !world.busy() && world.arrived.is_empty() {
            break;
        }
        world.churn();
        let Some(arrived) = world.arrived.pop_front() else {
            continue;
        };
        drop(world);
        look_up(&mut serial, &mut kernel, &arrived, &mut outcome);
        kernel.0.borrow_mut().answer(&arrived);
    }
    outcome
}

fn look_up(
    serial: &mut Serial<Fake>,
    kernel: &mut Fake,
    arrived: &super::model::Arrived,
    outcome: &mut Outcome,
) {
    let world = kernel.0.clone();
    let in_flight = world.borrow().in_flight.clone();
    let Some(call) = &arrived.call else {
        return refuse(outcome, Unlinked::NoTimestamp);
    };
    let mut first = None;
    for _ in 0..24 {
        match serial.look(kernel, &in_flight, call, &mut first) {
            Ok(Look::Again(_)) => world.borrow_mut().churn(),
            Ok(Look::Proven(claim)) => {
                // As the engine does, unless the rule is off.
                let still = in_flight.context(claim.connection, claim.request).is_some();
                if !still && !serial.off.contains(&Rule::Still) {
                    return refuse(outcome, Unlinked::NoInbound);
                }
                match arrived.truth == Some(claim.request) {
                    true => outcome.right += 1,
                    false => outcome.wrong.push((claim.request, arrived.truth)),
                }
                return;
            }
            Err(reason) => return refuse(outcome, reason),
        }
    }
    refuse(outcome, Unlinked::NotParked);
}

fn refuse(outcome: &mut Outcome, reason: Unlinked) {
    *outcome.refused.entry(reason.as_str()).or_default() += 1;
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => Just(Act::Fresh),
        6 => Just(Act::Pooled),
        2 => Just(Act::Split),
        1 => Just(Act::Fire),
        3 => Just(Act::Leave),
        3 => Just(Act::Collect),
        2 => Just(Act::Shared),
        2 => Just(Act::Fork),
        1 => Just(Act::Daemon),
        1 => Just(Act::ForkWorker),
        2 => Just(Act::HandOver),
        1 => Just(Act::HandDown),
        2 => Just(Act::Nest),
        2 => Just(Act::Thread),
        4 => Just(Act::Work),
        1 => Just(Act::Sleep),
        1 => Just(Act::Die),
    ];
    prop::collection::vec(act, 0..4)
}

fn visit() -> impl Strategy<Value = Visit> {
    let after = prop_oneof![3 => Just(Vec::new()), 1 => acts()];
    let requests = prop::collection::vec((acts(), after), 1..3);
    (requests, prop::bool::weighted(0.15)).prop_map(|(mut requests, foreign)| {
        // Assumed: what a call between requests of ours asked is not read within the next one. A request that hopspan
        // does not see is between.
        for (before, after) in &mut requests {
            after.retain(|act| !matches!(act, Act::Leave));
            before.retain(|act| !foreign || !matches!(act, Act::Leave));
        }
        Visit { requests, foreign }
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        1..4_usize,
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::collection::vec(visit(), 1..8),
        prop::collection::vec(any::<u8>(), 0..400),
    )
        .prop_map(
            |(workers, idle_calls, master_first, background, mut visits, schedule)| {
                // Assumed of a process that takes up a request while it works on another: it is one that hopspan sees, it
                // makes no call for it after its answer, and no work goes on for longer than ended requests are remembered.
                let all = visits.iter().flat_map(|visit| &visit.requests);
                let mut acts = all.flat_map(|(before, after)| before.iter().chain(after));
                if acts.any(|act| *act == Act::Nest) {
                    for visit in &mut visits {
                        visit.foreign = false;
                        for (before, after) in &mut visit.requests {
                            before.retain(|act| *act != Act::Sleep);
                            after.clear();
                        }
                    }
                }
                Plan {
                    workers,
                    idle_calls,
                    master_first,
                    background,
                    visits,
                    schedule,
                }
            },
        )
}

/// As many as asked for, by default what takes a few seconds: `HOPSPAN_MODEL_CASES=1000000` for a long run.
fn cases() -> u32 {
    let asked = std::env::var("HOPSPAN_MODEL_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(2_000)
}

#[test]
fn a_claim_is_true() {
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    });
    let total = RefCell::new(Outcome::default());
    let outcome = runner.run(&plan(), |plan| {
        let outcome = run(&plan, &[]);
        prop_assert!(outcome.wrong.is_empty(), "{outcome:?}");
        let mut total = total.borrow_mut();
        total.right += outcome.right;
        for (reason, count) in outcome.refused {
            *total.refused.entry(reason).or_default() += count;
        }
        Ok(())
    });
    let total = total.into_inner();
    println!("{} right, refused {:?}", total.right, total.refused);
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // It proved something, and met what it refuses.
    assert!(total.right > u64::from(cases()) / 2);
    for reason in [
        "several_requests",
        "unknown_owner",
        "shared_socket",
        "other_thread",
        "no_inbound",
    ] {
        assert!(total.refused.contains_key(reason), "never {reason}");
    }
}

#[test]
fn a_plain_worker_is_joined() {
    let requests = vec![(vec![Act::Work, Act::Fresh, Act::Pooled], Vec::new())];
    let visit = Visit {
        requests,
        foreign: false,
    };
    let plan = Plan {
        workers: 2,
        idle_calls: false,
        master_first: true,
        background: false,
        visits: vec![visit; 5],
        schedule: Vec::new(),
    };
    let outcome = run(&plan, &[]);
    assert!(outcome.wrong.is_empty());
    assert!(outcome.right >= 8, "{outcome:?}");
}

/// The rules have teeth: without them, some run soon ends in a wrong parent, where with them none does.
#[test]
fn without_the_rules_there_are_wrong_parents() {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    });
    let strategy = plan();
    let tries = (0..2_000).find(|_| {
        let plan = strategy.new_tree(&mut runner).unwrap().current();
        let proven = run(&plan, &[]);
        assert!(proven.wrong.is_empty(), "{proven:?} {plan:?}");
        !run(&plan, &Rule::ALL).wrong.is_empty()
    });
    println!("wrong after {tries:?} runs");
    assert!(tries.is_some(), "all rules off, and nothing wrong");
}

#[test]
fn the_newest_addresses_of_the_app_are_known_and_no_more() {
    let mut serial: Serial<model::Fake> = Serial::default();
    let place = |port: usize| Place::Tcp(([127, 0, 0, 1], port as u16).into());
    for port in (1..=APPS + 6).chain([10]) {
        serial.app(place(port));
    }
    let known: Vec<Place> = (7..=APPS + 6)
        .filter(|port| *port != 10)
        .map(place)
        .collect();
    assert_eq!(serial.apps, [known, vec![place(10)]].concat());
}
