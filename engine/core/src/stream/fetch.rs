//! Which events a member of a group gets.
//!
//! A member names the last sequence that it has looked through; it gets what follows in its lanes, what its group wants of
//! it, and how far that was looked through. So nothing need be kept here of what was delivered: a delivery that was lost is
//! asked for again. Deliberately not here: waiting for news, and reading files.

use std::sync::Arc;

use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::event::{EventRecord, lane_of};
use sluice_protocol::limits::{EVENTS_MAX, WAIT_MS_MAX};
use sluice_protocol::response::At;
use sluice_protocol::seat::FetchItem;
use sluice_protocol::{Answer, RefusedField, Status};

use super::{Block, Bounds, Stream};
use crate::fault::{self, Mutant};
use crate::ledger::groups::Group;

/// Events looked through in one go, at most: a member whose lanes are quiet must not hold up a net thread.
const SCAN_MAX: u64 = 16 * 1024;

/// A fetch, as far as it was carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    item: FetchItem,
    /// Everything up to this sequence was looked through, and nothing of it was for this member.
    after: u64,
}

/// What came of looking.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The reply.
    Now(DeliveryHead, Vec<EventRecord>),
    /// All that has happened was looked through.
    Nothing,
    /// The events from this sequence on are only in files.
    Cold(u64),
}

/// On whose behalf events are looked through.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// `None`: whoever only looks, at everything.
    group: Option<&'a Group>,
    lanes: u64,
    epoch: u64,
}

impl Fetch {
    pub(crate) fn new(item: &FetchItem) -> Self {
        Self { item: *item, after: item.looked_through() }
    }

    /// Who fetches: group and member.
    pub(crate) fn seat(&self) -> (u32, u64) {
        (self.item.seat.group(), self.item.seat.member())
    }

    /// How long it may wait for news, milliseconds.
    pub(crate) fn wait_ms(&self) -> u32 {
        self.item.wait_ms()
    }

    /// Whether there is anything that it has not looked through.
    pub(crate) fn is_behind(&self, last: u64) -> bool {
        self.after < last
    }

    /// What is wrong with it, whatever there is to fetch.
    pub(crate) fn malformed(&self, at: At) -> Option<Answer> {
        let (events_max, wait_ms) = (u64::from(self.item.events_max()), u64::from(self.item.wait_ms()));
        if !(1..=EVENTS_MAX as u64).contains(&events_max) {
            return Some(Answer::invalid(at, RefusedField::EventsMax, events_max, 1, EVENTS_MAX as u64));
        }
        let wait_ms_max = u64::from(WAIT_MS_MAX);
        (wait_ms > wait_ms_max).then(|| Answer::invalid(at, RefusedField::WaitMs, wait_ms, 0, wait_ms_max))
    }

    /// Looks for events, in memory and in what was read of files.
    pub(crate) fn look(&mut self, stream: &Stream, cold: &[Arc<Block>], at: At) -> Fetched {
        let groups = stream.groups();
        let (number, member) = self.seat();
        let group = match number {
            0 => None,
            number => match groups.get(number) {
                Some(group) => Some(&**group),
                None => return refused(Answer::plain(at, Status::UnknownGroup)),
            },
        };
        if let Some(group) = group.filter(|group| !group.has_member(member)) {
            return refused(Answer::not_member(at, group.epoch(), 0));
        }
        let reader = Reader {
            group,
            lanes: group.map_or(u64::MAX, |group| group.lanes_of(member)),
            epoch: group.map_or(0, Group::epoch),
        };
        if reader.epoch != self.item.epoch() {
            // It must know which lanes are its own before it gets anything.
            return Fetched::Now(self.nothing(stream, at), Vec::new());
        }
        let mut events = Vec::new();
        let redriven = self.redriven(reader, &mut events);
        self.after = self.after.max(reader.begins_after());
        let found = self.scan(stream, cold, reader, &mut events);
        let bounds = stream.tail.bounds();
        let head = |answer| DeliveryHead::new(answer, reader.epoch, reader.lanes, redriven);
        match found {
            // What was found comes first; the next fetch meets the rest.
            _ if !events.is_empty() => {}
            Ok(Scanned::Some) => {}
            Ok(Scanned::All) => return Fetched::Nothing,
            Ok(Scanned::Cold(from)) => return Fetched::Cold(from),
            Err(Gone { first }) => return Fetched::Now(head(Answer::gap(at, first)), Vec::new()),
        }
        let answer = Answer::delivery(at, self.after, bounds.last, bounds.first);
        Fetched::Now(head(answer), events)
    }

    /// The reply of a fetch that has waited for long enough.
    pub(crate) fn nothing(&self, stream: &Stream, at: At) -> DeliveryHead {
        let (number, member) = self.seat();
        let groups = stream.groups();
        let group = groups.get(number);
        let Bounds { first, last } = stream.tail.bounds();
        let answer = Answer::delivery(at, self.after, last, first);
        let lanes = group.map_or(u64::MAX, |group| group.lanes_of(member));
        DeliveryHead::new(answer, group.map_or(0, |group| group.epoch()), lanes, self.item.after_redriven())
    }

    /// Dead letters that are to be delivered again. The number of the last one that was delivered.
    fn redriven(&self, reader: Reader<'_>, events: &mut Vec<EventRecord>) -> u64 {
        let Some(group) = reader.group else { return 0 };
        let mut number = self.item.after_redriven();
        for letter in group.redriven(number, reader.lanes).take(self.item.events_max() as usize) {
            events.push(letter.event.delivered(letter.attempts, true));
            number = letter.redrive;
        }
        number
    }

    /// Looks through what there is until there are enough events.
    fn scan(
        &mut self,
        stream: &Stream,
        cold: &[Arc<Block>],
        reader: Reader<'_>,
        events: &mut Vec<EventRecord>,
    ) -> Result<Scanned, Gone> {
        let events_max = self.item.events_max() as usize;
        let begun = self.after;
        loop {
            let Bounds { first, last } = stream.tail.bounds();
            if self.after >= last || reader.lanes == 0 {
                self.after = self.after.max(last);
                return Ok(Scanned::All);
            }
            let next = self.after + 1;
            if next < first {
                if fault::is_on(Mutant::GapHidden) {
                    self.after = first - 1;
                    continue;
                }
                return Err(Gone { first });
            }
            let mistaken = fault::is_on(Mutant::ColdBlockMistaken);
            let holds = |block: &&Arc<Block>| (block.first() <= next || mistaken) && next <= block.last();
            let blocks = match stream.tail.from(next, SCAN_MAX) {
                Some(blocks) => blocks,
                None => match cold.iter().find(holds) {
                    Some(block) => vec![Arc::clone(block)],
                    None => return Ok(Scanned::Cold(next)),
                },
            };
            for event in blocks.iter().flat_map(|block| block.from(next)) {
                if events.len() >= events_max || self.after - begun >= SCAN_MAX {
                    return Ok(Scanned::Some);
                }
                self.after = event.sequence();
                if let Some(event) = reader.wants(event) {
                    events.push(event);
                }
            }
        }
    }
}

enum Scanned {
    /// Enough, or as much as may be looked through at a time.
    Some,
    /// Everything there is.
    All,
    /// Everything up to what is only in files from this sequence on.
    Cold(u64),
}

/// Retention has dropped what was asked for.
struct Gone {
    first: u64,
}

fn refused(answer: Answer) -> Fetched {
    let [epoch, ..] = answer.numbers();
    Fetched::Now(DeliveryHead::new(answer, epoch, 0, 0), Vec::new())
}

impl Reader<'_> {
    /// Everything up to this sequence is acknowledged in all of the member's lanes.
    fn begins_after(self) -> u64 {
        let Some(group) = self.group else { return 0 };
        let late = u64::from(fault::is_on(Mutant::EventPassedOver));
        group.min_cursor_of(self.lanes).unwrap_or(0) + late
    }

    /// The event as this reader gets it, if it does.
    #[inline]
    fn wants(self, event: &EventRecord) -> Option<EventRecord> {
        let Some(group) = self.group else { return Some(*event) };
        let lane = lane_of(event.product());
        if self.lanes & 1 << lane == 0 || !group.awaits(event) {
            return None;
        }
        let failing = group.failing(lane).filter(|failing| failing.sequence == event.sequence());
        Some(event.delivered(failing.map_or(0, |failing| failing.attempts), false))
    }
}
