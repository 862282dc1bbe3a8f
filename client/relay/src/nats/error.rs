//! What can be wrong with a stream of JetStream, and what to do about it.
//!
//! Deliberately not here: passwords, which no error repeats.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use async_nats::ConnectError;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use thiserror::Error;

use crate::destination::DestinationError;

/// See the module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// No server could be reached.
    #[error("NATS cannot be reached at {target}: {source}")]
    Unreachable {
        /// Where.
        target: String,
        /// Why.
        source: ConnectError,
    },
    /// The servers do not know the user, or not with this password or key.
    #[error(
        "NATS at {target} does not let this user in: check the user and password, or the file of --creds"
    )]
    NotAllowed {
        /// Where.
        target: String,
    },
    /// The file with the credentials cannot be read.
    #[error("the credentials in {} cannot be read: {source}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection ended, or the server complained.
    #[error("the connection to NATS is lost: {0}")]
    Lost(String),
    /// A question about the stream was not answered.
    #[error("NATS does not tell about the stream (is JetStream enabled there?): {0}")]
    Ask(#[source] Box<dyn Error + Send + Sync>),
    /// The stream could not be made.
    #[error("the stream {stream} cannot be made: {source}")]
    NotMade {
        /// Its name.
        stream: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is such a stream, and it is not fit.
    #[error("the stream {stream} exists, and {mismatch}; name another with --stream, or change it")]
    Mismatch {
        /// Its name.
        stream: String,
        /// Why.
        mismatch: Mismatch,
    },
    /// The stream holds messages of others, and none of this source near its end.
    #[error(
        "the stream {stream} has messages, and none of {source_wanted} near its end{}: a source needs a stream of its own; \
         name another with --stream, or the right --source",
        .other.as_ref().map(|other| format!(" but some of {other}")).unwrap_or_default()
    )]
    Foreign {
        /// Its name.
        stream: String,
        /// Whose messages were looked for.
        source_wanted: String,
        /// Whose were found.
        other: Option<String>,
    },
    /// A message that says it is of this source does not say which.
    #[error("message {place} of the stream is of this source and has no sequence: delete it")]
    Unreadable {
        /// Its place in the stream.
        place: u64,
    },
    /// A message was not stored, or not known to be.
    #[error("{}", not_stored(.0))]
    Publish(PublishError),
    /// A message was stored, but not where it belongs, or it had been stored before.
    #[error(
        "event {sequence} is message {place} of the stream, and should be {wanted}: another relay is at work"
    )]
    Elsewhere {
        /// The event's.
        sequence: u64,
        /// Where it is.
        place: u64,
        /// Where it should be.
        wanted: u64,
    },
}

/// Why a stream is not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// It has other subjects.
    #[error("its subjects are {got:?} instead of {wanted:?}")]
    Subjects {
        /// Those it has.
        got: String,
        /// Those it should have.
        wanted: String,
    },
    /// Messages are deleted when they are read: then its end does not tell how far it is.
    #[error("it does not keep what was read (its retention must be \"limits\")")]
    Retention,
    /// It does not say what it has stored.
    #[error("it does not acknowledge messages")]
    NoAck,
    /// It is sealed, a mirror, or filled from other streams.
    #[error("it is sealed, a mirror, or filled from other streams")]
    NotWritable,
}

fn not_stored(error: &PublishError) -> String {
    match error.kind() {
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
            "another message came between in the stream: another relay is at work, or somebody publishes there".to_owned()
        }
        PublishErrorKind::StreamNotFound => "no stream takes the message: it was removed, or has no leader".to_owned(),
        _ => format!("NATS has not stored a message: {error}"),
    }
}

impl From<NatsError> for DestinationError {
    fn from(error: NatsError) -> Self {
        let passes = match &error {
            NatsError::Unreachable { .. }
            | NatsError::Lost(_)
            | NatsError::Ask(_)
            | NatsError::Publish(_)
            | NatsError::Elsewhere { .. } => true,
            NatsError::NotAllowed { .. }
            | NatsError::Credentials { .. }
            | NatsError::NotMade { .. }
            | NatsError::Mismatch { .. }
            | NatsError::Foreign { .. }
            | NatsError::Unreadable { .. } => false,
        };
        if passes { Self::Passing(Box::new(error)) } else { Self::Final(Box::new(error)) }
    }
}
