//! Random entries that ask things of consumer groups, while others sell: two ledgers and a naive model must agree after
//! each of them, as in `ledger_model`, with images taken and loaded half-way.

#![allow(clippy::unwrap_used)]

mod ledger_support;
#[path = "ledger_support/model.rs"]
mod model;
#[path = "ledger_support/world.rs"]
mod world;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sluice_core::ledger::command::{
    Ack, Cancel, Consume, Group, LoggedTerms, Nak, Named, Numbered, Put, PutGroup, Reserve,
};
use sluice_core::ledger::effect::{Change, Event};
use sluice_protocol::event::{EVENT_LEN, EventKind, EventRecord, EventView, lane_of};
use sluice_protocol::group::GroupTerms;
use sluice_protocol::{ProductId, ReservationId, Status, UserId};
use world::{IDS, PRODUCTS, Step, USERS, World};
use zerocopy::IntoBytes;

/// The reason of reservations that a dead letter cancels. No client here gives it.
const BY_LETTER: u32 = 3;

const NAMES: [&str; 4] = ["orders", "mails", "points", "No name"];

fn name() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![12 => Just(0_usize), 4 => Just(1), 1 => Just(2), 1 => Just(3)].prop_map(|at| {
        let mut name = [0; 32];
        name[..NAMES[at].len()].copy_from_slice(NAMES[at].as_bytes());
        name
    })
}

/// Groups are mostly the first two of their names.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![10 => Just(1_u32), 4 => Just(2), 2 => 3..6_u32, 1 => Just(0)]
}

fn member() -> impl Strategy<Value = u64> {
    prop_oneof![24 => Just(1_u64), 4 => 2..5_u64, 1 => 5..80_u64, 1 => Just(0)]
}

fn epoch() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(u64::MAX), 3 => 0..12_u64]
}

fn sequence() -> impl Strategy<Value = u64> {
    prop_oneof![24 => 5..12_u64, 12 => 0..24_u64, 4 => 24..60_u64, 1 => Just(u64::MAX)]
}

fn terms() -> impl Strategy<Value = LoggedTerms> {
    let kinds = prop_oneof![9 => Just(0_u32), 2 => Just(2), 1 => any::<u32>()];
    let products = prop_oneof![3 => Just([0, 0]), 2 => [0..PRODUCTS + 1, 0..PRODUCTS + 1]];
    let retries =
        prop_oneof![9 => Just((40_u32, 300_u32)), 1 => (0..9_u32, 0..9_u32), 1 => Just((1, u32::MAX))];
    let session_ms = prop_oneof![20 => Just(500_u32), 1 => any::<u32>()];
    let cancel = prop_oneof![1 => Just(None), 2 => Just(Some(BY_LETTER))];
    let required = prop_oneof![6 => Just(0_u64), 1 => 1..40_u64];
    (kinds, products, prop_oneof![1 => 0..3_u32, 2 => 3..6_u32], retries, session_ms, cancel, required)
        .prop_map(
            |(
                kinds,
                wanted,
                attempts_max,
                (retry_ms, retry_ms_max),
                session_ms,
                cancel_dead,
                required_lag_max,
            )| {
                let mut products = [ProductId(0); 8];
                (products[2], products[5]) = (ProductId(wanted[0]), ProductId(wanted[1]));
                LoggedTerms::from(&GroupTerms {
                    kinds,
                    products,
                    attempts_max,
                    retry_ms,
                    retry_ms_max,
                    session_ms,
                    cancel_dead,
                    backlog_max: 0,
                    required_lag_max,
                })
            },
        )
}

fn ack() -> impl Strategy<Value = Consume> {
    let lanes = prop_oneof![
        2 => Just(u64::MAX),
        2 => any::<u64>(),
        4 => Just(0),
        2 => (1..=PRODUCTS).prop_map(|product| 1 << lane_of(ProductId(product))),
    ];
    (number(), member(), epoch(), lanes, sequence()).prop_map(|(group, member, epoch, lanes, upto)| {
        Consume::Ack(Box::new(Ack { group, member, epoch, lanes, upto }))
    })
}

/// Of an event that no ledger made. The world puts those in its place that one did make.
fn event() -> impl Strategy<Value = [u8; EVENT_LEN]> {
    (sequence(), 0..8_usize, 1..=PRODUCTS, 0..USERS, 1..4_u64, 1..=IDS).prop_map(
        |(sequence, kind, product, user, quantity, id)| {
            let view = EventView {
                sequence,
                index: 1,
                time_ms: 1,
                kind: EventKind::ALL[kind],
                product: ProductId(product),
                user: UserId(user),
                quantity,
                id: ReservationId(id),
                detail: 0,
            };
            let mut bytes = [0; EVENT_LEN];
            bytes.copy_from_slice(EventRecord::from(view).as_bytes());
            bytes
        },
    )
}

fn nak() -> impl Strategy<Value = Consume> {
    let delay_ms = prop_oneof![8 => Just(0_u32), 2 => 1..100_u32, 1 => Just(u32::MAX)];
    (number(), member(), epoch(), delay_ms, 0..64_u32, prop::bool::weighted(0.1), event()).prop_map(
        |(group, member, epoch, delay_ms, cause, for_good, event)| {
            Consume::Nak(Box::new(Nak { group, member, epoch, delay_ms, cause, for_good, event }))
        },
    )
}

fn consume() -> impl Strategy<Value = Consume> {
    let named = |number| (name(), number).prop_map(|(name, number)| Box::new(Named { name, number }));
    let numbered = |of| (number(), of).prop_map(|(group, number)| Numbered { group, number });
    prop_oneof![
        4 => (name(), sequence(), terms())
            .prop_map(|(name, after, terms)| Consume::Put(Box::new(PutGroup { name, after, terms }))),
        1 => named(Just(0_u64).boxed()).prop_map(Consume::Remove),
        2 => named(prop_oneof![3 => 0..6_u64, 1 => sequence()].boxed()).prop_map(Consume::Seek),
        6 => named(member().boxed()).prop_map(Consume::Join),
        1 => numbered(member().boxed()).prop_map(Consume::Leave),
        10 => ack(),
        50 => nak(),
        6 => numbered(sequence().boxed()).prop_map(Consume::Redrive),
        3 => numbered(sequence().boxed()).prop_map(Consume::Drop),
    ]
}

fn reserve() -> impl Strategy<Value = Reserve> {
    (1..=IDS).prop_map(|id| Reserve {
        id,
        product: 1 + (id % u128::from(PRODUCTS)) as u64,
        user: (id / 5 % u128::from(USERS)) as u64,
        quantity: 1 + (id % 3) as u32,
    })
}

fn group() -> impl Strategy<Value = Group> {
    prop_oneof![
        6 => vec(reserve(), 1..4).prop_map(Group::Reserve),
        1 => vec(1..=IDS, 1..3).prop_map(Group::Confirm),
        1 => vec((1..=IDS).prop_map(|id| Cancel { id, reason: 1 }), 1..3).prop_map(Group::Cancel),
        16 => vec(consume(), 1..10).prop_map(Group::Consume),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let moves = prop_oneof![20 => 0..12_i64, 1 => 60..300_i64];
    prop_oneof![
        40 => (moves, vec(group(), 0..4)).prop_map(|(by, groups)| Step::Entry(by, groups)),
        1 => vec(group(), 0..3).prop_map(Step::Voided),
        3 => Just(Step::Reload),
        3 => (1..6_usize).prop_map(Step::FreezeFor),
    ]
}

/// A world with products on sale, and a group that has a member.
fn opening() -> Vec<Group> {
    let put = |product| Put {
        product,
        stock: Some(8),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 0,
        hold_ms: 100,
        unlimited: false,
    };
    let mut name = [0; 32];
    name[..6].copy_from_slice(b"orders");
    let terms = LoggedTerms::from(&GroupTerms { cancel_dead: Some(BY_LETTER), ..GroupTerms::default() });
    vec![
        Group::Put((1..=PRODUCTS).map(put).collect()),
        Group::Consume(vec![
            Consume::Put(Box::new(PutGroup { name, after: 0, terms })),
            Consume::Join(Box::new(Named { name, number: 1 })),
        ]),
    ]
}

#[test]
fn the_random_entries_meet_what_groups_answer_and_do() {
    let mut runner = TestRunner::deterministic();
    let (mut statuses, mut cancelled, mut retried, mut marks) = (BTreeSet::new(), 0, 0, 0);
    for _ in 0..100 {
        let mut world = World::new();
        world.step(&Step::Entry(0, opening()));
        for step in vec(step(), 60).new_tree(&mut runner).unwrap().current() {
            let told = world.step(&step);
            statuses.extend(told.answers.iter().filter_map(|answer| answer.status()));
            let is_by_letter = |event: &&Event| event.change == Change::Cancelled { reason: BY_LETTER };
            cancelled += told.events.iter().filter(is_by_letter).count();
            for group in world.groups().iter() {
                retried +=
                    (0..64).filter(|lane| group.failing(*lane).is_some_and(|it| it.attempts > 2)).count();
                marks += (0..60).filter(|at| group.is_dead(*at) && group.letter(*at).is_none()).count();
            }
        }
    }
    let wanted = [
        Status::Done,
        Status::Parked,
        Status::UnknownGroup,
        Status::NotMember,
        Status::UnknownDead,
        Status::Queueing,
        Status::Invalid,
    ];
    assert!(wanted.iter().all(|status| statuses.contains(status)), "{statuses:?}");
    assert!(cancelled > 10 && retried > 50 && marks > 50, "{cancelled} {retried} {marks}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_do_what_the_model_does(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        world.step(&Step::Entry(0, opening()));
        for step in &steps {
            world.step(step);
        }
    }
}
