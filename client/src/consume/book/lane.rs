//! One lane: what was handed out of it, what waits behind a failed delivery, and up to where all is done.
//!
//! Sequences rise in it: settled, handed out, held, ready. Deliberately not here: the order between lanes.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::Verdict;
use crate::consume::sheet::{Event, Sheet, Slot};

/// An event that was handed out.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) sheet: Arc<Sheet>,
    pub(crate) at: usize,
    /// When it was first seen in the hands of the application.
    pub(crate) out_since: Option<Instant>,
    /// Set once a delivery of it has failed.
    pub(crate) failure: Option<Stage>,
}

/// How far a failed delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The server does not know.
    ToTell(Verdict),
    /// The server is being told.
    Telling(Verdict),
    /// It is handed out again at this time.
    Waiting(Instant),
    /// It was handed out again.
    Again,
}

impl Open {
    pub(crate) fn new(sheet: &Arc<Sheet>, at: usize) -> Self {
        Self { sheet: Arc::clone(sheet), at, out_since: None, failure: None }
    }

    pub(crate) fn event(&self) -> &Event {
        &self.sheet.events[self.at]
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.event().view.sequence
    }

    pub(crate) fn is(&self, slot: Slot) -> bool {
        self.sheet.is(self.at, slot)
    }

    pub(crate) fn turn(&self, from: Slot, to: Slot) -> bool {
        self.sheet.turn(self.at, from, to)
    }

    /// Takes it away, from whoever has it. Whether the application had it.
    pub(crate) fn fence(&self) -> bool {
        let was_out = self.turn(Slot::Out, Slot::Fenced);
        self.turn(Slot::Fresh, Slot::Fenced);
        self.turn(Slot::Failed, Slot::Fenced);
        was_out
    }

    /// Notes that its delivery failed.
    pub(crate) fn fail(&mut self, verdict: Verdict, now: Instant) {
        self.out_since = None;
        self.failure = Some(match verdict {
            Verdict::Dropped => Stage::Waiting(now),
            failed => Stage::ToTell(failed),
        });
    }

    /// Whether it has failed and is not done.
    fn is_failing(&self) -> bool {
        self.failure.is_some() && !self.is(Slot::Done)
    }
}

/// One lane.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Handed out, in their order, from the first that is not done.
    pub(crate) open: VecDeque<Open>,
    /// Not handed out, because something before them failed.
    pub(crate) held: VecDeque<Event>,
    /// Everything that was handed out up to here is done.
    pub(crate) settled: u64,
    /// What the server has acknowledged that it knows of it.
    pub(crate) confirmed: u64,
    /// The last that was handed out.
    pub(crate) taken_upto: u64,
    /// Those of `open` that have failed and are not done: while there are any, nothing more is handed out.
    failing: usize,
    /// How many wait in the queue of all lanes, and a bound below the first.
    ready: usize,
    ready_from: u64,
}

impl Lane {
    pub(crate) fn is_blocked(&self) -> bool {
        self.failing > 0
    }

    /// An event joined the queue of all lanes.
    pub(crate) fn queued(&mut self, sequence: u64) {
        if self.ready == 0 {
            self.ready_from = sequence;
        }
        self.ready += 1;
    }

    /// An event left it.
    pub(crate) fn unqueued(&mut self, sequence: u64) {
        self.ready -= 1;
        self.ready_from = sequence + 1;
    }

    /// An event was handed out.
    pub(crate) fn took(&mut self, open: Open) {
        self.taken_upto = open.sequence();
        self.open.push_back(open);
    }

    /// Looks for what is done. How many places became free.
    pub(crate) fn collect(&mut self) -> usize {
        let before = self.open.len();
        while self.open.front().is_some_and(|open| open.is(Slot::Done)) {
            self.settled = self.open.pop_front().map_or(self.settled, |open| open.sequence());
        }
        if self.failing > 0 {
            self.failing = self.open.iter().filter(|open| open.is_failing()).count();
        }
        before - self.open.len()
    }

    /// Up to where all is done, if everything up to `looked` has been seen.
    pub(crate) fn position(&self, looked: u64) -> u64 {
        let ready = (self.ready > 0).then_some(self.ready_from);
        let held = self.held.front().map(|event| event.view.sequence);
        let first = self.open.front().map(Open::sequence).or(held).or(ready);
        first.map_or(looked, |first| looked.min(first - 1))
    }

    /// Whether something is done of which the server does not know.
    pub(crate) fn is_owed(&self) -> bool {
        self.settled > self.confirmed
    }

    /// Notes that a delivery failed, and takes back what is behind it and was not seen. How many places became free.
    pub(crate) fn fail(&mut self, nth: usize, verdict: Verdict, now: Instant) -> usize {
        if self.open[nth].failure.is_none() {
            self.failing += 1;
        }
        self.open[nth].fail(verdict, now);
        // One that failed before, and is handed out again, waits for this one if nobody has seen it.
        for open in self.open.iter_mut().skip(nth + 1) {
            if open.failure == Some(Stage::Again) && open.turn(Slot::Fresh, Slot::Failed) {
                open.failure = Some(Stage::Waiting(now));
            }
        }
        self.withdraw(true)
    }

    /// Takes back what was not seen by the application, to be held or to be forgotten.
    pub(crate) fn withdraw(&mut self, hold: bool) -> usize {
        let before = self.open.len();
        while let Some(last) = self.open.back() {
            if last.failure.is_some() || !last.turn(Slot::Fresh, Slot::Fenced) {
                break;
            }
            let event = *last.event();
            self.open.pop_back();
            if hold {
                self.held.push_front(event);
            }
        }
        self.taken_upto = self.open.back().map_or(self.settled, Open::sequence);
        before - self.open.len()
    }

    /// Forgets all but up to where it is done.
    pub(crate) fn forget(&mut self) {
        *self = Self { settled: self.settled, confirmed: self.confirmed, ..Self::default() };
    }

    /// Forgets what was not handed out, since it will come again.
    pub(crate) fn forget_waiting(&mut self) -> usize {
        self.held.clear();
        self.ready = 0;
        self.withdraw(false)
    }

    /// The first that has failed and is not done: nothing else of the lane may be handed out.
    pub(crate) fn failing(&self) -> Option<usize> {
        if self.failing == 0 {
            return None;
        }
        self.open.iter().position(Open::is_failing)
    }

    /// Where an event stands that was handed out by this sheet.
    pub(crate) fn find(&self, sheet: &Arc<Sheet>, at: usize) -> Option<usize> {
        let nth = self.find_sequence(sheet.events[at].view.sequence)?;
        let found = &self.open[nth];
        (found.at == at && Arc::ptr_eq(&found.sheet, sheet)).then_some(nth)
    }

    pub(crate) fn find_sequence(&self, sequence: u64) -> Option<usize> {
        self.open.binary_search_by_key(&sequence, Open::sequence).ok()
    }
}
