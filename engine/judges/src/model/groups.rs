//! Consumer groups, naively: every lane a row, every question a walk over all rows.
//!
//! Deliberately not here: what is asked of them (`consuming`), and who gets which events.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::groups as real;
use sluice_protocol::ProductId;
use sluice_protocol::event::{EventView, LANES, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};

/// One lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Everything up to this sequence is acknowledged.
    pub cursor: u64,
    /// Whose it is; 0 = nobody's.
    pub owner: u64,
    /// Since which epoch.
    pub since: u64,
}

/// A dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What could not be delivered.
    pub event: EventView,
    /// Deliveries that failed.
    pub attempts: u32,
    /// When it was given up last.
    pub died_ms: u64,
    /// Why, in the consumer's own words.
    pub cause: u32,
    /// The number of its redrive; 0 = parked.
    pub redrive: u64,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: GroupName,
    /// How it reads.
    pub terms: GroupTerms,
    /// Rises when lanes move.
    pub epoch: u64,
    /// All of its lanes.
    pub lanes: Vec<Lane>,
    /// Number and epoch of joining, in the order of joining.
    pub members: Vec<(u64, u64)>,
    /// By lane, the first that failed: sequence, attempts, when it is tried again.
    pub failing: BTreeMap<u32, (u64, u32, u64)>,
    /// Dead letters by sequence.
    pub letters: BTreeMap<u64, Letter>,
    /// Letters that are gone and not passed by every lane.
    pub gone: BTreeSet<u64>,
    /// The number of the last redrive.
    pub redrives: u64,
    /// Deliveries that failed.
    pub failed: u64,
    /// Where it began, and what ever was a dead letter: no part of what a real group knows.
    pub began: u64,
    /// See above.
    pub was_dead: BTreeSet<u64>,
}

impl Group {
    pub(super) fn new(id: u32, name: GroupName, terms: GroupTerms, cursor: u64) -> Self {
        Self {
            id,
            name,
            terms,
            epoch: 0,
            lanes: vec![Lane { cursor, ..Lane::default() }; LANES as usize],
            members: Vec::new(),
            failing: BTreeMap::new(),
            letters: BTreeMap::new(),
            gone: BTreeSet::new(),
            redrives: 0,
            failed: 0,
            began: cursor,
            was_dead: BTreeSet::new(),
        }
    }

    /// The smallest cursor.
    pub fn cursor(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.cursor).min().unwrap_or(0)
    }

    /// Mask of a member's lanes.
    pub fn lanes_of(&self, member: u64) -> u64 {
        let own = (0..LANES).filter(|at| member != 0 && self.lanes[*at as usize].owner == member);
        own.fold(0, |mask, at| mask | 1 << at)
    }

    /// Whether somebody has a seat.
    pub fn has_member(&self, member: u64) -> bool {
        self.members.iter().any(|(number, _)| *number == member)
    }

    /// Whether what a member says of a lane counts.
    pub(super) fn may_speak(&self, member: u64, epoch: u64, lane: u32) -> bool {
        let lane = self.lanes[lane as usize];
        member != 0 && lane.owner == member && lane.since <= epoch
    }

    /// Whether it wants events of a product.
    pub(super) fn wants_product(&self, product: ProductId) -> bool {
        let mut wanted = self.terms.products.iter().filter(|wanted| wanted.0 != 0).peekable();
        wanted.peek().is_none() || wanted.any(|wanted| *wanted == product)
    }

    /// Whether its terms ask for an event.
    pub fn wants(&self, event: &EventView) -> bool {
        (self.terms.kinds == 0 || self.terms.kinds & event.kind.bit() != 0)
            && self.wants_product(event.product)
    }

    /// Whether an event is a dead letter, or was one.
    pub fn is_dead(&self, sequence: u64) -> bool {
        self.letters.contains_key(&sequence) || self.gone.contains(&sequence)
    }

    /// Whether a member of these lanes gets an event in its place.
    pub fn delivers(&self, event: &EventView, lanes: u64) -> bool {
        let lane = lane_of(event.product);
        lanes >> lane & 1 == 1
            && event.sequence > self.lanes[lane as usize].cursor
            && self.wants(event)
            && !self.is_dead(event.sequence)
    }

    /// Seats somebody or takes his seat, and shares the lanes out: who has most keeps most, who has kept longest keeps one
    /// more, and everybody keeps his lowest lanes.
    pub(super) fn seat(&mut self, member: u64, joins: bool) {
        self.epoch += 1;
        match joins {
            true => self.members.push((member, self.epoch)),
            false => self.members.retain(|(number, _)| *number != member),
        }
        let count = self.members.len();
        let had: Vec<Vec<u32>> = self.members.iter().map(|(number, _)| self.list_of(*number)).collect();
        let mut line: Vec<usize> = (0..count).collect();
        line.sort_by_key(|at| (usize::MAX - had[*at].len(), *at));
        let mut owners = [0; LANES as usize];
        let mut room = vec![0; count];
        for (place, at) in line.into_iter().enumerate() {
            room[at] = LANES as usize / count + usize::from(place < LANES as usize % count);
            for lane in had[at].iter().take(room[at]) {
                owners[*lane as usize] = self.members[at].0;
                room[at] -= 1;
            }
        }
        for ((member, _), room) in self.members.iter().zip(room) {
            let free = owners.iter_mut().filter(|owner| **owner == 0);
            free.take(room).for_each(|owner| *owner = *member);
        }
        for (lane, owner) in self.lanes.iter_mut().zip(owners) {
            if lane.owner != owner {
                (lane.owner, lane.since) = (owner, self.epoch);
            }
        }
    }

    fn list_of(&self, member: u64) -> Vec<u32> {
        (0..LANES).filter(|at| self.lanes[*at as usize].owner == member).collect()
    }

    pub(super) fn remove_letter(&mut self, sequence: u64) {
        let letter = self.letters.remove(&sequence).expect("it was just seen");
        if self.lanes[lane_of(letter.event.product) as usize].cursor < sequence {
            self.gone.insert(sequence);
        }
    }

    /// The first event that is kept for it; `last` is the last there is.
    pub(super) fn floor(&self, last: u64) -> u64 {
        let cursor = self.cursor();
        match self.terms.backlog_max {
            0 => cursor + 1,
            most => cursor.max(last.saturating_sub(most)) + 1,
        }
    }

    /// Whether a real group is the same, as far as it can be read.
    ///
    /// # Errors
    /// A sentence about the first difference.
    pub fn agrees(&self, theirs: &real::Group) -> Result<(), String> {
        let differs = |what: &str, theirs: &dyn std::fmt::Debug, mine: &dyn std::fmt::Debug| {
            Err(format!("{what} of group {} is {theirs:?}, and should be {mine:?}", self.id))
        };
        let view = theirs.view();
        let (head, mine) = ((theirs.id(), theirs.name(), theirs.epoch()), (self.id, self.name, self.epoch));
        if head != mine || *theirs.terms() != self.terms || view.failed != self.failed {
            return differs("what is known", &view, &(mine, self.terms, self.failed));
        }
        let seats: Vec<_> = theirs.members().map(|seat| (seat.member, seat.since)).collect();
        if seats != self.members {
            return differs("who is a member", &seats, &self.members);
        }
        for (member, _) in &self.members {
            if theirs.lanes_of(*member) != self.lanes_of(*member) {
                return differs("what a member has", &theirs.lanes_of(*member), &self.lanes_of(*member));
            }
        }
        for lane in 0..LANES {
            if theirs.cursor(lane) != self.lanes[lane as usize].cursor {
                return differs("a cursor", &(lane, theirs.cursor(lane)), &self.lanes[lane as usize]);
            }
            let failing = theirs.failing(lane).map(|row| (row.sequence, row.attempts, row.retry_ms));
            if failing.as_ref() != self.failing.get(&lane) {
                return differs("what fails", &failing, &self.failing.get(&lane));
            }
        }
        let letters = theirs.letters_from(0).map(|letter| {
            let numbers = (letter.attempts, letter.died_ms, letter.cause, letter.redrive);
            (letter.event.view(), numbers)
        });
        let letters: Vec<_> = letters.collect();
        let own = self.letters.values().map(|letter| {
            let numbers = (letter.attempts, letter.died_ms, letter.cause, letter.redrive);
            (Some(letter.event), numbers)
        });
        let own: Vec<_> = own.collect();
        if letters != own {
            return differs("what is dead", &letters, &own);
        }
        match self.gone.iter().find(|sequence| !theirs.is_dead(**sequence)) {
            None => Ok(()),
            Some(sequence) => differs("what is gone", &None::<u64>, &sequence),
        }
    }
}
