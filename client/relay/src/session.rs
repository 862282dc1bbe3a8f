//! The work of a relay that has its seat: events out of the group, into the destination, and acknowledged when stored.
//!
//! Many are under way at a time, and a bounded number. Anything out of line ends it: [`crate::relay`] begins anew.
//! Deliberately not here: what is next ([`crate::lineup`]).

use std::time::Duration;

use sluice_client::{ConsumeError, Consumed, Consumer, Delivery, EventView};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::destination::Destination;
use crate::error::RelayError;
use crate::lineup::{Lineup, Place};
use crate::message::Message;
use crate::note::{Note, Tally};
use crate::seat::Seat;

/// Messages that are sent and not known to be stored, at most. More hides a longer way to the broker; after a trouble as many are
/// sent again.
const OUTSTANDING_MAX: usize = 4_096;

/// Events that are taken out of the group together: few enough that what is stored is acknowledged in between.
const BATCH_MAX: usize = 256;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Session<'a, D> {
    consumer: Consumer,
    destination: &'a mut D,
    tally: &'a mut Tally,
    lineup: Lineup,
    /// Everything up to this sequence is stored.
    stored: u64,
    /// Gaps under way: their first and last sequences.
    gaps: Vec<(u64, u64)>,
    /// Dead letters that were delivered again: each is acknowledged by itself, once it is stored.
    letters: Vec<Delivery>,
}

impl<'a, D: Destination> Session<'a, D> {
    pub(crate) fn new(seat: Seat, destination: &'a mut D, tally: &'a mut Tally) -> Self {
        let Seat { consumer, after } = seat;
        let lineup = Lineup::new(after);
        Self { consumer, destination, tally, lineup, stored: after, gaps: Vec::new(), letters: Vec::new() }
    }

    /// Publishes until `stop` is done, and waits for what is under way then.
    pub(crate) async fn run(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
        tell: &mut impl FnMut(Note<'_>),
    ) -> Result<(), RelayError> {
        let mut clock = clock();
        let mut told = *self.tally;
        loop {
            let room = OUTSTANDING_MAX.saturating_sub(self.destination.outstanding()).min(BATCH_MAX);
            tokio::select! {
                () = &mut *stop => return self.drain().await,
                stored = self.destination.stored() => self.confirm(stored?),
                batch = self.consumer.next_batch(room), if room > 0 => match batch {
                    Some(Ok(batch)) => self.publish(batch, tell).await?,
                    Some(Err(error)) if error.is_passing() => tell(Note::Waiting { error: &error }),
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(RelayError::Missing { sequence: self.lineup.last() + 1 }),
                },
                _ = clock.tick() => {
                    if told != *self.tally {
                        told = *self.tally;
                        tell(Note::Progress(told));
                    }
                }
            }
        }
    }

    /// Acknowledges what is stored, and leaves.
    pub(crate) async fn close(self) -> Result<(), ConsumeError> {
        self.consumer.close().await
    }

    async fn drain(&mut self) -> Result<(), RelayError> {
        while self.destination.outstanding() > 0 {
            let stored = self.destination.stored().await?;
            self.confirm(stored);
        }
        Ok(())
    }

    async fn publish(
        &mut self,
        batch: Vec<Consumed>,
        tell: &mut impl FnMut(Note<'_>),
    ) -> Result<(), RelayError> {
        let known = self.tally.known;
        for consumed in batch {
            match consumed {
                Consumed::Event(delivery) => {
                    let event = *delivery.event();
                    self.keep(delivery);
                    self.line_up(event).await?;
                }
                // Somebody else gave it up. Here it is like any other.
                Consumed::Parked { event, .. } => self.line_up(event).await?,
                Consumed::Gap { from, to } => self.lineup.miss(from, to),
                other => unreachable!("news of a later client: {other:?}"),
            }
            if let Some((from, to)) = self.lineup.gap() {
                tell(Note::Gap { from, to });
                self.gaps.push((from, to));
                self.destination.publish(&Message::Gap { from, to }).await?;
            }
        }
        if self.tally.known > known {
            // Nothing else may come to acknowledge them with.
            self.acknowledge();
        }
        Ok(())
    }

    /// Events are acknowledged by their sequence; those that come out of order one by one.
    fn keep(&mut self, delivery: Delivery) {
        if !delivery.is_redriven() {
            delivery.defer();
        } else if delivery.event().sequence > self.stored {
            self.letters.push(delivery);
        } else {
            // If it was taken away, it comes again.
            let _ = delivery.ack();
        }
    }

    async fn line_up(&mut self, event: EventView) -> Result<(), RelayError> {
        match self.lineup.place(&event) {
            Place::Next => self.destination.publish(&Message::Event(event)).await?,
            Place::Known => self.tally.known += 1,
            Place::Behind(sequence) => return Err(RelayError::Missing { sequence }),
        }
        Ok(())
    }

    /// Everything up to this sequence is stored.
    fn confirm(&mut self, stored: u64) {
        if stored <= self.stored {
            return;
        }
        self.tally.events += stored - self.stored;
        for (from, to) in self.gaps.extract_if(.., |(_, to)| *to <= stored) {
            self.tally.gaps += 1;
            self.tally.events -= to + 1 - from;
        }
        (self.stored, self.tally.stored) = (stored, stored);
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        // What was taken away meanwhile comes again, and is known then.
        let _ = self.consumer.ack_through(self.stored);
        let (stored, letters) = (self.stored, std::mem::take(&mut self.letters));
        for letter in letters {
            if letter.event().sequence > stored {
                self.letters.push(letter);
            } else {
                let _ = letter.ack();
            }
        }
    }
}

fn clock() -> Interval {
    let mut clock = interval(PROGRESS_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}
