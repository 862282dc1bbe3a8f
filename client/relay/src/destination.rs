//! What a broker must be able to do to be relayed to.
//!
//! It follows from what the relay promises: a broker that can say what it has of a source, and store a message only
//! behind the one before it, holds each event once. Deliberately not here: any broker.

use std::error::Error;

use thiserror::Error;

use crate::message::Message;

/// A place that keeps messages in order.
pub trait Destination {
    /// Finds out how far the stream is stored, connecting if need be, and forgets what is under way: the next message
    /// is the one behind it. `None` if nothing is stored.
    ///
    /// What was under way before may still arrive. It must not be stored then, unless it is the next in line.
    ///
    /// # Errors
    /// It cannot be told now, or must not be gone on.
    fn resume(&mut self) -> impl Future<Output = Result<Option<u64>, DestinationError>> + Send;

    /// Sends the next message, behind the one that was sent last. It is not stored before [`Destination::stored`] says so.
    /// It may wait until there is room.
    ///
    /// # Errors
    /// It could not be sent: what is under way is in doubt until [`Destination::resume`].
    fn publish(&mut self, message: &Message) -> impl Future<Output = Result<(), DestinationError>> + Send;

    /// Waits until more is stored, and returns the sequence up to which everything is; for ever while nothing is under
    /// way. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// Something was not stored in its place: what is under way is in doubt until [`Destination::resume`].
    fn stored(&mut self) -> impl Future<Output = Result<u64, DestinationError>> + Send;

    /// Messages that were sent and are not known to be stored.
    fn outstanding(&self) -> usize;
}

/// Why a destination did not do what it should.
#[derive(Debug, Error)]
pub enum DestinationError {
    /// It may do so later: begin again with [`Destination::resume`].
    #[error("{0}")]
    Passing(#[source] Box<dyn Error + Send + Sync>),
    /// It will not, before somebody changes something: the words say what.
    #[error("{0}")]
    Final(#[source] Box<dyn Error + Send + Sync>),
}
