//! Invariant 3 once more, for small runs: is there any order of the calls, each between its request and its answer, in
//! which a single naive server would have given these answers? (Wing and Gong, 1993; with Lowe's memory of what was tried.)
//!
//! It looks neither at the index of an answer nor at sequences, so that this evidence is not trusted; the time in an
//! answer serves only to tell which holds were over. Calls that were not answered may have happened at any time after they
//! were sent, or never; where one stands in the log, that tells what time it was. One search for each set of products
//! and ids that hang together.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use sluice_core::ledger::settings::Settings;
use sluice_protocol::{Answer, Status};

use super::Violation;
use super::sequential::{Op, after};
use super::setup::violation;
use crate::history::{Ask, Call, Command};
use crate::model::{State, Timeline};

/// A set of more calls is not searched.
const OPS_MAX: usize = 400;
/// Steps after which a search is given up, undecided.
const STEPS_MAX: usize = 200_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Search {
    /// Sets of calls for which an order was found.
    pub checks: u64,
    /// Sets that were too large, or took too long.
    pub undecided: u64,
}

/// What belongs together: products and ids, by name.
#[derive(Debug, Default)]
struct Groups {
    parents: BTreeMap<Name, Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Product(u64),
    Id(u128),
}

impl Groups {
    fn find(&self, mut name: Name) -> Name {
        while let Some(parent) = self.parents.get(&name) {
            name = *parent;
        }
        name
    }

    fn join(&mut self, one: Name, other: Name) {
        let (one, other) = (self.find(one), self.find(other));
        if one != other {
            self.parents.insert(one.max(other), one.min(other));
        }
    }
}

/// A call's name; pages, which read all products at once, have none.
fn name(ask: &Ask) -> Option<Name> {
    ask.product().map(Name::Product).or(ask.id().map(Name::Id))
}

impl Search {
    /// Searches all sets of a run.
    ///
    /// # Errors
    /// [`Violation`] if for one of them there is no such order.
    pub fn run(&mut self, calls: &[Call], timeline: &Timeline, settings: Settings) -> Result<(), Violation> {
        // The naive server never forgets.
        let mut times = (1..=timeline.top()).map(|index| timeline.at(index).time_ms).filter(|ms| *ms != 0);
        let began_ms = times.next().unwrap_or(0);
        if timeline.at(timeline.top()).time_ms - began_ms >= settings.retention_ms {
            self.undecided += 1;
            return Ok(());
        }
        let mut groups = Groups::default();
        for call in calls {
            if let (Some(product), Some(id)) = (call.ask.product(), call.ask.id()) {
                groups.join(Name::Product(product), Name::Id(id));
            }
        }
        let mut sets: BTreeMap<Name, Vec<Op>> = BTreeMap::new();
        let mut places = Places::new(calls, timeline);
        for call in calls {
            let Some(name) = name(&call.ask) else { continue };
            if let Some(op) = places.op(call) {
                sets.entry(groups.find(name)).or_default().push(op);
            }
        }
        for (name, ops) in sets {
            self.set(name, ops, settings)?;
        }
        Ok(())
    }

    fn set(&mut self, name: Name, ops: Vec<Op>, settings: Settings) -> Result<(), Violation> {
        if ops.len() > OPS_MAX {
            self.undecided += 1;
            return Ok(());
        }
        let mut order = Order { ops, tried: BTreeSet::new(), steps: 0, deepest: 0, stuck: Vec::new() };
        let mut done = vec![false; order.ops.len()];
        match order.search(&mut done, 0, &State::unnumbered(settings)) {
            Some(true) => self.checks += 1,
            None => self.undecided += 1,
            Some(false) => {
                let stuck: Vec<_> = order.stuck.iter().take(4).map(|op| order.ops[*op].to_string()).collect();
                return violation!(
                    "search",
                    "no order explains the {} calls around {name:?}; after {} of them none of these can follow: {}",
                    order.ops.len(),
                    order.deepest,
                    stuck.join("; ")
                );
            }
        }
        Ok(())
    }
}

/// Where the log has what each call asked for. What time it was is believed of calls that were not answered; the place is
/// only where to try a call first, and decides nothing.
#[derive(Debug)]
struct Places {
    /// By command: the index, the place in the entry, and the ledger time of commands that no answer belongs to.
    free: BTreeMap<Command, Vec<(u64, usize, u64)>>,
    /// Of those that answers belong to, by index, the places.
    taken: BTreeMap<(Command, u64), Vec<usize>>,
}

impl Places {
    fn new(calls: &[Call], timeline: &Timeline) -> Self {
        let mut answered: BTreeMap<_, Vec<Answer>> = BTreeMap::new();
        for call in calls {
            let answer = call.heard.as_ref().and_then(|(_, reply)| reply.answer());
            if let (Some(command), Some(answer)) = (call.ask.command(), answer) {
                answered.entry((command, answer.at().index)).or_default().push(answer);
            }
        }
        let mut places = Self { free: BTreeMap::new(), taken: BTreeMap::new() };
        // The latest first, to be popped from behind.
        for index in (1..=timeline.top()).rev() {
            let Some(step) = timeline.step(index) else { continue };
            for (place, (command, answer)) in step.answers.iter().enumerate().rev() {
                let mine = answered.get_mut(&(*command, index));
                let heard = mine.and_then(|mine| {
                    let at = mine.iter().position(|heard| heard == answer)?;
                    Some(mine.swap_remove(at))
                });
                if heard.is_some() {
                    places.taken.entry((*command, index)).or_default().push(place);
                } else {
                    places.free.entry(*command).or_default().push((index, place, step.time_ms));
                }
            }
        }
        places
    }

    fn op(&mut self, call: &Call) -> Option<Op> {
        let heard = call.heard.as_ref().filter(|(_, reply)| {
            reply.answer().is_none_or(|answer| answer.status() != Some(Status::Unknown))
        });
        let Some((heard_us, reply)) = heard else {
            let (index, place, time_ms) = self.free.get_mut(&call.ask.command()?)?.pop()?;
            return Some(Op {
                ask: call.ask,
                sent_us: call.sent_us,
                heard: None,
                time_ms,
                hint: (index, place),
            });
        };
        // Nothing was done, and nothing is claimed; of a full table other sets know more.
        if reply.claims_nothing() || reply.answer()?.status() == Some(Status::Full) {
            return None;
        }
        let at = reply.answer()?.at();
        let command = call.ask.command();
        let taken = command.and_then(|command| self.taken.get_mut(&(command, at.index)));
        let place = taken.and_then(Vec::pop).unwrap_or(usize::MAX);
        let heard = Some((*heard_us, reply.clone()));
        Some(Op { ask: call.ask, sent_us: call.sent_us, heard, time_ms: at.time_ms, hint: (at.index, place) })
    }
}

struct Order {
    ops: Vec<Op>,
    /// Which calls had happened, and a hash of the state then: it led nowhere.
    tried: BTreeSet<(Vec<bool>, u64)>,
    steps: usize,
    /// The most calls that were explained, and those that none of which could follow.
    deepest: usize,
    stuck: Vec<usize>,
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

impl Order {
    /// Whether the rest can follow upon `state`; `None`: undecided.
    fn search(&mut self, done: &mut Vec<bool>, count: usize, state: &State) -> Option<bool> {
        let mut next: Vec<usize> = (0..self.ops.len()).filter(|at| !done[*at]).collect();
        if next.iter().all(|at| self.ops[*at].heard.is_none()) {
            return Some(true);
        }
        // Nothing can come before what was answered before it was sent.
        let first_heard_us = next.iter().filter_map(|at| self.ops[*at].heard_us()).min()?;
        next.retain(|at| self.ops[*at].sent_us <= first_heard_us);
        next.sort_by_key(|at| self.ops[*at].hint);
        let mut followed = false;
        for at in &next {
            for state in after(state, &self.ops[*at]) {
                followed = true;
                self.steps += 1;
                if self.steps > STEPS_MAX {
                    return None;
                }
                done[*at] = true;
                if self.tried.insert((done.clone(), hash(&state))) {
                    let found = self.search(done, count + 1, &state);
                    if found != Some(false) {
                        return found;
                    }
                }
                done[*at] = false;
            }
        }
        if !followed && count >= self.deepest {
            (self.deepest, self.stuck) = (count, next);
        }
        Some(false)
    }
}
