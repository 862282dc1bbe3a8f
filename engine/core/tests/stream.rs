//! The way of an event: from an apply to whoever consumes it, without threads, sockets or files.
//!
//! Files are the test's: it keeps every block that the replica hands out, and answers reads from these.

mod common;

use std::sync::Arc;

use common::{TERMS, TestNode, item};
use sluice_core::desk::{Cold, ColdRead};
use sluice_core::flight::Answers;
use sluice_core::replica::Actions;
use sluice_core::session::Ask;
use sluice_core::stream::Block;
use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::event::{EventKind, EventRecord, lane_of};
use sluice_protocol::group::{GroupItem, GroupName, GroupTerms, JoinItem, PutGroupItem};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{Answer, Kind, ProductId, Status};

const ORDERS: &str = "orders";

/// A member of a group, as it knows itself.
#[derive(Clone, Copy, Debug)]
struct Member {
    seat: SeatItem,
    epoch: u64,
    lanes: u64,
    after: u64,
    redriven: u64,
}

fn name() -> GroupName {
    GroupName::new(ORDERS).expect("a name")
}

fn status(answer: Answer) -> Status {
    answer.status().expect("a status of this version")
}

fn put_group(node: &mut TestNode, terms: &GroupTerms) -> Answer {
    let item = PutGroupItem::new(name(), 0, terms);
    let frame = node.send(Kind::PutGroup, Ask::PutGroup(&item));
    node.settle();
    node.plain(frame)[0]
}

fn join(node: &mut TestNode, member: u64) -> Member {
    let item = JoinItem::new(name(), member);
    let frame = node.send(Kind::Join, Ask::Join(&item));
    node.settle();
    let [group, epoch, lanes] = node.plain(frame)[0].numbers();
    let seat = SeatItem::new(group as u32, member);
    Member { seat, epoch, lanes, after: 0, redriven: 0 }
}

impl Member {
    fn item(&self) -> FetchItem {
        FetchItem::new(self.seat, self.epoch).after(self.after, self.redriven)
    }

    /// What there is now.
    fn fetch(&mut self, node: &mut TestNode) -> (DeliveryHead, Vec<u64>) {
        let frame = node.send(Kind::Fetch, Ask::Fetch(&self.item()));
        node.settle();
        let (head, events) = delivery(node, frame).expect("it waits for nothing");
        self.take(&head);
        (head, events.iter().map(EventRecord::sequence).collect())
    }

    fn take(&mut self, head: &DeliveryHead) {
        if head.answer.status() == Some(Status::Done) {
            let [upto, ..] = head.answer.numbers();
            (self.after, self.redriven) = (upto, head.redriven());
        }
        (self.epoch, self.lanes) = (head.epoch(), head.lanes());
    }

    fn ack(&self, node: &mut TestNode, upto: u64) -> Answer {
        let item = AckItem::new(self.seat, self.epoch, self.lanes, upto);
        let frame = node.send(Kind::Ack, Ask::Ack(&[item]));
        node.settle();
        node.plain(frame)[0]
    }
}

fn delivery(node: &mut TestNode, frame: u64) -> Option<(DeliveryHead, Vec<EventRecord>)> {
    match node.reply(frame)? {
        Answers::Delivery(head, events) => Some((head, events)),
        other => panic!("expected a delivery, not {other:?}"),
    }
}

/// A product and a group, and the sequence of the last event.
fn opened() -> (TestNode, u64) {
    let mut node = TestNode::new();
    node.put(1, 1_000, TERMS);
    put_group(&mut node, &GroupTerms::default());
    let last = node.replica.ledger().sequence();
    (node, last)
}

#[test]
fn every_change_comes_once_and_in_its_order_and_is_what_it_says() {
    let (mut node, before) = opened();
    let mut member = join(&mut node, 7);
    assert_eq!(member.lanes, u64::MAX);
    node.reserve(0xa1, 1, 5, 2);
    node.confirm(0xa1);
    node.reserve(0xa2, 1, 6, 1);
    node.cancel(0xa2);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item()));
    node.settle();
    let (head, events) = delivery(&mut node, frame).expect("there is something");
    let views: Vec<_> = events.iter().map(|event| event.view().expect("it is intact")).collect();
    assert_eq!(
        views.iter().map(|view| view.sequence).collect::<Vec<_>>(),
        (1..=before + 4).collect::<Vec<_>>()
    );
    let kinds: Vec<_> =
        views[before as usize..].iter().map(|view| (view.kind, view.id.0, view.user.0)).collect();
    let expected = [
        (EventKind::Reserved, 0xa1, 5),
        (EventKind::Confirmed, 0xa1, 5),
        (EventKind::Reserved, 0xa2, 6),
        (EventKind::Cancelled, 0xa2, 6),
    ];
    assert_eq!(kinds, expected);
    member.take(&head);
    assert_eq!(member.fetch(&mut node).1, [] as [u64; 0], "nothing comes twice to whoever says what it has");
    member.after = 0;
    assert_eq!(member.fetch(&mut node).1.len() as u64, before + 4, "and all of it to whoever lost it");
    assert_eq!(status(member.ack(&mut node, before + 2)), Status::Done);
    member.after = 0;
    assert_eq!(member.fetch(&mut node).1, [before + 3, before + 4], "but nothing that was acknowledged");
}

#[test]
fn a_fetch_waits_for_news_and_no_longer_than_it_may() {
    let (mut node, last) = opened();
    let mut member = join(&mut node, 7);
    member.fetch(&mut node);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item().waiting(500)));
    node.settle();
    assert!(node.reply(frame).is_none() && node.desk.is_watching());
    node.reserve(0xa1, 1, 5, 2);
    let (head, events) = delivery(&mut node, frame).expect("news");
    assert_eq!(events[0].sequence(), last + 1);
    member.take(&head);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item().waiting(500)));
    node.pass(499);
    node.desk.expire(node.now);
    node.drive();
    assert!(node.reply(frame).is_none());
    node.pass(1);
    node.desk.expire(node.now);
    node.drive();
    let (head, events) = delivery(&mut node, frame).expect("its time is over");
    assert_eq!((head.answer.numbers()[0], events.len()), (last + 1, 0));
    assert!(node.desk.is_idle());
}

#[test]
fn an_event_is_not_seen_before_it_is_durable() {
    let (mut node, _) = opened();
    let mut member = join(&mut node, 7);
    member.fetch(&mut node);
    let fetch = node.send(Kind::Fetch, Ask::Fetch(&member.item().waiting(500)));
    node.send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 1)]));
    node.drive();
    assert!(node.reply(fetch).is_none());
    node.sync();
    node.drive();
    assert!(node.reply(fetch).is_some());
}

#[test]
fn two_members_share_the_lanes_and_each_product_comes_to_one_of_them() {
    let (mut node, _) = opened();
    for product in 2..=40 {
        node.put(product, 10, TERMS);
    }
    let mut first = join(&mut node, 7);
    first.fetch(&mut node);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&first.item().waiting(5_000)));
    let mut second = join(&mut node, 8);
    let (head, events) = delivery(&mut node, frame).expect("whoever waits hears of another epoch at once");
    assert_eq!((head.epoch(), events.len()), (second.epoch, 0));
    first.take(&head);
    assert_eq!((first.lanes & second.lanes, first.lanes | second.lanes), (0, u64::MAX));
    assert_eq!(first.lanes.count_ones(), 32);
    first.after = 0;
    let (mine, theirs) = (first.fetch(&mut node).1, second.fetch(&mut node).1);
    let last = node.replica.ledger().sequence();
    let mut both = [mine.clone(), theirs.clone()].concat();
    both.sort_unstable();
    assert_eq!(both, (1..=last).collect::<Vec<_>>());
    assert!(!mine.is_empty() && !theirs.is_empty());
    // What rests on the time before the other came does not count for what went to it.
    let old = Member { epoch: 1, lanes: u64::MAX, ..first };
    assert_eq!(status(old.ack(&mut node, last)), Status::NotMember);
    assert_eq!(second.fetch(&mut node).1, [] as [u64; 0]);
    second.after = 0;
    assert_eq!(second.fetch(&mut node).1, theirs);
}

#[test]
fn who_is_silent_loses_its_seat_and_who_speaks_keeps_it() {
    let (mut node, _) = opened();
    let terms = GroupTerms { session_ms: 1_000, ..GroupTerms::default() };
    put_group(&mut node, &terms);
    let mut loud = join(&mut node, 7);
    let mut silent = join(&mut node, 8);
    for _ in 0..12 {
        node.pass(200);
        loud.fetch(&mut node);
        node.settle();
    }
    assert_eq!(loud.fetch(&mut node).0.lanes(), u64::MAX);
    assert_eq!(status(silent.fetch(&mut node).0.answer), Status::NotMember);
    assert_eq!(silent.lanes, 0);
}

#[test]
fn what_memory_does_not_have_is_read_from_files() {
    let (mut node, _) = opened();
    for id in 1..=20 {
        node.reserve(id, 1, 5, 1);
    }
    let mut member = join(&mut node, 7);
    member.fetch(&mut node);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&Member { after: 0, ..member }.item()));
    let (_, kept) = delivery(&mut node, frame).expect("all of them");
    node.replica.want_snapshot();
    node.settle();
    let mut node = node.crash();
    let last = node.replica.ledger().sequence();
    member.after = 5;
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item()));
    node.settle();
    let told = node.reply(frame);
    assert!(told.is_none(), "{told:?}");
    assert_eq!(node.desk.cold_reads().collect::<Vec<_>>(), [ColdRead::Events(6)]);
    let block = Arc::new(Block::new(kept[5..].iter().map(|event| event.stored()).collect()));
    node.desk.cold(Cold::Events(6, Some(block)), node.now);
    node.settle();
    let (head, events) = delivery(&mut node, frame).expect("they were read");
    assert_eq!((head.answer.numbers()[0], events), (last, kept[5..].to_vec()));
    // The next goes on from memory.
    member.take(&head);
    node.reserve(0xff, 1, 5, 1);
    assert_eq!(member.fetch(&mut node).1, [last + 1]);
    // What cannot be read is not passed over.
    member.after = 3;
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item()));
    assert_eq!(node.desk.cold_reads().count(), 1);
    node.desk.cold(Cold::Events(4, None), node.now);
    node.settle();
    let (head, _) = delivery(&mut node, frame).expect("an answer");
    assert_eq!(status(head.answer), Status::Busy);
}

#[test]
fn what_happened_is_not_lost_to_whoever_waits_when_files_cannot_be_read_for_another() {
    let (mut node, _) = opened();
    let mut member = join(&mut node, 7);
    node.replica.want_snapshot();
    node.settle();
    let mut node = node.crash();
    let last = node.replica.ledger().sequence();
    member.after = last;
    let waits = node.send(Kind::Fetch, Ask::Fetch(&member.item().waiting(5_000)));
    let cold = node.send(Kind::Fetch, Ask::Fetch(&Member { after: 1, ..member }.item()));
    node.settle();
    assert_eq!(node.desk.cold_reads().collect::<Vec<_>>(), [ColdRead::Events(2)]);
    // An event is there, and the desk has not looked, when it hears that the files could not be read.
    node.send(Kind::Reserve, Ask::Reserve(&[item(0xa1, 1, 5, 1)]));
    node.drive();
    node.sync();
    let mut actions = Actions::default();
    node.replica.drive(node.now, &mut actions);
    assert_eq!(node.board.stream.tail.last(), last + 1);
    node.desk.cold(Cold::Events(2, None), node.now);
    actions.settled.into_iter().for_each(|flight| node.desk.settle(flight));
    node.settle();
    let (head, _) = delivery(&mut node, cold).expect("an answer");
    assert_eq!(status(head.answer), Status::Busy);
    let (_, events) = delivery(&mut node, waits).expect("news");
    assert_eq!(events.iter().map(EventRecord::sequence).collect::<Vec<_>>(), [last + 1]);
}

#[test]
fn what_is_kept_no_more_is_told_and_exactly() {
    let (mut node, last) = opened();
    let mut member = join(&mut node, 7);
    node.reserve(0xa1, 1, 5, 1);
    node.board.stream.tail.keep_from(last + 1);
    let (head, events) = member.fetch(&mut node);
    assert_eq!((status(head.answer), head.answer.numbers()[0], events.len()), (Status::Gap, last + 1, 0));
    member.after = last;
    assert_eq!(member.fetch(&mut node).1, [last + 1]);
}

#[test]
fn a_dead_letter_is_passed_over_and_comes_again_when_it_is_redriven() {
    let (mut node, last) = opened();
    put_group(&mut node, &GroupTerms { attempts_max: 2, ..GroupTerms::default() });
    let mut member = join(&mut node, 7);
    member.fetch(&mut node);
    member.ack(&mut node, last);
    node.reserve(0xa1, 1, 5, 1);
    node.reserve(0xa2, 1, 5, 1);
    for (attempt, told) in [(0, Status::Done), (1, Status::Parked)] {
        member.after = last;
        let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item()));
        let (_, events) = delivery(&mut node, frame).expect("both");
        assert_eq!((events.len(), events[0].attempts()), (2, attempt));
        let nak = NakItem::new(member.seat, member.epoch, events[0], 9);
        let frame = node.send(Kind::Nak, Ask::Nak(&[nak]));
        node.settle();
        assert_eq!(status(node.plain(frame)[0]), told);
    }
    member.after = last;
    assert_eq!(member.fetch(&mut node).1, [last + 2], "it is dead");
    let letter = LetterItem::new(member.seat.group(), last + 1);
    let frame = node.send(Kind::Redrive, Ask::Redrive(&[letter]));
    node.settle();
    assert_eq!(status(node.plain(frame)[0]), Status::Done);
    let frame = node.send(Kind::Fetch, Ask::Fetch(&member.item()));
    let (head, events) = delivery(&mut node, frame).expect("it comes again");
    assert_eq!((events.len(), events[0].sequence(), events[0].is_redriven()), (1, last + 1, true));
    member.take(&head);
    assert_eq!(member.fetch(&mut node).1, [] as [u64; 0], "once");
    let done = AckItem::new(member.seat, member.epoch, 0, last + 1);
    let frame = node.send(Kind::Ack, Ask::Ack(&[done]));
    node.settle();
    assert_eq!(status(node.plain(frame)[0]), Status::Done);
    let page = LetterItem::page(member.seat.group(), 0, 10);
    let frame = node.send(Kind::ListDead, Ask::Dead(&page));
    node.settle();
    assert!(matches!(node.reply(frame), Some(Answers::Letters(letters)) if letters.is_empty()));
}

#[test]
fn a_place_in_line_counts_what_the_group_has_still_to_take() {
    let mut node = TestNode::new();
    node.put(1, 100_000, TERMS);
    let last = node.replica.ledger().sequence();
    put_group(&mut node, &GroupTerms { kinds: EventKind::Reserved.bit(), ..GroupTerms::default() });
    let member = join(&mut node, 7);
    let mut sequence = 0;
    for frame in 0..20_u128 {
        let items: Vec<_> = (1..=1000).map(|id| item(frame << 64 | id, 1, 5, 1)).collect();
        sequence = node.reserve_all(&items).last().expect("many").sequence();
    }
    node.cancel(1);
    let place = |node: &mut TestNode, sequence: u64| {
        let item = LetterItem::place(member.seat.group(), sequence, ProductId(1));
        let frame = node.send(Kind::QueryPlace, Ask::Places(&[item]));
        node.settle();
        let [ahead, _, cursor] = node.plain(frame)[0].numbers();
        (ahead, cursor)
    };
    assert_eq!(place(&mut node, sequence), (19_999, 0));
    assert_eq!(place(&mut node, sequence + 1), (20_000, 0), "a cancellation is none of its business");
    assert_eq!(place(&mut node, last + 1), (0, 0));
    member.ack(&mut node, last + 5_000);
    assert_eq!(place(&mut node, sequence), (14_999, last + 5_000));
    assert_eq!(place(&mut node, last + 3), (0, last + 5_000), "it was taken");
    // Another lane that is behind counts too.
    let other =
        (2..).find(|product| lane_of(ProductId(*product)) != lane_of(ProductId(1))).expect("there is one");
    let rest = AckItem::new(member.seat, member.epoch, 1 << lane_of(ProductId(1)), last + 10_000);
    node.put(other, 10, TERMS);
    let frame = node.send(Kind::Ack, Ask::Ack(&[rest]));
    node.settle();
    assert_eq!(status(node.plain(frame)[0]), Status::Done);
    let (ahead, cursor) = place(&mut node, sequence);
    assert_eq!(cursor, last + 10_000);
    assert!(ahead.abs_diff(9_999) < 50, "{ahead}: estimated within a page");
}

#[test]
fn the_stream_tells_its_bounds_and_where_a_time_is() {
    let (mut node, last) = opened();
    node.pass(1_000);
    node.reserve(0xa1, 1, 5, 1);
    let now = node.replica.ledger().now_ms();
    let mut find = |time_ms: u64| {
        let frame = node.send(Kind::QueryStream, Ask::Stream(&StreamItem::new(time_ms)));
        node.settle();
        node.plain(frame)[0].numbers()
    };
    assert_eq!(find(0), [1, last + 1, 0]);
    assert_eq!(find(now), [1, last + 1, last + 1]);
    assert_eq!(find(now + 1), [1, last + 1, last + 2]);
}

#[test]
fn groups_and_members_can_be_read() {
    let (mut node, last) = opened();
    let member = join(&mut node, 7);
    member.ack(&mut node, last);
    let frame = node.send(Kind::ListGroups, Ask::Groups(&GroupItem::new(GroupName::NONE)));
    node.settle();
    let Some(Answers::Groups(groups)) = node.reply(frame) else { panic!("groups") };
    let view = sluice_protocol::consumed::GroupView::from(groups[0].record);
    assert_eq!((groups.len(), view.name, view.cursor, view.members), (1, name(), last, 1));
    let frame = node.send(Kind::ListMembers, Ask::Members(&GroupItem::new(name())));
    node.settle();
    let Some(Answers::Members(members)) = node.reply(frame) else { panic!("members") };
    assert_eq!((members[0].member(), members[0].lanes(), members[0].cursor()), (7, u64::MAX, last));
    let unknown = GroupItem::new(GroupName::new("nobody").expect("a name"));
    let frame = node.send(Kind::ListGroups, Ask::Groups(&unknown));
    node.settle();
    let Some(Answers::Groups(groups)) = node.reply(frame) else { panic!("an answer") };
    assert_eq!(status(groups[0].answer), Status::UnknownGroup);
}
