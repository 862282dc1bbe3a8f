//! The model and the real ledger, side by side over random logs: each answer, each event, and all that can be read.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod by_hand;

use by_hand::Log;
use proptest::prelude::*;
use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_core::ledger::settings::Settings;
use sluice_judges::model::Timeline;

fn id() -> impl Strategy<Value = u128> {
    prop_oneof![1 => Just(0), 40 => 1_u128..16, 10 => 1_u128..400]
}

fn product() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 40 => 1_u64..4]
}

fn quantity() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 1 => Just(u32::MAX), 60 => 1_u32..5]
}

fn reserve() -> impl Strategy<Value = Reserve> {
    (id(), product(), 0_u64..3, quantity()).prop_map(|(id, product, user, quantity)| Reserve {
        id,
        product,
        user,
        quantity,
    })
}

fn change() -> impl Strategy<Value = ChangeStock> {
    let quantity = prop_oneof![1 => Just(0), 1 => Just(1_000_000_000), 40 => 1_u32..6];
    (id(), product(), quantity).prop_map(|(id, product, quantity)| ChangeStock { id, product, quantity })
}

fn put() -> impl Strategy<Value = Put> {
    let stock = prop_oneof![
        2 => Just(None),
        10 => (0_u64..9).prop_map(Some),
        1 => Just(Some(1 << 40)),
        1 => Just(Some(1 << 41)),
    ];
    let hold_ms = prop_oneof![1 => Just(0), 1 => Just(u32::MAX), 20 => 1_u32..60];
    let window = prop_oneof![5 => Just((0, 0)), 2 => (0_u64..400, 0_u64..800)];
    let unlimited = prop::bool::weighted(0.1);
    (product(), stock, window, 0_u32..6, hold_ms, unlimited).prop_map(
        |(product, stock, (opens, closes), per_user_limit, hold_ms, unlimited)| {
            let at = |ms: u64| if ms == 0 { 0 } else { by_hand::START_MS + ms };
            let (opens_ms, closes_ms) = (at(opens), at(closes));
            Put { product, stock, opens_ms, closes_ms, per_user_limit, hold_ms, unlimited }
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    prop_oneof![
        8 => prop::collection::vec(reserve(), 1..6).prop_map(Group::Reserve),
        4 => prop::collection::vec(id(), 1..4).prop_map(Group::Confirm),
        3 => prop::collection::vec((id(), 0_u32..3).prop_map(|(id, reason)| Cancel { id, reason }), 1..4)
            .prop_map(Group::Cancel),
        2 => prop::collection::vec(id(), 1..3).prop_map(Group::Resolve),
        3 => prop::collection::vec(put(), 1..3).prop_map(Group::Put),
        2 => prop::collection::vec(change(), 1..3).prop_map(Group::Restock),
        2 => prop::collection::vec(change(), 1..3).prop_map(Group::WriteOff),
        1 => prop::collection::vec(prop_oneof![9 => Just(9_u64), 1 => product()], 1..2).prop_map(Group::Seal),
    ]
}

/// Entries: how far the clock moved (also back), whether the term is the proposer's, the groups.
type Entry = (i64, bool, Vec<Group>);

fn entry() -> impl Strategy<Value = Entry> {
    let moved = prop_oneof![20 => 0_i64..30, 2 => -50_i64..0, 1 => 60_000_i64..200_000];
    (moved, prop::bool::weighted(0.95), prop::collection::vec(group(), 0..5))
}

fn settings() -> impl Strategy<Value = Settings> {
    let records_max = prop_oneof![3 => Just(1000_u32), 1 => 1_u32..12];
    let retention_ms = prop_oneof![2 => Just(86_400_000_u64), 2 => 0_u64..200];
    (records_max, retention_ms).prop_map(|(records_max, retention_ms)| Settings { records_max, retention_ms })
}

fn side_by_side(settings: Settings, entries: Vec<Entry>) {
    let mut log = Log::with(settings);
    let mut timeline = Timeline::new(settings);
    for (moved, own_term, groups) in entries {
        log.now_ms = log.now_ms.saturating_add_signed(moved);
        let mut entry = log.entry(groups.clone());
        entry.term += u64::from(!own_term);
        let answers = log.apply(&entry);
        timeline.push(&entry).unwrap();
        let step = timeline.step(entry.index).unwrap();
        let mine: Vec<_> = step.answers.iter().map(|(.., answer)| *answer).collect();
        assert_eq!(step.void, !own_term);
        assert_eq!(answers, mine, "the ledger's answers, then the model's, to {groups:?}");
        timeline.agrees(&log.ledger).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_and_the_ledger_agree(
        settings in settings(),
        entries in prop::collection::vec(entry(), 1..60),
    ) {
        side_by_side(settings, entries);
    }
}

/// Runs the property above with a known bug of the ledger switched on, in a process of its own.
fn is_noticed(mutant: &str) -> bool {
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .args(["the_model_and_the_ledger_agree", "--exact"])
        .env("SLUICE_MUTANTS", mutant)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("1 passed") || said.contains("Test failed: "), "it ran: {said}");
    assert!(!said.contains("there is no mutant"), "{mutant}");
    !child.status.success()
}

#[test]
fn known_bugs_of_the_ledger_are_noticed() {
    let mutants = [
        "refuse_before_sweep",
        "limit_not_given_back",
        "conflict_unnoticed",
        "held_until_swept",
        "expiry_not_settled",
        "no_tombstone",
        "term_unchecked",
        "refusal_forgotten",
        "restock_forgotten",
        "time_falls",
        "time_jumps",
    ];
    assert!(!is_noticed(""), "nothing is wrong with the ledger as it is");
    let missed: Vec<_> = mutants.into_iter().filter(|mutant| !is_noticed(mutant)).collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
