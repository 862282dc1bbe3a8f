//! Members of consumer groups that were silent for too long lose their seats: the leader proposes it, the log decides it.
//!
//! Deliberately not here: who was heard when, which net threads tell (`stream`).

use sluice_protocol::seat::SeatItem;

use super::{Actions, Lead, Replica};
use crate::ledger::command::{Batch, Consume, Group};
use crate::time::Moment;

/// How often the roll is called, milliseconds.
const ROLL_CALL_MS: u64 = 100;

impl Replica {
    /// Proposes that those leave who were silent for longer than their group allows.
    pub(super) fn call_the_roll(&mut self, now: Moment, actions: &mut Actions) {
        if now.mono_ms < self.next_roll_call_ms || !matches!(self.lead, Lead::Open(_)) {
            return;
        }
        self.next_roll_call_ms = now.mono_ms + ROLL_CALL_MS;
        let stream = &self.publisher.board().stream;
        let groups = self.ledger.groups();
        stream.rates.sample(groups.iter().map(|group| (group.id(), group.min_cursor())), now.mono_ms);
        let seated = groups.iter().flat_map(|group| {
            let session_ms = u64::from(group.terms().session_ms);
            group.members().map(move |seat| (group.id(), seat.member, session_ms))
        });
        let silent = stream.seats.look(seated, now.mono_ms);
        if silent.is_empty() {
            return;
        }
        let leave = |(group, member)| Consume::from(&SeatItem::new(group, member));
        let batch = Batch {
            proposer_term: self.node.raft.term,
            stamp_ms: now.wall_ms,
            groups: vec![Group::Consume(silent.into_iter().map(leave).collect())],
        };
        // Nobody waits for it. If raft does not take it, the next roll call finds the same.
        self.propose_batch(&batch, Vec::new(), actions);
    }
}
