//! What keeps a server from serving this client: kept for each address, and told when a call comes to nothing.
//!
//! Deliberately not here: what the caller should do about it (see [`crate::Error`]).

use sluice_protocol::{ClusterId, FaultCode, NodeId};
use thiserror::Error;

/// Why a server did not serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The operating system's or the peer's doing: refused, reset, closed, silent.
    #[error("{0}")]
    Io(String),
    /// The server said why.
    #[error("fault {code}: {text}")]
    Fault {
        /// A [`FaultCode`], or a number of a later version.
        code: u16,
        /// The server's explanation.
        text: String,
    },
    /// The first frame was not a welcome that this client understands.
    #[error("it does not greet like a Sluice server: {0}")]
    Handshake(String),
    /// A later frame was not what the protocol allows.
    #[error("it does not keep to the protocol: {0}")]
    Protocol(String),
    /// It belongs to another cluster than the first server that ever greeted this client.
    #[error("it belongs to cluster {got}, not to {expected}")]
    OtherCluster {
        /// The cluster of the first server.
        expected: ClusterId,
        /// The cluster of this one.
        got: ClusterId,
    },
    /// It serves, but only a leader decides.
    #[error("node {node} does not lead, {}", known(*.leader))]
    NotLeading {
        /// Who it is.
        node: NodeId,
        /// Who leads, as far as it knows.
        leader: Option<NodeId>,
    },
}

fn known(leader: Option<NodeId>) -> String {
    leader.map_or_else(
        || "and knows no leader".to_owned(),
        |leader| format!("but says that node {leader} does"),
    )
}

impl Trouble {
    /// Whether waiting cannot help: the peer speaks, but not to this client.
    pub(crate) fn is_hopeless(&self) -> bool {
        match self {
            Self::Io(_) | Self::Protocol(_) | Self::NotLeading { .. } => false,
            Self::Handshake(_) | Self::OtherCluster { .. } => true,
            Self::Fault { code, .. } => *code == FaultCode::NoCommonVersion as u16,
        }
    }
}

/// A server that was tried, and its last trouble.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{address}: {trouble}")]
pub struct Tried {
    /// Where.
    pub address: String,
    /// What was wrong.
    pub trouble: Trouble,
}

/// For people: all of them in one line.
pub(crate) fn listed(tried: &[Tried]) -> String {
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join("; ")
}
