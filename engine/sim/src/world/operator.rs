//! Who changes the membership: replaces nodes whose disks are lost, and, in some runs, lets the cluster grow and shrink
//! for no reason.
//!
//! He looks at the membership of whoever leads, does the next thing towards his goal, and tries again later when he is
//! refused: that is all an operator can do, and enough.

use sluice_core::replica::disk::Members;
use sluice_core::replica::membership::{Change, ChangeError};

use super::World;
use super::event::Event;
use super::host::Down;
use crate::coverage::Path;
use crate::plan::Plan;
use crate::random::Random;

/// How often he looks.
const LOOK_US: u64 = 300_000;
/// How long he waits for what becomes of a change.
const WAIT_US: u64 = 8_000_000;

/// What he wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// A new voter.
    Grow { new: u64 },
    /// One voter less.
    Shrink { old: u64 },
    /// A new voter in an old one's place.
    Replace { old: u64, new: u64 },
    /// A learner comes and goes.
    Visit { new: u64 },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Operator {
    random: Random,
    goal: Option<Goal>,
    /// The change under way: its ticket, what it is, and when it was asked for.
    asked: Option<(u64, Change, u64)>,
    ticket: u64,
    next_node: u64,
}

impl Operator {
    pub(super) fn new(plan: &Plan) -> Self {
        let next_node = plan.voters + 1;
        Self { random: plan.random("operator", 0), goal: None, asked: None, ticket: 0, next_node }
    }

    /// What he is about, for people.
    pub(super) fn told(&self) -> String {
        format!("{:?}, asked {:?}", self.goal, self.asked)
    }

    /// Whether he has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.goal.is_none()
    }
}

impl World {
    pub(super) fn operate(&mut self) {
        self.schedule.after(LOOK_US, Event::Operator);
        let now_us = self.now_us();
        if self.plan.cut.no_operator {
            return;
        }
        if self.operator.asked.is_some_and(|(.., since_us)| now_us < since_us + WAIT_US) {
            return;
        }
        self.operator.asked = None;
        let Some(leader) = self.leader() else { return };
        let Some(process) = &self.hosts[leader].process else { return };
        let members = process.replica.members().clone();
        if self.operator.goal.is_none() {
            self.operator.goal = self.new_goal(&members);
            let goal = self.operator.goal;
            if let Some(goal) = goal {
                self.trace.say(now_us, || format!("the operator wants {goal:?}"));
            }
        }
        let Some(goal) = self.operator.goal else { return };
        match self.next_change(goal, &members, leader) {
            Some(change) => self.ask(leader, change),
            None if is_reached(goal, &members) => {
                self.operator.goal = None;
                self.retire_removed(&members);
            }
            None => {}
        }
    }

    /// A voter that can never serve again is replaced; otherwise there is a whim now and then.
    fn new_goal(&mut self, members: &Members) -> Option<Goal> {
        let lost = |node: &&u64| {
            let mut hosts = self.hosts.iter().filter(|host| host.alias == **node);
            hosts.all(|host| host.process.is_none() && host.holds == 0 && !host.is_fit())
        };
        if let Some(old) = members.voters.iter().find(lost).copied() {
            return Some(Goal::Replace { old, new: self.new_node() });
        }
        if self.is_healed || !self.plan.changes || !self.operator.random.chance(1, 60) {
            return None;
        }
        let old = *self.operator.random.pick(&members.voters);
        let voters = members.voters.len();
        match self.operator.random.below(4) {
            0 if voters < 5 => Some(Goal::Grow { new: self.new_node() }),
            1 if voters > 3 => Some(Goal::Shrink { old }),
            2 => Some(Goal::Visit { new: self.new_node() }),
            _ if voters > 1 => Some(Goal::Replace { old, new: self.new_node() }),
            _ => Some(Goal::Grow { new: self.new_node() }),
        }
    }

    /// A machine for a node that there never was.
    fn new_node(&mut self) -> u64 {
        let node = self.operator.next_node;
        self.operator.next_node += 1;
        let host = self.add_host(node, Members::default());
        self.schedule.after(1000, Event::Start { host });
        node
    }

    fn next_change(&mut self, goal: Goal, members: &Members, leader: usize) -> Option<Change> {
        let learns = |node: u64| members.learners.contains(&node);
        let votes = |node: u64| members.voters.contains(&node);
        let incarnation = |node: u64| {
            self.hosts.iter().find(|host| host.node == node).map_or(0, |host| host.disk.incarnation)
        };
        let known = |node: u64| members.contains(node) || members.removed.contains(&node);
        match goal {
            Goal::Grow { new } | Goal::Replace { new, .. } | Goal::Visit { new } if !known(new) => {
                Some(Change::AddLearner { node: new, incarnation: incarnation(new) })
            }
            Goal::Grow { new } if learns(new) => Some(Change::Promote { node: new }),
            Goal::Visit { new } if learns(new) => Some(Change::Remove { node: new }),
            Goal::Shrink { old } | Goal::Replace { old, .. }
                if votes(old) && self.hosts[leader].node == old =>
            {
                let running = self.running();
                let able = |node: &&u64| **node != old && running.contains(node);
                let others: Vec<u64> = members.voters.iter().filter(able).copied().collect();
                if others.is_empty() {
                    return None;
                }
                let to = *self.operator.random.pick(&others);
                self.guard(leader, |process| process.replica.transfer_leadership(to).is_ok());
                self.turn_soon(leader);
                None
            }
            Goal::Shrink { old } if votes(old) && members.voters.len() > 1 => {
                Some(Change::Remove { node: old })
            }
            Goal::Replace { old, new } if learns(new) && votes(old) => {
                Some(Change::Replace { node: old, by: new })
            }
            Goal::Replace { old, new } if learns(new) && !votes(old) => Some(Change::Promote { node: new }),
            Goal::Replace { old, new } if votes(new) && votes(old) => Some(Change::Remove { node: old }),
            _ => None,
        }
    }

    fn ask(&mut self, leader: usize, change: Change) {
        let now_us = self.now_us();
        self.operator.ticket += 1;
        let ticket = self.operator.ticket;
        self.operator.asked = Some((ticket, change, now_us));
        self.trace.say(now_us, || format!("the operator asks for {change:?}"));
        self.guard(leader, |process| process.replica.change_members(ticket, change));
        self.turn_soon(leader);
    }

    /// What became of a change.
    pub(super) fn changed(&mut self, ticket: u64, what: Result<u64, ChangeError>) {
        let now_us = self.now_us();
        let Some((_, change, _)) = self.operator.asked.take_if(|(asked, ..)| *asked == ticket) else {
            return;
        };
        self.trace.say(now_us, || format!("the operator hears of {change:?}: {what:?}"));
        let path = match (what, change) {
            (Err(_), _) => Path::ChangeRefused,
            (Ok(_), Change::AddLearner { .. }) => Path::Added,
            (Ok(_), Change::Promote { .. }) => Path::Promoted,
            (Ok(_), Change::Remove { .. }) => Path::Removed,
            (Ok(_), Change::Replace { .. }) => Path::Replaced,
        };
        self.coverage.hit(path);
        if matches!(path, Path::Promoted | Path::Replaced) && self.workload.is_loaded() {
            self.coverage.hit(Path::PromotedUnderLoad);
        }
    }

    /// Machines of nodes that are members no more are switched off, unless they find out by themselves.
    pub(super) fn retire_removed(&mut self, members: &Members) {
        for number in 0..self.hosts.len() {
            let host = &self.hosts[number];
            if members.removed.contains(&host.node) && host.process.is_none() {
                self.kill(number);
                self.hosts[number].down = Down::Retired;
            }
        }
    }
}

fn is_reached(goal: Goal, members: &Members) -> bool {
    let joint = !members.outgoing.is_empty();
    let removed = |node: u64| members.removed.contains(&node);
    let votes = |node: u64| members.voters.contains(&node);
    !joint
        && match goal {
            Goal::Grow { new } => votes(new) || removed(new),
            Goal::Shrink { old } => removed(old) || members.voters.len() <= 1,
            Goal::Replace { old, new } => (votes(new) || removed(new)) && removed(old),
            Goal::Visit { new } => removed(new),
        }
}
