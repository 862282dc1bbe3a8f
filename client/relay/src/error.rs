//! Why a relay stopped, for good or for a moment.
//!
//! Deliberately not here: what is wrong with a broker ([`crate::DestinationError`]).

use sluice_client::{ConsumeError, Error as CallError};
use thiserror::Error;

use crate::destination::DestinationError;

/// See the module. What [passes](RelayError::is_passing) is heard as a [`crate::Note`] only: the relay begins anew.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A call to the servers.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The consumer.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// Another relay took a seat in the same moment.
    #[error("another relay of the group came at the same time")]
    Occupied,
    /// An event does not come, so that nothing behind it may be published.
    #[error(
        "event {sequence} does not come: another member of the group has it, or it is a dead letter of the group, to be \
         delivered again by `sluice dead redrive`"
    )]
    Missing {
        /// Its sequence.
        sequence: u64,
    },
    /// The group wants only some of the events.
    #[error(
        "the group {group:?} wants only some kinds or products, and a relay publishes all events: name another group"
    )]
    Filtered {
        /// Its name.
        group: String,
    },
    /// The destination has events that the servers do not know of.
    #[error(
        "the destination has events up to {stored} of this source, and the servers only up to {last}: it belongs to \
         another cluster, or theirs was set back; name another source and another stream"
    )]
    Ahead {
        /// The last sequence that is stored.
        stored: u64,
        /// The last event there is.
        last: u64,
    },
}

impl RelayError {
    /// Whether the relay goes on by itself.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Destination(error) => matches!(error, DestinationError::Passing(_)),
            Self::Call(error) => error.is_retryable(),
            Self::Consume(error) => error.is_passing(),
            Self::Occupied | Self::Missing { .. } => true,
            Self::Filtered { .. } | Self::Ahead { .. } => false,
        }
    }
}
