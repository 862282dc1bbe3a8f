//! What a system's wire looks like to the generator, so that one driver measures them all alike.
//!
//! A *volley* is a burst of requests that leaves together: one frame of Sluice, a pipeline of Redis's commands.
//! Deliberately not here: sockets, time.

pub mod redis;
pub mod sluice;

use std::net::TcpStream;

use crate::error::BenchError;

/// Speaks and understands one system.
pub trait Speech {
    /// What must be said before the first volley, on a new connection that still blocks.
    ///
    /// # Errors
    /// If the other side does not answer as it should.
    fn greet(&mut self, stream: &mut TcpStream) -> Result<(), BenchError>;

    /// Appends a volley of at most `items` requests, at least one.
    fn ask(&mut self, items: u32, out: &mut Vec<u8>) -> Asked;

    /// Understands the whole replies at the front of `bytes`, says so in `heard`, and how many bytes they took.
    ///
    /// # Errors
    /// If they are not replies.
    fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<usize, BenchError>;

    /// What has been answered so far.
    fn tally(&self) -> Tally;
}

/// A volley on its way.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Names it among those of its connection.
    pub tag: u64,
    /// Requests in it.
    pub items: u32,
}

/// Answers that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The volley they belong to; `None`: the oldest one.
    pub tag: Option<u64>,
    /// How many.
    pub items: u32,
}

/// Answers, by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Something was reserved, confirmed or cancelled.
    pub accepted: u64,
    /// A final no.
    pub refused: u64,
    /// Nothing was done: try again.
    pub busy: u64,
    /// Anything else: there should be none.
    pub other: u64,
}

impl Tally {
    /// What came after an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            accepted: self.accepted - earlier.accepted,
            refused: self.refused - earlier.refused,
            busy: self.busy - earlier.busy,
            other: self.other - earlier.other,
        }
    }

    /// Answers that are outcomes.
    pub fn settled(self) -> u64 {
        self.accepted + self.refused
    }
}
