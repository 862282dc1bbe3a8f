//! Hello and welcome: the first frame in each direction; and the fault, the last.
//!
//! ```text
//! hello    0  1 version_min          lowest protocol version the client speaks
//!          1  1 version_max          highest
//!          2  1 name_len             bytes of name, at most CLIENT_NAME_MAX
//!          3  1 reserved             zero
//!          4  2 credentials_len      bytes of credentials, at most CREDENTIALS_MAX
//!          6  2 reserved             zero
//!          8  … name                 UTF-8: what the client calls itself
//!          …  … credentials          opaque; empty where none are asked for
//!
//! welcome  0  1 version              the version of this connection
//!          1  1 leader_address_len   bytes of the address behind
//!          2  2 items_max            items in one frame
//!          4  4 body_max             bytes of one request body
//!          8  4 frames_in_flight_max unanswered frames of this connection
//!         12  4 reserved             zero
//!         16 16 cluster
//!         32  8 node                 who answers
//!         40  8 leader               node id of the leader; 0 = not known
//!         48  8 time_ms              the server's ledger time
//!         56  … leader_address       UTF-8, host:port; empty = not known or this node
//!
//! fault    0  2 code
//!          2  2 text_len             at most FAULT_TEXT_MAX
//!          4  4 reserved             zero
//!          8  … text                 UTF-8: for people
//! ```
//!
//! Deliberately not here: what credentials mean.

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;
use crate::ids::{ClusterId, NodeId};
use crate::limits::{ADDRESS_MAX, CLIENT_NAME_MAX, CREDENTIALS_MAX, FAULT_TEXT_MAX};

/// Bytes in the body of a hello.
pub const HELLO_BODY_MAX: usize = size_of::<RawHello>() + CLIENT_NAME_MAX + CREDENTIALS_MAX;

/// Bytes in the body of a welcome.
pub const WELCOME_BODY_MAX: usize = size_of::<RawWelcome>() + ADDRESS_MAX;

/// Bytes in the body of a fault.
pub const FAULT_BODY_MAX: usize = size_of::<RawFault>() + FAULT_TEXT_MAX;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHello {
    version_min: u8,
    version_max: u8,
    name_len: u8,
    reserved_a: u8,
    credentials_len: U16,
    reserved_b: [u8; 2],
}

/// The client's first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Lowest protocol version the client speaks.
    pub version_min: u8,
    /// Highest.
    pub version_max: u8,
    /// What the client calls itself, for the server's log.
    pub name: &'a str,
    /// Opaque; empty where none are asked for.
    pub credentials: &'a [u8],
}

impl<'a> Hello<'a> {
    /// Reads the body of a hello frame.
    ///
    /// # Errors
    /// Reserved bytes, lengths beyond their limits, a body that does not hold what it announces, no UTF-8.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let (raw, rest) = split::<RawHello>(body)?;
        if raw.reserved_a != 0 {
            return Err(DecodeError::ReservedNotZero { offset: 3 });
        }
        if raw.reserved_b != [0; 2] {
            return Err(DecodeError::ReservedNotZero { offset: 6 });
        }
        let name_len = bounded(usize::from(raw.name_len), CLIENT_NAME_MAX)?;
        let credentials_len = bounded(usize::from(raw.credentials_len.get()), CREDENTIALS_MAX)?;
        exact(body, size_of::<RawHello>() + name_len + credentials_len)?;
        let (name, credentials) = rest.split_at(name_len);
        Ok(Self {
            version_min: raw.version_min,
            version_max: raw.version_max,
            name: text(name)?,
            credentials,
        })
    }

    /// Appends the body of a hello frame.
    ///
    /// # Panics
    /// If name or credentials exceed their limits: the caller checks what it was configured with.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.name.len() <= CLIENT_NAME_MAX && self.credentials.len() <= CREDENTIALS_MAX);
        let raw = RawHello {
            version_min: self.version_min,
            version_max: self.version_max,
            name_len: self.name.len() as u8,
            reserved_a: 0,
            credentials_len: U16::new(self.credentials.len() as u16),
            reserved_b: [0; 2],
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.credentials);
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawWelcome {
    version: u8,
    leader_address_len: u8,
    items_max: U16,
    body_max: U32,
    frames_in_flight_max: U32,
    reserved: [u8; 4],
    cluster: U128,
    node: U64,
    leader: U64,
    time_ms: U64,
}

/// The server's first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version of this connection.
    pub version: u8,
    /// Items in one frame.
    pub items_max: u16,
    /// Bytes of one request body.
    pub body_max: u32,
    /// Unanswered frames of this connection; beyond it the server stops reading.
    pub frames_in_flight_max: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// Who answers.
    pub node: NodeId,
    /// Who leads; 0 = not known.
    pub leader: NodeId,
    /// Where the leader listens, host:port; empty = not known, or right here.
    pub leader_address: &'a str,
    /// The server's ledger time, milliseconds since 1970.
    pub time_ms: u64,
}

impl<'a> Welcome<'a> {
    /// Reads the body of a welcome frame.
    ///
    /// # Errors
    /// Reserved bytes, a body that does not hold what it announces, no UTF-8.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let (raw, rest) = split::<RawWelcome>(body)?;
        if raw.reserved != [0; 4] {
            return Err(DecodeError::ReservedNotZero { offset: 12 });
        }
        exact(body, size_of::<RawWelcome>() + usize::from(raw.leader_address_len))?;
        Ok(Self {
            version: raw.version,
            items_max: raw.items_max.get(),
            body_max: raw.body_max.get(),
            frames_in_flight_max: raw.frames_in_flight_max.get(),
            cluster: ClusterId(raw.cluster.get()),
            node: NodeId(raw.node.get()),
            leader: NodeId(raw.leader.get()),
            leader_address: text(rest)?,
            time_ms: raw.time_ms.get(),
        })
    }

    /// Appends the body of a welcome frame.
    ///
    /// # Panics
    /// If the address exceeds its limit: it was checked with the configuration.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.leader_address.len() <= ADDRESS_MAX);
        let raw = RawWelcome {
            version: self.version,
            leader_address_len: self.leader_address.len() as u8,
            items_max: U16::new(self.items_max),
            body_max: U32::new(self.body_max),
            frames_in_flight_max: U32::new(self.frames_in_flight_max),
            reserved: [0; 4],
            cluster: U128::new(self.cluster.0),
            node: U64::new(self.node.0),
            leader: U64::new(self.leader.0),
            time_ms: U64::new(self.time_ms),
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(self.leader_address.as_bytes());
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFault {
    code: U16,
    text_len: U16,
    reserved: [u8; 4],
}

/// The server's last frame: why it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// A [`crate::FaultCode`], or a number of a later version.
    pub code: u16,
    /// For people.
    pub text: &'a str,
}

impl<'a> Fault<'a> {
    /// Reads the body of a fault frame.
    ///
    /// # Errors
    /// Reserved bytes, a body that does not hold what it announces, no UTF-8.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let (raw, rest) = split::<RawFault>(body)?;
        if raw.reserved != [0; 4] {
            return Err(DecodeError::ReservedNotZero { offset: 4 });
        }
        let text_len = bounded(usize::from(raw.text_len.get()), FAULT_TEXT_MAX)?;
        exact(body, size_of::<RawFault>() + text_len)?;
        Ok(Self { code: raw.code.get(), text: text(rest)? })
    }

    /// Appends the body of a fault frame. Text beyond its limit is cut at a character.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let end = self.text.floor_char_boundary(FAULT_TEXT_MAX);
        let text = &self.text[..end];
        let raw =
            RawFault { code: U16::new(self.code), text_len: U16::new(text.len() as u16), reserved: [0; 4] };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn split<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    body: &[u8],
) -> Result<(&T, &[u8]), DecodeError> {
    T::ref_from_prefix(body)
        .map_err(|_| DecodeError::BadLength { got: body.len() as u32, expected: size_of::<T>() as u32 })
}

fn exact(body: &[u8], expected: usize) -> Result<(), DecodeError> {
    if body.len() == expected {
        Ok(())
    } else {
        Err(DecodeError::BadLength { got: body.len() as u32, expected: expected as u32 })
    }
}

fn bounded(got: usize, limit: usize) -> Result<usize, DecodeError> {
    if got <= limit {
        Ok(got)
    } else {
        Err(DecodeError::BadLength { got: got as u32, expected: limit as u32 })
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::BadText)
}
