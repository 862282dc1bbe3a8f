//! Raft's `Ready`, duty by duty, in the order its documentation demands; and what applying an entry entails.

use raft::prelude::{Entry, EntryType};
use raft::{ReadState, Ready, StateRole, Storage};
use sluice_protocol::NodeId;

use super::disk::{Append, HardState, Members, SnapshotMeta};
use super::publish::{self, Collector};
use super::{Actions, Lead, Replica, log};
use crate::fault::{self, Mutant, Stage};
use crate::flight::Flight;
use crate::time::Moment;

/// Names a read round, so that no answer to another one is mistaken for its own: never reused, since a term's
/// counter only grows and a node never leads one term twice.
pub(super) fn round_context(node: NodeId, term: u64, number: u64) -> Vec<u8> {
    let mut context = Vec::with_capacity(24);
    for part in [node.0, term, number] {
        context.extend_from_slice(&part.to_le_bytes());
    }
    context
}

fn round_number(context: &[u8], node: NodeId, term: u64) -> Option<u64> {
    let mut parts =
        context.chunks_exact(8).map(|part| u64::from_le_bytes(part.try_into().expect("eight bytes")));
    (parts.next()? == node.0 && parts.next()? == term).then(|| parts.next()).flatten()
}

impl Replica {
    /// One round of duties.
    pub(super) fn handle_ready(&mut self, now: Moment, actions: &mut Actions) {
        if fault::is_on(Mutant::AnswerBeforePublish) {
            self.publisher.notices(&mut self.ledger, self.lead.gate());
        }
        let mut ready = self.node.ready();
        self.follow_role(&ready, actions);
        let round = self.confirmed_round(&ready.take_read_states());
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();
        if let Some(hard_state) = ready.hs() {
            self.hard_state =
                HardState { term: hard_state.term, vote: hard_state.vote, commit: hard_state.commit };
        }
        // Raft reads its log through the cache from now on; the disk follows, and raft is told when it has.
        self.node.mut_store().append(&entries);
        self.order_append(&ready, &entries, actions);
        let number = ready.number();
        self.node.advance_append_async(ready);
        if fault::is_on(Mutant::AnswerAtAppend) {
            self.node.on_persist_ready(number);
        }
        if let Some(number) = self.idle_ready.take() {
            self.node.on_persist_ready(number);
        }
        if let Some(last) = committed.last().map(Entry::get_index) {
            fault::reach(Stage::Committed);
            for entry in &committed {
                self.apply(entry, actions);
            }
            fault::reach(Stage::Applied);
            actions.applied += committed.len();
            if !fault::is_on(Mutant::AnswerBeforePublish) {
                self.publisher.notices(&mut self.ledger, self.lead.gate());
            }
            fault::reach(Stage::Published);
            self.node.advance_apply_to(last);
        }
        if matches!(self.lead, Lead::CatchingUp) && self.is_caught_up(now) {
            self.lead = Lead::Open(self.publisher.open_gate(self.node.raft.term, &self.ledger));
        }
        // After the publication: whoever sees the round sees what it vouches for. A round's index is the commit
        // index of its start, which has been applied by now: commits are applied in the ready they appear in, before
        // any read state that rests on them.
        if let Some((number, index)) = round {
            assert!(self.ledger.index() >= index, "a read round is confirmed only once its index is applied");
            self.publisher.board().rounds.confirm(number);
        }
    }

    /// Watches raft's role: what begins and ends with a leadership.
    fn follow_role(&mut self, ready: &Ready, actions: &mut Actions) {
        let Some(soft) = ready.ss() else { return };
        self.publisher.board().set_leader(soft.leader_id);
        let leads = soft.raft_state == StateRole::Leader;
        match self.lead {
            Lead::Stopping => {}
            Lead::No if leads => self.lead = Lead::Elected,
            Lead::Elected | Lead::CatchingUp | Lead::Open(_) if !leads => {
                self.publisher.board().set_gate(None);
                self.lead = Lead::No;
                self.refuse_waiting(actions);
            }
            _ => {}
        }
    }

    fn confirmed_round(&self, states: &[ReadState]) -> Option<(u64, u64)> {
        let term = self.node.raft.term;
        let own = states.iter().filter_map(|state| {
            round_number(&state.request_ctx, NodeId(self.config.identity.node), term)
                .map(|number| (number, state.index))
        });
        own.max()
    }

    /// Orders what must be durable. A commit index alone need not be: it rides on the next step.
    fn order_append(&mut self, ready: &Ready, entries: &[Entry], actions: &mut Actions) {
        let number = ready.number();
        if !ready.must_sync() {
            match self.appends.back_mut() {
                // Raft counts readies as persisted in order, so this one is when the step under way is.
                Some((_, covered)) => *covered = number,
                None => self.idle_ready = Some(number),
            }
            return;
        }
        self.last_append += 1;
        self.appends.push_back((self.last_append, number));
        actions.appends.push((
            self.last_append,
            Append {
                hard_state: Some(self.hard_state),
                entries: entries.iter().map(log::to_disk).collect(),
                compact_to: self.snapshots[usize::from(!fault::is_on(Mutant::CompactToNewest))],
                reset: None,
            },
        ));
    }

    fn apply(&mut self, entry: &Entry, actions: &mut Actions) {
        assert_eq!(entry.get_entry_type(), EntryType::EntryNormal, "membership changes are not proposed yet");
        let mut answers = std::mem::take(&mut self.answers);
        let mut collector =
            Collector { board: self.publisher.board(), answers: &mut answers, credits: &mut self.credits };
        self.ledger
            .apply(entry.index, entry.term, &entry.data, &mut collector)
            .expect("an entry was checked when it was proposed or recovered");
        self.log_bytes += entry.data.len() as u64;
        if let Some(gate) = self.lead.gate() {
            self.publisher.credit(gate, &mut self.credits);
        }
        self.credits.clear();
        let resolved = self.pending.resolve(entry.index, entry.term);
        self.distribute(resolved.applied, &mut answers, actions);
        self.answers = answers;
        for mut flight in resolved.dropped {
            flight.gate = None;
            flight.answer_all(self.publisher.board().shut());
            actions.settled.push(flight);
        }
        let own_no_op = entry.data.is_empty() && entry.term == self.node.raft.term;
        if own_no_op && matches!(self.lead, Lead::Elected) {
            self.lead = Lead::CatchingUp;
        }
    }

    /// Hands an entry's answers to its flights, in the order in which it was made of them.
    fn distribute(
        &mut self,
        flights: Vec<Box<Flight>>,
        answers: &mut Vec<sluice_protocol::Answer>,
        actions: &mut Actions,
    ) {
        let mut answers = answers.drain(..);
        for mut flight in flights {
            let mine: Vec<_> = answers.by_ref().take(flight.len()).collect();
            assert_eq!(mine.len(), flight.len(), "the ledger answers each command of an entry");
            publish::settle(&mut flight, mine, self.lead.gate());
            actions.settled.push(flight);
        }
    }

    /// The facts of a snapshot at `index`, which is applied.
    pub(super) fn snapshot_meta(&self, index: u64) -> SnapshotMeta {
        let term = self.node.store().term(index).expect("what is applied is in the log or just before it");
        let members = self.node.raft.prs().conf().to_conf_state();
        SnapshotMeta {
            index,
            term,
            members: Members {
                voters: members.voters.clone(),
                learners: members.learners.clone(),
                ..Members::default()
            },
        }
    }
}
