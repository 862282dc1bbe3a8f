//! What a call returns when it has no final answer, and what the caller should do about it.
//!
//! An error is never a refusal: refusals are outcomes. Every variant says in its text whether something
//! may have been done. Deliberately not here: retries. By the time a caller sees an error they have been made.

use sluice_protocol::{ClusterId, FaultCode, ReservationId};
use thiserror::Error;

use crate::trouble::{Tried, Trouble, listed};
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
    /// The server did not lead until the deadline passed. Nothing was done. With several addresses it is
    /// [`Error::NoServer`].
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
    /// The server belongs to another cluster than the one that this client talked to first: the address, or what
    /// listens there, is wrong. Nothing was done.
    #[error("{address} belongs to cluster {got}, not to {expected}; nothing was done; is the address right?")]
    OtherCluster {
        /// Who.
        address: String,
        /// The cluster of the first server that greeted this client.
        expected: ClusterId,
        /// The cluster of this one.
        got: ClusterId,
    },
    /// None of several servers led and could be reached before the deadline passed. Nothing was done.
    #[error("no server serves: {}; nothing was done", listed(.tried))]
    NoServer {
        /// Each that was tried, and what was wrong with it the last time.
        tried: Vec<Tried>,
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
            Self::NoServer { tried } => tried.iter().any(|one| Self::from(vec![one.clone()]).is_retryable()),
            Self::Url(_)
            | Self::Setting { .. }
            | Self::OtherCluster { .. }
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

/// What a call hears of the servers that were tried in vain.
impl From<Vec<Tried>> for Error {
    fn from(mut tried: Vec<Tried>) -> Self {
        if tried.len() > 1 {
            return Self::NoServer { tried };
        }
        let Some(Tried { address, trouble }) = tried.pop() else { return Self::Deadline };
        match trouble {
            Trouble::Io(cause) => Self::Disconnected { address, cause },
            Trouble::Fault { code, text } => Self::Fault { address, code, text },
            Trouble::Handshake(what) => Self::Handshake { address, what },
            Trouble::Protocol(what) => Self::Protocol { address, what },
            Trouble::OtherCluster { expected, got } => Self::OtherCluster { address, expected, got },
            Trouble::NotLeading { .. } => Self::NotLeader,
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::NodeId;

    use super::*;

    fn tried(address: &str, trouble: Trouble) -> Tried {
        Tried { address: address.to_owned(), trouble }
    }

    fn other_cluster() -> Trouble {
        Trouble::OtherCluster { expected: ClusterId(1), got: ClusterId(2) }
    }

    #[test]
    fn one_server_is_told_of_itself_and_several_together() {
        let refused = tried("a:1", Trouble::Io("connection refused".to_owned()));
        let alone = Error::from(vec![refused.clone()]);
        assert_eq!(
            alone,
            Error::Disconnected { address: "a:1".to_owned(), cause: "connection refused".to_owned() }
        );
        let idle = tried("b:1", Trouble::NotLeading { node: NodeId(2), leader: None });
        assert_eq!(Error::from(vec![idle.clone()]), Error::NotLeader);
        let stale = tried("c:1", Trouble::NotLeading { node: NodeId(3), leader: Some(NodeId(1)) });
        let text = Error::from(vec![refused, idle, stale]).to_string();
        assert_eq!(
            text,
            "no server serves: a:1: connection refused; b:1: node 2 does not lead, and knows no leader; c:1: node 3 \
             does not lead, but says that node 1 does; nothing was done"
        );
        assert_eq!(Error::from(Vec::new()), Error::Deadline);
    }

    #[test]
    fn trying_again_helps_if_it_may_help_with_one_of_them() {
        let foreign = tried("a:1", other_cluster());
        let refused = tried("b:1", Trouble::Io("connection refused".to_owned()));
        assert!(!Error::from(vec![foreign.clone()]).is_retryable());
        assert!(!Error::from(vec![foreign.clone(), tried("b:1", other_cluster())]).is_retryable());
        assert!(Error::from(vec![foreign, refused]).is_retryable());
    }
}
