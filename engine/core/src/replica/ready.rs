//! Raft's `Ready`, duty by duty, in the order its documentation demands; and what applying an entry entails.

use raft::prelude::{Entry, EntryType, Message};
use raft::{ReadState, Ready, StateRole, Storage};
use sluice_protocol::{Answer, NodeId};

use super::disk::{Append, HardState, SnapshotMeta};
use super::publish::{self, Collector};
use super::{Actions, Lead, Replica, Step, log};
use crate::fault::{self, Mutant, Stage};
use crate::flight::Flight;
use crate::stream::StreamStep;
use crate::time::Moment;

/// Names a read round, so that no answer to another one is mistaken for its own: never reused, since a term's
/// counter only grows and a node never leads one term twice.
pub(super) fn round_context(node: NodeId, term: u64, number: u64) -> Vec<u8> {
    let (term, number) = if fault::is_on(Mutant::RoundReused) { (0, 0) } else { (term, number) };
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
        let mut after_sync = ready.take_persisted_messages();
        // A voter that needs nobody's vote leads before its disk knows the term; it must not lead it twice.
        if self.durable_term == self.node.raft.term {
            self.send(ready.take_messages());
        } else {
            after_sync.extend(ready.take_messages());
        }
        let states = ready.take_read_states();
        self.note_rounds(&states);
        let entries = ready.take_entries();
        let reset = self.install(&ready, actions);
        let committed = ready.take_committed_entries();
        if let Some(hard_state) = ready.hs() {
            self.hard_state =
                HardState { term: hard_state.term, vote: hard_state.vote, commit: hard_state.commit };
        }
        // Raft reads its log through the cache from now on; the disk follows, and raft is told when it has.
        self.node.mut_store().append(&entries);
        self.order_append(&ready, &entries, reset, after_sync, actions);
        let number = ready.number();
        self.last_ready = number;
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
            actions.stream.extend(self.publisher.events(&mut self.events));
            fault::reach(Stage::Published);
            if committed.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal) {
                self.removals.changed();
            }
            self.node.advance_apply_to(last);
        }
        if matches!(self.lead, Lead::Elected) && fault::is_on(Mutant::GateBeforeNoOp) {
            self.lead = Lead::CatchingUp;
        }
        if matches!(self.lead, Lead::CatchingUp) && self.is_caught_up(now) {
            self.lead = Lead::Open(self.publisher.open_gate(self.node.raft.term, &self.ledger));
        }
        self.confirm_rounds(actions);
    }

    /// Tells of rounds whose index is applied. After the publication: whoever sees the round sees what it vouches for. A
    /// round's index is the commit index of its start; what is committed by others' disks waits for the own one before it
    /// is applied.
    fn confirm_rounds(&mut self, actions: &mut Actions) {
        let applied = self.ledger.index();
        let rounds = &self.publisher.board().rounds;
        let mut last = None;
        self.rounds_due.retain(|(number, index)| {
            let is_due = *index <= applied;
            if is_due {
                rounds.confirm(*number);
                actions.rounds.confirmed = *number;
                last = Some((*number, *index));
            }
            !is_due
        });
        if let Some((number, index)) = last {
            self.tell_askers(number, index);
        }
    }

    /// Watches raft's role: what begins and ends with a leadership. Terms are compared, not only roles: a stall can
    /// hide that this node lost the leadership and won it again.
    pub(super) fn follow_role(&mut self, actions: &mut Actions) {
        let raft = &self.node.raft;
        let (term, leads) = (raft.term, raft.state == StateRole::Leader);
        self.publisher.board().set_leader(raft.leader_id);
        if matches!(self.lead, Lead::Stopping) {
            return;
        }
        let goes_on = leads && term == self.lead_term;
        if !matches!(self.lead, Lead::No) && !goes_on {
            self.publisher.board().set_gate(None);
            self.lead = Lead::No;
            self.refuse_waiting(actions);
            if fault::is_on(Mutant::ProposedRefused) {
                for mut flight in self.pending.behind(u64::MAX) {
                    flight.answer_all(self.publisher.board().shut());
                    actions.settled.push(flight);
                }
            }
            self.transfers.forget_sending();
            self.abandon_changes();
            self.rounds_due.clear();
            self.asks.forget_askers();
            // Others may be asked for what is only read.
            for mut flight in self.reads.take_suspects() {
                flight.answer_all(self.publisher.board().shut());
                actions.settled.push(flight);
            }
            let rounds = &self.publisher.board().rounds;
            if rounds.confirmed() < rounds.started() {
                actions.rounds.abandoned = rounds.started();
            }
        }
        if leads && matches!(self.lead, Lead::No) {
            (self.lead, self.lead_term) = (Lead::Elected, term);
            self.deposed_ticks = 0;
            self.publisher.board().rounds.renew();
            self.publisher.board().stream.seats.forget();
            self.publisher.board().stream.rates.forget();
            self.take_asks_back();
        }
    }

    /// Read rounds of this term that a quorum has confirmed. They may be answered once their index is applied.
    fn note_rounds(&mut self, states: &[ReadState]) {
        let (node, term) = (NodeId(self.config.identity.node), self.node.raft.term);
        let own = states.iter().filter_map(|state| {
            round_number(&state.request_ctx, node, term).map(|number| (number, state.index))
        });
        if fault::is_on(Mutant::RoundReused) {
            let started = self.publisher.board().rounds.started();
            return self.rounds_due.extend(states.iter().map(|state| (started, state.index)));
        }
        self.rounds_due.extend(own);
    }

    /// Puts a snapshot that raft has accepted in the ledger's place. What the log's next durable step is to begin with.
    fn install(&mut self, ready: &Ready, actions: &mut Actions) -> Option<(u64, u64)> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let (meta, ledger) = self.transfers.take_loaded().expect("raft was shown only what is loaded");
        let named = ready.snapshot().get_metadata();
        assert_eq!((meta.index, meta.term), (named.index, named.term), "raft was shown what is loaded");
        self.ledger = ledger;
        self.publisher.replace(&mut self.ledger);
        let own = self.config.identity.node;
        self.publisher.board().rounds.set_needless(meta.members.is_alone(own));
        self.node.mut_store().reset(&meta);
        self.snapshots = [meta.index; 2];
        self.log_bytes = 0;
        self.installing = Some(meta.index);
        for mut flight in self.pending.behind(meta.index) {
            flight.gate = None;
            flight.answer_all(Answer::unknown());
            actions.settled.push(flight);
        }
        actions.stream.push(StreamStep::Reset(self.ledger.sequence() + 1));
        actions.applied += 1;
        let reset = (meta.index, meta.term);
        self.members = meta.members;
        // The file is durable. Until the log's reset is, nobody is refused on its account.
        self.removals.under_way(self.last_append + 1, &self.members);
        Some(reset)
    }

    /// Keeps messages, if there are any, until a durable step is done. A node alone has none.
    fn hold(&mut self, step: u64, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.held.push_back((step, messages));
        }
    }

    /// Orders what must be durable. A commit index alone need not be: it rides on the next step.
    fn order_append(
        &mut self,
        ready: &Ready,
        entries: &[Entry],
        reset: Option<(u64, u64)>,
        messages: Vec<Message>,
        actions: &mut Actions,
    ) {
        let number = ready.number();
        if !ready.must_sync() {
            match self.appends.back_mut() {
                // Raft counts readies as persisted in order, so this one is when the step under way is.
                Some(step) => {
                    step.ready = number;
                    let number = step.number;
                    self.hold(number, messages);
                }
                None => {
                    self.idle_ready = Some(number);
                    self.send(messages);
                }
            }
            return;
        }
        let messages = if fault::is_on(Mutant::AcknowledgeBeforeSync) {
            self.send(messages);
            Vec::new()
        } else {
            messages
        };
        self.last_append += 1;
        let step = Step { number: self.last_append, ready: number, term: self.hard_state.term };
        self.appends.push_back(step);
        self.hold(self.last_append, messages);
        actions.appends.push((
            self.last_append,
            Append {
                hard_state: Some(if fault::is_on(Mutant::VoteForgotten) {
                    HardState { vote: 0, ..self.hard_state }
                } else {
                    self.hard_state
                }),
                entries: entries.iter().map(log::to_disk).collect(),
                compact_to: self.snapshots[usize::from(!fault::is_on(Mutant::CompactToNewest))],
                reset,
            },
        ));
    }

    fn apply(&mut self, entry: &Entry, actions: &mut Actions) {
        // Of a membership change the ledger learns only that the index has passed.
        let is_change = entry.get_entry_type() != EntryType::EntryNormal;
        let data: &[u8] = if is_change { &[] } else { &entry.data };
        let mut answers = std::mem::take(&mut self.answers);
        let mut collector = Collector {
            board: self.publisher.board(),
            answers: &mut answers,
            credits: &mut self.credits,
            events: &mut self.events,
        };
        let (before_ms, sequence) = (self.ledger.now_ms(), self.ledger.sequence());
        let applied = self
            .ledger
            .apply(entry.index, entry.term, data, &mut collector)
            .expect("an entry was checked when it was proposed or recovered");
        let changed = applied.commands > 0 || self.ledger.sequence() != sequence;
        self.freeze_for_digest(before_ms, changed, actions);
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
        if is_change {
            self.apply_change(entry);
        }
        self.decide_changes(entry.index, entry.term);
        let own_no_op = !is_change && entry.data.is_empty() && entry.term == self.node.raft.term;
        if own_no_op && matches!(self.lead, Lead::Elected) {
            self.lead = Lead::CatchingUp;
        }
    }

    /// Hands an entry's answers to its flights, in the order in which it was made of them.
    fn distribute(&mut self, flights: Vec<Box<Flight>>, answers: &mut Vec<Answer>, actions: &mut Actions) {
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
        SnapshotMeta { index, term, members: self.members.clone() }
    }
}
