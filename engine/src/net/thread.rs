//! A net thread: its connections, its desk, and the way to the replica and back.
//!
//! Everything here runs on one thread, so it is shared by `Rc` and borrowed for moments; no borrow is held across an
//! await. Deliberately not here: accepting connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_core::board::Board;
use sluice_core::desk::{COLD_EVENTS, Caller, Cold, ColdRead, Desk, DeskCounts, DeskLimits, Reply};
use sluice_core::session::{Ask, Facts, Session};
use sluice_core::stream::Block;
use sluice_protocol::{Kind, NodeId};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::connection::Connection;
use super::room::Room;
use crate::config::LimitsConfig;
use crate::failpoint::{self, Point};
use crate::node::shared::{NetHandle, Shared};
use crate::ops::labels::Doubt;
use crate::ops::metrics::Metrics;
use crate::stream::reads::Ask as EventAsk;

/// How often what is in doubt is looked at again, beside each apply.
const RECONSIDER_EVERY: Duration = Duration::from_millis(2);

/// How often deadlines of frames are looked at.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct NetThread {
    index: usize,
    pub(super) limits: LimitsConfig,
    shared: Arc<Shared>,
    facts: Facts,
    pub(super) desk: RefCell<Desk>,
    pub(super) room: Room,
    pub(super) connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    counted: Cell<DeskCounts>,
    /// Connections have brought frames that nobody has carried on.
    brought: Notify,
    /// The dispatcher sleeps without an alarm, because no deadline can come.
    dozing: Cell<bool>,
}

impl NetThread {
    pub(super) fn new(
        index: usize,
        limits: LimitsConfig,
        desk: DeskLimits,
        facts: Facts,
        shared: Arc<Shared>,
    ) -> Self {
        let desk = Desk::new(index as u16, Arc::clone(&shared.board), desk);
        let room = Room::new(&limits, shared.nets.len());
        Self {
            index,
            limits,
            shared,
            facts,
            desk: RefCell::new(desk),
            room,
            connections: RefCell::default(),
            next_connection: Cell::new(1),
            counted: Cell::default(),
            brought: Notify::new(),
            dozing: Cell::new(false),
        }
    }

    /// Serves a connection that was just accepted.
    pub(super) fn adopt(self: &Rc<Self>, stream: TcpStream) {
        let id = self.next_connection.replace(self.next_connection.get() + 1);
        let (connection, reader) = Connection::new(id, stream, Session::new(self.facts.clone()));
        let connection = Rc::new(connection);
        self.connections.borrow_mut().insert(id, Rc::clone(&connection));
        tokio::task::spawn_local(connection.run(reader, Rc::clone(self)));
    }

    /// A connection has ended. Answers that were on their way to it go nowhere.
    pub(super) fn forget(&self, id: u64) {
        self.connections.borrow_mut().remove(&id);
        self.metrics().connections_open.decrement();
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Where clients find another node; empty if that is not known, or is this one.
    pub(super) fn address_of(&self, node: NodeId) -> String {
        let is_own = node == self.facts.node || node.0 == 0;
        let post = self.shared.post.as_ref().filter(|_| !is_own);
        post.and_then(|post| post.entry(node.0)).map_or_else(String::new, |entry| entry.clients)
    }

    pub(super) fn board(&self) -> &Board {
        &self.shared.board
    }

    pub(super) fn now_us(&self) -> u64 {
        self.shared.clock.mono_us()
    }

    fn handle(&self) -> &NetHandle {
        &self.shared.nets[self.index]
    }

    /// Takes a frame to the desk. `waited_ms` of its time have passed in line. [`NetThread::pump`] or
    /// [`NetThread::pump_soon`] follows.
    pub(super) fn submit(&self, caller: Caller, ask: Ask<'_>, budget_ms: u32, waited_ms: u64) {
        let mut desk = self.desk.borrow_mut();
        let left_ms = u64::from(desk.budget_ms(budget_ms)).saturating_sub(waited_ms);
        match left_ms {
            0 => desk.turn_away(caller, ask.len()),
            _ => desk.submit(caller, ask, left_ms as u32, self.shared.clock.now()),
        }
    }

    /// Sets the dispatcher an alarm if it has none: there is something now that time alone may change.
    pub(super) fn stir(&self) {
        if self.dozing.replace(false) {
            self.handle().wake.notify_one();
        }
    }

    /// Has what the desk has decided carried on once the connections that are ready now have had their turn: the
    /// replica is woken once for all of them, and finds a fuller batch.
    pub(super) fn pump_soon(&self) {
        self.brought.notify_one();
    }

    /// Carries on what connections bring, for as long as there is a runtime. Its turn comes behind theirs.
    pub(super) async fn carry(self: Rc<Self>) {
        loop {
            self.brought.notified().await;
            self.pump();
        }
    }

    /// Carries what the desk has decided: flights to the replica, replies to their connections.
    pub(super) fn pump(&self) {
        let mut desk = self.desk.borrow_mut();
        let mut bounced = Vec::new();
        let mut sent = false;
        for flight in desk.departures() {
            failpoint::reach(Point::DeskAdmitted);
            match self.shared.flights.push(flight) {
                Ok(()) => {
                    failpoint::reach(Point::DeskQueued);
                    sent = true;
                }
                Err(flight) => bounced.push(flight),
            }
        }
        for flight in bounced {
            desk.bounce(flight);
        }
        for read in desk.cold_reads() {
            self.read_cold(read);
        }
        let watching = desk.is_watching();
        let watched = self.handle().watching.swap(watching, Ordering::SeqCst);
        if watching && !watched {
            // The dispatcher sleeps without an alarm, and the apply that would tell may be over: it must look again,
            // and see to the deadline.
            self.handle().wake.notify_one();
        }
        if !desk.is_idle() {
            self.stir();
        }
        // Those who watch may have asked for a read round.
        if sent || desk.is_in_doubt() {
            self.shared.replica.wake();
        }
        let replies: Vec<Reply> = desk.replies().collect();
        self.count(&desk);
        drop(desk);
        self.deliver(&replies);
    }

    /// Has older events read from files. What was read comes back like a flight.
    fn read_cold(&self, read: ColdRead) {
        let (shared, index) = (Arc::clone(&self.shared), self.index);
        let give_back = move |cold: Cold| {
            let handle = &shared.nets[index];
            handle.cold.push(cold).expect("a desk asks for no more at a time than comes back");
            handle.wake.notify_one();
        };
        let nothing = match read {
            ColdRead::Events(from) => Cold::Events(from, None),
            ColdRead::Time(time_ms) => Cold::Time(time_ms, None),
        };
        let refuse = give_back.clone();
        let ask = match read {
            ColdRead::Events(from) => EventAsk::Read {
                from,
                max: COLD_EVENTS,
                reply: Box::new(move |found| {
                    let block = found.ok().filter(|events| !events.is_empty()).map(Block::new).map(Arc::new);
                    give_back(Cold::Events(from, block));
                }),
            },
            ColdRead::Time(time_ms) => EventAsk::FindTime {
                time_ms,
                reply: Box::new(move |found| give_back(Cold::Time(time_ms, found.ok()))),
            },
        };
        if self.shared.event_reads.ask(ask).is_err() {
            refuse(nothing);
        }
    }

    fn deliver(&self, replies: &[Reply]) {
        if replies.is_empty() {
            return;
        }
        let connections = self.connections.borrow();
        let now_us = self.now_us();
        let mut last: Option<&Rc<Connection>> = None;
        let mut touched: Vec<&Rc<Connection>> = Vec::new();
        for reply in replies {
            self.count_reply(reply, now_us);
            let known = last.filter(|connection| connection.id == reply.caller.connection);
            let Some(connection) = known.or_else(|| connections.get(&reply.caller.connection)) else {
                continue;
            };
            connection.reply(reply);
            if known.is_none() {
                touched.push(connection);
                last = Some(connection);
            }
        }
        touched.sort_unstable_by_key(|connection| connection.id);
        touched.dedup_by_key(|connection| connection.id);
        for connection in touched {
            connection.flush(self);
        }
    }

    fn count_reply(&self, reply: &Reply, now_us: u64) {
        let metrics = self.metrics();
        let Caller { kind, arrived_us, .. } = reply.caller;
        let mut items = 0;
        reply.answers.each(|answers| {
            metrics.answers.count(kind, answers);
            items += answers.len();
        });
        if kind == Kind::Fetch {
            // It may have waited for news.
            return;
        }
        let took = Duration::from_micros(now_us.saturating_sub(arrived_us));
        metrics.request_duration.record_many(took, items as u64);
    }

    fn count(&self, desk: &Desk) {
        let (now, before) = (desk.counts(), self.counted.replace(desk.counts()));
        let metrics = self.metrics();
        metrics.gate_admitted.add(now.admitted - before.admitted);
        metrics.gate_doubts.of(Doubt::Refused).add(now.refused - before.refused);
        metrics.gate_doubts.of(Doubt::Parked).add(now.doubted - before.doubted);
        metrics.gate_doubts.of(Doubt::Suspected).add(now.suspected - before.suspected);
        metrics.events_delivered.add(now.delivered - before.delivered);
        metrics.parked.shift(now.parked as i64 - before.parked as i64);
        self.count_room();
    }

    /// Takes back flights as they are answered, for as long as the node lives.
    pub(super) async fn dispatch(self: Rc<Self>) {
        let mut expire_at_ms = 0;
        loop {
            self.rest().await;
            // Looked at before the queue: what was answered before is then in it.
            let drained = self.shared.is_drained();
            let mut desk = self.desk.borrow_mut();
            while let Some(flight) = self.handle().returns.pop() {
                desk.settle(flight);
            }
            let now = self.shared.clock.now();
            while let Some(cold) = self.handle().cold.pop() {
                desk.cold(cold, now);
            }
            let due = now.mono_ms >= expire_at_ms;
            if due {
                expire_at_ms = now.mono_ms + EXPIRE_EVERY.as_millis() as u64;
                desk.expire(now);
            } else {
                desk.reconsider(now);
            }
            drop(desk);
            self.let_in();
            self.pump();
            if due {
                self.relieve();
            }
            if drained {
                break;
            }
        }
        for connection in self.connections.borrow().values() {
            connection.shut_down(&self);
        }
    }

    /// Waits for the next answer or apply, or until deadlines are to be looked at. Once nothing has waited for a while, no
    /// deadline can come by itself, and an idle node is left asleep.
    async fn rest(&self) {
        if self.dozing.get() {
            self.handle().wake.notified().await;
            self.dozing.set(false);
            return;
        }
        let span = if self.desk.borrow().is_in_doubt() { RECONSIDER_EVERY } else { EXPIRE_EVERY };
        let woken = tokio::time::timeout(span, self.handle().wake.notified()).await;
        let idle = self.desk.borrow().is_idle() && !self.room.is_wanted();
        self.dozing.set(woken.is_err() && idle);
    }

    /// Whether all connections have ended.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }
}
