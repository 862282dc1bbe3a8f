//! Looking at the stream of events without a group: nothing is acknowledged, and nobody waits for whoever looks.
//!
//! For people and for tools. Deliberately not here: remembering how far one has looked, which is what groups are for
//! ([`crate::consume`]).

use std::time::Duration;

use sluice_protocol::event::{EventRecord, EventView};
use sluice_protocol::limits::{EVENTS_MAX, WAIT_MS_MAX};
use sluice_protocol::seat::{FetchItem, SeatItem};
use sluice_protocol::{Kind, Status};

use crate::call::{Asked, Reply};
use crate::client::Client;
use crate::consume::Start;
use crate::error::Error;

/// A look at the stream, which goes on where it stopped. See [`Client::tail`].
#[derive(Debug)]
pub struct Tail {
    client: Client,
    after: u64,
}

/// What came of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// What happened, in the order of the sequences, without a gap; empty if nothing did.
    Events(Vec<EventView>),
    /// These are kept no more.
    Gap {
        /// The first sequence that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
}

impl Client {
    /// Looks at all events from a place on, without a group.
    ///
    /// # Errors
    /// No answer came in time.
    pub async fn tail(&self, start: Start) -> Result<Tail, Error> {
        let after = match start {
            // Whoever looks from the beginning asks for what there is, and misses nothing by what is not.
            Start::Beginning => self.stream_bounds().await?.first.saturating_sub(1),
            Start::End => self.stream_bounds().await?.last,
            Start::After(sequence) => sequence,
            Start::At(time_ms) => self.sequence_at(time_ms).await?.saturating_sub(1),
        };
        Ok(Tail { client: self.clone(), after })
    }
}

impl Tail {
    /// The last sequence that was looked at.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// What happened since. Waits for so long, or half of the client's deadline if that is less, while nothing does.
    ///
    /// # Errors
    /// No answer came in time: the next call goes on. [`Error::Unanswered`] also if the next event is damaged, or of a kind
    /// that this version does not know.
    pub async fn next(&mut self, wait: Duration) -> Result<Tailed, Error> {
        let wait = wait.min(self.client.deadline() / 2).as_millis().min(u128::from(WAIT_MS_MAX));
        let item = FetchItem::new(SeatItem::new(0, 0), 0)
            .after(self.after, 0)
            .at_most(EVENTS_MAX as u32)
            .waiting(wait as u32);
        let reply = self.client.repeat(Kind::Fetch, &Asked::Fetch(item)).await?;
        let Reply::Delivery(head, records) = reply else { return Err(Error::Unanswered) };
        let [upto, ..] = head.answer.numbers();
        match head.answer.status() {
            Some(Status::Done) => {}
            Some(Status::Gap) if upto > self.after + 1 => {
                let gap = Tailed::Gap { from: self.after + 1, to: upto - 1 };
                self.after = upto - 1;
                return Ok(gap);
            }
            _ => return Err(Error::Unanswered),
        }
        let is_next = |(record, sequence): &(&EventRecord, u64)| record.sequence() == *sequence;
        let events: Vec<EventView> = records
            .iter()
            .zip(self.after + 1..)
            .take_while(is_next)
            .map_while(|(record, _)| record.view())
            .collect();
        if events.is_empty() && !records.is_empty() {
            return Err(Error::Unanswered);
        }
        self.after += events.len() as u64;
        Ok(Tailed::Events(events))
    }
}
