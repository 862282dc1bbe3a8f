//! Random entries, to two ledgers and to a naive model of them: every answer, event and credit, and everything
//! that can be read, must agree after every entry. One ledger is saved and loaded in between, under other hash
//! seeds, and must stay byte-identical to the other.

#![allow(clippy::unwrap_used)]

mod ledger_support;
#[path = "ledger_support/model.rs"]
mod model;
#[path = "ledger_support/world.rs"]
mod world;

use std::collections::BTreeSet;

use ledger_support::{Observed, Told};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_protocol::Status;
use world::{IDS, PRODUCTS, SETTINGS, START_MS, Step, USERS, World};

fn id() -> impl Strategy<Value = u128> {
    prop_oneof![40 => 1..=IDS, 1 => Just(0_u128)]
}

fn product() -> impl Strategy<Value = u64> {
    prop_oneof![40 => 1..=PRODUCTS, 1 => Just(0_u64)]
}

fn quantity() -> impl Strategy<Value = u32> {
    prop_oneof![40 => 1..6_u32, 1 => Just(0_u32), 1 => Just(u32::MAX)]
}

fn reserve() -> impl Strategy<Value = Reserve> {
    // Most ids come with the payload that they always come with, so that repeats are as common as conflicts.
    let usual = id().prop_map(|id| Reserve {
        id,
        product: 1 + (id % u128::from(PRODUCTS)) as u64,
        user: (id / 5 % u128::from(USERS)) as u64,
        quantity: 1 + (id % 3) as u32,
    });
    let any = (id(), product(), 0..USERS, quantity()).prop_map(|(id, product, user, quantity)| Reserve {
        id,
        product,
        user,
        quantity,
    });
    prop_oneof![3 => usual, 1 => any]
}

fn change() -> impl Strategy<Value = ChangeStock> {
    (id(), product(), quantity()).prop_map(|(id, product, quantity)| ChangeStock { id, product, quantity })
}

fn put() -> impl Strategy<Value = Put> {
    let stock =
        prop_oneof![4 => Just(Some(8)), 1 => Just(Some(0)), 1 => Just(Some(u64::MAX)), 4 => Just(None)];
    let window = prop_oneof![4 => Just((0, 0)), 1 => (0..3000_u64, 0..6000_u64)
        .prop_map(|(opens, closes)| (START_MS + opens, START_MS + closes))];
    let hold_ms =
        prop_oneof![10 => Just(100), 3 => Just(250), 3 => Just(40), 1 => Just(0), 1 => Just(u32::MAX)];
    let unlimited = prop_oneof![9 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (product(), stock, window, 0..5_u32, hold_ms, unlimited).prop_map(
        |(product, stock, (opens_ms, closes_ms), per_user_limit, hold_ms, unlimited)| {
            // Product 4 is the unlimited one, unless the put is wrong.
            let unlimited = unlimited.unwrap_or(product == PRODUCTS);
            let stock = if unlimited { stock.map(|stock| stock.saturating_sub(8)) } else { stock };
            Put { product, stock, opens_ms, closes_ms, per_user_limit, hold_ms, unlimited }
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    prop_oneof![
        12 => vec(reserve(), 1..5).prop_map(Group::Reserve),
        6 => vec(id(), 1..4).prop_map(Group::Confirm),
        4 => vec((id(), 0..9_u32).prop_map(|(id, reason)| Cancel { id, reason }), 1..3).prop_map(Group::Cancel),
        2 => vec(id(), 1..3).prop_map(Group::Resolve),
        4 => vec(put(), 1..3).prop_map(Group::Put),
        2 => vec(change(), 1..3).prop_map(Group::Restock),
        2 => vec(change(), 1..3).prop_map(Group::WriteOff),
        1 => vec(product(), 1..2).prop_map(Group::Seal),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let moves = prop_oneof![20 => 0..60_i64, 8 => 60..300_i64, 1 => -500..0_i64, 1 => Just(200_000_i64)];
    prop_oneof![
        40 => (moves, vec(group(), 0..4)).prop_map(|(by, groups)| Step::Entry(by, groups)),
        1 => vec(group(), 0..3).prop_map(Step::Voided),
        1 => Just(Step::NoOp),
        3 => Just(Step::Reload),
        3 => (1..6_usize).prop_map(Step::FreezeFor),
    ]
}

/// A world that begins with its products on sale, so that most steps mean something.
fn opening() -> Vec<Group> {
    let put = |product| Put {
        product,
        stock: Some(if product == PRODUCTS { 0 } else { 8 }),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: if product == 1 { 3 } else { 0 },
        hold_ms: 100,
        unlimited: product == PRODUCTS,
    };
    vec![Group::Put((2..=PRODUCTS).map(put).collect())]
}

/// What a run of the model has met, so that it is known to mean something.
#[derive(Default)]
struct Met {
    statuses: BTreeSet<Status>,
    late_confirmations: u32,
    forgotten: u32,
}

impl Met {
    fn note(&mut self, told: &Told) {
        self.statuses.extend(told.answers.iter().filter_map(|answer| answer.status()));
        self.late_confirmations += told.credits.iter().filter(|(_, units)| *units < 0).count() as u32;
        self.forgotten += told.known.iter().filter(|(_, is)| !is).count() as u32;
    }
}

#[test]
fn the_random_entries_meet_every_answer_that_a_ledger_gives() {
    let mut runner = TestRunner::deterministic();
    let mut met = Met::default();
    for _ in 0..100 {
        let mut observed = Observed::new(SETTINGS, 1);
        met.note(&observed.apply(START_MS, opening()));
        for step in vec(step(), 100).new_tree(&mut runner).unwrap().current() {
            if let Step::Entry(by_ms, groups) = step {
                met.note(&observed.apply(observed.ledger.now_ms().saturating_add_signed(by_ms), groups));
            }
        }
    }
    let never = [Status::Busy, Status::NotLeader, Status::Unknown];
    let of_groups = [
        Status::Parked,
        Status::UnknownGroup,
        Status::NotMember,
        Status::Gap,
        Status::UnknownDead,
        Status::Queueing,
    ];
    let all = Status::ALL.iter().copied();
    let all = all.filter(|status| !never.contains(status) && !of_groups.contains(status)).collect();
    assert_eq!(met.statuses, all);
    assert!(met.late_confirmations > 10 && met.forgotten > 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in vec(step(), 1..120)) {
        let mut world = World::new();
        world.step(&Step::Entry(0, opening()));
        for step in &steps {
            world.step(step);
        }
    }
}
