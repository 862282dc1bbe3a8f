//! The way of a request through desk, replica and ledger, without threads: what is answered, when, and from what.

mod common;

use common::{START_MS, TERMS, TestNode, item};
use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::session::Ask;
use sluice_protocol::request::Terms;
use sluice_protocol::response::ProductView;
use sluice_protocol::{Kind, State, Status};

fn status(answer: sluice_protocol::Answer) -> Status {
    answer.status().expect("a status of this version")
}

#[test]
fn nothing_is_answered_before_its_own_sync_has_returned() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    let frame = node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    assert!(node.reply(frame).is_none(), "a reservation was answered before the disk had it");
    assert_eq!(node.free(1), 10, "an entry was applied before it was durable");
    node.sync();
    node.drive();
    assert_eq!(status(node.plain(frame)[0]), Status::Reserved);
}

#[test]
fn a_lone_request_costs_one_durable_step() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    assert_eq!(node.ordered.len(), 1);
    assert_eq!(node.ordered[0].1.entries.len(), 1);
}

#[test]
fn requests_gather_while_the_disk_works() {
    let mut node = TestNode::new();
    node.put(1, 1000, TERMS);
    for id in 1..=50 {
        node.send(Kind::Reserve, Ask::Reserve(&[item(id, 1, id as u64, 1)]));
        node.drive();
    }
    assert_eq!(node.ordered.len(), 1, "one step is under way, the rest gathers");
    node.proposed.clear();
    node.sync();
    node.drive();
    assert_eq!(node.proposed.iter().map(|(commands, _)| *commands).collect::<Vec<_>>(), [49]);
}

#[test]
fn full_entries_queue_behind_the_disk_and_none_exceeds_its_bound() {
    let mut node = TestNode::new();
    node.put(1, 1_000_000, TERMS);
    node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    for frame in 1..=20_u128 {
        let items: Vec<_> = (0..1024).map(|at| item(frame * 10_000 + at, 1, 7, 1)).collect();
        node.send(Kind::Reserve, Ask::Reserve(&items));
        node.drive();
    }
    assert!(node.ordered.len() > 1, "full entries do not wait for the disk");
    assert!(node.proposed.iter().all(|(_, bytes)| *bytes <= sluice_core::replica::ENTRY_BYTES_MAX));
    node.settle();
    assert_eq!(node.replies.len(), 21);
    assert_eq!(node.free(1), 1_000_000 - 20 * 1024 - 1);
}

#[test]
fn what_was_not_synced_is_gone_after_a_crash_and_what_was_answered_is_not() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    let told = node.reserve(1, 1, 1, 1);
    node.send(Kind::Reserve, Ask::Reserve(&[item(2, 1, 2, 1)]));
    node.drive();
    let mut node = node.crash();
    let again = node.retry(1, 1, 1, 1);
    assert_eq!((status(again), again.state()), (Status::Already, State::Held));
    assert_eq!(again.sequence(), told.sequence());
    assert_eq!(again.deadline_ms(), told.deadline_ms());
    assert_eq!(node.free(1), 9, "only what was durable took units");
    assert_eq!(node.tokens(1), 9);
}

#[test]
fn what_was_synced_but_not_answered_may_stand_and_a_resolve_tells() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    node.send(Kind::Reserve, Ask::Reserve(&[item(2, 1, 2, 1)]));
    node.drive();
    node.sync();
    let mut node = node.crash();
    let told = node.resolve(2);
    assert_eq!((status(told), told.state()), (Status::Already, State::Held));
    // And an id that never came is killed.
    assert_eq!(status(node.resolve(3)), Status::Fenced);
    assert_eq!(status(node.retry(3, 1, 3, 1)), Status::Fenced);
}

#[test]
fn sold_out_is_answered_without_the_log() {
    let mut node = TestNode::new();
    node.put(1, 2, TERMS);
    node.reserve(1, 1, 1, 2);
    let last = node.last_index();
    for id in 10..1000 {
        let frame = node.send(Kind::Reserve, Ask::Reserve(&[item(id, 1, id as u64, 1)]));
        let answer = node.plain(frame)[0];
        assert_eq!(status(answer), Status::Insufficient);
        assert_eq!((answer.free(), answer.held()), (0, 2));
        assert_eq!(answer.earliest_return_ms(), START_MS + 60_000);
        assert_eq!(answer.at().index, node.replica.ledger().index());
    }
    assert_eq!(node.last_index(), last, "a refusal wrote to the log");
    node.seal(1);
    node.confirm(1);
    let frame = node.send(Kind::Reserve, Ask::Reserve(&[item(2000, 1, 1, 1)]));
    assert_eq!(status(node.plain(frame)[0]), Status::SoldOut, "sealed and all sold: for good");
}

#[test]
fn a_request_that_waits_for_units_in_flight_is_not_refused_on_their_account() {
    let mut node = TestNode::new();
    let terms = Terms { per_user_limit: 1, ..TERMS };
    node.put(1, 1, terms);
    node.reserve(1, 1, 7, 1);
    node.cancel(1);
    node.reserve(2, 1, 7, 1);
    node.cancel(2);
    // Two of one user: the second takes the last token and will be refused by the ledger.
    node.put(2, 2, terms);
    let both = node.send(Kind::Reserve, Ask::Reserve(&[item(3, 2, 7, 1), item(4, 2, 7, 1)]));
    let late = node.send(Kind::Reserve, Ask::Reserve(&[item(5, 2, 8, 1)]));
    node.drive();
    assert!(node.reply(late).is_none(), "units in flight are not a no");
    assert!(node.desk.is_watching());
    node.settle();
    let both: Vec<_> = node.plain(both).into_iter().map(status).collect();
    assert_eq!(both, [Status::Reserved, Status::LimitReached]);
    assert_eq!(status(node.plain(late)[0]), Status::Reserved, "the unit that came back is sold");
    assert!(!node.desk.is_watching());
}

#[test]
fn doubt_ends_with_busy_at_the_deadline_and_claims_nothing() {
    let mut node = TestNode::new();
    node.put(1, 1, TERMS);
    node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    let late = node.send(Kind::Reserve, Ask::Reserve(&[item(2, 1, 2, 1)]));
    node.drive();
    node.pass(1001);
    node.drive();
    let answer = node.plain(late)[0];
    assert_eq!(status(answer), Status::Busy);
    assert_eq!(answer.at().index, 0);
    node.settle();
    assert_eq!(node.tokens(1), node.free(1));
}

#[test]
fn a_buyer_at_the_limit_is_refused_without_the_log_and_a_duplicate_is_told_its_outcome() {
    let mut node = TestNode::new();
    node.put(1, 100, Terms { per_user_limit: 2, ..TERMS });
    node.reserve(1, 1, 7, 2);
    let last = node.last_index();
    let refused = node.reserve(2, 1, 7, 1);
    assert_eq!((status(refused), refused.limit(), refused.user_has()), (Status::LimitReached, 2, 2));
    assert_eq!(node.last_index(), last, "a refusal wrote to the log");
    assert_eq!(node.tokens(1), 98);
    // A careless client sends the same id as a first attempt again.
    let again = node.reserve(1, 1, 7, 2);
    assert_eq!((status(again), again.state()), (Status::Already, State::Held));
    node.cancel(1);
    assert_eq!(status(node.reserve(3, 1, 7, 2)), Status::Reserved, "a cancel gives the limit back");
    assert_eq!(node.tokens(1), node.free(1));
}

#[test]
fn a_duplicate_first_attempt_is_told_its_outcome_even_when_nothing_is_left() {
    let mut node = TestNode::new();
    node.put(1, 1, TERMS);
    node.reserve(1, 1, 7, 1);
    let again = node.reserve(1, 1, 7, 1);
    assert_eq!((status(again), again.state()), (Status::Already, State::Held));
    assert_eq!(status(node.reserve(1, 1, 8, 1)), Status::IdConflict);
}

#[test]
fn a_retry_is_decided_in_the_log_and_its_refusal_stands() {
    let mut node = TestNode::new();
    node.put(1, 1, TERMS);
    node.reserve(1, 1, 1, 1);
    let last = node.last_index();
    assert_eq!(status(node.retry(2, 1, 2, 1)), Status::Insufficient);
    assert!(node.last_index() > last);
    node.cancel(1);
    // The first attempt, late: it must not take what the retry was refused.
    let late = node.reserve(2, 1, 2, 1);
    assert_eq!((status(late), late.state()), (Status::Already, State::Refused));
    assert_eq!(late.refused_with(), Some(Status::Insufficient));
    assert_eq!((node.free(1), node.tokens(1)), (1, 1));
}

#[test]
fn time_alone_expires_holds_and_their_units_sell_again() {
    let mut node = TestNode::new();
    node.put(1, 3, Terms { hold_ms: 1000, ..TERMS });
    for id in 1..=3 {
        node.reserve(id, 1, id as u64, 1);
    }
    assert_eq!(status(node.reserve(4, 1, 4, 1)), Status::Insufficient);
    node.pass(1000);
    node.settle();
    assert_eq!((node.free(1), node.tokens(1)), (3, 3));
    assert_eq!(status(node.reserve(5, 1, 4, 1)), Status::Reserved);
    // A late payer takes a unit again, without a token of its own.
    assert_eq!(status(node.confirm(1)), Status::Confirmed);
    assert_eq!((node.free(1), node.tokens(1)), (1, 1));
}

#[test]
fn a_sale_opens_and_closes_by_the_clock() {
    let mut node = TestNode::new();
    node.put(1, 10, Terms { opens_ms: START_MS + 5000, closes_ms: START_MS + 9000, ..TERMS });
    let last = node.last_index();
    let early = node.reserve(1, 1, 1, 1);
    assert_eq!((status(early), early.opens_ms()), (Status::NotOpen, START_MS + 5000));
    assert_eq!(early.opens_in_ms(), START_MS + 5000 - early.at().time_ms);
    assert_eq!(node.last_index(), last);
    node.pass(5000);
    assert_eq!(status(node.reserve(2, 1, 1, 1)), Status::Reserved, "the clock says it is open");
    node.pass(4000);
    node.settle();
    let late = node.reserve(3, 1, 1, 1);
    assert_eq!((status(late), late.closes_ms()), (Status::Closed, START_MS + 9000));
    assert_eq!(status(node.confirm(2)), Status::Confirmed, "a hold outlives the sale");
}

#[test]
fn restock_and_write_off_while_selling_keep_gate_and_ledger_equal() {
    let mut node = TestNode::new();
    node.put(1, 5, TERMS);
    node.reserve(1, 1, 1, 2);
    assert_eq!(status(node.write_off(2, 1, 2)), Status::Done);
    assert_eq!((node.free(1), node.tokens(1)), (1, 1));
    let refused = node.write_off(3, 1, 2);
    assert_eq!((status(refused), refused.free()), (Status::Insufficient, 1));
    assert_eq!(status(node.restock(4, 1, 10)), Status::Done);
    assert_eq!((node.free(1), node.tokens(1)), (11, 11));
    assert_eq!(status(node.restock(4, 1, 10)), Status::Already, "a repeated restock counts once");
    let view = ProductView::from(node.product(1).record);
    assert_eq!((view.stock, view.free, view.held, view.sold), (13, 11, 2, 0));
}

#[test]
fn a_write_off_that_overtakes_reservations_in_flight_oversells_nothing() {
    let mut node = TestNode::new();
    node.put(1, 5, TERMS);
    let items: Vec<_> = (1..=5).map(|id| item(id, 1, id as u64, 1)).collect();
    // All five tokens are out; the write-off comes first in the log.
    let write_off = sluice_protocol::request::StockItem::new(100.into(), 1.into(), 3);
    let first = node.send(Kind::WriteOff, Ask::WriteOff(&[write_off]));
    let second = node.send(Kind::Reserve, Ask::Reserve(&items));
    node.settle();
    assert_eq!(status(node.plain(first)[0]), Status::Done);
    let reserved = node.plain(second).into_iter().filter(|answer| status(*answer) == Status::Reserved);
    assert_eq!(reserved.count(), 2);
    assert_eq!((node.free(1), node.tokens(1)), (0, 0));
    node.restock(200, 1, 4);
    assert_eq!((node.free(1), node.tokens(1)), (4, 4), "a debt was kept that nobody owes");
}

#[test]
fn a_stopping_node_finishes_what_is_in_flight_and_begins_nothing() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    let before = node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    node.replica.stop();
    let after = node.send(Kind::Reserve, Ask::Reserve(&[item(2, 1, 2, 1)]));
    assert_eq!(status(node.plain(after)[0]), Status::Busy, "definite: nothing was done");
    node.settle();
    assert_eq!(status(node.plain(before)[0]), Status::Reserved);
    assert!(node.replica.is_quiet());
}

#[test]
fn a_restart_from_snapshot_and_log_is_the_same_ledger() {
    let mut node = TestNode::new();
    node.put(1, 100, TERMS);
    for id in 1..=20 {
        node.reserve(id, 1, id as u64, 1);
    }
    node.replica.want_snapshot();
    node.settle();
    for id in 1..=10 {
        node.confirm(id);
    }
    for id in 11..=15 {
        node.cancel(id);
    }
    let digest = node.replica.ledger().digest();
    let (index, now_ms) = (node.replica.ledger().index(), node.replica.ledger().now_ms());
    let mut disk = node.disk;
    let mut replay = Ledger::new(Settings::default(), 12345);
    for entry in disk.entries.iter().take_while(|entry| entry.index <= index) {
        replay.apply(entry.index, entry.term, &entry.data, &mut Ignore).unwrap();
    }
    assert_eq!(replay.digest(), digest, "the log alone makes the same state, whatever the seed");
    // The commit index that survived may lag; the entries that were durable count all the same.
    disk.hard_state.commit = 0;
    let mut node = TestNode::recover(disk, now_ms);
    node.settle();
    let ledger = node.replica.ledger();
    assert!(ledger.index() > index, "the new term has its own first entry");
    assert_eq!(ledger.product(1.into()).map(|view| (view.free, view.held, view.sold)), Some((85, 5, 10)));
    assert_eq!(node.tokens(1), 85);
    assert_eq!(node.confirm(1).state(), State::Confirmed);
}

#[test]
fn when_the_disk_is_nearly_full_only_reads_are_answered() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    node.board.set_admitting(false);
    assert_eq!(status(node.reserve(1, 1, 1, 1)), Status::Busy);
    assert_eq!(status(node.product(1).answer), Status::Done);
    node.pass(10_000);
    node.settle();
    let last = node.last_index();
    node.pass(10_000);
    node.settle();
    assert_eq!(node.last_index(), last, "time alone wrote to a full disk");
    node.board.set_admitting(true);
    assert_eq!(status(node.reserve(1, 1, 1, 1)), Status::Reserved);
}

#[test]
fn a_ledger_that_slept_for_hours_is_caught_up_before_the_gate_opens() {
    let mut node = TestNode::new();
    node.put(1, 10, Terms { opens_ms: START_MS + 3_600_000, ..TERMS });
    let disk = node.disk.clone();
    let mut node = TestNode::recover(disk, START_MS + 8 * 3_600_000);
    node.settle();
    assert_eq!(status(node.reserve(1, 1, 1, 1)), Status::Reserved);
}

#[test]
fn a_node_that_starts_on_a_full_disk_still_reads() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    let mut node = TestNode::recover(node.disk, START_MS + 8 * 3_600_000);
    node.board.set_admitting(false);
    node.settle();
    assert_eq!(status(node.product(1).answer), Status::Done);
    assert_eq!(status(node.reserve(1, 1, 1, 1)), Status::Busy);
}

#[test]
fn a_node_with_nothing_to_do_is_not_told_to_hurry() {
    let mut node = TestNode::new();
    node.put(1, 10, Terms { hold_ms: 1000, ..TERMS });
    node.reserve(1, 1, 1, 1);
    assert!(node.replica.due_in_ms(node.now) > 0);
    node.pass(1000);
    assert_eq!(node.replica.due_in_ms(node.now), 0, "a hold has come due");
    node.drive();
    assert!(node.replica.due_in_ms(node.now) > 0, "its pulse is on the way to the disk");
    node.settle();
    node.pass(5000);
    node.board.set_admitting(false);
    assert!(node.replica.due_in_ms(node.now) > 0, "time has no room on a full disk");
}

#[test]
fn a_frame_whose_time_is_over_is_told_that_nobody_knows_and_a_resolve_settles_it() {
    let mut node = TestNode::new();
    node.put(1, 10, TERMS);
    let frame = node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    node.pass(1001);
    node.desk.expire(node.now);
    node.drive();
    assert_eq!(status(node.plain(frame)[0]), Status::Unknown);
    // Another frame takes the name; the late answer must not reach it.
    let other = node.send(Kind::Reserve, Ask::Reserve(&[item(2, 1, 2, 1), item(3, 1, 3, 1)]));
    node.settle();
    assert_eq!(node.plain(other).into_iter().map(status).collect::<Vec<_>>(), [Status::Reserved; 2]);
    assert!(node.replies.is_empty());
    assert_eq!(node.resolve(1).state(), State::Held);
    assert_eq!(node.tokens(1), node.free(1));
}

#[test]
fn a_frame_of_suspects_of_whom_only_some_are_refused_comes_back_once() {
    let mut node = TestNode::new();
    node.put(1, 100, Terms { per_user_limit: 2, ..TERMS });
    node.reserve(1, 1, 7, 2);
    node.reserve(2, 1, 8, 1);
    let told = node.reserve_all(&[item(3, 1, 7, 1), item(4, 1, 8, 1), item(5, 1, 9, 1), item(6, 1, 8, 9)]);
    let told: Vec<_> = told.into_iter().map(status).collect();
    assert_eq!(told, [Status::LimitReached, Status::Reserved, Status::Reserved, Status::LimitReached]);
    assert_eq!(node.desk.away(), 0);
    assert_eq!((node.free(1), node.tokens(1)), (95, 95));
}

#[test]
fn a_snapshot_that_fails_is_tried_again_only_when_the_log_has_grown() {
    const EVERY: u64 = 4096;
    let mut node = TestNode::recover_with(common::Disk::default(), START_MS, EVERY);
    node.snapshots_fail = true;
    node.settle();
    node.put(1, 1_000_000, TERMS);
    let mut id = 0;
    while node.snapshots == 0 {
        id += 1;
        node.reserve(id, 1, 1, 1);
    }
    for _ in 0..100 {
        node.drive();
    }
    assert_eq!(node.snapshots, 1, "what has just failed was tried again at once");
    while node.snapshots == 1 {
        id += 1;
        node.reserve(id, 1, 1, 1);
    }
    node.snapshots_fail = false;
    while node.snapshots == 2 {
        id += 1;
        node.reserve(id, 1, 1, 1);
    }
    assert!(node.replica.status().log_bytes < EVERY);
}

#[test]
fn a_filter_with_too_many_ids_does_not_turn_refusals_into_records() {
    let mut node = TestNode::new();
    node.put(1, 1, TERMS);
    node.reserve(1, 1, 1, 1);
    node.put(2, 1, Terms { opens_ms: START_MS + 5000, ..TERMS });
    // Ten times as many as the board was made for.
    for id in 2..=10_000 {
        node.resolve(id);
    }
    let before = (node.replica.totals().records, node.last_index());
    for id in 0..1000_u128 {
        let id = 1 << 64 | id << 2;
        let items = [item(id, 1, 2, 1), item(id + 1, 2, 2, 1), item(id + 2, 3, 2, 1)];
        let told: Vec<_> = node.reserve_all(&items).into_iter().map(status).collect();
        assert_eq!(told, [Status::Insufficient, Status::NotOpen, Status::UnknownProduct]);
    }
    assert_eq!((node.replica.totals().records, node.last_index()), before, "refusals were remembered");
}

#[test]
fn a_retry_that_took_a_unit_without_a_token_leaves_none_behind() {
    let mut node = TestNode::new();
    node.put(1, 2, Terms { per_user_limit: 1, ..TERMS });
    // Both tokens are with one user, who may have one unit; the retry of another comes to the log without.
    node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 7, 1), item(2, 1, 7, 1)]));
    assert_eq!(status(node.retry(3, 1, 8, 1)), Status::Reserved);
    assert_eq!((node.free(1), node.tokens(1)), (0, 0));
}

#[test]
fn an_order_above_the_limit_of_anybody_takes_no_units_out_of_sight() {
    let mut node = TestNode::new();
    node.put(1, 5, Terms { per_user_limit: 2, ..TERMS });
    let last = node.last_index();
    let refused = node.reserve(1, 1, 7, 3);
    assert_eq!((status(refused), refused.limit(), refused.user_has()), (Status::LimitReached, 2, 0));
    assert_eq!(node.last_index(), last, "a hopeless order wrote to the log");
}
