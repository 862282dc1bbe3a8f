//! Bytes on their way out of a session.
//!
//! Room that the socket has emptied is used again, or given back: a client that takes its replies slowly, without ever
//! catching up, must not make this grow beyond twice what waits. Deliberately not here: when to send.

use sluice_protocol::handshake::Fault;
use sluice_protocol::header::{self, HEADER_LEN};
use sluice_protocol::{FaultCode, Kind};

/// A buffer that is empty and has grown beyond this is given back, bytes. It is what an idle connection may keep: a few
/// replies to single requests fit, so that those need not allocate.
const KEPT_MAX: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// How much of it the socket has taken.
    taken: usize,
}

impl Outbound {
    /// Appends a frame whose body `fill` appends.
    pub(super) fn put(
        &mut self,
        kind: Kind,
        version: u8,
        count: u16,
        correlation: u64,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        // What is moved is not more than what was taken, so each byte is moved once on average.
        if self.taken > 0 && self.taken >= self.bytes.len() - self.taken {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_LEN, 0);
        fill(&mut self.bytes);
        header::seal(&mut self.bytes[start..], kind, version, count, 0, correlation);
    }

    pub(super) fn put_fault(&mut self, code: FaultCode, text: &str) {
        self.put(Kind::Fault, 0, 0, 0, |out| Fault { code: code as u16, text }.encode(out));
    }

    /// What the socket has not taken.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The socket took so many bytes.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.taken += bytes;
        assert!(self.taken <= self.bytes.len(), "not more than was there");
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_MAX {
                self.bytes = Vec::new();
            }
        }
    }

    /// Bytes of memory that it takes while something waits. What an idle one keeps is part of a connection's own size.
    pub(super) fn held(&self) -> usize {
        if self.bytes.is_empty() { 0 } else { self.bytes.capacity() }
    }
}
