//! The end of a run: all faults are over, and everything must come right within a bound.

use sluice_core::ledger::Ledger;
use sluice_protocol::ProductId;

use super::World;
use super::event::Event;
use super::process::BUDGET_MS_MAX;

/// The longest that a call may wait once all faults are over: its budget, its reply's way, and some grace.
pub(super) const WAIT_US_MAX: u64 = BUDGET_MS_MAX as u64 * 1000 + 5_000_000;
/// How long a cluster may take to settle: elections, retries, snapshots, replacements, then the longest hold.
const SETTLE_US_MAX: u64 = 240_000_000;
/// How often it is looked at.
const LOOK_US: u64 = 20_000;

impl World {
    /// Ends all faults and waits until everything has come right.
    pub(super) fn settle(&mut self) {
        let healed_us = self.now_us();
        self.trace.say(healed_us, || "all faults are over".to_owned());
        self.heal_faults();
        self.set_clocks();
        let until_us = healed_us + SETTLE_US_MAX;
        // First the cluster, then its clients: whoever asks a node that is about to go must not be counted.
        self.wait(until_us, Self::why_incomplete);
        let now_us = self.now_us();
        if self.plan.fills_up {
            self.workload.abandon();
        } else {
            // What was sent in this very microsecond may have met a fault yet.
            self.judges.healed(now_us + 1);
        }
        for (job, delay_us) in self.workload.heal() {
            self.schedule.after(delay_us, Event::Job(job));
        }
        self.wait(until_us, Self::why_unsettled);
        if self.failure.is_none() {
            self.look_at_quiet();
        }
    }

    /// Waits until there is no reason to wait any more.
    fn wait(&mut self, until_us: u64, why: impl Fn(&Self) -> Option<String>) {
        while self.failure.is_none() {
            let Some(reason) = why(self) else { return };
            if self.now_us() >= until_us {
                if self.plan.honest {
                    let s = SETTLE_US_MAX / 1_000_000;
                    self.fail("liveness", format!("not settled {s} s after all faults: {reason}"));
                }
                return;
            }
            self.run_until(self.now_us() + LOOK_US);
        }
    }

    /// Somebody sets all clocks right. Ledger time may have been carried ahead, and never goes back: right is not before
    /// it.
    fn set_clocks(&mut self) {
        let now_us = self.now_us();
        let ledger_ms = |host: &super::Host| host.process.as_ref().map(|process| process.replica.ledger().now_ms());
        let latest_ms = self.hosts.iter().filter_map(ledger_ms).max().unwrap_or(0);
        let right_ms = (crate::clock::START_MS + now_us / 1000).max(latest_ms);
        self.hosts.iter_mut().for_each(|host| host.clock.set(now_us, right_ms));
    }

    /// Why the cluster is not complete; `None` if it is.
    fn why_incomplete(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        if !self.operator.is_idle() && !self.plan.cut.no_operator {
            return Some(format!("the operator is not done: {}", self.operator.told()));
        }
        let members = self.hosts[leader].process.as_ref()?.replica.members();
        let member = |host: &&super::Host| members.contains(host.node) && host.alias == host.node;
        let down = self.hosts.iter().filter(member).find(|host| host.process.is_none());
        let excused = |host: &&super::Host| !(self.plan.cut.no_operator && !host.is_fit());
        down.filter(excused).map(|host| format!("member {} is down: {:?}", host.node, host.down))
    }

    /// Why it is not over; `None` if it is.
    fn why_unsettled(&self) -> Option<String> {
        if let Some(why) = self.why_incomplete() {
            return Some(why);
        }
        if !self.workload.is_done() {
            return Some(format!("clients are unsure: {:?}", self.workload.undone()));
        }
        let lead = self.hosts[self.leader()?].process.as_ref()?;
        let held = lead.replica.totals().held;
        if held > 0 {
            return Some(format!("{held} units are still held"));
        }
        let (index, members) = (lead.replica.ledger().index(), lead.replica.members());
        let member = |host: &&super::Host| members.contains(host.node) && host.alias == host.node;
        for host in self.hosts.iter().filter(member) {
            let Some(process) = &host.process else { continue };
            if !process.replica.is_quiet() {
                return Some(format!("node {} is not quiet", host.node));
            }
            let own = process.replica.ledger().index();
            if own != index {
                return Some(format!("node {} has applied {own}, the leader {index}", host.node));
            }
        }
        None
    }

    fn look_at_quiet(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(lead) = &self.hosts[leader].process else { return };
        let now_us = self.schedule.now_us();
        let members = lead.replica.members().clone();
        let serves = |host: &&super::Host| members.contains(host.node) && host.alias == host.node;
        let ledgers: Vec<(u64, &Ledger)> = self
            .hosts
            .iter()
            .filter(serves)
            .filter_map(|host| host.process.as_ref().map(|process| (host.node, process.replica.ledger())))
            .collect();
        for (_, ledger) in &ledgers {
            self.trace.take(ledger.digest());
        }
        let tokens: Vec<(u64, u64)> = lead.board.gate().map_or_else(Vec::new, |gate| {
            let limited = (1..=self.plan.products).filter(|product| {
                let standing = lead.replica.ledger().standing(ProductId(*product));
                standing.is_some_and(|standing| !standing.unlimited)
            });
            let free = limited.map(|product| {
                let lane = gate.lane(ProductId(product)).expect("every product has a lane");
                (product, lane.tokens.free())
            });
            free.collect()
        });
        self.trace.say(now_us, || format!("quiet at index {}", lead.replica.ledger().index()));
        let judged = self.judges.quiet(&ledgers, &tokens);
        self.heed(judged);
    }
}
