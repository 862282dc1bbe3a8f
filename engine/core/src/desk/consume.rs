//! Fetches that wait for events, and what is asked about the stream. None of it concerns the replica: net threads see the
//! newest events in memory, and have older ones read from files.
//!
//! Deliberately not here: which events a member gets (`stream`), and files.

use std::collections::VecDeque;
use std::sync::Arc;

use sluice_protocol::event::lane_of;
use sluice_protocol::seat::{FetchItem, LetterItem, StreamItem};
use sluice_protocol::{Answer, RefusedField, Status};

use super::{Caller, Desk, RETRY_AFTER_MS, Reply};
use crate::flight::Answers;
use crate::stream::{Block, Fetch, Fetched, place};
use crate::time::Moment;

/// Fetches of a desk that may wait at a time. Beyond it: `Busy`.
const FETCHES_MAX: usize = 1024;

/// Events read from files at a time.
pub const COLD_EVENTS: usize = 4096;

/// Reads of files that a desk may have asked for and not been answered.
pub const COLD_READS_MAX: usize = 64;

/// Blocks read from files that are kept, of those that consumers asked for last.
const COLD_BLOCKS_MAX: usize = 16;

/// What is to be read from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdRead {
    /// [`COLD_EVENTS`] from this sequence on, or as many as there are.
    Events(u64),
    /// The sequence of the first event at or after a ledger time, milliseconds.
    Time(u64),
}

/// What was read.
#[derive(Clone, Debug)]
pub enum Cold {
    /// Events; `None`: they could not be read.
    Events(u64, Option<Arc<Block>>),
    /// Which sequence that time has; `None`: it could not be found out.
    Time(u64, Option<u64>),
}

/// A fetch that waits.
#[derive(Debug)]
struct Waiting {
    caller: Caller,
    fetch: Fetch,
    deadline_ms: u64,
    /// What it needs of the files, if it waits for these.
    cold: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    waiting: Vec<Waiting>,
    /// Who asks where a time is.
    times: Vec<(Caller, u64, u64)>,
    /// Read from files, the oldest first.
    cold: VecDeque<Arc<Block>>,
    wanted: Vec<ColdRead>,
    /// Asked of the files and not answered.
    asked: Vec<ColdRead>,
    /// The groups when they were last looked at.
    groups: u64,
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.times.is_empty()
    }

    fn want(&mut self, read: ColdRead) {
        // Whoever finds no room asks again when one of them is answered.
        if !self.asked.contains(&read) && self.asked.len() < COLD_READS_MAX {
            self.asked.push(read);
            self.wanted.push(read);
        }
    }
}

impl Desk {
    /// What the shell is to read from files, each answered by [`Desk::cold`].
    pub fn cold_reads(&mut self) -> std::vec::Drain<'_, ColdRead> {
        self.consumers.wanted.drain(..)
    }

    /// Takes what was read from files.
    pub fn cold(&mut self, cold: Cold, now: Moment) {
        match cold {
            Cold::Events(from, block) => {
                self.consumers.asked.retain(|read| *read != ColdRead::Events(from));
                match block {
                    Some(block) => {
                        if self.consumers.cold.len() == COLD_BLOCKS_MAX {
                            self.consumers.cold.pop_front();
                        }
                        self.consumers.cold.push_back(block);
                        self.look_for_events(now, true);
                    }
                    None => self.refuse_cold(from),
                }
            }
            Cold::Time(time_ms, sequence) => {
                self.consumers.asked.retain(|read| *read != ColdRead::Time(time_ms));
                let due = self.consumers.times.extract_if(.., |(_, wanted, _)| *wanted == time_ms);
                for (caller, ..) in due.collect::<Vec<_>>() {
                    let answer = match sequence {
                        Some(sequence) => self.stream_bounds(sequence),
                        None => Answer::busy(RETRY_AFTER_MS),
                    };
                    self.reply_all(caller, 1, answer);
                }
            }
        }
    }

    /// Takes a fetch.
    pub(super) fn fetch(&mut self, caller: Caller, item: &FetchItem, now: Moment) {
        let fetch = Fetch::new(item);
        if let Some(answer) = fetch.malformed(self.board.applied()) {
            return self.reply_all(caller, 1, answer);
        }
        let (group, member) = fetch.seat();
        self.board.stream.seats.heard(group, member, now.mono_ms);
        if self.consumers.waiting.len() >= FETCHES_MAX {
            return self.reply_all(caller, 1, Answer::busy(RETRY_AFTER_MS));
        }
        let deadline_ms = now.mono_ms + u64::from(fetch.wait_ms());
        let waiting = Waiting { caller, fetch, deadline_ms, cold: None };
        if let Some(waiting) = self.look(waiting, now) {
            self.consumers.waiting.push(waiting);
        }
    }

    /// Tells the stream's bounds, and where a time is in it.
    pub(super) fn stream_facts(&mut self, caller: Caller, item: &StreamItem, deadline_ms: u64) {
        let time_ms = item.time_ms();
        let tail = &self.board.stream.tail;
        let bounds = tail.bounds();
        let found = match time_ms {
            0 => Some(0),
            _ if bounds.first > bounds.last => Some(bounds.last + 1),
            _ => tail.find(time_ms),
        };
        match found {
            Some(sequence) => {
                let answer = self.stream_bounds(sequence);
                self.reply_all(caller, 1, answer);
            }
            None => {
                self.consumers.want(ColdRead::Time(time_ms));
                self.consumers.times.push((caller, time_ms, deadline_ms));
            }
        }
    }

    /// Tells places in line.
    pub(super) fn places(&mut self, caller: Caller, items: &[LetterItem]) {
        let (stream, at) = (&self.board.stream, self.board.applied());
        let groups = stream.groups();
        let last = stream.tail.last();
        let of = |item: &LetterItem| {
            let Some(group) = groups.get(item.group()) else {
                return Answer::plain(at, Status::UnknownGroup);
            };
            let sequence = item.sequence();
            if sequence > last {
                return Answer::invalid(at, RefusedField::Sequence, sequence, 0, last);
            }
            let cursor = group.cursor(lane_of(item.product()));
            if sequence <= cursor {
                return Answer::position(at, 0, 0, cursor);
            }
            let ahead = place(&stream.tail, group, sequence);
            let distance = sequence - group.min_cursor().min(sequence);
            Answer::position(at, ahead, stream.rates.eta_ms(group.id(), distance), cursor)
        };
        let answers = items.iter().map(of).collect();
        self.reply_plain(caller, answers);
    }

    /// Looks again for those who wait for events that may have come; for all of them if something was read from files.
    pub(super) fn look_for_events(&mut self, now: Moment, has_read: bool) {
        let last = self.board.stream.tail.last();
        let shut = self.gate.is_none().then(|| self.board.shut());
        let groups = self.board.stream.groups().version();
        let is_news = has_read || std::mem::replace(&mut self.consumers.groups, groups) != groups;
        for waiting in std::mem::take(&mut self.consumers.waiting) {
            if let Some(answer) = shut.filter(|_| waiting.fetch.seat().0 != 0) {
                self.reply_all(waiting.caller, 1, answer);
                continue;
            }
            let is_due = waiting.deadline_ms <= now.mono_ms;
            if !is_due && !is_news && !waiting.fetch.is_behind(last) {
                self.consumers.waiting.push(waiting);
                continue;
            }
            if let Some(waiting) = self.look(waiting, now) {
                self.consumers.waiting.push(waiting);
            }
        }
    }

    /// Answers a fetch if it can be answered now.
    fn look(&mut self, mut waiting: Waiting, now: Moment) -> Option<Waiting> {
        let at = self.board.applied();
        let stream = &self.board.stream;
        let cold = self.consumers.cold.make_contiguous();
        let (head, events) = match waiting.fetch.look(stream, cold, at) {
            Fetched::Now(head, events) => (head, events),
            Fetched::Nothing if waiting.deadline_ms <= now.mono_ms => {
                (waiting.fetch.nothing(stream, at), Vec::new())
            }
            Fetched::Nothing => {
                waiting.cold = None;
                return Some(waiting);
            }
            Fetched::Cold(from) => {
                waiting.cold = Some(from);
                self.consumers.want(ColdRead::Events(from));
                return Some(waiting);
            }
        };
        self.counts.delivered += events.len() as u64;
        self.replies.push(Reply { caller: waiting.caller, answers: Answers::Delivery(head, events) });
        None
    }

    /// The files could not give what some wait for.
    fn refuse_cold(&mut self, from: u64) {
        let refused = self.consumers.waiting.extract_if(.., |waiting| waiting.cold == Some(from));
        for waiting in refused.collect::<Vec<_>>() {
            self.reply_all(waiting.caller, 1, Answer::busy(RETRY_AFTER_MS));
        }
    }

    /// Whoever waits for what does not come.
    pub(super) fn expire_consumers(&mut self, now: Moment) {
        let over = self.consumers.times.extract_if(.., |(.., deadline_ms)| *deadline_ms <= now.mono_ms);
        for (caller, ..) in over.collect::<Vec<_>>() {
            self.reply_all(caller, 1, Answer::busy(RETRY_AFTER_MS));
        }
    }

    fn stream_bounds(&self, sequence: u64) -> Answer {
        let bounds = self.board.stream.tail.bounds();
        Answer::delivery(self.board.applied(), bounds.first, bounds.last, sequence)
    }
}
