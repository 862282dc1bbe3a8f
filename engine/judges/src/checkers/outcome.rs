//! Invariant 5: an id has one outcome. What clients were told of it, put in the order of the log, is one story.
//!
//! Knows only answers: neither the log nor a ledger.

use std::collections::BTreeMap;

use super::Violation;
use super::claim::Claim;
use super::setup::violation;

/// See the module.
#[derive(Debug)]
pub struct Outcome {
    /// Claims held against their neighbours.
    pub checks: u64,
    retention_ms: u64,
    /// The latest ledger time that anybody has heard of, and what it was when each id was first sent: nothing became of
    /// the id before.
    newest_ms: u64,
    born_ms: BTreeMap<u128, u64>,
    /// What was told of each id, by index.
    told: BTreeMap<u128, BTreeMap<u64, Vec<Claim>>>,
}

impl Outcome {
    /// Outcomes may be forgotten after so long.
    pub fn new(retention_ms: u64) -> Self {
        Self { checks: 0, retention_ms, newest_ms: 0, born_ms: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// A call names an id.
    pub fn sent(&mut self, id: u128) {
        self.born_ms.entry(id).or_insert(self.newest_ms);
    }

    /// A client heard of a ledger time.
    pub fn heard(&mut self, time_ms: u64) {
        self.newest_ms = time_ms.max(self.newest_ms);
    }

    /// Whether an outcome of this id may have been forgotten by then.
    pub fn may_be_forgotten(&self, id: u128, time_ms: u64) -> bool {
        let born_ms = self.born_ms.get(&id).copied().unwrap_or(0);
        time_ms >= born_ms.saturating_add(self.retention_ms)
    }

    /// Somebody was told something of an id.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn told(&mut self, id: u128, claim: Claim) -> Result<(), Violation> {
        self.checks += 1;
        let born_ms = self.born_ms.get(&id).copied().unwrap_or(0);
        let forget_ms = born_ms.saturating_add(self.retention_ms);
        let excludes = |before: &Claim, after: &Claim| before.excludes(after, after.at.time_ms >= forget_ms);
        let claims = self.told.entry(id).or_default();
        let index = claim.at.index;
        let before = claims.range(..index).next_back().into_iter().flat_map(|(_, claims)| claims);
        for other in before {
            if let Some(why) = excludes(other, &claim) {
                return violation!("outcome", "id {id:032x}: {why}: {other:?}, then {claim:?}");
            }
        }
        let behind = claims.range(index + 1..).next().into_iter().flat_map(|(_, claims)| claims);
        for other in behind {
            if let Some(why) = excludes(&claim, other) {
                return violation!("outcome", "id {id:032x}: {why}: {claim:?}, then {other:?}");
            }
        }
        let beside = claims.entry(index).or_default();
        for other in beside.iter() {
            // Commands of one entry have an order that answers do not tell.
            let either = [excludes(other, &claim), excludes(&claim, other)];
            if let [Some(why), Some(_)] = either {
                return violation!("outcome", "id {id:032x}: {why}: {other:?} and {claim:?} in one entry");
            }
        }
        if !beside.contains(&claim) {
            beside.push(claim);
        }
        Ok(())
    }

    /// The latest that was told of each id.
    pub fn latest(&self) -> impl Iterator<Item = (u128, &Claim)> {
        self.told.iter().flat_map(|(id, claims)| {
            claims.last_key_value().into_iter().flat_map(|(_, claims)| claims).map(|claim| (*id, claim))
        })
    }
}
