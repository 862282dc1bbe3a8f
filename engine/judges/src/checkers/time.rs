//! Invariant 9: ledger time never falls and advances boundedly; each hold ends once, not before its deadline unless somebody
//! ends it; and what is confirmed does not expire.

use std::collections::BTreeMap;

use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::ADVANCE_MS_MAX;
use sluice_protocol::response::At;
use sluice_protocol::{ReservationId, State};

use super::Violation;
use super::claim::Claim;
use super::setup::violation;

/// What was told of a hold's deadline.
#[derive(Clone, Copy, Debug)]
struct Promise {
    deadline_ms: u64,
    told: At,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Time {
    /// Times and holds looked at.
    pub checks: u64,
    /// Where each node's ledger was last seen.
    clocks: BTreeMap<u64, At>,
    promises: BTreeMap<u128, Promise>,
    /// The earliest time at which somebody heard that a hold had expired.
    expired_ms: BTreeMap<u128, u64>,
}

impl Time {
    /// A node's ledger was loaded, or made.
    pub fn restart(&mut self, node: u64) {
        self.clocks.remove(&node);
    }

    /// A node's ledger has come to an index and a time, one entry or more further.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn passed(&mut self, node: u64, at: At) -> Result<(), Violation> {
        self.checks += 1;
        let Some(before) = self.clocks.insert(node, at) else { return Ok(()) };
        if at.time_ms < before.time_ms {
            return violation!("time", "ledger time of node {node} falls: {before:?}, then {at:?}");
        }
        let entries = at.index.saturating_sub(before.index);
        let most_ms = before.time_ms.saturating_add(entries.saturating_mul(ADVANCE_MS_MAX));
        if before.time_ms != 0 && at.time_ms > most_ms {
            return violation!("time", "ledger time of node {node} leaps: {before:?}, then {at:?}");
        }
        Ok(())
    }

    /// What a node's ledger says of an id after entries, and what the state and deadline of it were before.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn changed(
        &mut self,
        node: u64,
        id: u128,
        before: (State, u64),
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let after = ledger.reservation(ReservationId(id));
        let after = after.map_or((State::None, 0), |(state, view)| (state, view.deadline_ms));
        self.transition((node, ledger.at()), id, before, after)
    }

    /// An id's state and deadline, before and after entries up to here.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn transition(
        &mut self,
        (node, at): (u64, At),
        id: u128,
        before: (State, u64),
        after: (State, u64),
    ) -> Result<(), Violation> {
        use State::{Cancelled, Confirmed, Expired, Held};
        self.checks += 1;
        let why = match (before.0, after.0) {
            (Confirmed, Confirmed) => return Ok(()),
            (Confirmed, _) => "what is confirmed stays so",
            (Held, Expired) if at.time_ms < before.1 => "the hold was to last longer",
            (Held, Held) if before.1 != after.1 => "the hold's deadline was moved",
            (Expired | Cancelled, Held) => "a hold ends once",
            (Cancelled, Expired | Confirmed) => "what was given back stays so",
            _ => return Ok(()),
        };
        violation!("time", "node {node}, {at:?}: id {id:032x} goes from {before:?} to {after:?}: {why}")
    }

    /// A client was told something of an id, whose first use cannot have been forgotten by then.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn told(&mut self, id: u128, claim: &Claim) -> Result<(), Violation> {
        match claim.state {
            State::Held if claim.deadline_ms != 0 => {
                self.checks += 1;
                let told = Promise { deadline_ms: claim.deadline_ms, told: claim.at };
                let first = *self.promises.entry(id).or_insert(told);
                if first.deadline_ms != claim.deadline_ms {
                    return violation!(
                        "time",
                        "the hold of {id:032x} was promised until {} ({:?}), and then until {} ({:?})",
                        first.deadline_ms,
                        first.told,
                        claim.deadline_ms,
                        claim.at
                    );
                }
            }
            State::Expired => {
                let earliest_ms = self.expired_ms.entry(id).or_insert(claim.at.time_ms);
                *earliest_ms = claim.at.time_ms.min(*earliest_ms);
            }
            _ => return Ok(()),
        }
        let (Some(promise), Some(expired_ms)) = (self.promises.get(&id), self.expired_ms.get(&id)) else {
            return Ok(());
        };
        if *expired_ms < promise.deadline_ms {
            return violation!(
                "time",
                "the hold of {id:032x} was promised until {}, and had expired at {expired_ms}",
                promise.deadline_ms
            );
        }
        Ok(())
    }
}
