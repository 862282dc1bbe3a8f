//! Invariant 3: every reply holds at the index it names, and that index is not older than what anybody had heard when the
//! request was sent.
//!
//! The log gives the order, the model what had to be said in it; so a whole run is judged in O(n log n). That the
//! evidence in the answers is itself no lie is shown for small runs by `search`, which does not look at it.

use sluice_protocol::Status;

use super::Violation;
use super::setup::violation;
use crate::history::{Ask, Call, CallId, Reply};
use crate::model::{Said, Timeline};

/// See the module.
#[derive(Debug, Default)]
pub struct Linearizability {
    /// Answers judged.
    pub checks: u64,
    /// The highest index that anybody has heard of.
    floor: u64,
    /// What it was when each call was sent.
    floors: Vec<u64>,
}

impl Linearizability {
    /// A call is sent. Calls are numbered in this order.
    pub fn sent(&mut self) {
        self.floors.push(self.floor);
    }

    /// A call is answered. Where the answer comes from.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(
        &mut self,
        id: CallId,
        call: &Call,
        reply: &Reply,
        timeline: &Timeline,
    ) -> Result<Said, Violation> {
        self.checks += 1;
        let floor = self.floors[id.0 as usize];
        let said = match timeline.judge(&call.ask, reply) {
            Ok(said) => said,
            Err(what) => {
                return violation!("linearizability", "client {} of node {}: {what}", call.client, call.node);
            }
        };
        if said == Said::Nothing {
            return Ok(said);
        }
        if let (Ask::List(item), Reply::Page(page)) = (&call.ask, reply)
            && page.is_empty()
            && let Some(missed) = timeline.products_from(item.from().0, floor).next()
        {
            return violation!(
                "linearizability",
                "an empty page from {} to client {}, who could know of product {} at index {floor}",
                item.from(),
                call.client,
                missed.product
            );
        }
        for answer in reply.answers() {
            let index = answer.at().index;
            // Sold out and sealed is for good: any node that knows may say so.
            if index < floor && answer.status() != Some(Status::SoldOut) {
                return violation!(
                    "linearizability",
                    "{answer:?} to client {} of node {}, {:?}: stale, index {floor} had been heard of when it was sent",
                    call.client,
                    call.node,
                    call.ask
                );
            }
            self.floor = self.floor.max(index);
        }
        Ok(said)
    }
}
