//! Any bytes as a message from a peer: refused, or read as what is written back and read again the same.
//!
//! The input is a message without its version and checksum, which are put in front so that the fuzzer gets to what is
//! behind; if its first byte is odd the bytes are taken as they are. Deliberately not here: what a replica makes of a
//! message.

use bytes::Bytes;
use sluice_core::replica::peer::Envelope;

use crate::heap;

/// Bytes that reading may allocate for each byte read: a member of a list becomes a pair of numbers, an entry a struct
/// of raft's.
const ALLOCATED_MAX: u64 = 16;

/// What is allocated however short the message is.
const ALLOCATED_MIN: u64 = 4096;

/// See the module.
pub fn target(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = Bytes::from(if mode & 1 == 1 { rest.to_vec() } else { framed(rest) });
    let (read, taken) = heap::taken(|| Envelope::decode(bytes.clone()));
    assert!(taken <= ALLOCATED_MIN + ALLOCATED_MAX * bytes.len() as u64, "{taken} bytes for {}", bytes.len());
    let Ok(envelope) = read else { return };
    let written = envelope.encode();
    assert_eq!(Envelope::decode(written).as_ref(), Ok(&envelope));
}

/// The bytes as a message of this version with a sound checksum.
fn framed(rest: &[u8]) -> Vec<u8> {
    let (kind, rest) = rest.split_first().unwrap_or((&0, &[]));
    let mut bytes = vec![1, *kind, 0, 0];
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    hasher.update(rest);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}
