//! When what waits becomes entries, and when time alone does.

use raft::StateRole;
use sluice_protocol::Answer;

use super::{APPENDS_MAX, Actions, ENTRY_BYTES_MAX, Lead, Replica, ticks};
use crate::desk::RETRY_AFTER_MS;
use crate::flight::Flight;
use crate::ledger::command::{Batch, Group};
use crate::ledger::settings::ADVANCE_MS_MAX;
use crate::time::Moment;

/// Entries proposed into one durable step while the disk has nothing to do.
const ENTRIES_PER_APPEND_MAX: usize = 8;
/// Ticks for which a node that leads no longer keeps those waiting whose requests it had proposed: if it hears the next
/// leader, it knows within a few.
const UNDECIDED_TICKS: u32 = ticks(450);
/// How far ledger time may lag the clock before a pulse carries it forward, milliseconds.
const LAG_MS_MAX: u64 = 1_000;

impl Replica {
    /// Proposes what waits, if the disk is idle or a whole entry is full: alone, a request waits for one fsync and
    /// nothing else; under load, entries fill while the disk works.
    pub(super) fn propose(&mut self, now: Moment, actions: &mut Actions) {
        if !matches!(self.lead, Lead::Open(_) | Lead::CatchingUp) {
            if !self.waiting.is_empty() {
                self.refuse_waiting(actions);
            }
            return;
        }
        let mut proposed = 0;
        while proposed < ENTRIES_PER_APPEND_MAX && !self.waiting.is_empty() {
            let idle = self.appends.is_empty();
            let full = self.waiting.bytes() >= ENTRY_BYTES_MAX && self.appends.len() < APPENDS_MAX;
            if !(idle || full) {
                break;
            }
            let (batch, flights) = self.waiting.take(self.node.raft.term, now.wall_ms);
            self.propose_batch(&batch, flights, actions);
            proposed += 1;
        }
        if proposed == 0 && self.appends.is_empty() && self.pending.is_empty() && self.wants_pulse(now) {
            let batch =
                Batch { proposer_term: self.node.raft.term, stamp_ms: now.wall_ms, groups: Vec::new() };
            self.propose_batch(&batch, Vec::new(), actions);
        }
    }

    pub(super) fn propose_batch(&mut self, batch: &Batch, flights: Vec<Box<Flight>>, actions: &mut Actions) {
        let data = batch.encode();
        let sizes = (batch.groups.iter().map(Group::len).sum(), data.len());
        match self.node.propose(Vec::new(), data) {
            Ok(()) => {
                actions.proposed.push(sizes);
                let index = self.node.raft.raft_log.last_index();
                self.pending.push(index, self.node.raft.term, flights);
            }
            // Definite: raft took nothing.
            Err(_) => {
                for mut flight in flights {
                    flight.refund(0);
                    flight.answer_all(Answer::busy(RETRY_AFTER_MS));
                    actions.settled.push(flight);
                }
            }
        }
    }

    /// Whether time alone has something to do: a hold or a window has come due, or the ledger's clock lags.
    fn wants_pulse(&self, now: Moment) -> bool {
        let ledger_ms = self.ledger.now_ms();
        let due =
            self.ledger.pulse_due_ms().is_some_and(|due_ms| due_ms <= now.wall_ms && due_ms > ledger_ms);
        self.publisher.board().is_admitting()
            && (self.ledger.backlog() || due || now.wall_ms >= ledger_ms.saturating_add(LAG_MS_MAX))
    }

    /// When [`Replica::drive`] has something to do although nothing came in, milliseconds from now.
    pub fn due_in_ms(&self, now: Moment) -> u64 {
        // While a step is under way the disk's report wakes the caller; without room nothing is due.
        let free = self.appends.is_empty() && self.pending.is_empty();
        if !(matches!(self.lead, Lead::Open(_)) && free && self.publisher.board().is_admitting()) {
            return LAG_MS_MAX;
        }
        if self.ledger.backlog() {
            return 0;
        }
        let lag_due = self.ledger.now_ms().saturating_add(LAG_MS_MAX);
        let due = self.ledger.pulse_due_ms().map_or(lag_due, |due_ms| due_ms.min(lag_due));
        due.saturating_sub(now.wall_ms)
    }

    /// Whether ledger time is near enough to the clock for windows to be judged. Without room for pulses it cannot come
    /// nearer, and only reads are answered anyway.
    pub(super) fn is_caught_up(&self, now: Moment) -> bool {
        let near = now.wall_ms < self.ledger.now_ms().saturating_add(ADVANCE_MS_MAX);
        near || !self.publisher.board().is_admitting()
    }

    /// What was proposed in a leadership that is over, and is not decided soon, may wait here for as long as this node is cut
    /// off, while another leads. Whoever waits is told that nobody knows, so that he asks there.
    pub(super) fn give_up_proposed(&mut self, actions: &mut Actions) {
        let leads = self.node.raft.state == StateRole::Leader;
        if leads || self.deposed_ticks < UNDECIDED_TICKS || self.pending.is_empty() {
            return;
        }
        for mut flight in self.pending.behind(u64::MAX) {
            flight.gate = None;
            flight.answer_all(Answer::unknown());
            actions.settled.push(flight);
        }
    }

    /// Nothing of it was proposed: definitely not done.
    pub(super) fn refuse_waiting(&mut self, actions: &mut Actions) {
        let answer = self.publisher.board().shut();
        for mut flight in self.waiting.drain() {
            flight.refund(0);
            flight.answer_all(answer);
            actions.settled.push(flight);
        }
    }
}
