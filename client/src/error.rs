//! What a call returns when it has no final answer, and what the caller should do about it.
//!
//! An error is never a refusal: refusals are outcomes. Every variant says in its text whether something
//! may have been done. Deliberately not here: retries. By the time a caller sees an error they have been made.

use sluice_protocol::{FaultCode, ReservationId};
use thiserror::Error;

use crate::url::UrlError;

/// No final answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A setting of the builder is out of its range.
    #[error("{setting} is {got}; allowed is {allowed}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it was set to.
        got: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The server asked for patience until the deadline passed. Nothing was done.
    #[error("the server was busy until the deadline; nothing was done; try again in {retry_after_ms} ms")]
    Busy {
        /// When the server expects to have room, milliseconds.
        retry_after_ms: u32,
    },
    /// A table of the server stayed full until the deadline. Nothing was done.
    #[error(
        "the server has no room for another record; nothing was done; try again in {retry_after_ms} ms, \
         and raise cluster.records_max if this persists"
    )]
    Full {
        /// When the server expects to have room, milliseconds.
        retry_after_ms: u32,
    },
    /// No node that could be reached was leading before the deadline passed. Nothing was done.
    #[error("no leader was found before the deadline; nothing was done; try again")]
    NotLeader,
    /// The call was still queued in this process at its deadline. Nothing was done.
    #[error(
        "the call did not leave this process before its deadline; nothing was done; send less or wait longer"
    )]
    Deadline,
    /// No connection could be made or kept before the deadline. Nothing was done.
    #[error("no connection to {address}: {cause}; nothing was done; is the server running there?")]
    Disconnected {
        /// The address tried last.
        address: String,
        /// What the operating system or the connection said.
        cause: String,
    },
    /// The server closed the connection and said why. Nothing was done.
    #[error("{address} closed the connection with fault {code}: {text}; nothing was done")]
    Fault {
        /// Who.
        address: String,
        /// A [`FaultCode`], or a number of a later version.
        code: u16,
        /// The server's explanation.
        text: String,
    },
    /// The server did not greet as a Sluice server of a common version does. Nothing was done.
    #[error("{address} does not greet like a Sluice server: {what}; nothing was done")]
    Handshake {
        /// Who.
        address: String,
        /// What is wrong with the greeting.
        what: String,
    },
    /// The server sent bytes that the protocol does not allow; or an answer that this version cannot read, and
    /// the request changes nothing. Nothing was done.
    #[error("{address} does not keep to the protocol: {what}; are client and server of versions that fit?")]
    Protocol {
        /// Who.
        address: String,
        /// What it sent.
        what: String,
    },
    /// The reply was lost. The id was then resolved: it had taken nothing, and is dead from now on.
    #[error("the reply for {id} was lost; nothing was taken and the id is dead; try again with a new id")]
    Killed {
        /// The dead id.
        id: ReservationId,
    },
    /// The reply was lost, and nobody could be asked what became of the id. It may have been done.
    #[error("nobody knows yet what became of {id}: it may have been done; ask again with resolve({id})")]
    Unresolved {
        /// The id to resolve.
        id: ReservationId,
    },
    /// The reply to a read, a put or a seal was lost until the deadline. Sending it again is safe.
    #[error("no reply came before the deadline; the same call can safely be made again")]
    Unanswered,
    /// The runtime on which the client was made has ended. Nothing was done.
    #[error("the runtime that this client was made on has ended; nothing was done; make a new client")]
    Closed,
}

impl Error {
    /// Whether making the same call again may succeed and cannot do it twice. Of a killed id this means the same
    /// call under a new id. An unresolved id is *not* retryable: it must be resolved, or sent again under that
    /// same id with [`crate::Reserve::id`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Full { .. }
            | Self::NotLeader
            | Self::Deadline
            | Self::Disconnected { .. }
            | Self::Killed { .. }
            | Self::Unanswered => true,
            Self::Fault { code, .. } => FaultCode::from_number(*code).is_some_and(FaultCode::is_retryable),
            Self::Url(_)
            | Self::Setting { .. }
            | Self::Handshake { .. }
            | Self::Protocol { .. }
            | Self::Unresolved { .. }
            | Self::Closed => false,
        }
    }

    /// The id whose outcome is not known, if that is what is wrong.
    pub fn unresolved(&self) -> Option<ReservationId> {
        match self {
            Self::Unresolved { id } => Some(*id),
            _ => None,
        }
    }
}

/// Why a connection ended or could not be made: kept by its task for the calls that come to their deadline
/// meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) address: String,
    pub(crate) kind: TroubleKind,
}

/// What kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// The operating system's or the peer's doing.
    Io(String),
    /// The server said why.
    Fault { code: u16, text: String },
    /// The first frame was not a welcome that this client understands.
    Handshake(String),
    /// A later frame was not what the protocol allows.
    Protocol(String),
}

impl Trouble {
    /// Whether waiting cannot help: the peer speaks, but not to this client.
    pub(crate) fn is_hopeless(&self) -> bool {
        match &self.kind {
            TroubleKind::Io(_) | TroubleKind::Protocol(_) => false,
            TroubleKind::Handshake(_) => true,
            TroubleKind::Fault { code, .. } => *code == FaultCode::NoCommonVersion as u16,
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        let address = trouble.address;
        match trouble.kind {
            TroubleKind::Io(cause) => Self::Disconnected { address, cause },
            TroubleKind::Fault { code, text } => Self::Fault { address, code, text },
            TroubleKind::Handshake(what) => Self::Handshake { address, what },
            TroubleKind::Protocol(what) => Self::Protocol { address, what },
        }
    }
}
