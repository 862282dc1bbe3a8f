//! What travels between nodes, as frames:
//!
//! ```text
//!  0 3 magic      "SLP"
//!  3 1 format     FORMAT
//!  4 1 kind
//!  5 3 reserved   zero
//!  8 4 length     bytes of body behind the header
//! 12 4 checksum   CRC-32 (IEEE) of the twelve bytes before, then of the body
//! ```
//!
//! A message's body checks itself, so that it need not be looked at twice: its frame's checksum is of the header alone.
//! Everything else is JSON: it is said seldom, and an operator with a packet dump can read it.
//!
//! Deliberately not here: who says what when.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_core::replica::peer::MESSAGE_LEN_MAX;
use thiserror::Error;

/// The format this build speaks.
pub(super) const FORMAT: u8 = 1;

const MAGIC: [u8; 3] = *b"SLP";

/// Bytes before a body.
pub(super) const HEADER_LEN: usize = 16;

/// Where the checksum stands.
const CHECKSUM_AT: usize = 12;

/// Bytes of a body that is no message.
const TEXT_LEN_MAX: usize = 256 * 1024;

/// Bodies up to this length are copied out of the buffer that they were read into. What a message carries may stay for as
/// long as the log in memory does, and would keep that whole buffer, for a few bytes of its own.
const COPIED_LEN_MAX: usize = 32 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Who connects, and what for.
    Greeting = 1,
    /// Who was connected to.
    Welcome = 2,
    /// Why the connection is of no use.
    Refusal = 3,
    /// A message of the core's.
    Message = 4,
    /// Addresses of nodes.
    Book = 5,
    /// What an operator asks.
    Ask = 6,
    /// What an operator is answered.
    Answer = 7,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Greeting, Self::Welcome, Self::Refusal, Self::Message, Self::Book, Self::Ask, Self::Answer];

    fn len_max(self) -> usize {
        if self == Self::Message { MESSAGE_LEN_MAX } else { TEXT_LEN_MAX }
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    /// Somebody else connected.
    #[error(
        "this is not how Sluice's nodes speak to each other: is it the port for clients, or for operators?"
    )]
    Foreign,
    /// Another version of Sluice.
    #[error("the other side speaks peer format {got}, this build {FORMAT}: bring both to one version")]
    Format {
        /// The format found.
        got: u8,
    },
    /// Not what was sent.
    #[error("a frame is damaged: {0}")]
    Damaged(&'static str),
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) body: Bytes,
}

impl Frame {
    /// What the body says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.body).map_err(|_| FrameError::Damaged("its body says something else"))
    }
}

/// The header of a message of `len` bytes.
pub(super) fn message_header(len: usize) -> [u8; HEADER_LEN] {
    header(Kind::Message, len, &[])
}

/// A frame that says `what`.
pub(super) fn text(kind: Kind, what: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(what).expect("what nodes say has names for keys");
    let mut out = header(kind, body.len(), &body).to_vec();
    out.extend_from_slice(&body);
    out
}

fn header(kind: Kind, len: usize, checked: &[u8]) -> [u8; HEADER_LEN] {
    let len = u32::try_from(len).expect("a frame is far shorter");
    let mut header = [0; HEADER_LEN];
    header[..3].copy_from_slice(&MAGIC);
    (header[3], header[4]) = (FORMAT, kind as u8);
    header[8..CHECKSUM_AT].copy_from_slice(&len.to_le_bytes());
    let checksum = checksum(&header[..CHECKSUM_AT], checked);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// Takes a frame off the front; `None` until it is whole. Nothing is made room for before its length has passed.
pub(super) fn take(inbound: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(header) = inbound.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    if header[..3] != MAGIC {
        return Err(FrameError::Foreign);
    }
    if header[3] != FORMAT {
        return Err(FrameError::Format { got: header[3] });
    }
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == header[4]);
    let kind = kind.ok_or(FrameError::Damaged("there is no such kind"))?;
    let len = u32::from_le_bytes(header[8..CHECKSUM_AT].try_into().expect("four bytes")) as usize;
    if header[5..8] != [0; 3] || len > kind.len_max() {
        return Err(FrameError::Damaged("its header makes no sense"));
    }
    if inbound.len() < HEADER_LEN + len {
        inbound.reserve(HEADER_LEN + len - inbound.len());
        return Ok(None);
    }
    let body = &inbound[HEADER_LEN..HEADER_LEN + len];
    let checked = if kind == Kind::Message { &[] } else { body };
    let stored = u32::from_le_bytes(header[CHECKSUM_AT..].try_into().expect("four bytes"));
    if stored != checksum(&header[..CHECKSUM_AT], checked) {
        return Err(FrameError::Damaged("its checksum differs"));
    }
    inbound.advance(HEADER_LEN);
    Ok(Some(Frame { kind, body: cut(inbound, len) }))
}

fn cut(inbound: &mut BytesMut, len: usize) -> Bytes {
    if len > COPIED_LEN_MAX {
        return inbound.split_to(len).freeze();
    }
    let body = Bytes::copy_from_slice(&inbound[..len]);
    inbound.advance(len);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whole_or_not_yet() {
        let mut bytes = text(Kind::Ask, &"how are you");
        bytes.extend_from_slice(&message_header(3));
        bytes.extend_from_slice(b"abc");
        for cut in 0..bytes.len() {
            let mut inbound = BytesMut::from(&bytes[..cut]);
            let mut frames = 0;
            while take(&mut inbound).unwrap().is_some() {
                frames += 1;
            }
            assert!(frames < 2, "{cut}");
        }
        let mut inbound = BytesMut::from(&bytes[..]);
        let first = take(&mut inbound).unwrap().unwrap();
        assert_eq!(first.read::<String>(), Ok("how are you".to_owned()));
        let second = take(&mut inbound).unwrap().unwrap();
        assert_eq!((second.kind, &second.body[..]), (Kind::Message, &b"abc"[..]));
        assert_eq!(take(&mut inbound), Ok(None));
    }

    #[test]
    fn a_short_message_that_is_kept_does_not_keep_the_buffer() {
        const ROOM: usize = 2 * COPIED_LEN_MAX;
        for (len, is_free) in [(3, true), (COPIED_LEN_MAX, true), (COPIED_LEN_MAX + 1, false)] {
            let mut inbound = BytesMut::with_capacity(ROOM);
            inbound.extend_from_slice(&message_header(len));
            inbound.resize(HEADER_LEN + len, 7);
            let kept = take(&mut inbound).unwrap().unwrap();
            assert_eq!(inbound.try_reclaim(ROOM), is_free, "{len}");
            assert_eq!(kept.body, vec![7; len]);
        }
    }

    #[test]
    fn any_byte_that_changes_is_noticed() {
        let bytes = text(Kind::Book, &[1, 2, 3]);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            let mut inbound = BytesMut::from(&wrong[..]);
            // A length that grew waits for more; what comes then makes no sense either.
            if take(&mut inbound) == Ok(None) {
                inbound.resize(HEADER_LEN + TEXT_LEN_MAX, 0);
                assert!(take(&mut inbound).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn whoever_speaks_something_else_is_told_so() {
        let take = |bytes: &[u8]| take(&mut BytesMut::from(bytes));
        assert_eq!(take(b"GET / HTTP/1.1\r\n\r\n"), Err(FrameError::Foreign));
        let mut newer = text(Kind::Greeting, &0);
        newer[3] = 9;
        assert_eq!(take(&newer), Err(FrameError::Format { got: 9 }));
    }
}
