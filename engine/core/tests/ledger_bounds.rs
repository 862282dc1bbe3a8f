//! Bounds: what one entry does on behalf of time, and how many of a thing there may be. No bound may change an
//! answer.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use ledger_support::{Observed, Told};
use sluice_core::ledger::command::{Batch, ChangeStock, EntryError, Group, Put, Reserve};
use sluice_core::ledger::effect::{Change, Ignore};
use sluice_core::ledger::settings::{COMMAND_SWEEP_MIN, COMMANDS_SWEEP_MAX, FORGET_MAX, SWEEP_MAX, Settings};
use sluice_core::ledger::{Applied, Ledger};
use sluice_protocol::{ProductId, ReservationId, State, Status, UserId};

const SETTINGS: Settings = Settings { records_max: 100_000, retention_ms: 1000 };

fn put(product: u64, stock: u64, hold_ms: u32) -> Group {
    let put = Put {
        product,
        stock: Some(stock),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 0,
        hold_ms,
        unlimited: false,
    };
    Group::Put(vec![put])
}

fn reserve(ids: std::ops::Range<u128>, product: u64) -> Group {
    Group::Reserve(ids.map(|id| Reserve { id, product, user: id as u64, quantity: 1 }).collect())
}

/// Holds that begin in one entry at 1000, more than a sweep takes.
fn many_holds(count: u64) -> Observed {
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![put(1, count, 100), reserve(1..u128::from(count) + 1, 1)]);
    observed
}

fn expired(told: &Told) -> usize {
    told.events.iter().filter(|event| event.change == Change::Expired).count()
}

#[test]
fn a_sweep_is_bounded_and_goes_on_in_the_next_entry() {
    let count = 2 * SWEEP_MAX + 7;
    let mut observed = many_holds(count as u64);
    assert!(!observed.ledger.backlog());
    assert_eq!(observed.ledger.pulse_due_ms(), Some(1100));

    assert_eq!(expired(&observed.apply(1100, vec![])), SWEEP_MAX);
    assert!(observed.ledger.backlog());
    assert_eq!(observed.ledger.pulse_due_ms(), Some(1100));
    let standing = observed.ledger.standing(ProductId(1)).unwrap();
    assert_eq!((standing.free, standing.held), (SWEEP_MAX as u64, (SWEEP_MAX + 7) as u64));
    assert!(!standing.is_settled_at(observed.ledger.now_ms()));

    observed.reload();
    assert_eq!(expired(&observed.apply(1100, vec![])), SWEEP_MAX);
    assert_eq!(expired(&observed.apply(1100, vec![])), 7);
    assert!(!observed.ledger.backlog());
    assert_eq!(observed.ledger.pulse_due_ms(), None);
    assert!(observed.ledger.standing(ProductId(1)).unwrap().is_settled_at(1100));
}

#[test]
fn a_hold_that_no_sweep_has_reached_reads_and_answers_as_expired() {
    let count = SWEEP_MAX as u128 + 10;
    let mut observed = many_holds(count as u64);
    observed.apply(1100, vec![]);
    let (state, view) = observed.ledger.reservation(ReservationId(count)).unwrap();
    assert_eq!((state, view.sequence, view.deadline_ms, view.ended_ms), (State::Expired, 0, 0, 1100));
    let told = observed.apply(1100, vec![Group::Resolve(vec![count])]);
    assert_eq!(told.answers[0].state(), State::Expired);
    assert_ne!(told.answers[0].sequence(), 0);
}

#[test]
fn a_reserve_is_not_refused_for_units_that_no_sweep_has_reached() {
    let count = COMMANDS_SWEEP_MAX as u64;
    let mut observed = many_holds(count);
    let all = Reserve { id: u128::MAX, product: 1, user: 7, quantity: count as u32 };
    let told = observed.apply(1100, vec![Group::Reserve(vec![all])]);
    assert_eq!(told.answers[0].status(), Some(Status::Reserved));
    assert_eq!(expired(&told), count as usize);
}

/// What one command may expire, and then what the entry may on behalf of time.
const MOST: usize = COMMANDS_SWEEP_MAX + COMMAND_SWEEP_MIN + SWEEP_MAX;

#[test]
fn a_reserve_of_more_than_an_entry_may_sweep_is_busy_until_it_is_reserved() {
    let count = 2 * MOST as u64 + 1;
    let mut observed = many_holds(count);
    let all = |id| Group::Reserve(vec![Reserve { id, product: 1, user: 7, quantity: count as u32 }]);
    for _ in 0..2 {
        let told = observed.apply(1100, vec![all(u128::MAX)]);
        assert_eq!(told.answers[0].status(), Some(Status::Busy));
        assert_eq!(expired(&told), MOST);
        assert_eq!(observed.ledger.reservation(ReservationId(u128::MAX)), None, "it claims nothing");
    }
    observed.reload();
    let told = observed.apply(1100, vec![all(u128::MAX)]);
    assert_eq!(told.answers[0].status(), Some(Status::Reserved));
    assert_eq!(expired(&told), 1);
}

#[test]
fn the_commands_of_an_entry_share_what_it_may_sweep_and_small_ones_are_served_all_the_same() {
    const SMALL: usize = 100;
    let mut observed = Observed::new(SETTINGS, 1);
    let many = 3 * MOST as u64;
    let few = (SMALL * COMMAND_SWEEP_MIN) as u64;
    observed.apply(1000, vec![put(1, many, 100), put(2, few, 100)]);
    observed.apply(1000, vec![reserve(1..u128::from(many) + 1, 1)]);
    let first = 1_u128 << 32;
    observed.apply(1000, vec![reserve(first..first + u128::from(few), 2)]);
    let greedy = (0..5).map(|id| Reserve { id: u128::MAX - id, product: 1, user: 7, quantity: many as u32 });
    let small = |id| Reserve { id, product: 2, user: id as u64, quantity: COMMAND_SWEEP_MIN as u32 };
    let small = (0..SMALL).map(|id| small((2 << 32) + id as u128));
    let told = observed.apply(1100, vec![Group::Reserve(greedy.chain(small).collect())]);
    let (greedy, small) = told.answers.split_at(5);
    assert!(greedy.iter().all(|answer| answer.status() == Some(Status::Busy)));
    assert!(small.iter().all(|answer| answer.status() == Some(Status::Reserved)));
    let commands = COMMANDS_SWEEP_MAX + (5 + SMALL) * COMMAND_SWEEP_MIN;
    assert_eq!(expired(&told), commands + SWEEP_MAX);
}

#[test]
fn nobody_is_refused_for_a_limit_while_holds_are_due_that_no_sweep_has_reached() {
    let mut observed = Observed::new(SETTINGS, 1);
    let limited = |limit| Put {
        product: 1,
        stock: Some(1 << 20),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: limit,
        hold_ms: 100,
        unlimited: false,
    };
    let count = (MOST + COMMANDS_SWEEP_MAX) as u128;
    observed.apply(1000, vec![Group::Put(vec![limited(1)]), reserve(1..count + 1, 1)]);
    // The last one's hold is over, and far down the list.
    let again = Reserve { id: u128::MAX, product: 1, user: count as u64, quantity: 1 };
    let told = observed.apply(1100, vec![Group::Reserve(vec![again])]);
    assert_eq!((told.answers[0].status(), expired(&told)), (Some(Status::Busy), MOST));
    let told = observed.apply(1100, vec![Group::Reserve(vec![again])]);
    assert_eq!(told.answers[0].status(), Some(Status::Reserved), "its turn in the list has come");
    let told = observed.apply(1100, vec![Group::Confirm(vec![count])]);
    assert_eq!(told.answers[0].status(), Some(Status::Expired), "paid late, and the limit is used up");
}

#[test]
fn a_late_payment_or_a_write_off_that_must_sweep_too_much_settles_nothing() {
    let mut observed = Observed::new(SETTINGS, 1);
    let due = 2 * MOST as u32;
    let hold = |id, quantity| Group::Reserve(vec![Reserve { id, product: 1, user: 9, quantity }]);
    observed.apply(1000, vec![put(1, u64::from(due), 100), hold(u128::MAX, due)]);
    // The large hold ends; then small ones take all its units, and end in their turn.
    observed.apply(1100, vec![]);
    observed.apply(1100, vec![reserve(1..u128::from(due) + 1, 1)]);
    let write_off = Group::WriteOff(vec![ChangeStock { id: 1 << 99, product: 1, quantity: due }]);
    let told = observed.apply(1200, vec![Group::Confirm(vec![u128::MAX]), write_off]);
    let statuses: Vec<_> = told.answers.iter().filter_map(|answer| answer.status()).collect();
    assert_eq!(statuses, [Status::Busy, Status::Busy]);
    assert_eq!(observed.ledger.reservation(ReservationId(1 << 99)), None);
    observed.apply(1200, vec![]);
    observed.apply(1200, vec![]);
    let told = observed.apply(1200, vec![Group::Confirm(vec![u128::MAX])]);
    assert_eq!(told.answers[0].status(), Some(Status::Confirmed), "the units were there all the time");
}

#[test]
fn sweeps_go_by_deadline_then_by_product_and_survive_a_reload() {
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![put(9, 10, 200), put(5, 10, 100), put(7, 10, 100)]);
    observed.apply(1000, vec![reserve(1..3, 7), reserve(3..5, 9), reserve(5..7, 5)]);
    observed.apply(1050, vec![reserve(7..8, 5), reserve(8..9, 9)]);
    observed.reload();
    let told = observed.apply(1300, vec![]);
    let order: Vec<u128> = told.events.iter().map(|event| event.id.0).collect();
    // At 1100 product 5 comes before 7 (created earlier), at 1150 again 5, at 1200 and 1250 product 9.
    assert_eq!(order, [5, 6, 1, 2, 7, 3, 4, 8]);
}

#[test]
fn forgetting_is_bounded_and_goes_on_in_the_next_entry() {
    let count = FORGET_MAX as u128 + 5;
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![Group::Resolve((1..=count).collect())]);
    let forgotten = |told: Told| told.known.iter().filter(|(_, is)| !is).count();
    assert_eq!(forgotten(observed.apply(1999, vec![])), 0);
    assert_eq!(forgotten(observed.apply(2000, vec![])), FORGET_MAX);
    assert_eq!(forgotten(observed.apply(2000, vec![])), 5);
    assert_eq!(observed.ledger.totals().records, 0);
}

#[test]
fn hold_times_in_use_are_bounded() {
    let mut observed = Observed::new(SETTINGS, 1);
    let mut ids = 1..;
    let mut next = |observed: &mut Observed, hold_ms| {
        let told = observed.apply(1000, vec![put(1, 1000, hold_ms)]);
        let id = ids.next().unwrap();
        observed.apply(1000, vec![reserve(id..id + 1, 1)]);
        told.answers[0].status().unwrap()
    };
    for hold_ms in 1..=64 {
        assert_eq!(next(&mut observed, 500 * hold_ms), Status::Done);
    }
    assert_eq!(next(&mut observed, 100), Status::Full, "a sixty-fifth");
    assert_eq!(next(&mut observed, 1000), Status::Done, "one that is in use");
    observed.reload();
    observed.apply(1500, vec![]);
    assert_eq!(next(&mut observed, 100), Status::Done, "after one ran dry");
}

#[test]
fn a_users_units_are_bounded_where_stock_is_not() {
    let mut observed = Observed::new(SETTINGS, 1);
    let unlimited = Put {
        product: 1,
        stock: Some(0),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 0,
        hold_ms: 100,
        unlimited: true,
    };
    observed.apply(1000, vec![Group::Put(vec![unlimited])]);
    let most = |id| Reserve { id, product: 1, user: 7, quantity: 1_000_000_000 };
    let fits = (1_u128 << 44) / 1_000_000_000;
    let told = observed.apply(1000, vec![Group::Reserve((1..=fits + 1).map(most).collect())]);
    let (last, others) = told.answers.split_last().unwrap();
    assert!(others.iter().all(|answer| answer.status() == Some(Status::Reserved)));
    assert_eq!(last.status(), Some(Status::Full));
    assert_eq!(observed.ledger.reservation(ReservationId(fits + 1)), None);
    let units = observed.ledger.user_units(ProductId(1), UserId(7));
    assert_eq!(units, fits as u64 * 1_000_000_000);
    observed.reload();
    assert_eq!(observed.ledger.user_units(ProductId(1), UserId(7)), units);
}

#[test]
fn an_entry_that_is_no_batch_changes_nothing() {
    let mut ledger = Ledger::new(SETTINGS, 1);
    let entry = Batch { proposer_term: 1, stamp_ms: 1000, groups: vec![put(1, 1, 1)] }.encode();
    let digest = ledger.digest();
    for at in 0..entry.len() {
        let mut damaged = entry.clone();
        damaged[at] ^= 0x10;
        let error = ledger.apply(1, 1, &damaged, &mut Ignore).unwrap_err();
        assert!(matches!(error, EntryError::Newer { .. } | EntryError::Damaged(_)));
    }
    assert_eq!((ledger.digest(), ledger.index()), (digest, 0));
    let applied = ledger.apply(1, 1, &entry, &mut Ignore).unwrap();
    assert_eq!(applied, Applied { voided: false, commands: 1 });
}

#[test]
fn an_entry_of_another_term_moves_only_the_index() {
    let mut ledger = Observed::new(SETTINGS, 1).ledger;
    let entry = Batch { proposer_term: 1, stamp_ms: 1000, groups: vec![put(1, 1, 1)] }.encode();
    let mut told = Told::default();
    let applied = ledger.apply(3, 2, &entry, &mut told).unwrap();
    assert_eq!(applied, Applied { voided: true, commands: 0 });
    assert_eq!(told, Told::default());
    assert_eq!((ledger.index(), ledger.now_ms(), ledger.sequence()), (3, 0, 0));
}

#[test]
#[should_panic(expected = "the log goes up")]
fn an_entry_applied_twice_is_a_broken_invariant() {
    let mut ledger = Ledger::new(SETTINGS, 1);
    ledger.apply(3, 1, &[], &mut Ignore).unwrap();
    let _ = ledger.apply(3, 1, &[], &mut Ignore);
}
