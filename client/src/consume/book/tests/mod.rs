//! The bookkeeping against a group that is kept as plainly as can be: what each rule means, by name, and all of them
//! together at random (`model`).

use sluice_protocol::event::EventRecord;
use sluice_protocol::seat::NakItem;

use super::fetched::Next;
use super::*;

use crate::tests::fake::groups::{GROUP, Group};

mod model;

const ME: u64 = 11;
const OTHER: u64 = 12;
const WINDOW: usize = 100;
const REDELIVER_AFTER: Duration = Duration::from_secs(30);

/// Two products of different lanes, and a third that shares the lane of the first.
const A: u64 = 1;
const B: u64 = 2;

fn twin_of_a() -> u64 {
    let lane = lane_of(sluice_protocol::ProductId(A));
    (3..).find(|product| lane_of(sluice_protocol::ProductId(*product)) == lane).unwrap()
}

/// A delivery in the hands of the application.
#[derive(Clone, Debug)]
struct Held {
    sheet: Arc<Sheet>,
    at: usize,
}

impl Held {
    fn sequence(&self) -> u64 {
        self.sheet.events[self.at].view.sequence
    }

    fn ack(&self) -> bool {
        let done = self.sheet.turn(self.at, Slot::Out, Slot::Done);
        self.sheet.tally.acked(usize::from(done));
        done
    }
}

/// A book, the group behind it, and the time.
struct Table {
    book: Book,
    group: Group,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Self::with_window(WINDOW)
    }

    fn with_window(window: usize) -> Self {
        let mut group = Group::named("orders");
        group.join(ME);
        let seat = Seat { group: GROUP, member: ME, epoch: group.epoch, lanes: group.lanes_of(ME) };
        let tally = Arc::new(Tally::new((window / 2).max(1)));
        let book = Book::new(seat, group.cursor(), window, REDELIVER_AFTER, tally, Weak::new());
        Self { book, group, now: Instant::now() }
    }

    fn happened(&mut self, products: &[u64]) {
        for product in products {
            self.group.happened(*product);
        }
    }

    /// A fetch and its reply.
    fn fetch(&mut self) -> Next {
        let (item, sent) = self.book.fetch(false, 1023, 0);
        let (head, events) = self.group.fetch(&item);
        self.book.delivered(&head, &events, &sent)
    }

    /// All that may be handed out now, seen by the application.
    fn take(&mut self) -> Vec<Held> {
        let mut all = Vec::new();
        while let Some(sheet) = self.book.take(usize::MAX, self.now) {
            for at in 0..sheet.events.len() {
                assert!(sheet.turn(at, Slot::Fresh, Slot::Out));
                all.push(Held { sheet: Arc::clone(&sheet), at });
            }
        }
        all
    }

    fn sequences(&mut self) -> Vec<u64> {
        self.take().iter().map(Held::sequence).collect()
    }

    fn ack_round(&mut self) -> usize {
        let items = self.book.acks();
        for item in &items {
            let answer = self.group.ack(item);
            self.book.acked(item, &answer);
        }
        items.len()
    }

    fn nak(&mut self, held: &Held, for_good: bool) -> bool {
        let verdict = Verdict::Failed { delay_ms: 0, cause: 5, for_good };
        self.book.failed(&held.sheet, held.at, verdict, self.now)
    }

    fn nak_round(&mut self) -> Vec<NakItem> {
        let items = self.book.naks();
        for item in &items {
            let answer = self.group.nak(item);
            self.book.nakked(item, Some(&answer), self.now);
        }
        items
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.now_ms += time.as_millis() as u64;
    }
}

fn retry() -> Duration {
    Duration::from_millis(u64::from(sluice_protocol::group::GroupTerms::default().retry_ms))
}

#[test]
fn events_are_handed_out_in_their_order_and_acknowledged_up_to_the_first_that_is_not_done() {
    let mut table = Table::new();
    table.happened(&[A, B, A, B, A]);
    table.fetch();
    let held = table.take();
    assert_eq!(held.iter().map(Held::sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(held[0].ack() && held[3].ack());
    table.ack_round();
    let lane = |product| table.group.lanes[lane_of(sluice_protocol::ProductId(product)) as usize].cursor;
    assert_eq!((lane(A), lane(B)), (2, 1), "below what is not done of each");
    assert!(held[1].ack() && held[2].ack() && held[4].ack());
    assert_eq!(table.ack_round(), 1, "all lanes share an item");
    assert_eq!(table.group.cursor(), 5);
    assert_eq!(table.ack_round(), 0, "nothing is said twice");
}

#[test]
fn the_window_bounds_what_is_out() {
    let mut table = Table::with_window(2);
    table.happened(&[A, B, A]);
    table.fetch();
    let held = table.take();
    assert_eq!(held.len(), 2);
    held[0].ack();
    assert_eq!(table.sequences(), [3]);
}

#[test]
fn a_failed_delivery_holds_back_its_lane_and_no_other() {
    let mut table = Table::new();
    table.happened(&[A]);
    table.fetch();
    let first = table.take();
    table.happened(&[twin_of_a(), B]);
    table.fetch();
    assert!(table.nak(&first[0], false));
    assert_eq!(table.sequences(), [3], "the twin waits");
    assert_eq!(table.nak_round().len(), 1);
    assert!(table.take().is_empty());
    table.pass(retry());
    let again = table.take();
    assert_eq!(again.iter().map(Held::sequence).collect::<Vec<_>>(), [1], "and is not done yet");
    assert_eq!(again[0].sheet.events[again[0].at].attempts, 1);
    assert!(!first[0].ack(), "the first delivery is over");
    assert!(again[0].ack());
    assert_eq!(table.sequences(), [2]);
}

#[test]
fn what_is_handed_out_again_and_not_seen_waits_for_what_fails_before_it() {
    let mut table = Table::new();
    table.happened(&[A, A]);
    table.fetch();
    let held = table.take();
    let now = table.now;
    assert!(table.book.failed(&held[1].sheet, held[1].at, Verdict::Dropped, now));
    let again = table.book.take(usize::MAX, now).unwrap();
    assert!(table.book.failed(&held[0].sheet, held[0].at, Verdict::Dropped, now));
    assert!(!again.turn(0, Slot::Fresh, Slot::Out));
    let first = table.take();
    assert_eq!(first.iter().map(Held::sequence).collect::<Vec<_>>(), [1]);
    first[0].ack();
    assert_eq!(table.sequences(), [2]);
}

#[test]
fn what_was_taken_and_not_seen_goes_back_behind_what_failed() {
    let mut table = Table::new();
    table.happened(&[A, A, B, A]);
    table.fetch();
    let sheet = table.book.take(usize::MAX, table.now).unwrap();
    assert!(sheet.turn(0, Slot::Fresh, Slot::Out));
    assert!(table.nak(&Held { sheet: Arc::clone(&sheet), at: 0 }, false));
    let seen: Vec<bool> = (1..4).map(|at| sheet.turn(at, Slot::Fresh, Slot::Out)).collect();
    assert_eq!(seen, [false, true, false], "those of its lane were taken back");
    table.nak_round();
    table.pass(retry());
    let again = table.take();
    assert_eq!(again.len(), 1);
    again[0].ack();
    assert_eq!(table.sequences(), [2, 4]);
}

#[test]
fn a_delivery_that_failed_for_good_is_told_and_passed_over() {
    let mut table = Table::new();
    table.happened(&[A, A]);
    table.fetch();
    let sheet = table.book.take(1, table.now).unwrap();
    sheet.turn(0, Slot::Fresh, Slot::Out);
    table.nak(&Held { sheet, at: 0 }, true);
    table.nak_round();
    assert!(matches!(table.book.note(), Some(Note::Parked { event, attempts: 1 }) if event.sequence == 1));
    assert_eq!(table.sequences(), [2]);
    table.ack_round();
    let cursor = table.group.lanes[lane_of(sluice_protocol::ProductId(A)) as usize].cursor;
    assert_eq!(cursor, 1, "the lane goes on behind it");
}

#[test]
fn a_dropped_delivery_is_handed_out_again_at_once_and_nobody_is_told() {
    let mut table = Table::new();
    table.happened(&[A, A]);
    table.fetch();
    let sheet = table.book.take(1, table.now).unwrap();
    sheet.turn(0, Slot::Fresh, Slot::Out);
    assert!(table.book.failed(&sheet, 0, Verdict::Dropped, table.now));
    assert!(table.nak_round().is_empty());
    assert_eq!(table.sequences(), [1]);
}

#[test]
fn who_never_answers_has_failed() {
    let mut table = Table::new();
    table.happened(&[A]);
    table.fetch();
    let held = table.take();
    table.book.sweep(table.now);
    table.pass(REDELIVER_AFTER - Duration::from_millis(1));
    table.book.sweep(table.now);
    assert!(table.nak_round().is_empty());
    table.pass(Duration::from_millis(1));
    table.book.sweep(table.now);
    assert_eq!(table.nak_round()[0].cause(), crate::consume::delivery::CAUSE_TIMED_OUT);
    assert!(!held[0].ack(), "too late");
    assert!(!table.book.ack_through(9), "and who acknowledges up to a place hears of it");
}

#[test]
fn lanes_that_move_take_their_deliveries_with_them_and_the_others_stay() {
    let mut table = Table::new();
    let products: Vec<u64> = (1..=40).collect();
    table.happened(&products);
    table.fetch();
    let held = table.take();
    table.group.join(OTHER);
    table.fetch();
    let mine = table.book.seat.lanes;
    let is_mine = |one: &Held| mine & (1 << lane_index(&one.sheet.events[one.at])) != 0;
    assert!(held.iter().any(is_mine) && !held.iter().all(is_mine));
    for one in &held {
        assert_eq!(one.ack(), is_mine(one));
    }
    table.fetch();
    assert!(table.take().is_empty(), "nothing of what stayed comes twice");
    table.group.leave(OTHER);
    table.fetch();
    table.fetch();
    let back = table.take();
    let foreign: Vec<u64> = held.iter().filter(|one| !is_mine(one)).map(Held::sequence).collect();
    assert_eq!(back.iter().map(Held::sequence).collect::<Vec<_>>(), foreign, "what came back comes again");
}

#[test]
fn acknowledgements_that_went_with_their_lanes_are_not_forgotten_in_silence() {
    let mut table = Table::new();
    table.happened(&(1..=40).collect::<Vec<u64>>());
    table.fetch();
    assert!(table.take().iter().all(Held::ack));
    table.group.join(OTHER);
    table.ack_round();
    assert!(table.book.is_stale);
    assert_eq!(table.ack_round(), 0, "nothing is told before it is known whose the lanes are");
    table.fetch();
    assert!(table.book.has_lost_acks());
    table.fetch();
    table.ack_round();
    assert!(table.book.is_flushed());
}

#[test]
fn a_group_that_was_moved_back_begins_again() {
    let mut table = Table::new();
    table.happened(&[A, B, A]);
    table.fetch();
    let held = table.take();
    held[0].ack();
    held[1].ack();
    table.ack_round();
    table.group.seek(0);
    table.fetch();
    assert_eq!(table.ack_round(), 0, "nothing undoes that");
    table.fetch();
    assert_eq!(table.sequences(), [1, 2, 3]);
    assert!(!held[2].ack(), "it is delivered again");
}

#[test]
fn what_was_done_before_a_group_was_moved_back_does_not_move_it_on() {
    let mut table = Table::new();
    table.happened(&[A, A, A]);
    table.fetch();
    let held = table.take();
    held[0].ack();
    table.ack_round();
    held[1].ack();
    table.group.seek(0);
    table.fetch();
    assert_eq!(table.ack_round(), 0, "it is not known yet that the lane begins before it");
    table.fetch();
    assert_eq!(table.sequences(), [1, 2, 3]);
}

#[test]
fn an_acknowledgement_of_another_epoch_that_is_answered_late_is_made_again() {
    let mut table = Table::new();
    table.happened(&[A, A, A]);
    table.fetch();
    assert!(table.take().iter().all(Held::ack));
    let items = table.book.acks();
    let answers: Vec<_> = items.iter().map(|item| table.group.ack(item)).collect();
    table.group.seek(0);
    table.fetch();
    for (item, answer) in items.iter().zip(&answers) {
        table.book.acked(item, answer);
    }
    table.fetch();
    table.ack_round();
    assert_eq!((table.group.cursor(), table.book.is_flushed()), (3, true));
}

/// A dead letter that is delivered again, in the hands of the application.
fn redriven() -> (Table, Held) {
    let mut table = Table::new();
    table.happened(&[A]);
    table.fetch();
    let held = table.take();
    table.nak(&held[0], true);
    table.nak_round();
    table.book.note();
    table.group.redrive(1);
    table.fetch();
    let held = table.take().remove(0);
    (table, held)
}

#[test]
fn a_redriven_letter_in_hand_is_not_delivered_twice_when_lanes_move() {
    let (mut table, held) = redriven();
    table.group.join(OTHER);
    table.group.leave(OTHER);
    table.fetch();
    table.fetch();
    assert!(table.take().is_empty());
    assert!(held.ack());
}

#[test]
fn a_redriven_letter_that_is_done_is_not_delivered_again_by_a_fetch_that_was_under_way() {
    let (mut table, held) = redriven();
    table.group.join(OTHER);
    table.group.leave(OTHER);
    table.fetch();
    let (item, sent) = table.book.fetch(false, 1023, 0);
    let (head, events) = table.group.fetch(&item);
    assert_eq!(events.len(), 1);
    held.ack();
    table.ack_round();
    table.book.delivered(&head, &events, &sent);
    assert!(table.take().is_empty());
}

/// Whether who waits is woken.
fn is_woken(table: &mut Table) -> bool {
    table.book.waker = Some(Waker::noop().clone());
    table.book.nudge(table.now);
    table.book.waker.take().is_none()
}

#[test]
fn who_waits_is_woken_when_a_place_is_free_or_a_failed_delivery_is_due() {
    let mut table = Table::with_window(2);
    table.happened(&[A, B, A]);
    table.fetch();
    let held = table.take();
    assert!(!is_woken(&mut table));
    held[1].ack();
    assert!(is_woken(&mut table));
    table.nak(&held[0], false);
    table.nak_round();
    assert!(!is_woken(&mut table));
    table.pass(retry());
    assert!(is_woken(&mut table));
}

#[test]
fn what_is_kept_no_more_is_told() {
    let mut table = Table::new();
    table.happened(&[A; 9]);
    table.group.first = 6;
    table.fetch();
    assert!(matches!(table.book.note(), Some(Note::Gap { from: 1, to: 5 })));
    table.fetch();
    assert_eq!(table.sequences(), [6, 7, 8, 9]);
}

#[test]
fn a_damaged_event_is_asked_for_again_and_then_told_once_and_never_passed_over() {
    let mut table = Table::new();
    table.happened(&[A, A, A]);
    let (item, sent) = table.book.fetch(false, 1023, 0);
    let (head, mut events) = table.group.fetch(&item);
    let mut bytes = zerocopy::IntoBytes::as_bytes(&events[1]).to_vec();
    bytes[20] ^= 1;
    events[1] = <EventRecord as zerocopy::FromBytes>::read_from_bytes(&bytes).unwrap();
    assert_eq!(table.book.delivered(&head, &events, &sent), Next::On);
    assert!(table.book.note().is_none());
    for told in [true, false] {
        let (_, sent) = table.book.fetch(false, 1023, 0);
        assert_eq!(table.book.delivered(&head, &events[1..], &sent), Next::Later);
        let note = table.book.note();
        assert_eq!(matches!(note, Some(Note::Error(ConsumeError::Damaged { after: 1 }))), told, "{note:?}");
    }
    assert_eq!(table.sequences(), [1]);
    table.fetch();
    assert_eq!(table.sequences(), [2, 3]);
}

#[test]
fn dead_letters_that_are_delivered_again_are_acknowledged_one_by_one() {
    let mut table = Table::new();
    table.happened(&[A, A]);
    table.fetch();
    for held in table.take() {
        table.nak(&held, true);
        table.nak_round();
    }
    table.group.redrive(2);
    table.fetch();
    let again = table.take();
    assert_eq!(again.iter().map(Held::sequence).collect::<Vec<_>>(), [2]);
    table.fetch();
    assert!(table.take().is_empty());
    assert!(again[0].ack());
    table.ack_round();
    assert_eq!(table.group.letters.keys().collect::<Vec<_>>(), [&1]);
    assert!(table.book.is_flushed());
}

#[test]
fn a_redriven_letter_that_fails_is_parked_again_and_not_acknowledged() {
    let mut table = Table::new();
    table.happened(&[A]);
    table.fetch();
    let held = table.take();
    table.nak(&held[0], true);
    table.nak_round();
    table.group.redrive(1);
    table.fetch();
    let again = table.take();
    table.nak(&again[0], false);
    table.nak_round();
    table.group.redrive(1);
    table.ack_round();
    assert_eq!(table.group.letters.len(), 1, "somebody has it delivered again by now");
    table.fetch();
    assert_eq!(table.sequences(), [1]);
}
