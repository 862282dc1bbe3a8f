//! What operators ask of a node over the port for peers, and what they are told.
//!
//! Any node answers what it knows; changes are the leader's, and another node says where that is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::frame::{self, Frame, Kind};
use super::greeting::{Greeting, Purpose, Refusal};

pub(crate) use super::book::Book;
use crate::ops::fetch::connect;
pub use crate::ops::members::{Cluster, Member};

/// How long a node may take to be connected to and to say who it is, which no node that lives keeps anybody waiting for.
const MEETING_MAX: Duration = Duration::from_secs(2);

/// What an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Who the members are, and how they are.
    List,
    /// A new node wants to learn the log.
    Join {
        /// Of its data directory.
        incarnation: u64,
    },
    /// A learner that has caught up is to vote.
    Promote {
        /// The learner.
        node: u64,
    },
    /// A node is to leave for good.
    Remove {
        /// The node.
        node: u64,
    },
    /// A learner is to take a voter's place.
    Replace {
        /// The voter.
        node: u64,
        /// The learner.
        by: u64,
    },
    /// Another voter is to lead.
    Transfer {
        /// Which.
        to: u64,
    },
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Who the members are.
    Listed(Cluster),
    /// The new node has its id.
    Joined(Joined),
    /// The change is made, as of this log index.
    Changed {
        /// The index.
        index: u64,
    },
    /// The leadership is being handed over.
    Transferring,
    /// Another node leads; ask there.
    NotLeader {
        /// Its id; 0 = not known.
        leader: u64,
        /// Where its port for peers is, if known.
        address: Option<String>,
    },
    /// It is not done, and why.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// Whether the same may be asked again after a while.
        retry: bool,
    },
}

impl Answer {
    /// Nobody had time to answer.
    pub(super) fn none() -> Self {
        Self::Refused {
            code: "no_answer".to_owned(),
            message: "the node did not answer in time: whether anything was done is seen in the list"
                .to_owned(),
            retry: true,
        }
    }
}

/// What a node needs to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster's id.
    pub cluster: String,
    /// The node's own.
    pub node: u64,
    /// As [`sluice_core::ledger::settings::Settings`].
    pub records_max: u32,
    /// The same.
    pub retention_ms: u64,
    /// Where the others are.
    pub(crate) book: Book,
}

/// A question that waits for the replica.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) ask: Ask,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Asks the node at `address`, and nobody else. Whoever is not there, or stands still, is given up long before `by`: others
/// may be asked in the time that is left.
///
/// # Errors
/// The system's, and [`io::ErrorKind::InvalidData`] if it does not answer as a node of this version does.
pub fn ask(address: &str, ask: &Ask, by: Instant) -> io::Result<Answer> {
    let mut patience = by.min(Instant::now() + MEETING_MAX);
    let left = |by: Instant| by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = connect(address, left(patience))?;
    let greeting = Greeting { purpose: Purpose::Operator, from: None, to: 0, book: Book::default() };
    let mut question = frame::text(Kind::Greeting, &greeting);
    question.extend_from_slice(&frame::text(Kind::Ask, ask));
    stream.set_write_timeout(Some(left(patience)))?;
    stream.write_all(&question)?;
    let mut inbound = BytesMut::new();
    loop {
        stream.set_read_timeout(Some(left(patience)))?;
        let frame = read(&mut stream, &mut inbound)?;
        match frame.kind {
            Kind::Welcome => patience = by,
            Kind::Answer => return Ok(frame.read()?),
            Kind::Refusal => return Err(io::Error::other(frame.read::<Refusal>()?.why)),
            _ => return Err(io::Error::other("it answers, but not as a node does")),
        }
    }
}

/// Asks one address after the other until the leader answers, wherever that is named to be. What may be asked again is,
/// after a pause. Whoever is named is asked once before the next address is: who named it may not know that it is gone.
///
/// # Errors
/// The last one met, if nobody who leads answered in time.
pub fn ask_leader(addresses: &[String], question: &Ask, by: Instant, pause: Duration) -> io::Result<Answer> {
    let mut last = Err(io::Error::new(io::ErrorKind::InvalidInput, "no address was given"));
    let mut in_doubt = false;
    for listed in addresses.iter().cycle() {
        last = ask(listed, question, by);
        if let Ok(Answer::NotLeader { address: Some(leader), .. }) = &last
            && leader != listed
        {
            last = ask(&leader.clone(), question, by);
        }
        match &mut last {
            Ok(Answer::NotLeader { .. } | Answer::Refused { retry: true, .. }) => thread::sleep(pause),
            Err(error) => {
                // Whoever refused the connection was not asked.
                in_doubt |= error.kind() != io::ErrorKind::ConnectionRefused;
                thread::sleep(pause);
            }
            Ok(Answer::Refused { message, .. }) if in_doubt => {
                message
                    .push_str(", unless it was done already: an answer was lost; look at the list of nodes");
                return last;
            }
            Ok(_) => return last,
        }
        if Instant::now() >= by {
            break;
        }
    }
    match last {
        Ok(Answer::NotLeader { .. }) => Err(io::Error::other("no node that was asked leads")),
        last => last,
    }
}

fn read(stream: &mut TcpStream, inbound: &mut BytesMut) -> io::Result<Frame> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = frame::take(inbound)? {
            return Ok(frame);
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => inbound.extend_from_slice(&chunk[..len]),
        }
    }
}
