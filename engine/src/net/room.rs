//! Room for what connections bring: who must wait, who is let in, and who is let go when memory runs short.
//!
//! Nobody is told `Busy` because others send much. A connection is not read while its next request waits, so that TCP holds
//! its client back. Relies on the core for the order ([`Line`]) and the shares ([`Memory`]). Deliberately not here: the
//! limits that a connection keeps by itself.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::rc::Rc;

use bytes::BytesMut;
use sluice_core::desk::line::{Line, Place};
use sluice_core::desk::memory::Memory;
use sluice_core::session::{Demand, Held};

use super::connection::Connection;
use super::thread::NetThread;
use crate::config::LimitsConfig;

/// No thread has less memory for its connections: a few of the largest frames and replies.
const MEMORY_MIN: usize = 1 << 20;

/// What a net thread has to give.
pub(super) struct Room {
    line: RefCell<Line>,
    input: RefCell<Memory>,
    replies: RefCell<Memory>,
    /// Connections that are not read because what they have begun takes too much memory.
    pub(super) choked: Cell<usize>,
    /// What all connections of the thread read into.
    pub(super) shared: Cell<BytesMut>,
    counted: Cell<(i64, i64)>,
}

impl Room {
    pub(super) fn new(limits: &LimitsConfig, threads: usize) -> Self {
        let bytes_max = (limits.buffer_bytes_max / threads / 2).max(MEMORY_MIN);
        Self {
            line: RefCell::default(),
            input: RefCell::new(Memory::new(bytes_max)),
            replies: RefCell::new(Memory::new(bytes_max)),
            choked: Cell::default(),
            shared: Cell::default(),
            counted: Cell::default(),
        }
    }

    /// Bytes that one connection may hold now.
    pub(super) fn share(&self) -> Held {
        Held { input: self.input.borrow().share(), replies: self.replies.borrow().share() }
    }

    /// A connection that held `before` now holds `now`.
    pub(super) fn moved(&self, before: Held, now: Held) {
        if before != now {
            self.input.borrow_mut().moved(before.input, now.input);
            self.replies.borrow_mut().moved(before.replies, now.replies);
        }
    }

    /// A connection gives its place up.
    pub(super) fn leave(&self, place: Place) {
        self.line.borrow_mut().leave(place);
    }

    /// Whether somebody waits for what time alone may bring.
    pub(super) fn is_wanted(&self) -> bool {
        self.choked.get() > 0 || !self.line.borrow().is_empty()
    }
}

impl NetThread {
    /// Lets a connection's next request in, or has it wait in line.
    pub(super) fn enter(&self, connection: u64, in_flight: usize, demand: Demand) -> Result<(), Place> {
        let mut line = self.room.line.borrow_mut();
        if line.is_empty() && self.has_room(demand) {
            return Ok(());
        }
        self.stir();
        Err(line.join(connection, in_flight, demand))
    }

    fn has_room(&self, demand: Demand) -> bool {
        self.desk.borrow().has_room(demand.items) && self.room.replies.borrow().fits(demand.reply_bytes)
    }

    /// Takes the requests that wait in line, as far as there is room for them. [`NetThread::pump`] follows.
    pub(super) fn let_in(&self) {
        loop {
            let Some((name, demand)) = self.room.line.borrow().first() else { break };
            if !self.has_room(demand) {
                break;
            }
            self.room.line.borrow_mut().serve();
            let connection = self.connections.borrow().get(&name).map(Rc::clone);
            connection.expect("who goes leaves the line").called(self);
        }
    }

    /// Lets go of slow connections, those first that hold most, if others wait for their memory; and has those looked at
    /// again that wait for memory alone.
    pub(super) fn relieve(&self) {
        let Room { line, input, replies, choked, .. } = &self.room;
        let first = line.borrow().first();
        let is_short = first.is_some_and(|(_, demand)| !replies.borrow().fits(demand.reply_bytes));
        if is_short {
            self.dismiss(&replies.borrow(), |held| held.replies);
        }
        if choked.get() > 0 {
            self.dismiss(&input.borrow(), |held| held.input);
            let connections = self.connections.borrow();
            connections.values().filter(|one| one.is_choked()).for_each(|choked| choked.look_again());
        }
    }

    /// Ends slow connections until enough of the memory is free again. Who holds less than most is not to blame.
    fn dismiss(&self, memory: &Memory, held: impl Fn(Held) -> usize) {
        let connections = self.connections.borrow();
        let average = memory.held() / connections.len().max(1);
        let mut slow: Vec<(usize, &Rc<Connection>)> = connections
            .values()
            .filter(|connection| connection.is_slow())
            .map(|connection| (held(connection.held()), connection))
            .filter(|(bytes, _)| *bytes > 0 && *bytes >= average)
            .collect();
        slow.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut excess = memory.excess();
        for (bytes, connection) in slow {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            connection.dismiss();
        }
    }

    /// Tells the figures.
    pub(super) fn count_room(&self) {
        let Room { line, input, replies, .. } = &self.room;
        let held = input.borrow().held() + replies.borrow().held();
        let now = (line.borrow().len() as i64, held as i64);
        let before = self.room.counted.replace(now);
        self.metrics().connections_waiting.shift(now.0 - before.0);
        self.metrics().buffer_bytes.shift(now.1 - before.1);
    }
}
