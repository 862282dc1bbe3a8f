//! What has come from the consumer and was not begun.
//!
//! It is gathered while PostgreSQL works on what came before, so that the next transaction is full and begins at once.
//! Deliberately not here: what is done with it ([`crate::run`]).

use sluice_client::{ConsumeError, Consumed, Delivery, EventView};

use crate::turn::lane;

/// What a consumer says: see [`sluice_client::Consumer::next_batch`].
type Said = Option<Result<Vec<Consumed>, ConsumeError>>;

/// What was told beside events, before those that came with it.
#[derive(Debug)]
pub(crate) enum Told {
    Gap(u64, u64),
    Parked(EventView, u64),
    Trouble(ConsumeError),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) told: Vec<Told>,
    /// In the order of each lane.
    pub(crate) deliveries: Vec<Delivery>,
    /// Dead letters that are delivered again.
    pub(crate) redriven: Vec<Delivery>,
    /// The consumer has ended, and perhaps why.
    pub(crate) end: Option<Result<(), ConsumeError>>,
}

impl Gathered {
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.len() == 0 && self.end.is_none()
    }

    /// How many deliveries.
    pub(crate) fn len(&self) -> usize {
        self.deliveries.len() + self.redriven.len()
    }

    pub(crate) fn hear(&mut self, said: Said) {
        match said {
            Some(Ok(batch)) => batch.into_iter().for_each(|consumed| self.sort(consumed)),
            Some(Err(error)) if error.is_passing() => self.told.push(Told::Trouble(error)),
            Some(Err(error)) => self.end = Some(Err(error)),
            None => self.end = Some(Ok(())),
        }
    }

    fn sort(&mut self, consumed: Consumed) {
        match consumed {
            Consumed::Event(delivery) if delivery.is_redriven() => self.redriven.push(delivery),
            Consumed::Event(delivery) => self.deliveries.push(delivery),
            Consumed::Gap { from, to } => self.told.push(Told::Gap(from, to)),
            Consumed::Parked { event, attempts } => self.told.push(Told::Parked(event, attempts)),
            // What a later version may tell is no event.
            _ => {}
        }
    }

    /// Gives back what is in these lanes, one bit each: something before it has failed. It comes again in its order.
    pub(crate) fn give_back(&mut self, lanes: u64) {
        if lanes != 0 {
            self.deliveries.retain(|delivery| lanes & (1 << lane(delivery.event())) == 0);
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // See `InHand`: what a panic of something else drops must not count as failed.
        for delivery in self.deliveries.drain(..).chain(self.redriven.drain(..)) {
            delivery.defer();
        }
    }
}
