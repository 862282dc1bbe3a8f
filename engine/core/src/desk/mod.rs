//! The desk of a net thread: takes whole frames, answers what it may, sends on what only the log can decide,
//! keeps what is in doubt, and puts the answers together.
//!
//! - `judge`: one request looked at (rule N)
//! - `consume`: fetches that wait for events
//! - `frames`: frames that wait for answers
//! - `loads`: what a frame asks of the replica
//! - [`mod@line`]: who waits for room, and in which order
//! - [`memory`]: what connections hold
//! - `sorting`: what a frame's requests were sorted into
//!
//! How to drive it: [`Desk::submit`] each request for which it [`Desk::has_room`]; then carry [`Desk::departures`] to the replica
//! ([`Desk::bounce`] what its queue does not take) and [`Desk::replies`] to the sessions. Hand back
//! each flight with [`Desk::settle`]. Have [`Desk::cold_reads`] read from the files of events, and hand back what was read with
//! [`Desk::cold`]. While [`Desk::is_watching`], call [`Desk::reconsider`] after each of the replica's applies
//! and every few milliseconds; and [`Desk::expire`] now and then.
//!
//! Relies on: the board and the gate on it. Deliberately not here: sockets, queues, threads.

mod consume;
mod frames;
mod judge;
pub mod line;
mod loads;
pub mod memory;
mod sorting;

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use sluice_protocol::request::ReserveItem;
use sluice_protocol::response::At;
use sluice_protocol::{Answer, ProductId};

use self::consume::Consumers;
pub use self::consume::{COLD_EVENTS, COLD_READS_MAX, Cold, ColdRead};
use self::frames::OpenFrame;
pub use self::frames::{Caller, Reply};
use self::judge::Verdict;
use self::sorting::Sorting;
use crate::board::Board;
use crate::fault::{self, Mutant};
use crate::flight::{Answers, Flight, Load, Origin};
use crate::gate::{Gate, Lane};
use crate::ledger::command::{Group, Reserve};
use crate::session::Ask;
use crate::time::Moment;

/// What a busy server tells clients to wait before they try again, milliseconds.
pub const RETRY_AFTER_MS: u32 = 5;

/// What they wait while there is no room on the disk, milliseconds.
const FULL_RETRY_AFTER_MS: u32 = 1000;

/// Bounds of one desk.
#[derive(Clone, Copy, Debug)]
pub struct DeskLimits {
    /// Flights that may be away at a time. Beyond it: `Busy`.
    pub flights_max: usize,
    /// Requests in those flights at a time. Beyond it: `Busy`.
    pub requests_max: usize,
    /// Requests that may be in doubt at a time. Beyond it: `Busy`.
    pub parked_max: usize,
    /// How long a request is tried if its frame does not say, milliseconds.
    pub budget_default_ms: u32,
    /// How long it is tried at most, milliseconds.
    pub budget_max_ms: u32,
}

/// What a desk has counted since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeskCounts {
    /// Requests whose units the gate set aside.
    pub admitted: u64,
    /// Requests refused here, from committed state.
    pub refused: u64,
    /// Requests that were in doubt at least once.
    pub doubted: u64,
    /// Requests sent to the ledger because their buyer may have reached the limit, or their id may be known.
    pub suspected: u64,
    /// Requests in doubt now.
    pub parked: u64,
    /// Events delivered.
    pub delivered: u64,
}

/// A request in doubt.
#[derive(Clone, Copy, Debug)]
struct Parked {
    frame: u32,
    line: u16,
    item: Reserve,
    /// The read round after which a no may be said, in the term it was asked for.
    round: u64,
    term: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    thread: u16,
    limits: DeskLimits,
    board: Arc<Board>,
    frames: Slab<OpenFrame>,
    parked: VecDeque<Parked>,
    consumers: Consumers,
    departures: Vec<Box<Flight>>,
    replies: Vec<Reply>,
    away: usize,
    away_requests: usize,
    counts: DeskCounts,
    /// The lane looked at last: a hot product's frames find theirs without hashing.
    last_lane: Option<(ProductId, Arc<Lane>)>,
    gate: Option<Arc<Gate>>,
    serial: u32,
}

impl Desk {
    /// The desk of net thread `thread`.
    pub fn new(thread: u16, board: Arc<Board>, limits: DeskLimits) -> Self {
        Self {
            thread,
            limits,
            board,
            frames: Slab::new(),
            parked: VecDeque::new(),
            consumers: Consumers::default(),
            departures: Vec::new(),
            replies: Vec::new(),
            away: 0,
            away_requests: 0,
            counts: DeskCounts::default(),
            last_lane: None,
            gate: None,
            serial: 0,
        }
    }

    /// Takes one frame. `budget_ms` 0 means the default.
    pub fn submit(&mut self, caller: Caller, ask: Ask<'_>, budget_ms: u32, now: Moment) {
        self.refresh_gate();
        let (writes, looks) = (!ask.is_read(), ask.only_looks());
        // Reads go to the replica wherever somebody leads: it asks the leader how far its ledger has to be.
        if self.gate.is_none() && !looks && (writes || self.board.leader() == 0) {
            let answer = self.board.shut();
            self.reply_all(caller, ask.len(), answer);
            return;
        }
        let full = self.away >= self.limits.flights_max || self.away_requests >= self.limits.requests_max;
        // What consumers say makes room.
        if writes && !ask.is_consumers() && !self.board.is_admitting() {
            self.reply_all(caller, ask.len(), Answer::busy(FULL_RETRY_AFTER_MS));
            return;
        }
        if full {
            self.reply_all(caller, ask.len(), Answer::busy(RETRY_AFTER_MS));
            return;
        }
        let deadline_ms = now.mono_ms + u64::from(self.budget_ms(budget_ms));
        match ask {
            Ask::Reserve(items) => self.submit_reserves(caller, items, deadline_ms, now),
            Ask::Fetch(item) => self.fetch(caller, item, now),
            Ask::Stream(item) => self.stream_facts(caller, item, deadline_ms),
            Ask::Places(items) => self.places(caller, items),
            ask => {
                if let Some((group, member)) = ask.seat() {
                    self.board.stream.seats.heard(group, member, now.mono_ms);
                }
                self.send(caller, deadline_ms, loads::load(ask));
            }
        }
    }

    /// Whether a request of so many items finds room now; if not, [`Desk::submit`] may answer `Busy`. There is always room
    /// for one.
    pub fn has_room(&self, items: usize) -> bool {
        let DeskLimits { flights_max, requests_max, parked_max, .. } = self.limits;
        let fits = |used: usize, more: usize, max: usize| used == 0 || used + more <= max;
        // What is sent and what is suspected leave apart.
        fits(self.away, 2, flights_max)
            && fits(self.away_requests, items, requests_max)
            && fits(self.parked.len(), items, parked_max)
    }

    /// Answers a frame that was not taken, and so was not done.
    pub fn turn_away(&mut self, caller: Caller, items: usize) {
        self.reply_all(caller, items, Answer::busy(RETRY_AFTER_MS));
    }

    /// How long a request that asks for `budget_ms` is tried, milliseconds.
    pub fn budget_ms(&self, budget_ms: u32) -> u32 {
        let asked = if budget_ms == 0 { self.limits.budget_default_ms } else { budget_ms };
        asked.min(self.limits.budget_max_ms)
    }

    /// Takes back a flight that the replica has answered.
    ///
    /// # Panics
    /// If it is not one of this desk's, or not answered.
    pub fn settle(&mut self, mut flight: Box<Flight>) {
        self.away = self.away.checked_sub(1).expect("only what went away comes back");
        self.away_requests =
            self.away_requests.checked_sub(flight.requests()).expect("what comes back is what went away");
        let key = flight.origin.frame as usize;
        if self.frames.get(key).is_none_or(|frame| frame.serial != flight.origin.serial) {
            // Its frame's time was over, and its caller has been told that nobody knows.
            return;
        }
        match std::mem::take(&mut flight.answers) {
            Answers::Plain(answers) if flight.lines.is_empty() && flight.told.is_empty() => {
                // A read that got no further: as many lines as it asked for.
                let frame = self.frames.remove(key);
                self.reply_plain(frame.caller, answers);
            }
            Answers::Plain(answers) => {
                assert_eq!(answers.len(), flight.lines.len(), "one answer a line");
                let frame = &mut self.frames[key];
                for (line, answer) in flight.lines.into_iter().zip(answers).chain(flight.told) {
                    frame.answer(line, answer);
                }
                self.finish(key);
            }
            mut answers => {
                if let Answers::Groups(items) = &mut answers {
                    items.iter_mut().for_each(|item| item.record = self.board.stream.measure(item.record));
                }
                let frame = self.frames.remove(key);
                self.replies.push(Reply { caller: frame.caller, answers });
            }
        }
    }

    /// Takes back a departure that the replica's queue had no room for: nothing was done.
    pub fn bounce(&mut self, mut flight: Box<Flight>) {
        flight.refund(usize::from(self.thread));
        flight.answer_all(Answer::busy(RETRY_AFTER_MS));
        self.settle(flight);
    }

    /// Looks again at everything in doubt.
    pub fn reconsider(&mut self, now: Moment) {
        if !self.consumers.is_empty() {
            self.refresh_gate();
            self.look_for_events(now, false);
        }
        if self.parked.is_empty() {
            return;
        }
        // The gate last: a round of this leadership must not vouch for the products of an earlier one's gate.
        let confirmed = self.board.rounds.confirmed();
        let applied = self.board.applied();
        self.refresh_gate();
        let mut sorting = Sorting::default();
        for _ in 0..self.parked.len() {
            let mut parked = self.parked.pop_front().expect("as many as were counted");
            if sorting.frame != Some(parked.frame) {
                self.dispatch(&mut sorting, parked.frame);
            }
            let Some(gate) = &self.gate else {
                let answer = self.board.shut();
                self.frames[parked.frame as usize].answer(parked.line, answer);
                continue;
            };
            if parked.term != gate.term() {
                (parked.term, parked.round) = (gate.term(), self.board.rounds.ask());
            }
            if self.frames[parked.frame as usize].deadline_ms <= now.mono_ms {
                let answer = Answer::busy(RETRY_AFTER_MS);
                self.frames[parked.frame as usize].answer(parked.line, answer);
                continue;
            }
            let fresh = parked.round <= confirmed;
            match self.judge(&parked.item, 0, applied, fresh, now) {
                Verdict::Doubt => self.parked.push_back(parked),
                verdict => {
                    if let Some(answer) = sorting.sort(verdict, parked.item, parked.line) {
                        self.counts.refused += 1;
                        self.frames[parked.frame as usize].answer(parked.line, answer);
                    }
                }
            }
        }
        if let Some(frame) = sorting.frame {
            self.dispatch(&mut sorting, frame);
        }
    }

    /// Answers what is still open of frames whose time is over: what waits here was not done, nor was a read; of what
    /// is on its way to the log nobody knows.
    pub fn expire(&mut self, now: Moment) {
        self.reconsider(now);
        self.expire_consumers(now);
        let over = |frame: &OpenFrame| frame.deadline_ms <= now.mono_ms;
        let keys: Vec<usize> =
            self.frames.iter().filter(|(_, frame)| over(frame)).map(|(key, _)| key).collect();
        for key in keys {
            let (caller, mut answers) = self.frames.remove(key).into_parts();
            if caller.kind.is_read() {
                answers.fill(match self.board.leader() {
                    0 => Answer::not_leader(0),
                    _ => Answer::busy(RETRY_AFTER_MS),
                });
            }
            self.reply_plain(caller, answers);
        }
    }

    /// Whether something is in doubt, or somebody waits for events, so that applies matter to this desk.
    pub fn is_watching(&self) -> bool {
        self.is_in_doubt() || !self.consumers.is_empty()
    }

    /// Whether something is in doubt, so that read rounds and time matter too.
    pub fn is_in_doubt(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Whether no frame waits for an answer, so that no deadline can come.
    pub fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.consumers.is_empty()
    }

    /// The same, but for those who wait for events: they hold nothing.
    pub fn is_settled(&self) -> bool {
        self.frames.is_empty()
    }

    /// Flights away.
    pub fn away(&self) -> usize {
        self.away
    }

    /// What has been counted.
    pub fn counts(&self) -> DeskCounts {
        DeskCounts { parked: self.parked.len() as u64, ..self.counts }
    }

    /// Flights to carry to the replica, in order.
    pub fn departures(&mut self) -> std::vec::Drain<'_, Box<Flight>> {
        self.departures.drain(..)
    }

    /// Replies to carry to the sessions.
    pub fn replies(&mut self) -> std::vec::Drain<'_, Reply> {
        self.replies.drain(..)
    }

    fn submit_reserves(&mut self, caller: Caller, items: &[ReserveItem], deadline_ms: u64, now: Moment) {
        // In this order: the frame has arrived, the round is asked for, what is confirmed is looked at, `applied` is
        // loaded, notices are read. So an answer's index is never below that of the round it rests on.
        let round = self.board.rounds.ask();
        let fresh = round <= self.board.rounds.confirmed();
        let applied = self.board.applied();
        let term = self.gate.as_ref().map_or(0, |gate| gate.term());
        let serial = self.next_serial();
        let mut frame = OpenFrame::new(caller, serial, deadline_ms, items.len());
        let key = self.frames.vacant_key() as u32;
        let mut sorting = Sorting { frame: Some(key), ..Sorting::default() };
        for (line, item) in items.iter().enumerate() {
            let (line, command) = (line as u16, judge::command(item));
            match self.judge(&command, item.attempt, applied, fresh, now) {
                Verdict::Doubt if self.parked.len() < self.limits.parked_max => {
                    self.counts.doubted += 1;
                    self.parked.push_back(Parked { frame: key, line, item: command, round, term });
                }
                Verdict::Doubt => frame.answer(line, Answer::busy(RETRY_AFTER_MS)),
                verdict => {
                    if let Some(answer) = sorting.sort(verdict, command, line) {
                        self.counts.refused += 1;
                        frame.answer(line, answer);
                    }
                }
            }
        }
        if frame.is_answered() {
            let (caller, answers) = frame.into_parts();
            self.reply_plain(caller, answers);
            return;
        }
        self.frames.insert(frame);
        self.dispatch(&mut sorting, key);
    }

    fn judge(&mut self, item: &Reserve, attempt: u8, applied: At, fresh: bool, now: Moment) -> Verdict {
        if let Some(answer) = judge::malformed(item, applied) {
            return Verdict::No(answer);
        }
        let stripe = usize::from(self.thread);
        let product = ProductId(item.product);
        let hit = matches!(&self.last_lane, Some((last, _)) if *last == product);
        if !hit {
            let lane = self.gate.as_ref().and_then(|gate| gate.lane(product));
            self.last_lane = lane.map(|lane| (product, lane));
        }
        let lane = self.last_lane.as_ref().map(|(_, lane)| &**lane);
        if attempt > 0 && !fault::is_on(Mutant::RetryOffTheLog) {
            // A retry's units are set aside if they can be; the log decides either way.
            let taken = lane.is_some_and(|lane| lane.tokens.take(stripe, item.quantity));
            return if taken { Verdict::Admit } else { Verdict::Log };
        }
        judge::first_attempt(&self.board, lane, item, stripe, applied, fresh, now)
    }

    /// Sends what was sorted for a frame, and its reply if nothing of it is open any more.
    fn dispatch(&mut self, sorting: &mut Sorting, next: u32) {
        let Some(frame) = sorting.frame.replace(next) else { return };
        let serial = self.frames[frame as usize].serial;
        let origin = Origin { thread: self.thread, frame, serial };
        for (items, lines, tokened, suspects) in [
            (&mut sorting.commands, &mut sorting.lines, &mut sorting.tokened, false),
            (&mut sorting.suspects, &mut sorting.suspect_lines, &mut Vec::new(), true),
        ] {
            if items.is_empty() {
                continue;
            }
            let group = Group::Reserve(std::mem::take(items));
            let load = if suspects { Load::Suspects(group) } else { Load::Commands(group) };
            if suspects {
                self.counts.suspected += lines.len() as u64;
            } else {
                self.counts.admitted += lines.len() as u64;
            }
            let flight = Box::new(Flight {
                origin,
                load,
                lines: std::mem::take(lines),
                tokened: std::mem::take(tokened),
                gate: self.gate.clone(),
                told: Vec::new(),
                answers: Answers::default(),
            });
            self.away += 1;
            self.away_requests += flight.len();
            if self.away > self.limits.flights_max {
                self.bounce(flight);
            } else {
                self.departures.push(flight);
            }
        }
        self.finish(frame as usize);
    }

    /// Sends a whole frame to the replica.
    fn send(&mut self, caller: Caller, deadline_ms: u64, load: Load) {
        let mut flight = Box::new(Flight {
            origin: Origin::default(),
            load,
            lines: Vec::new(),
            tokened: Vec::new(),
            gate: None,
            told: Vec::new(),
            answers: Answers::default(),
        });
        let lines = flight.len();
        if matches!(flight.load, Load::Commands(_)) {
            flight.lines = (0..lines as u16).collect();
        }
        let serial = self.next_serial();
        let key = self.frames.insert(OpenFrame::new(caller, serial, deadline_ms, lines));
        flight.origin = Origin { thread: self.thread, frame: key as u32, serial };
        self.away += 1;
        self.away_requests += flight.len();
        self.departures.push(flight);
    }

    fn finish(&mut self, key: usize) {
        if self.frames.get(key).is_some_and(OpenFrame::is_answered) {
            let (caller, answers) = self.frames.remove(key).into_parts();
            self.reply_plain(caller, answers);
        }
    }

    fn reply_all(&mut self, caller: Caller, lines: usize, answer: Answer) {
        self.reply_plain(caller, vec![answer; lines]);
    }

    fn reply_plain(&mut self, caller: Caller, answers: Vec<Answer>) {
        self.replies.push(Reply { caller, answers: Answers::plain(caller.kind, answers) });
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    fn refresh_gate(&mut self) {
        let gate = self.board.gate();
        let same = match (&gate, &self.gate) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.last_lane = None;
            self.gate = gate;
        }
    }
}
