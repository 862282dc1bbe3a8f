//! The thread that decides: carries inputs to the replica, and its actions out.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use sluice_core::replica::{self, Actions, Divergence, Replica};
use sluice_core::stream::StreamStep;

use super::room::Room;
use super::shared::{Part, Report, Shared, stop_for};
use super::snapshots::{Order, PARTS_MAX};
use super::talk::Talk;
use crate::failpoint::{self, Point};
use crate::ops::cells::Totals;
use crate::ops::groups::GroupWatch;
use crate::ops::health::Condition;
use crate::ops::labels::{Queue, Role};

/// How often parts of snapshots that may not go yet are looked at.
const PACE_MS: u64 = 1;
/// How often figures that cost something are taken, and the disk's room looked at.
const SURVEY_MS: u64 = 500;
/// Requests taken before the replica is driven: a burst must not delay what is already proposed.
const REQUESTS_PER_TURN: usize = 8192;
/// How long what is in flight may take to finish when the node stops. The disk may be the reason for stopping.
const STOP_MS_MAX: u64 = 10_000;

/// The replica thread's state beside the replica.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    replica: Replica,
    actions: Actions,
    orders: &'a SyncSender<Order>,
    /// Parts of snapshot files that are being read or written.
    parts: usize,
    /// Each durable step under way: when it was ordered, and what it resets the log to.
    ordered: VecDeque<(u64, Instant, Option<u64>)>,
    /// Net threads that have flights to fetch.
    returned: Vec<bool>,
    room: &'a Room,
    talk: Talk<'a>,
    groups: GroupWatch,
    /// Whether this node was open when that was last told, and who led.
    told: (bool, u64),
    /// Whether there was room on the disk for more.
    had_room: bool,
}

fn role(role: replica::Role) -> Role {
    match role {
        replica::Role::Outsider => Role::Outsider,
        replica::Role::Learner => Role::Learner,
        replica::Role::Follower => Role::Follower,
        replica::Role::Candidate => Role::Candidate,
        replica::Role::Leader => Role::Leader,
        replica::Role::Removed => Role::Removed,
    }
}

fn order(orders: &SyncSender<Order>, order: Order) {
    orders
        .try_send(order)
        .expect("the snapshot thread lives as long as this one, and has room for all that can wait");
}

/// Before anything else that came with them: a snapshot that contains them waits until they are durable.
fn hand_over_events(shared: &Shared, actions: &mut Actions) {
    for step in actions.stream.drain(..) {
        match step {
            StreamStep::Append(block) => shared.events.push(block),
            StreamStep::Reset(next) => shared.events.reset(next - 1),
        }
    }
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        replica: Replica,
        orders: &'a SyncSender<Order>,
        room: &'a Room,
        talk: Talk<'a>,
        alarm_ms: u64,
    ) -> Self {
        Self {
            shared,
            replica,
            actions: Actions::default(),
            orders,
            parts: 0,
            ordered: VecDeque::new(),
            returned: vec![false; shared.nets.len()],
            room,
            talk,
            groups: GroupWatch::new(alarm_ms),
            told: (false, 0),
            had_room: true,
        }
    }

    /// Runs until the node stops and everything in flight is answered.
    pub(super) fn run(mut self) {
        let shared = self.shared;
        shared.replica.is_me();
        let (mut next_tick_ms, mut next_survey_ms, mut stop_by_ms) = (0, 0, None);
        loop {
            let mut busy = self.take_inputs();
            let now = shared.clock.now();
            if now.mono_ms >= next_tick_ms {
                next_tick_ms = now.mono_ms + self.replica.tick_ms();
                self.replica.tick();
                shared.clock.steer();
            }
            if now.mono_ms >= next_survey_ms {
                next_survey_ms = now.mono_ms + SURVEY_MS;
                self.survey();
            }
            if stop_by_ms.is_none() && shared.is_stopping() {
                stop_by_ms = Some(now.mono_ms + STOP_MS_MAX);
                self.replica.stop();
                self.replica.want_snapshot();
            }
            self.replica.drive(now, &mut self.actions);
            busy |= self.act();
            self.freeze();
            self.tell_leadership();
            // The log's thread finishes what was ordered of it.
            let is_done = self.replica.owes_nothing() && shared.flights.is_empty();
            if stop_by_ms.is_some_and(|by_ms| is_done || now.mono_ms >= by_ms) {
                break;
            }
            if !busy {
                let due_ms = self.replica.due_in_ms(now).min(next_tick_ms.saturating_sub(now.mono_ms));
                let due_ms = if self.talk.is_paced() { due_ms.min(PACE_MS) } else { due_ms };
                thread::park_timeout(Duration::from_millis(due_ms));
            }
        }
        failpoint::reach(Point::StopDrained);
        shared.wal_done.store(true, Ordering::Release);
        shared.wal.wake();
        shared.drained.store(true, Ordering::Release);
        for net in &shared.nets {
            net.wake.notify_one();
        }
    }

    /// Hands the state to who waits for it.
    fn freeze(&mut self) {
        while let Some(asker) = self.shared.freezes.pop() {
            // Who has gone away meanwhile does not need it.
            let _ = asker.try_send(self.replica.freeze());
        }
    }

    /// Hands what has come in to the replica. Whether there was anything.
    fn take_inputs(&mut self) -> bool {
        let mut any = false;
        while let Some(report) = self.shared.reports.pop() {
            any = true;
            match report {
                Report::Persisted(number) => {
                    while let Some(step) = self.ordered.pop_front_if(|(ordered, ..)| *ordered <= number) {
                        let (_, since, reset) = step;
                        self.shared.metrics.commit_duration.record(since.elapsed());
                        reset.into_iter().for_each(|index| order(self.orders, Order::Promote(index)));
                    }
                    self.replica.persisted(number);
                }
                Report::Part(part) => self.take_part(part),
                Report::Digest(index, digest) => self.replica.digest_taken(index, digest),
                Report::Snapshot(true) => self.replica.snapshot_saved(),
                Report::Snapshot(false) => self.replica.snapshot_failed(),
            }
        }
        // Before what clients ask: whatever these may send, the cluster goes on.
        any |= self.talk.listen(&mut self.replica);
        let mut taken = 0;
        while taken < REQUESTS_PER_TURN {
            let Some(flight) = self.shared.flights.pop() else { break };
            any = true;
            taken += flight.len();
            failpoint::reach(Point::ReplicaTaken);
            self.replica.submit(flight);
        }
        any
    }

    fn take_part(&mut self, part: Part) {
        self.parts -= 1;
        match part {
            Part::Read(wanted, read) => self.replica.chunk_read(wanted, read.map(|read| *read)),
            Part::Stored(image, have) => self.replica.chunk_stored(image, have),
            Part::Received(image, loaded) => {
                let (meta, ledger) = *loaded;
                self.replica.image_received(image, meta, ledger);
            }
            Part::Failed => {}
        }
    }

    /// Carries out what the replica wants of snapshots and peers.
    fn act_for_peers(&mut self) {
        self.talk.speak(&mut self.actions, &self.replica);
        while self.parts < PARTS_MAX
            && let Some(read) = self.talk.next_read()
        {
            self.parts += 1;
            order(self.orders, Order::Read(read));
        }
        for chunk in self.actions.chunk_writes.drain(..) {
            // What is not done now is sent again.
            if self.parts < PARTS_MAX {
                self.parts += 1;
                order(self.orders, Order::Write(chunk));
            }
        }
        if let Some(reason) = self.actions.stop {
            stop_for(self.shared, reason);
        }
    }

    /// Carries out what the replica wants. Whether there was anything.
    fn act(&mut self) -> bool {
        let shared = self.shared;
        let actions = &mut self.actions;
        hand_over_events(shared, actions);
        let any = !actions.appends.is_empty() || !actions.settled.is_empty() || actions.applied > 0;
        for (number, step) in actions.appends.drain(..) {
            failpoint::reach(Point::ReplicaOrdered);
            let reset = step.reset.map(|(index, _)| index);
            // Before anything that could make the file go.
            reset.into_iter().for_each(|index| order(self.orders, Order::Pin(index)));
            self.ordered.push_back((number, Instant::now(), reset));
            shared.appends.push((number, step)).expect("fewer steps are under way than the queue holds");
            shared.wal.wake();
        }
        for (items, bytes) in actions.proposed.drain(..) {
            shared.metrics.batch_items.record(items as u64);
            shared.metrics.batch_bytes.record(bytes as u64);
        }
        for flight in actions.settled.drain(..) {
            failpoint::reach(Point::ReplySettled);
            let thread = usize::from(flight.origin.thread);
            let returned = shared.nets[thread].returns.push(flight);
            returned.expect("a desk has no more away than its return queue holds");
            self.returned[thread] = true;
        }
        let applied = std::mem::take(&mut actions.applied) > 0;
        for (net, returned) in shared.nets.iter().zip(&mut self.returned) {
            let watching = applied && net.watching.load(Ordering::SeqCst);
            if std::mem::take(returned) || watching {
                net.wake.notify_one();
            }
        }
        if let Some((meta, image)) = actions.snapshot.take() {
            failpoint::reach(Point::SnapshotFrozen);
            order(self.orders, Order::Save(meta, image));
        }
        if let Some((index, image)) = actions.digest.take() {
            order(self.orders, Order::Digest(index, image));
        }
        if let Some(Divergence { index, node, own, theirs }) = actions.divergence.take() {
            shared.metrics.divergences.increment();
            tracing::error!(
                index,
                node,
                "THE STATE OF ANOTHER REPLICA DIFFERS ({own:016x} here, {theirs:016x} there): stop selling, keep all data, and report this"
            );
        }
        self.act_for_peers();
        any
    }

    /// Takes the figures that are too dear for every turn, and looks at the disk.
    fn survey(&mut self) {
        let (shared, metrics) = (self.shared, &self.shared.metrics);
        let status = self.replica.status();
        let now = shared.clock.now();
        metrics.rates.sample(&metrics.answers, now.mono_ms);
        metrics.term.set(status.term);
        metrics.leader.set(status.leader);
        metrics.commit_index.set(status.commit);
        metrics.applied_index.set(status.applied);
        metrics.ledger_lag.set_ms(now.wall_ms.saturating_sub(status.ledger_ms));
        metrics.ledger_sequence.set(status.sequence);
        shared.events.survey(shared.board.stream.floor(), status.ledger_ms);
        metrics.apply_lag.set(status.commit.saturating_sub(status.applied));
        metrics.role.set(role(status.role));
        metrics.digests_compared.set(status.digests.compared);
        metrics.snapshots_sent.set(status.transfers.sent);
        metrics.snapshots_unsent.set(status.transfers.failed);
        metrics.snapshots_received.set(status.transfers.received);
        metrics.queue_depth.of(Queue::Flights).set(shared.flights.len() as u64);
        metrics.queue_depth.of(Queue::Appends).set(shared.appends.len() as u64);
        metrics.queue_depth.of(Queue::Persisted).set(shared.reports.len() as u64);
        metrics
            .queue_depth
            .of(Queue::Replies)
            .set(shared.nets.iter().map(|net| net.returns.len() as u64).sum());
        let totals = self.replica.totals();
        metrics.ledger_memory_bytes.set(totals.memory.sum());
        metrics.totals.set(Totals {
            index: status.applied,
            products: totals.products,
            records: totals.records,
            stock: totals.stock,
            free: totals.free,
            held: totals.held,
            sold: totals.sold,
        });
        self.survey_groups(now.wall_ms.max(status.ledger_ms));
        self.room.look(shared);
        // Another may have room: who leads without any sells nothing. Once only, since there may be nobody who has.
        let has_room = shared.board.is_admitting();
        if std::mem::replace(&mut self.had_room, has_room) && !has_room {
            self.replica.hand_over();
        }
        self.talk.survey(&self.replica);
        self.tell_health();
    }

    /// Looks at the consumer groups, if this node leads.
    fn survey_groups(&mut self, now_ms: u64) {
        let stream = &self.shared.board.stream;
        let groups = if self.replica.is_open() { stream.survey() } else { Vec::new() };
        self.shared.metrics.groups.set(self.groups.look(&groups, stream.tail.last(), now_ms));
    }

    /// Tells who leads, if that is news.
    fn tell_leadership(&mut self) {
        let (is_open, leader) = (self.replica.is_open(), self.shared.board.leader());
        if self.told != (is_open, leader) {
            self.told = (is_open, leader);
            tracing::info!(leader, term = self.replica.status().term, is_open, "leadership");
            self.tell_health();
        }
    }

    fn tell_health(&self) {
        let (open, admitting) = (self.replica.is_open(), self.shared.board.is_admitting());
        let health = &self.shared.health;
        let ready = health.condition() == Condition::Ready;
        match (open, admitting) {
            _ if self.shared.is_stopping() => {}
            (true, true) if !ready => health.ready(),
            (true, true) => {}
            (true, false) => {
                health.not_ready("the disk is nearly full: nothing is admitted until there is room");
            }
            (false, _) => self.tell_why_not(),
        }
    }

    /// Another node serves, or this one is about to, or nobody can.
    fn tell_why_not(&self) {
        let (health, board) = (&self.shared.health, &self.shared.board);
        match board.leader() {
            0 if self.shared.post.is_none() => {
                health
                    .not_ready("this node is one of several and has no port for its peers: set peers.listen");
            }
            0 => health.not_ready("no leader is known: fewer than half of the voters may be connected"),
            leader if leader == board.node().0 => {
                health.not_ready("this node leads, and its gate is not open yet");
            }
            leader => match self.shared.post.as_ref().and_then(|post| post.entry(leader)) {
                Some(entry) => health.following(format!("node {leader} leads, at {}", entry.clients)),
                None => health.following(format!("node {leader} leads")),
            },
        }
    }
}
