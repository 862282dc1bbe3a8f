//! The judges that every run has, watched or recorded: they need what clients sent and heard, the committed log, and what
//! ledgers came to. The map of who they are is the module's.
//!
//! Deliberately not here: when a run ends for what was found.

use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_protocol::{ProductId, State};

use super::replicas::Span;
use super::{
    Claim, Tally, Violation, conservation, existence, finality, limits, linearizability, outcome, oversell,
    raft, replicas, time,
};
use crate::history::{Call, CallId, History, Reply};
use crate::model::{Said, Timeline};

/// See the module.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) history: History,
    pub(crate) timeline: Timeline,
    pub(crate) conservation: conservation::Conservation,
    pub(crate) oversell: oversell::Oversell,
    pub(crate) linearizability: linearizability::Linearizability,
    pub(crate) finality: finality::Finality,
    pub(crate) outcome: outcome::Outcome,
    pub(crate) existence: existence::Existence,
    pub(crate) limits: limits::Limits,
    pub(crate) time: time::Time,
    pub(crate) replicas: replicas::Replicas,
    pub(crate) raft: raft::Raft,
}

impl Common {
    pub(crate) fn new(settings: Settings, digest_every: u64) -> Self {
        Self {
            history: History::default(),
            timeline: Timeline::new(settings),
            conservation: conservation::Conservation::default(),
            oversell: oversell::Oversell::default(),
            linearizability: linearizability::Linearizability::default(),
            finality: finality::Finality::default(),
            outcome: outcome::Outcome::new(settings.retention_ms),
            existence: existence::Existence::default(),
            limits: limits::Limits::default(),
            time: time::Time::default(),
            replicas: replicas::Replicas::new(settings, digest_every),
            raft: raft::Raft::default(),
        }
    }

    /// A client sends an item.
    pub(crate) fn sent(&mut self, call: Call) -> CallId {
        self.linearizability.sent();
        if let Some(id) = call.ask.id() {
            self.outcome.sent(id);
        }
        self.history.sent(call)
    }

    /// What is wrong with an answer, most telling first.
    pub(crate) fn answered(&mut self, id: CallId, reply: &Reply) -> Vec<Violation> {
        let mut found = Vec::new();
        let call = self.history.get(id);
        let said = match self.linearizability.heard(id, call, reply, &self.timeline) {
            Ok(said) => said,
            Err(violation) => {
                found.push(violation);
                // Whoever looks on takes it for what it says it is.
                if call.ask.may_pass_the_log_by() { Said::FromState } else { Said::InTheLog }
            }
        };
        self.finality.heard(id, said);
        if said == Said::Nothing {
            return found;
        }
        found.extend(self.existence.heard(call, reply, &self.timeline).err());
        if let Some(answer) = reply.answer() {
            self.outcome.heard(answer.at().time_ms);
        }
        if let Some((name, claim)) = Claim::of(call, reply, said) {
            found.extend(self.outcome.told(name, claim).err());
            if !self.outcome.may_be_forgotten(name, claim.at.time_ms) {
                found.extend(self.time.told(name, &claim).err());
            }
        }
        found
    }

    /// Looks at all that a node's entries may have changed.
    pub(crate) fn look(&mut self, node: u64, span: &Span, ledger: &Ledger) -> Result<(), Violation> {
        self.time.passed(node, ledger.at())?;
        for product in &span.products {
            let Some(view) = ledger.product(ProductId(*product)) else { continue };
            self.conservation.look(node, span.last, &view)?;
            self.oversell.look(node, span.last, &view)?;
        }
        let before_ms = self.timeline.at(span.since).time_ms;
        for id in &span.ids {
            let before = self.timeline.record(*id, span.since);
            let before = before.map_or((State::None, 0), |record| {
                let (state, view) = record.view(*id, before_ms);
                (state, view.deadline_ms)
            });
            self.time.changed(node, *id, before, ledger)?;
        }
        self.limits.applied(node, span, &self.timeline, ledger)
    }

    /// Looks at the whole of a ledger.
    pub(crate) fn walk(&mut self, node: u64, ledger: &Ledger) -> Result<(), Violation> {
        for view in ledger.products_from(ProductId(0)) {
            self.conservation.look(node, ledger.index(), &view)?;
            self.oversell.look(node, ledger.index(), &view)?;
        }
        self.oversell.recount(node, ledger)
    }

    /// The run is over: what clients were told, added up.
    pub(crate) fn added_up(&mut self) -> [Result<(), Violation>; 3] {
        let calls = self.history.calls();
        [self.finality.finish(calls, &self.timeline), self.oversell.told(calls), self.limits.told(calls)]
    }

    /// What these judges have seen.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally { committed: self.timeline.top(), ..Tally::default() };
        for call in self.history.calls() {
            match call.heard.as_ref().map(|(_, reply)| reply.answer()) {
                None => tally.unanswered += 1,
                Some(answer) => {
                    let status = answer.and_then(|answer| answer.status());
                    let name = status.map_or("empty page".to_owned(), |status| format!("{status:?}"));
                    *tally.statuses.entry(name).or_default() += 1;
                }
            }
        }
        tally.checks = [
            ("conservation", self.conservation.checks),
            ("oversell", self.oversell.checks),
            ("linearizability", self.linearizability.checks),
            ("finality", self.finality.checks),
            ("outcome", self.outcome.checks),
            ("existence", self.existence.checks),
            ("limits", self.limits.checks),
            ("time", self.time.checks),
            ("replicas", self.replicas.checks),
            ("raft", self.raft.checks),
        ]
        .into();
        tally
    }
}
