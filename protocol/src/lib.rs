//! Sluice's wire protocol, version 1: bytes only.
//!
//! `docs/PROTOCOL.md` specifies the same bytes for readers without Rust; `tests/golden.rs` holds the two
//! together. Every message is one frame: a 32-byte [`header`] and a body of fixed-size items, all integers
//! little-endian, every reserved byte zero. A frame of requests is a batch of one [`Kind`]; its reply frame
//! answers item by item, in the same order, under the same correlation number.
//!
//! The map:
//! - [`header`]: the 32 bytes in front of everything, and the checks that come before any allocation; [`Kind`]:
//!   what a frame can be
//! - [`ids`]: the names of things
//! - [`limits`]: every bound of the wire
//! - [`handshake`]: hello, welcome
//! - [`request`]: what clients ask, item by item
//! - [`response`]: what they hear: statuses, answers, records
//! - [`event`]: a committed change as consumers see it; [`group`], [`seat`]: what consumers ask; [`consumed`]:
//!   what they hear
//! - [`error`]: everything that can be wrong with bytes
//!
//! Deliberately not here: sockets, buffers that grow, meaning. A frame that decodes may still be refused by
//! the ledger.

#![forbid(unsafe_code)]

pub mod consumed;
pub mod error;
pub mod event;
pub mod group;
pub mod handshake;
pub mod header;
pub mod ids;
mod kind;
pub mod limits;
mod record;
pub mod request;
pub mod response;
pub mod seat;
mod status;

pub use error::{DecodeError, FaultCode};
pub use header::{FrameHeader, HEADER_LEN};
pub use ids::{ClusterId, NodeId, ProductId, ReservationId, UserId};
pub use kind::Kind;
pub use response::{Answer, RefusedField, State, Status};

/// The one version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u8 = 1;

/// The port on which a server listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 7400;
