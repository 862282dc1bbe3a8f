//! What a consumer can hear instead of an event.
//!
//! Deliberately not here: what befalls single calls (see [`crate::Error`]).

use thiserror::Error;

use crate::error::Error as CallError;
use crate::outcome::Invalid;

/// The event has gone to another member of the group, or the group was moved: whatever was done with it here does not
/// count, and it is delivered there. So it is with one that was kept for longer than [`crate::Consume::redeliver_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the event was taken away: it is delivered again, here or to another member")]
pub struct Fenced;

/// No event, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// A call did not come to its end. Heard from a consumer that is open, it says that no server has answered for as
    /// long as a member may be silent: the consumer goes on trying.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no such group: it was never made, or was removed. The consumer has ended.
    #[error("there is no consumer group {name:?}")]
    UnknownGroup {
        /// Its name.
        name: String,
    },
    /// A setting is out of its range, says the server. The consumer has ended, or was not opened.
    #[error("{:?} is {}; allowed is {} to {}", .0.field, .0.value, .0.low, .0.high)]
    Refused(Invalid),
    /// Acknowledgements did not count, because the lanes they were for had gone to another member.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// An event is not what a replica made, twice in a row, or it is of a kind that this version does not know. It is
    /// not passed over: the consumer asks for it again every second, until a server has it as it should be.
    #[error("the event behind {after} is damaged, or of a later version")]
    Damaged {
        /// The last sequence that was looked through.
        after: u64,
    },
}

impl ConsumeError {
    /// Whether the consumer goes on by itself.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable(),
            Self::Fenced(_) | Self::Damaged { .. } => true,
            Self::UnknownGroup { .. } | Self::Refused(_) => false,
        }
    }
}
