//! Invariant 16: once all faults are over, nobody waits past his deadline, and everybody comes to know what became of what
//! he asked.

use std::collections::{BTreeMap, BTreeSet};

use sluice_protocol::Status;

use super::Violation;
use super::setup::violation;
use crate::history::{Call, Reply};

/// See the module.
#[derive(Debug)]
pub struct Liveness {
    /// Calls looked at.
    pub checks: u64,
    wait_us_max: u64,
    healed_us: Option<u64>,
    settled: bool,
}

impl Liveness {
    /// A call may wait so long once all is healed.
    pub fn new(wait_us_max: u64) -> Self {
        Self { checks: 0, wait_us_max, healed_us: None, settled: false }
    }

    /// All faults are over.
    pub fn healed(&mut self, at_us: u64) {
        self.healed_us = Some(at_us);
        self.settled = false;
    }

    /// Another fault begins: nothing sent before is owed an answer any more.
    pub fn broken(&mut self) {
        self.healed_us = None;
        self.settled = false;
    }

    /// A call is answered.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(&mut self, call: &Call, at_us: u64) -> Result<(), Violation> {
        if self.healed_us.is_none_or(|healed_us| call.sent_us < healed_us) {
            return Ok(());
        }
        self.checks += 1;
        let waited_us = at_us.saturating_sub(call.sent_us);
        if waited_us <= self.wait_us_max {
            return Ok(());
        }
        violation!(
            "liveness",
            "client {} waited {waited_us} µs for node {}, with no fault left: {:?}",
            call.client,
            call.node,
            call.ask
        )
    }

    /// Nothing is in flight: whoever asked when there was no fault has an answer, and no id is left in doubt.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, calls: &[Call]) -> Result<(), Violation> {
        let Some(healed_us) = self.healed_us else { return Ok(()) };
        self.settled = true;
        // Of each id: the first call whose fate is open.
        let mut open: BTreeMap<u128, &Call> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for call in calls {
            self.checks += 1;
            let reply = call.heard.as_ref().map(|(_, reply)| reply);
            if reply.is_none() && call.sent_us >= healed_us {
                return violation!(
                    "liveness",
                    "client {} never heard from node {}, with no fault left: {:?}",
                    call.client,
                    call.node,
                    call.ask
                );
            }
            let (Some(id), Some(_)) = (call.ask.id(), call.ask.verb()) else { continue };
            match reply {
                None => {
                    open.entry(id).or_insert(call);
                }
                Some(reply) if is_unknown(reply) => {
                    open.entry(id).or_insert(call);
                }
                Some(reply) if !reply.claims_nothing() && tells_fate(reply) && call.sent_us >= healed_us => {
                    told.insert(id);
                }
                Some(_) => {}
            }
        }
        match open.into_iter().find(|(id, _)| !told.contains(id)) {
            None => Ok(()),
            Some((id, call)) => violation!(
                "liveness",
                "all is quiet, and nobody knows what became of {id:032x}: {:?}, sent by client {} at {} µs",
                call.ask,
                call.client,
                call.sent_us
            ),
        }
    }
}

fn is_unknown(reply: &Reply) -> bool {
    reply.answer().is_some_and(|answer| answer.status() == Some(Status::Unknown))
}

/// `Full` leaves an id as open as it was.
fn tells_fate(reply: &Reply) -> bool {
    reply.answer().is_some_and(|answer| answer.status() != Some(Status::Full))
}
