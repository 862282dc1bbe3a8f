//! What the judges are told of a process after each of its turns, and which rare paths it took.

use sluice_core::replica::Divergence;
use sluice_protocol::ProductId;

use super::World;
use crate::coverage::Path;

impl World {
    /// Looks at what a turn has changed.
    pub(super) fn watch(&mut self, number: usize) {
        self.watch_applies(number);
        self.watch_leadership(number);
        self.watch_gate(number);
    }

    fn watch_applies(&mut self, number: usize) {
        let loaded = self.is_loaded(number);
        let now_us = self.now_us();
        let (alias, node) = (self.hosts[number].alias, self.hosts[number].node);
        let Some(process) = &mut self.hosts[number].process else { return };
        if std::mem::take(&mut process.truncated) {
            self.coverage.hit(Path::Truncated);
        }
        if process.told >= process.replica.ledger().index() {
            return;
        }
        // Only the last one's members are known; entries behind it are committed by those.
        let changed_at = process.last_change();
        let members = process.replica.members().clone();
        while let Some(entry) = process.next_applied() {
            if !process.leads && process.terms_led.contains(&entry.term) {
                self.coverage.hit(Path::LateCommit);
            }
            if let Err(violation) = self.judges.applied(alias, &entry, process.replica.ledger()) {
                return self.fail(violation.checker, violation.what);
            }
            if entry.index == changed_at && changed_at > self.members.0 {
                self.judges.members(changed_at, &members);
                self.directory = members.voters.clone();
                self.members = (changed_at, members.clone());
            }
        }
        self.ledger_ms = self.ledger_ms.max(process.replica.ledger().now_ms());
        let index = process.replica.ledger().index();
        if process.told < index {
            process.told = index;
            self.coverage.hit(Path::Installed);
            if loaded || self.workload.is_loaded() {
                self.coverage.hit(Path::InstalledUnderLoad);
            }
            self.trace.say(now_us, || format!("node {node} installs a snapshot, up to index {index}"));
            if let Err(violation) = self.judges.installed(alias, index, process.replica.ledger()) {
                return self.fail(violation.checker, violation.what);
            }
        }
        if members != process.members {
            self.trace.say(now_us, || format!("node {node} applies at {index} the membership {members:?}"));
            process.members = members;
        }
    }

    fn watch_leadership(&mut self, number: usize) {
        let loaded = self.is_loaded(number);
        let now_us = self.now_us();
        let (alias, node) = (self.hosts[number].alias, self.hosts[number].node);
        let Some(process) = &mut self.hosts[number].process else { return };
        let status = process.replica.status();
        let leads = status.leader == node;
        let watching = process.is_in_doubt();
        if status.digests.compared > process.compared {
            process.compared = status.digests.compared;
            self.coverage.hit(Path::Compared);
        }
        let before = std::mem::replace(&mut process.asks, status.asks);
        for (is_new, path) in [
            (status.asks.answered > before.answered, Path::FollowerRead),
            (status.asks.repeated > before.repeated, Path::AskRepeated),
            (status.asks.redirected > before.redirected, Path::AskRedirected),
        ] {
            if is_new {
                self.coverage.hit(path);
            }
        }
        if leads && process.terms_led.last() != Some(&status.term) {
            process.terms_led.push(status.term);
            self.coverage.hit(Path::Elected);
            self.trace.say(now_us, || format!("node {node} leads term {}", status.term));
            if let Err(violation) = self.judges.became_leader(alias, status.term) {
                return self.fail(violation.checker, violation.what);
            }
        }
        if process.leads && !leads {
            self.trace.say(now_us, || format!("node {node} leads no more, in term {}", status.term));
            if loaded {
                self.coverage.hit(Path::DeposedInFlight);
            }
            if watching || process.had_doubts {
                self.coverage.hit(Path::DoubtAcrossTerms);
            }
        }
        process.had_doubts = watching;
        process.leads = leads;
    }

    /// A replica says that another one differs. Where disks lie, it may.
    pub(super) fn diverged(&mut self, number: usize, found: &Divergence) {
        if self.plan.honest {
            self.fail("digests", format!("node {} finds {found:x?}", self.hosts[number].node));
        }
    }

    fn watch_gate(&mut self, number: usize) {
        let Some(process) = &self.hosts[number].process else { return };
        let alias = self.hosts[number].alias;
        let Some(gate) = process.board.gate() else { return };
        let quiet =
            process.is_settled() && process.is_quiet() && process.desks.iter().all(|desk| desk.away() == 0);
        for product in 1..=self.plan.products {
            let Some(lane) = gate.lane(ProductId(product)) else { continue };
            let Some(standing) = process.replica.ledger().standing(ProductId(product)) else { continue };
            if standing.unlimited {
                continue;
            }
            let tokens = lane.tokens.free();
            if let Err(violation) = self.judges.gate(alias, product, tokens, standing.free) {
                return self.fail(violation.checker, violation.what);
            }
            // A unit that is stranded is noticed as soon as nothing is in flight, not at the end only.
            if quiet && tokens != standing.free {
                let (free, debt) = (standing.free, lane.tokens.debt());
                let what = format!(
                    "node {alias} has nothing in flight, {tokens} tokens and a debt of {debt} for {free} free units of product {product}"
                );
                return self.fail("gate", what);
            }
        }
    }

    /// The host whose process leads, if one does and its gate is open: of several the one of the latest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |host: &usize| {
            let process = self.hosts[*host].process.as_ref()?;
            let status = process.replica.status();
            (process.leads && status.open).then_some((status.term, *host))
        };
        (0..self.hosts.len()).filter_map(|host| leads(&host)).max().map(|(_, host)| host)
    }
}
