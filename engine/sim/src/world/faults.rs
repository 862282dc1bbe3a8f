//! What the nemesis does: each kind of fault, how it begins and how it ends.

use sluice_core::replica::disk::Members;

use super::World;
use super::event::Event;
use super::host::{Down, Temper};
use crate::coverage::Path;
use crate::disk::Place;
use crate::nemesis::{Fault, Who};
use crate::net::{Condition, End};

/// A step that is under way: whom it hit, and what it cut.
#[derive(Debug)]
pub(super) struct Active {
    step: usize,
    hosts: Vec<usize>,
    cuts: Vec<(End, End)>,
    /// Whether it holds the hosts still.
    paused: bool,
}

impl World {
    /// Hosts of members, each node once; the first is the one that a step means.
    fn members_from(&self, who: Who) -> Vec<usize> {
        let serves = |host: &usize| {
            let host = &self.hosts[*host];
            host.alias == host.node && self.directory.contains(&host.node)
        };
        let mut hosts: Vec<usize> = (0..self.hosts.len()).filter(serves).collect();
        if hosts.is_empty() {
            return hosts;
        }
        let by = match who {
            Who::Leader => self.leader().and_then(|leader| hosts.iter().position(|host| *host == leader)),
            Who::Voter(number) => Some(number as usize % hosts.len()),
        };
        hosts.rotate_left(by.unwrap_or(0));
        hosts
    }

    /// Voters that could serve again if all faults ended now.
    fn fit_voters(&self) -> usize {
        let fit = |node: &&u64| {
            // A harmed disk may be refused when it is opened next.
            let sound =
                |host: &&super::Host| !host.is_forgetful && (!host.disk.is_harmed || host.process.is_some());
            self.hosts.iter().filter(sound).any(|host| host.alias == **node && host.is_fit())
        };
        self.members.1.voters.iter().filter(fit).count()
    }

    /// Whether a disk may be destroyed: a quorum must be left, also of a half of a joint membership.
    fn may_destroy(&self, host: usize) -> bool {
        let voters = self.members.1.voters.len();
        let spare = self.fit_voters().saturating_sub(voters / 2 + 1);
        !self.plan.honest || (spare > 0 && self.members.1.outgoing.is_empty() && self.hosts[host].is_fit())
    }

    pub(super) fn begin_fault(&mut self, number: usize) {
        if self.is_healed {
            return;
        }
        let now_us = self.now_us();
        let step = self.steps[number].clone();
        self.trace.event(now_us, 8, number as u64);
        self.trace.say(now_us, || format!("step {number}: {:?} for {} ms", step.fault, step.for_us / 1000));
        let mut active = Active { step: number, hosts: Vec::new(), cuts: Vec::new(), paused: false };
        self.inflict(&step.fault, step.for_us, &mut active);
        self.active.push(active);
        self.schedule.after(step.for_us, Event::FaultOver(number));
    }

    fn inflict(&mut self, fault: &Fault, for_us: u64, active: &mut Active) {
        match *fault {
            Fault::Crash(who) | Fault::Stop(who) | Fault::Pause(who) | Fault::Ticks(who, _) => {
                let Some(host) = self.members_from(who).first().copied() else { return };
                self.halt(fault, host, active);
            }
            Fault::CrashMany(count) => {
                self.coverage.hit(Path::CrashAll);
                for host in self.members_from(Who::Leader).into_iter().take(count as usize) {
                    self.halt(&Fault::Crash(Who::Leader), host, active);
                }
            }
            Fault::Rolling | Fault::Flap(..) => {
                self.coverage.hit(if *fault == Fault::Rolling { Path::Rolling } else { Path::Flapping });
                self.schedule.after(0, Event::FaultGoesOn { step: active.step, round: 0 });
            }
            Fault::Partition(who, count) => self.partition(who, count, active),
            Fault::OneWay(who, hears) => {
                self.coverage.hit(Path::OneWay);
                let hosts = self.members_from(who);
                let Some((first, others)) = hosts.split_first() else { return };
                for other in others {
                    let (from, to) = if hears { (*first, *other) } else { (*other, *first) };
                    self.cut(End::Host(from), End::Host(to), active);
                }
            }
            Fault::Net(condition) => {
                self.coverage.hit(Path::BadNet);
                self.net.between_hosts(condition);
            }
            Fault::Clients(condition) => {
                self.coverage.hit(Path::BadClients);
                self.net.with_clients(condition);
            }
            Fault::Link(who, condition) => {
                self.coverage.hit(Path::SlowLink);
                self.links(who, Some(condition), active);
            }
            Fault::Stale => self.make_stale(for_us, active),
            Fault::Transfer => self.transfer(),
            Fault::Snapshot(who) => {
                self.coverage.hit(Path::SnapshotAsked);
                if let Some(host) = self.members_from(who).first().copied() {
                    self.guard(host, |process| process.replica.want_snapshot());
                    self.turn_soon(host);
                }
            }
            Fault::Jump(who, _) | Fault::Drift(who, _) => self.set_clock(fault, who),
            Fault::SlowDisk(who, _)
            | Fault::DiskError(who)
            | Fault::DiskFull(who)
            | Fault::SnapshotError(who)
            | Fault::Lie(who) => {
                let Some(host) = self.members_from(who).first().copied() else { return };
                active.hosts.push(host);
                self.spoil(fault, host, for_us);
            }
            Fault::Rot(who, _) | Fault::Wipe(who) | Fault::Rollback(who) | Fault::Clone(who) => {
                let Some(host) = self.members_from(who).first().copied() else { return };
                self.destroy(fault, host, active);
            }
        }
    }

    fn set_clock(&mut self, fault: &Fault, who: Who) {
        let Some(host) = self.members_from(who).first().copied() else { return };
        let now_us = self.now_us();
        let path = match *fault {
            Fault::Drift(_, ppm) => {
                self.hosts[host].clock.drift(now_us, ppm);
                Path::ClockDrift
            }
            Fault::Jump(_, by_ms) => {
                self.hosts[host].clock.jump(by_ms);
                Path::ClockJump
            }
            _ => return,
        };
        self.coverage.hit(path);
    }

    /// A process dies, stops, stands still, or leaps.
    fn halt(&mut self, fault: &Fault, host: usize, active: &mut Active) {
        let (path, holds, pauses) = match fault {
            Fault::Crash(_) => (Path::Crash, 1, 0),
            Fault::Stop(_) => (Path::Stop, 1, 0),
            Fault::Ticks(..) => (Path::TickBurst, 0, 0),
            _ => (Path::Pause, 0, 1),
        };
        self.coverage.hit(path);
        active.hosts.push(host);
        active.paused |= pauses > 0;
        self.hosts[host].holds += holds;
        self.hosts[host].pauses += pauses;
        match *fault {
            Fault::Crash(_) => self.kill(host),
            Fault::Stop(_) => self.stop(host),
            Fault::Ticks(_, ticks) if !self.hosts[host].is_paused() => self.tick(host, ticks),
            _ => {}
        }
    }

    fn partition(&mut self, who: Who, count: u64, active: &mut Active) {
        self.coverage.hit(if who == Who::Leader { Path::LeaderAlone } else { Path::Partition });
        let hosts = self.members_from(who);
        let (cut_off, others) = hosts.split_at((count as usize).min(hosts.len()));
        for one in cut_off {
            for other in others {
                self.cut(End::Host(*one), End::Host(*other), active);
                self.cut(End::Host(*other), End::Host(*one), active);
            }
        }
        // Half of the time its clients are cut off with it.
        if self.random.chance(1, 2) {
            for client in 0..self.plan.clients / 2 {
                for one in cut_off {
                    self.cut(End::Client(client), End::Host(*one), active);
                    self.cut(End::Host(*one), End::Client(client), active);
                }
            }
        }
    }

    fn cut(&mut self, from: End, to: End, active: &mut Active) {
        self.net.cut(from, to);
        active.cuts.push((from, to));
    }

    fn links(&mut self, who: Who, condition: Option<Condition>, active: &mut Active) {
        let hosts = self.members_from(who);
        let Some((first, others)) = hosts.split_first() else { return };
        for other in others {
            active
                .cuts
                .extend([(End::Host(*first), End::Host(*other)), (End::Host(*other), End::Host(*first))]);
        }
        for (from, to) in &active.cuts {
            self.net.link(*from, *to, condition);
        }
    }

    /// What is sent to the leader from now on arrives when the step is over; the leader itself wakes up a little before.
    fn make_stale(&mut self, for_us: u64, active: &mut Active) {
        let Some(leader) = self.leader() else { return };
        self.coverage.hit(Path::Stale);
        let late = Condition { delay_us: (for_us, for_us), ..Condition::CALM };
        let hosts = self.members_from(Who::Leader);
        for other in hosts.into_iter().filter(|other| *other != leader) {
            self.net.link(End::Host(other), End::Host(leader), Some(late));
            active.cuts.push((End::Host(other), End::Host(leader)));
        }
        // A round may be under way whose answers are late now.
        let asleep_us = self.random.between(1000, 40_000);
        let awake_us = for_us - self.random.below(for_us / 3);
        self.schedule.after(asleep_us, Event::FaultGoesOn { step: active.step, round: 0 });
        self.schedule.after(awake_us, Event::FaultGoesOn { step: active.step, round: 1 });
        active.hosts.push(leader);
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        let node = self.hosts[leader].node;
        let others: Vec<u64> = self.members.1.voters.iter().copied().filter(|other| *other != node).collect();
        if others.is_empty() {
            return;
        }
        let to = *self.random.pick(&others);
        let begun = self.guard(leader, |process| process.replica.transfer_leadership(to).is_ok());
        if begun == Some(true) {
            self.coverage.hit(Path::Transferred);
        }
        self.turn_soon(leader);
    }

    /// A disk is slow, full, fails, or lies.
    fn spoil(&mut self, fault: &Fault, host: usize, for_us: u64) {
        let until_us = self.now_us() + for_us;
        let temper = &mut self.hosts[host].temper;
        let path = match *fault {
            Fault::SlowDisk(_, 0) => {
                temper.stalled_until_us = until_us;
                Path::SlowDisk
            }
            Fault::SlowDisk(_, factor) => {
                temper.slow = factor;
                Path::SlowDisk
            }
            Fault::DiskError(_) => {
                temper.fails = true;
                Path::DiskError
            }
            Fault::DiskFull(_) => {
                temper.is_full = true;
                Path::DiskFull
            }
            Fault::SnapshotError(_) => {
                temper.no_snapshots = true;
                Path::SnapshotError
            }
            _ => {
                self.hosts[host].disk.lie(true);
                self.hosts[host].is_forgetful = true;
                Path::Lie
            }
        };
        self.coverage.hit(path);
    }

    /// A disk forgets what it had synced.
    fn destroy(&mut self, fault: &Fault, host: usize, active: &mut Active) {
        if !self.may_destroy(host) {
            return;
        }
        let path = match *fault {
            Fault::Rot(_, place) => {
                let place = match place {
                    0..4 => Place::Log,
                    4 => Place::Snapshot,
                    5 => Place::BothSnapshots,
                    _ => Place::Fence,
                };
                self.halt(&Fault::Crash(Who::Leader), host, active);
                let mut random = self.hosts[host].random.fork("rot", active.step as u64);
                self.hosts[host].disk.rot(place, &mut random);
                Path::Rot
            }
            Fault::Wipe(_) => {
                self.halt(&Fault::Crash(Who::Leader), host, active);
                let mut disk = self.new_disk(self.hosts[host].node, Members::default());
                disk.incarnation ^= 1 + active.step as u64;
                self.hosts[host].disk = disk;
                self.hosts[host].is_forgetful = true;
                self.judges.events_taken(self.hosts[host].alias);
                Path::Wipe
            }
            Fault::Rollback(_) => {
                self.halt(&Fault::Crash(Who::Leader), host, active);
                let at = self.random.below(self.hosts[host].copies.len() as u64) as usize;
                let Some(copy) = self.hosts[host].copies.get(at).cloned() else { return };
                self.hosts[host].disk = copy;
                self.judges.events_taken(self.hosts[host].alias);
                self.hosts[host].is_forgetful = true;
                Path::Rollback
            }
            _ => {
                let node = self.hosts[host].node;
                let twin = self.add_host(node, Members::default());
                self.hosts[twin].disk = self.hosts[host].disk.clone();
                self.hosts[twin].alias = node + 1000 * (twin as u64 + 1);
                self.hosts[twin].is_forgetful = true;
                self.hosts[host].is_forgetful = true;
                self.schedule.after(1000, Event::Start { host: twin });
                Path::Clone
            }
        };
        self.coverage.hit(path);
    }

    pub(super) fn continue_fault(&mut self, number: usize, round: u64) {
        let Some(at) = self.active.iter().position(|active| active.step == number) else { return };
        let mut active = self.active.swap_remove(at);
        match self.steps[number].fault {
            Fault::Flap(who, period_ms) => {
                if round.is_multiple_of(2) {
                    let hosts = self.members_from(who);
                    for other in hosts.iter().skip(1) {
                        self.cut(End::Host(hosts[0]), End::Host(*other), &mut active);
                        self.cut(End::Host(*other), End::Host(hosts[0]), &mut active);
                    }
                } else {
                    self.mend(&mut active);
                }
                self.schedule.after(period_ms * 1000, Event::FaultGoesOn { step: number, round: round + 1 });
            }
            Fault::Stale if round == 0 => {
                active.hosts.iter().for_each(|host| self.hosts[*host].pauses += 1);
                active.paused = true;
            }
            Fault::Stale => self.wake(&mut active),
            Fault::Rolling => {
                self.release(&mut active);
                let hosts = self.members_from(Who::Voter(round));
                if round < hosts.len() as u64 {
                    self.halt(&Fault::Stop(Who::Voter(round)), hosts[0], &mut active);
                    let next_us = (self.steps[number].for_us / 4).max(500_000);
                    self.schedule.after(next_us, Event::FaultGoesOn { step: number, round: round + 1 });
                }
            }
            _ => {}
        }
        self.active.push(active);
    }

    /// Lets processes go on that were held still.
    fn wake(&mut self, active: &mut Active) {
        if !std::mem::take(&mut active.paused) {
            return;
        }
        for host in &active.hosts {
            self.hosts[*host].pauses -= 1;
            if !self.hosts[*host].is_paused() {
                self.resume(*host);
            }
        }
    }

    fn mend(&mut self, active: &mut Active) {
        for (from, to) in active.cuts.drain(..) {
            self.net.mend(from, to);
        }
    }

    /// Lets go of processes that were held down, and starts them.
    fn release(&mut self, active: &mut Active) {
        for host in active.hosts.drain(..) {
            self.kill(host);
            self.hosts[host].holds = self.hosts[host].holds.saturating_sub(1);
            self.schedule.after(1000, Event::Start { host });
        }
    }

    pub(super) fn end_fault(&mut self, number: usize) {
        let Some(at) = self.active.iter().position(|active| active.step == number) else { return };
        let mut active = self.active.swap_remove(at);
        let now_us = self.now_us();
        self.trace.event(now_us, 9, number as u64);
        self.trace.say(now_us, || format!("step {number} is over"));
        match self.steps[number].fault.clone() {
            Fault::Crash(_)
            | Fault::Stop(_)
            | Fault::CrashMany(_)
            | Fault::Rolling
            | Fault::Rot(..)
            | Fault::Wipe(_)
            | Fault::Rollback(_) => self.release(&mut active),
            Fault::Pause(_) => self.wake(&mut active),
            Fault::Stale => {
                self.wake(&mut active);
                active.cuts.iter().for_each(|(from, to)| self.net.link(*from, *to, None));
            }
            Fault::Partition(..) | Fault::OneWay(..) | Fault::Flap(..) => self.mend(&mut active),
            Fault::Net(_) => self.net.between_hosts(Condition::CALM),
            Fault::Clients(_) => self.net.with_clients(Condition::CALM),
            Fault::Link(..) => active.cuts.iter().for_each(|(from, to)| self.net.link(*from, *to, None)),
            Fault::SlowDisk(..) | Fault::DiskError(_) | Fault::DiskFull(_) | Fault::SnapshotError(_) => {
                active.hosts.iter().for_each(|host| self.hosts[*host].temper = Temper::default());
            }
            Fault::Lie(_) => {
                for host in &active.hosts {
                    self.kill(*host);
                    self.hosts[*host].disk.lie(false);
                }
                active.hosts.iter().for_each(|host| {
                    self.schedule.after(1000, Event::Start { host: *host });
                });
            }
            _ => {}
        }
    }

    /// All faults are over.
    pub(super) fn heal_faults(&mut self) {
        self.is_healed = true;
        for step in self.active.iter().map(|active| active.step).collect::<Vec<_>>() {
            self.end_fault(step);
        }
        self.net.heal();
        for host in 0..self.hosts.len() {
            self.hosts[host].temper = Temper::default();
            self.hosts[host].holds = 0;
            if self.hosts[host].down == Down::Stopped {
                self.schedule.after(1000, Event::Start { host });
            }
        }
    }
}
