//! What is under way to a stream: messages in their order, each with the place that it must get.
//!
//! Deliberately not here: what is done when one does not get it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::publish::PublishAck;

use super::error::NatsError;

type Acking = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

/// A message under way.
pub(super) struct Sent {
    sequence: u64,
    place: u64,
    ack: Acking,
}

impl Sent {
    pub(super) fn new(sequence: u64, place: u64, ack: PublishAckFuture) -> Self {
        Self { sequence, place, ack: ack.into_future() }
    }

    fn check(&self, ack: &PublishAck, stream: &str) -> Result<(), NatsError> {
        if ack.stream == stream && ack.sequence == self.place && !ack.duplicate {
            return Ok(());
        }
        Err(NatsError::Elsewhere { sequence: self.sequence, place: ack.sequence, wanted: self.place })
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").field("sequence", &self.sequence).field("place", &self.place).finish()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    sent: VecDeque<Sent>,
    /// What is wrong with the message behind those that were last told to be stored.
    failure: Option<NatsError>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Waits until more is stored, and returns its last sequence; for ever while nothing is under way.
    pub(super) async fn stored(&mut self, stream: &str) -> Result<u64, NatsError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        poll_fn(|context| self.poll(context, stream)).await
    }

    /// All that has come is told together.
    fn poll(&mut self, context: &mut Context<'_>, stream: &str) -> Poll<Result<u64, NatsError>> {
        let mut stored = None;
        while let Some(first) = self.sent.front_mut() {
            let Poll::Ready(acked) = first.ack.as_mut().poll(context) else { break };
            let checked = acked.map_err(NatsError::Publish).and_then(|ack| first.check(&ack, stream));
            match (checked, stored) {
                (Ok(()), _) => stored = Some(first.sequence),
                (Err(failure), None) => return Poll::Ready(Err(failure)),
                (Err(failure), Some(_)) => {
                    self.failure = Some(failure);
                    break;
                }
            }
            self.sent.pop_front();
        }
        stored.map_or(Poll::Pending, |stored| Poll::Ready(Ok(stored)))
    }
}
