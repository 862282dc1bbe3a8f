//! The bookkeeping of a consumer, without its sockets: what was fetched, handed out, done; what is to be told.
//!
//! - [`lane`]: one lane of the group
//! - `fetched`: what a fetch brought: events, another epoch, a gap
//! - `acks`: up to where each lane is done, in few words; and dead letters that were delivered again
//! - `naks`: deliveries that failed
//!
//! Time enters as a number. What must hold: nothing is acknowledged that is not done, nothing is passed over in silence,
//! and within a lane nothing is handed out behind a delivery that has failed until that one is done.
//! Deliberately not here: what is sent when ([`super::driver`]).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use sluice_protocol::event::{EventView, LANES, lane_of};
use tokio::time::Instant;

pub(crate) mod acks;
pub(crate) mod fetched;
pub(crate) mod lane;
pub(crate) mod naks;

use super::Shared;
use super::error::ConsumeError;
use super::sheet::{Event, Sheet, Slot, Tally};
use lane::{Lane, Open, Stage};

/// Lanes of a group, as a number of things.
pub(crate) const LANE_COUNT: usize = LANES as usize;

/// What is said of a delivery that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing failed: it is handed out again at once.
    Dropped,
    /// It failed. A delay of 0: as the group's terms say.
    Failed { delay_ms: u32, cause: u32, for_good: bool },
}

/// What is to be told to the application and is no event.
#[derive(Debug)]
pub(crate) enum Note {
    Gap { from: u64, to: u64 },
    Parked { event: EventView, attempts: u64 },
    Error(ConsumeError),
}

/// Who this member is, and what is its.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Seat {
    pub(crate) group: u32,
    pub(crate) member: u64,
    pub(crate) epoch: u64,
    pub(crate) lanes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) seat: Seat,
    window: usize,
    redeliver_after: Duration,
    tally: Arc<Tally>,
    home: Weak<Shared>,
    lanes: [Lane; LANE_COUNT],
    /// Fetched and not handed out, in their order.
    ready: VecDeque<Event>,
    /// The last sequence that was looked through in this epoch.
    looked: u64,
    /// Everything up to here was acknowledged when this consumer was opened.
    floor: u64,
    /// Dead letters that are delivered again: handed out, and not.
    redriven: Vec<Open>,
    redriven_ready: VecDeque<Event>,
    redriven_upto: u64,
    /// Those that the server knows to be done, each with the fetch that was the last at that time.
    redriven_gone: Vec<(u64, u64)>,
    /// Events that are handed out: in the window.
    open: usize,
    /// Events that were acknowledged since acknowledgements were last gathered.
    unsent: usize,
    /// What was acknowledged and then lost with its lane.
    lost_acks: bool,
    /// What was taken away from the application since it last acknowledged up to a sequence.
    lost_deliveries: bool,
    /// The server says that lanes have moved: nothing is told before it is known which.
    pub(crate) is_stale: bool,
    /// Fetches so far.
    fetches: u64,
    /// The sequence behind which an event was found damaged, and whether that was told.
    damaged: Option<(u64, bool)>,
    notes: VecDeque<Note>,
    pub(crate) waker: Option<Waker>,
    /// The application wants no more.
    pub(crate) is_closing: bool,
    /// Those who wait until all that is done is known to the server.
    pub(crate) flushing: usize,
    /// Nothing comes any more.
    pub(crate) is_over: bool,
}

impl Book {
    pub(crate) fn new(
        seat: Seat,
        floor: u64,
        window: usize,
        redeliver_after: Duration,
        tally: Arc<Tally>,
        home: Weak<Shared>,
    ) -> Self {
        Self {
            seat,
            window,
            redeliver_after,
            tally,
            home,
            lanes: std::array::from_fn(|_| Lane::default()),
            ready: VecDeque::new(),
            looked: 0,
            floor,
            redriven: Vec::new(),
            redriven_ready: VecDeque::new(),
            redriven_upto: 0,
            redriven_gone: Vec::new(),
            open: 0,
            unsent: 0,
            lost_acks: false,
            lost_deliveries: false,
            is_stale: false,
            fetches: 0,
            damaged: None,
            notes: VecDeque::new(),
            waker: None,
            is_closing: false,
            flushing: 0,
            is_over: false,
        }
    }

    /// The next thing to tell that is no event.
    pub(crate) fn note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Whether anything is to be told before the next event.
    pub(crate) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    pub(crate) fn tell(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// The end: what is in hand is taken away, and whoever waits hears of it.
    pub(crate) fn end(&mut self, error: Option<ConsumeError>) {
        self.is_over = true;
        self.notes.extend(error.map(Note::Error));
        self.collect();
        for lane in &mut self.lanes {
            lane.open.iter().for_each(|open| {
                open.fence();
            });
            lane.forget();
        }
        self.redriven.drain(..).for_each(|open| {
            open.fence();
        });
        self.ready.clear();
        self.redriven_ready.clear();
        self.wake();
    }

    /// Lets the application look again.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Lets the application look again if it waits, and what it waits for may have come.
    pub(crate) fn nudge(&mut self, now: Instant) {
        if self.waker.is_none() {
            return;
        }
        let any = self.tally.look() > 0;
        if any {
            // A place became free, or a lane goes on.
            self.collect();
        }
        if any || self.next_due().is_some_and(|at| at <= now) {
            self.wake();
        }
    }

    /// Looks for what is done.
    pub(crate) fn collect(&mut self) {
        self.unsent += self.tally.take();
        for lane in &mut self.lanes {
            self.open -= lane.collect();
        }
    }

    /// Hands out at most `max` events together; `None` if there are none, or the window is full. What failed before
    /// comes first: its place in the window it has already.
    pub(crate) fn take(&mut self, max: usize, now: Instant) -> Option<Arc<Sheet>> {
        self.collect();
        let mut events = Vec::new();
        let again = self.due(now, max);
        events.extend(again.iter().map(|place| *self.place(*place).event()));
        let room = self.window.saturating_sub(self.open).min(max - events.len());
        let fresh = events.len();
        self.take_redriven(&mut events, fresh + room);
        let in_lanes = events.len();
        self.take_held(&mut events, fresh + room);
        self.take_ready(&mut events, fresh + room);
        if events.is_empty() {
            return None;
        }
        self.open += events.len() - fresh;
        let sheet = Arc::new(Sheet::new(events, Arc::clone(&self.tally), self.home.clone()));
        for (at, place) in again.into_iter().enumerate() {
            let open = self.place(place);
            *open = Open { failure: Some(Stage::Again), ..Open::new(&sheet, at) };
        }
        self.redriven.extend((fresh..in_lanes).map(|at| Open::new(&sheet, at)));
        for at in in_lanes..sheet.events.len() {
            self.lanes[lane_index(&sheet.events[at])].took(Open::new(&sheet, at));
        }
        Some(sheet)
    }

    fn take_redriven(&mut self, events: &mut Vec<Event>, upto: usize) {
        while events.len() < upto {
            let Some(event) = self.redriven_ready.pop_front() else { return };
            events.push(event);
        }
    }

    /// What was held back in lanes that go on. What has no room here has none behind it either.
    fn take_held(&mut self, events: &mut Vec<Event>, upto: usize) {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_blocked()) {
            while events.len() < upto {
                let Some(event) = lane.held.pop_front() else { break };
                events.push(event);
            }
        }
    }

    fn take_ready(&mut self, events: &mut Vec<Event>, upto: usize) {
        while events.len() < upto {
            let Some(event) = self.ready.pop_front() else { return };
            let lane = &mut self.lanes[lane_index(&event)];
            lane.unqueued(event.view.sequence);
            if lane.is_blocked() { lane.held.push_back(event) } else { events.push(event) }
        }
    }

    /// Whether more should be fetched: while little waits to be handed out, and little is held back.
    pub(crate) fn wants_events(&self, ahead: usize) -> bool {
        let held: usize = self.lanes.iter().map(|lane| lane.held.len()).sum();
        self.ready.len() < ahead && held < self.window && !self.is_closing
    }

    /// Whether so few wait that the next fetch should leave.
    pub(crate) fn is_short(&self, ahead: usize) -> bool {
        self.ready.len() < ahead
    }

    /// Whether anything is in the hands of the application.
    pub(crate) fn has_open(&self) -> bool {
        self.open > 0
    }

    /// Everything that the application has and was given up to a sequence is done. `false`: some of it was taken away
    /// since this was last said.
    pub(crate) fn ack_through(&mut self, sequence: u64) -> bool {
        let mut count = 0;
        for lane in &self.lanes {
            let upto = lane.open.iter().take_while(|open| open.sequence() <= sequence);
            count += upto.filter(|open| open.turn(Slot::Out, Slot::Done)).count();
        }
        self.tally.acked(count);
        !std::mem::take(&mut self.lost_deliveries)
    }
}

/// Which lane an event is in.
pub(crate) fn lane_index(event: &Event) -> usize {
    lane_of(event.view.product) as usize
}

#[cfg(test)]
mod tests;
