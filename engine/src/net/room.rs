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
use sluice_core::session::Demand;

use super::connection::Connection;
use super::thread::NetThread;
use crate::config::LimitsConfig;

/// No thread has less memory for its connections: a few of the largest frames and replies.
const MEMORY_MIN: usize = 1 << 20;

/// What a net thread has to give.
pub(super) struct Room {
    line: RefCell<Line>,
    memory: RefCell<Memory>,
    /// Connections that are not read because what they have begun takes too much memory.
    pub(super) choked: Cell<usize>,
    /// What all connections of the thread read into.
    pub(super) shared: Cell<BytesMut>,
    counted: Cell<(i64, i64)>,
}

impl Room {
    pub(super) fn new(limits: &LimitsConfig, threads: usize) -> Self {
        let bytes_max = (limits.buffer_bytes_max / threads).max(MEMORY_MIN);
        Self {
            line: RefCell::default(),
            memory: RefCell::new(Memory::new(bytes_max)),
            choked: Cell::default(),
            shared: Cell::default(),
            counted: Cell::default(),
        }
    }

    /// Bytes that one connection may hold now.
    pub(super) fn share(&self) -> usize {
        self.memory.borrow().share()
    }

    /// A connection that held `before` bytes now holds `now`.
    pub(super) fn moved(&self, before: usize, now: usize) {
        if before != now {
            self.memory.borrow_mut().moved(before, now);
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
        self.desk.borrow().has_room(demand.items) && self.room.memory.borrow().fits(demand.reply_bytes)
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
        let short = self
            .room
            .line
            .borrow()
            .first()
            .is_some_and(|(_, demand)| !self.room.memory.borrow().fits(demand.reply_bytes));
        if self.room.choked.get() == 0 && !short {
            return;
        }
        let connections = self.connections.borrow();
        let mut excess = self.room.memory.borrow().excess();
        let mut slow: Vec<&Rc<Connection>> =
            connections.values().filter(|connection| connection.is_slow()).collect();
        slow.sort_by_key(|connection| Reverse(connection.held()));
        for connection in slow {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(connection.held());
            connection.dismiss();
        }
        connections
            .values()
            .filter(|connection| connection.is_choked())
            .for_each(|choked| choked.look_again());
    }

    /// Tells the figures.
    pub(super) fn count_room(&self) {
        let now = (self.room.line.borrow().len() as i64, self.room.memory.borrow().held() as i64);
        let before = self.room.counted.replace(now);
        self.metrics().connections_waiting.shift(now.0 - before.0);
        self.metrics().buffer_bytes.shift(now.1 - before.1);
    }
}
