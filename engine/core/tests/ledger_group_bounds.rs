//! Bounds of consumer groups: how many there may be, of members, and of dead letters. Reaching one loses nothing.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use ledger_support::Observed;
use sluice_core::ledger::command::{
    Ack, Consume, Group, LoggedTerms, Nak, Named, Numbered, Put, PutGroup, Reserve,
};
use sluice_core::ledger::groups::DEAD_MAX;
use sluice_core::ledger::settings::Settings;
use sluice_protocol::event::{EVENT_LEN, EventKind, EventRecord, lane_of};
use sluice_protocol::group::GroupTerms;
use sluice_protocol::limits::{GROUPS_MAX, MEMBERS_MAX};
use sluice_protocol::{ProductId, Status};
use zerocopy::IntoBytes;

const SETTINGS: Settings = Settings { records_max: 100_000, retention_ms: 1_000_000 };

fn name(text: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn put_group(text: &str) -> Consume {
    let terms =
        LoggedTerms::from(&GroupTerms { attempts_max: 1, cancel_dead: Some(9), ..GroupTerms::default() });
    Consume::Put(Box::new(PutGroup { name: name(text), after: 0, terms }))
}

fn join(number: u64) -> Consume {
    Consume::Join(Box::new(Named { name: name("orders"), number }))
}

fn nak(event: &EventRecord) -> Consume {
    let mut bytes = [0; EVENT_LEN];
    bytes.copy_from_slice(event.as_bytes());
    let (group, member, epoch) = (1, 5, u64::MAX);
    Consume::Nak(Box::new(Nak { group, member, epoch, delay_ms: 0, cause: 7, for_good: false, event: bytes }))
}

/// Applies one entry and returns the statuses of its answers.
fn ask(observed: &mut Observed, items: Vec<Consume>) -> Vec<Status> {
    let told = observed.apply(1000, vec![Group::Consume(items)]);
    told.answers.iter().map(|answer| answer.status().unwrap()).collect()
}

#[test]
fn there_are_no_more_groups_than_there_may_be() {
    let mut observed = Observed::new(SETTINGS, 1);
    for number in 0..GROUPS_MAX {
        assert_eq!(ask(&mut observed, vec![put_group(&format!("group-{number}"))]), [Status::Done]);
    }
    assert_eq!(
        ask(&mut observed, vec![put_group("one-more"), put_group("group-7")]),
        [Status::Full, Status::Done]
    );
    observed.reload();
    let remove = Consume::Remove(Box::new(Named { name: name("group-7"), number: 0 }));
    assert_eq!(ask(&mut observed, vec![remove, put_group("one-more")]), [Status::Done, Status::Done]);
    let last = observed.ledger.groups().iter().last().unwrap();
    assert_eq!((last.id() as usize, last.name().as_str()), (GROUPS_MAX + 1, "one-more"));
}

#[test]
fn a_group_has_no_more_members_than_lanes() {
    let mut observed = Observed::new(SETTINGS, 1);
    let mut items = vec![put_group("orders")];
    items.extend((1..=MEMBERS_MAX as u64 + 1).map(join));
    let statuses = ask(&mut observed, items);
    let (last, others) = statuses.split_last().unwrap();
    assert!(others.iter().all(|status| *status == Status::Done));
    assert_eq!(*last, Status::Full);
    observed.reload();
    let group = observed.ledger.groups().get(1).unwrap();
    assert!(group.members().all(|seat| seat.lanes.count_ones() == 1));
    assert_eq!(group.members().fold(0, |lanes, seat| lanes | seat.lanes), u64::MAX);
}

/// A group whose table of dead letters is full, and a held reservation of which no letter tells.
fn full() -> (Observed, Vec<EventRecord>) {
    let mut observed = Observed::new(SETTINGS, 1);
    let put = Put {
        product: 1,
        stock: Some(20_000),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 0,
        hold_ms: 60_000,
        unlimited: false,
    };
    observed.apply(1000, vec![Group::Put(vec![put])]);
    let reserve = |id| Reserve { id, product: 1, user: 1, quantity: 1 };
    observed.apply(1000, vec![Group::Reserve((1..=DEAD_MAX as u128 + 1).map(reserve).collect())]);
    let mut events = observed.events.clone();
    events.retain(|event| event.kind_bit() == EventKind::Reserved.bit());
    ask(&mut observed, vec![put_group("orders"), join(5)]);
    for few in events[..DEAD_MAX].chunks(2000) {
        let statuses = ask(&mut observed, few.iter().map(nak).collect());
        assert!(statuses.iter().all(|status| *status == Status::Parked));
    }
    (observed, events)
}

#[test]
fn a_delivery_for_which_there_is_no_more_room_is_tried_again_and_never_lost() {
    let (mut observed, events) = full();
    let (first, last) = (&events[0], &events[DEAD_MAX]);
    let lane = lane_of(ProductId(1));
    assert_eq!(ask(&mut observed, vec![nak(last), nak(last)]), [Status::Done, Status::Done]);
    observed.reload();
    let group = observed.ledger.groups().get(1).unwrap();
    let failing = group.failing(lane).unwrap();
    assert_eq!((failing.sequence, failing.attempts), (last.sequence(), 2));
    assert!(!group.is_dead(last.sequence()));
    assert_eq!(
        observed.ledger.product(ProductId(1)).unwrap().held,
        1,
        "what is tried again is not cancelled"
    );

    // A letter that is gone keeps its place until the cursor has passed it.
    let drop = Consume::Drop(Numbered { group: 1, number: first.sequence() });
    assert_eq!(ask(&mut observed, vec![drop, nak(last)]), [Status::Done, Status::Done]);
    let ack = Ack { group: 1, member: 5, epoch: u64::MAX, lanes: u64::MAX, upto: first.sequence() };
    assert_eq!(
        ask(&mut observed, vec![Consume::Ack(Box::new(ack)), nak(last)]),
        [Status::Done, Status::Parked]
    );
    assert_eq!(observed.ledger.product(ProductId(1)).unwrap().held, 0);
    observed.reload();
}

#[test]
fn what_is_shared_with_a_reader_is_not_changed_under_it() {
    let (mut observed, events) = full();
    let before = observed.ledger.groups().clone();
    let version = before.version();
    assert_eq!(ask(&mut observed, vec![put_group("orders"), join(5)]), [Status::Done, Status::Done]);
    assert_eq!(observed.ledger.groups().version(), version, "nothing has changed");
    let drop = Consume::Drop(Numbered { group: 1, number: events[0].sequence() });
    ask(&mut observed, vec![drop, put_group("mails")]);
    assert!(observed.ledger.groups().version() > version);
    let (old, new) = (before.get(1).unwrap(), observed.ledger.groups().get(1).unwrap());
    assert_eq!((old.view().dead, new.view().dead), (DEAD_MAX as u32, DEAD_MAX as u32 - 1));
    assert_eq!(before.iter().count(), 1);
}
