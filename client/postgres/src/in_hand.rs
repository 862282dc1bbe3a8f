//! Deliveries that a hand-off has and is not done with.
//!
//! What is dropped goes back and is handed out again, in the order of its lane. Deliberately not here: whether it is done.

use sluice_client::{Delivery, EventView};

use crate::turn::lane;

/// See the module.
#[derive(Debug)]
pub(crate) struct InHand {
    deliveries: Vec<Option<Delivery>>,
    pub(crate) events: Vec<EventView>,
    /// Lanes in which nothing more is done, one bit each: something in them has failed.
    pub(crate) blocked: u64,
}

impl InHand {
    pub(crate) fn new(deliveries: Vec<Delivery>) -> Self {
        let events = deliveries.iter().map(|delivery| *delivery.event()).collect();
        Self { deliveries: deliveries.into_iter().map(Some).collect(), events, blocked: 0 }
    }

    /// The places among these that may be done.
    pub(crate) fn open(&self, places: std::ops::Range<usize>) -> Vec<usize> {
        places.filter(|at| self.blocked & (1 << lane(&self.events[*at])) == 0).collect()
    }

    /// These are done. Some may have been taken away meanwhile: then whoever has them finds that they are done.
    pub(crate) fn acknowledge(&mut self, places: &[usize]) {
        for at in places {
            if let Some(delivery) = self.deliveries[*at].take() {
                let _ = delivery.ack();
            }
        }
    }

    /// This one has failed, and nothing behind it in its lane is done before it.
    pub(crate) fn fail(&mut self, at: usize, cause: u32) {
        self.blocked |= 1 << lane(&self.events[at]);
        if let Some(delivery) = self.deliveries[at].take() {
            let _ = delivery.nak(cause);
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A delivery that is dropped by a thread that panics counts as failed, and may become a dead letter. Only what is
        // noted as undone may become one, and something else than these events may be what panics.
        for delivery in self.deliveries.drain(..).flatten() {
            delivery.defer();
        }
    }
}
