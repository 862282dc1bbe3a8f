//! The end of a run: all faults are over, and everything must come right within a bound.

use sluice_core::ledger::Ledger;
use sluice_core::replica::disk::Members;
use sluice_protocol::ProductId;

use super::World;
use super::event::Event;
use super::process::BUDGET_MS_MAX;

/// The longest that a call may wait once all faults are over: its budget, its reply's way, and some grace.
pub(super) const WAIT_US_MAX: u64 = BUDGET_MS_MAX as u64 * 1000 + 5_000_000;
/// How long a cluster may take to settle: elections, retries, snapshots, replacements, then the longest hold.
const SETTLE_US_MAX: u64 = 300_000_000;
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
        self.workload.consumers.heal();
        for (job, delay_us) in self.workload.heal() {
            self.schedule.after(delay_us, Event::Job(job));
        }
        self.wait(until_us, Self::why_unsettled);
        self.look_at_quiet();
        self.probe(until_us);
        self.look_at_quiet();
    }

    /// Whatever is free can be bought, all of it at once, wherever its tokens lie.
    fn probe(&mut self, until_us: u64) {
        if self.failure.is_some() || self.plan.fills_up || !self.plan.honest {
            return;
        }
        let Some(lead) = self.leader().and_then(|leader| self.hosts[leader].process.as_ref()) else { return };
        let ledger = lead.replica.ledger();
        let free: Vec<(u64, u32)> = (1..=self.plan.products)
            .filter_map(|product| {
                let standing = ledger.standing(ProductId(product))?;
                let units = match standing.per_user_limit {
                    0 => standing.free,
                    limit => standing.free.min(u64::from(limit)),
                };
                (units > 0 && !standing.unlimited).then_some((product, units as u32))
            })
            .collect();
        let node = lead.board.leader();
        let jobs = self.workload.probe(&free, node, &mut self.plan.random("probe", 0));
        for job in jobs {
            self.schedule.after(1, Event::Job(job));
        }
        self.wait(until_us, Self::why_unsettled);
        if self.workload.probes_again > 0 {
            let what = format!(
                "all was quiet, {free:?} (product, units) were free, and not all could be had at once"
            );
            self.fail("gate", what);
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
        let right_ms = (crate::clock::START_MS + now_us / 1000).max(self.ledger_ms);
        self.ahead_ms = right_ms - (crate::clock::START_MS + now_us / 1000);
        self.hosts.iter_mut().for_each(|host| host.clock.set(now_us, right_ms));
    }

    /// Why the cluster is not complete; `None` if it is.
    fn why_incomplete(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        if !self.operator.is_idle() && !self.plan.cut.no_operator {
            return Some(format!("the operator is not done: {}", self.operator.told()));
        }
        let members = self.hosts[leader].process.as_ref()?.replica.members();
        // One that only learned hears of nobody any more, and never asks; nor can anybody be asked who is gone himself.
        let is_told = |own: &Members| {
            own.voters.iter().any(|node| members.voters.contains(node)) && !own.voters.is_empty()
        };
        let removed = |host: &&super::Host| {
            let own = host.process.as_ref().map(|process| &process.members);
            let votes = own.is_some_and(|own| own.voters.contains(&host.node) && is_told(own));
            votes && members.removed.contains(&host.node)
        };
        if let Some(host) = self.hosts.iter().find(removed) {
            return Some(format!("node {} was removed and still runs", host.node));
        }
        let member = |host: &&super::Host| members.contains(host.node) && host.alias == host.node;
        let down = self.hosts.iter().filter(member).find(|host| host.process.is_none());
        let excused = |host: &&super::Host| !self.plan.cut.no_operator || host.is_fit();
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
            if !process.is_quiet() {
                return Some(format!("node {} is not quiet", host.node));
            }
            let own = process.replica.ledger().index();
            if own != index {
                return Some(format!("node {} has applied {own}, the leader {index}", host.node));
            }
        }
        self.why_behind(self.leader()?)
    }

    fn look_at_quiet(&mut self) {
        if self.failure.is_some() {
            return;
        }
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
        if self.workload.consumers.len() > 0 {
            let judged = self.judges.consumed(self.workload.consumers.tables());
            self.heed(judged);
        }
    }
}
