//! Messages as bytes, little-endian:
//!
//! ```text
//!  0  1 version      FORMAT
//!  1  1 kind
//!  2  2 reserved     zero
//!  4  4 checksum     CRC-32 (IEEE) of the four bytes before and of everything behind
//!  8 16 cluster
//! 24 40 from         node, incarnation, boot, nonce; to: 8 bytes each
//! 64  … body         by kind, as written below
//! ```
//!
//! Entries and chunks are decoded without a copy: they share the received buffer; nor are large ones copied to be sent
//! (`parts`). Every length is checked against what is there before anything is allocated. Deliberately not here: who may
//! say what (`acquaintance`).

use std::iter::once;

use bytes::{Buf, Bytes};
use raft::prelude::{Entry, EntryType, Message, MessageType};
use sluice_protocol::ids::ClusterId;
use thiserror::Error;

use super::parts::{Parts, SHARED_LEN_MIN};
use super::{Body, Chunk, Envelope, Hello, Identity, ImageId, Refusal};
use crate::replica::disk::{Members, SnapshotMeta};
use crate::replica::{CHUNK_LEN, ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX};

/// The format this build writes and reads.
pub(super) const FORMAT: u8 = 1;

const CHECKSUM_AT: usize = 4;
const PREFIX_LEN: usize = 8;
const HEADER_LEN: usize = 64;

/// What an entry takes beside its data; and what it takes where raft counts, at least: two tags, a term and an index.
const ENTRY_LEN_MIN: usize = 8 + 8 + 1 + 4;
const ENTRY_COUNTED_MIN: usize = 4;

/// What a message of raft's takes beside its entries, generously.
const RAFT_LEN: usize = 192;

/// What a part of a snapshot takes beside its bytes and the members.
const CHUNK_HEAD_LEN: usize = 192;

/// What may be said of members, removed ones too: many thousands.
const MEMBERS_LEN_MAX: usize = 1024 * 1024;

/// Bytes of one message: what a receiver may have to allocate for it. An append carries as many entries as raft counts
/// bytes, at least one; however small they are, they are not longer than this.
pub const MESSAGE_LEN_MAX: usize = 2 * 1024 * 1024;

const _: () = {
    let appended = MESSAGE_BYTES_MAX as usize;
    assert!(ENTRY_BYTES_MAX <= appended, "an entry alone is no longer than what raft may put into a message");
    // Data counts the same here and there, so entries without any take most of what raft counts.
    let entries = appended / ENTRY_COUNTED_MIN * ENTRY_LEN_MIN;
    assert!(HEADER_LEN + RAFT_LEN + entries <= MESSAGE_LEN_MAX);
    assert!(HEADER_LEN + CHUNK_HEAD_LEN + MEMBERS_LEN_MAX + CHUNK_LEN <= MESSAGE_LEN_MAX);
};

const REFUSALS: [Refusal; 5] = [
    Refusal::OtherCluster,
    Refusal::Removed,
    Refusal::OtherIncarnation,
    Refusal::Superseded,
    Refusal::LostState,
];

/// Raft's messages that travel; a message's byte is its place here. Proposals, reads and transfers are asked of the
/// leader's own node, so they have none.
const RAFT_KINDS: [MessageType; 10] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Written by a later version of Sluice.
    #[error("the peer speaks format {got}, this build {FORMAT}: bring both to one version")]
    Newer {
        /// The format found.
        got: u8,
    },
    /// Not what was sent.
    #[error("the message is damaged: {0}")]
    Damaged(&'static str),
}

/// Whether a message of this type ever travels.
pub(in crate::replica) fn travels(kind: MessageType) -> bool {
    RAFT_KINDS.contains(&kind)
}

impl Envelope {
    /// Adds the message to `out`, as parts to be sent one behind the other. The data of an entry or a chunk is a part of
    /// its own and shares that one's buffer, if it is large; all that is small lies in one buffer.
    ///
    /// # Panics
    /// If it is one of raft's messages that never travel.
    pub fn encode_into(&self, out: &mut Vec<Bytes>) {
        let mut parts = Parts::with_capacity(HEADER_LEN + self.body.small_len());
        [FORMAT, self.body.kind(), 0, 0, 0, 0, 0, 0].into_iter().for_each(|byte| parts.u8(byte));
        parts.u128(self.from.cluster.0);
        parts.u64s(&[self.from.node, self.from.incarnation, self.from.boot, self.from.nonce, self.to]);
        put_body(&self.body, &mut parts);
        let checksum = checksum(parts.pieces());
        parts.replace(CHECKSUM_AT, &checksum.to_le_bytes());
        parts.hand_out(out);
    }

    /// The message in one piece.
    ///
    /// # Panics
    /// As [`Envelope::encode_into`].
    pub fn encode(&self) -> Bytes {
        let mut parts = Vec::new();
        self.encode_into(&mut parts);
        if parts.len() == 1 { parts.remove(0) } else { parts.concat().into() }
    }

    /// # Errors
    /// [`WireError`] if these are not the bytes of a message.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        if bytes.len() < HEADER_LEN {
            return Err(WireError::Damaged("it is too short"));
        }
        if bytes[0] > FORMAT {
            return Err(WireError::Newer { got: bytes[0] });
        }
        let stored = u32::from_le_bytes(bytes[CHECKSUM_AT..PREFIX_LEN].try_into().expect("four bytes"));
        if bytes[0] != FORMAT || bytes[2..4] != [0, 0] || stored != checksum(once(&bytes[..])) {
            return Err(WireError::Damaged("its checksum differs"));
        }
        let kind = bytes[1];
        let mut reader = Reader(bytes);
        reader.0.advance(PREFIX_LEN);
        let from = Identity {
            cluster: ClusterId(reader.u128()?),
            node: reader.u64()?,
            incarnation: reader.u64()?,
            boot: reader.u64()?,
            nonce: reader.u64()?,
        };
        let to = reader.u64()?;
        let body = get_body(kind, &mut reader)?;
        if !reader.0.is_empty() {
            return Err(WireError::Damaged("something stands behind it"));
        }
        Ok(Self { from, to, body })
    }
}

impl Body {
    /// Room for all that is small, generously.
    fn small_len(&self) -> usize {
        let small = |bytes: &Bytes| if bytes.len() < SHARED_LEN_MIN { bytes.len() } else { 0 };
        match self {
            Self::Raft(message) => {
                let entries = message.entries.iter().map(|entry| ENTRY_LEN_MIN + small(&entry.data));
                RAFT_LEN + entries.sum::<usize>()
            }
            Self::Chunk(chunk) => 2 * CHUNK_HEAD_LEN + small(&chunk.bytes),
            _ => 64,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 0,
            Self::Welcome { .. } => 1,
            Self::WhoAreYou { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Raft(_) => 4,
            Self::Chunk(_) => 5,
            Self::ChunkAck { .. } => 6,
            Self::Digest { .. } => 7,
            Self::RoundAsk { .. } => 8,
            Self::RoundDone { .. } => 9,
        }
    }
}

/// Of a message in pieces, of which the first holds the whole prefix.
fn checksum<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let first = pieces.next().expect("a message has a header");
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&first[..CHECKSUM_AT]);
    hasher.update(&first[PREFIX_LEN..]);
    pieces.for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

fn put_body(body: &Body, out: &mut Parts) {
    match body {
        Body::Hello(hello) => out.u64s(&[hello.term, hello.last_index]),
        Body::Welcome { nonce } | Body::WhoAreYou { nonce } => out.u64(*nonce),
        Body::Refused { nonce, refusal, quorum } => {
            out.u64s(&[*nonce, *quorum]);
            let place = REFUSALS.iter().position(|known| known == refusal);
            out.u8(place.expect("every refusal stands there") as u8);
        }
        Body::Raft(message) => put_raft(message, out),
        Body::Chunk(chunk) => {
            put_image(&chunk.image, out);
            out.u64s(&[chunk.meta.index, chunk.meta.term, chunk.offset]);
            put_members(&chunk.meta.members, out);
            out.bytes(&chunk.bytes);
        }
        Body::ChunkAck { image, have } => {
            put_image(image, out);
            out.u64(*have);
        }
        Body::Digest { index, digest, format } => {
            out.u64s(&[*index, *digest]);
            out.u8(*format);
        }
        Body::RoundAsk { name } => out.u64(*name),
        Body::RoundDone { nonce, name, index } => out.u64s(&[*nonce, *name, *index]),
    }
}

fn get_body(kind: u8, reader: &mut Reader) -> Result<Body, WireError> {
    Ok(match kind {
        0 => Body::Hello(Hello { term: reader.u64()?, last_index: reader.u64()? }),
        1 => Body::Welcome { nonce: reader.u64()? },
        2 => Body::WhoAreYou { nonce: reader.u64()? },
        3 => {
            let (nonce, quorum) = (reader.u64()?, reader.u64()?);
            let refusal = REFUSALS.get(usize::from(reader.u8()?)).copied();
            let refusal = refusal.ok_or(WireError::Damaged("no such refusal"))?;
            Body::Refused { nonce, refusal, quorum }
        }
        4 => Body::Raft(Box::new(get_raft(reader)?)),
        5 => {
            let image = get_image(reader)?;
            let (index, term, offset) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let members = get_members(reader)?;
            let bytes = reader.bytes()?;
            Body::Chunk(Chunk { image, meta: SnapshotMeta { index, term, members }, offset, bytes })
        }
        6 => Body::ChunkAck { image: get_image(reader)?, have: reader.u64()? },
        7 => Body::Digest { index: reader.u64()?, digest: reader.u64()?, format: reader.u8()? },
        8 => Body::RoundAsk { name: reader.u64()? },
        9 => Body::RoundDone { nonce: reader.u64()?, name: reader.u64()?, index: reader.u64()? },
        _ => return Err(WireError::Damaged("no such kind")),
    })
}

fn put_raft(message: &Message, out: &mut Parts) {
    let kind = RAFT_KINDS.iter().position(|kind| *kind == message.get_msg_type());
    out.u8(kind.expect("a message that never travels is not sent") as u8);
    out.u8(u8::from(message.reject));
    let snapshot = message.get_snapshot().get_metadata();
    out.u64s(&[
        message.from,
        message.to,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        message.request_snapshot,
        snapshot.index,
        snapshot.term,
    ]);
    out.bytes(&message.context);
    out.u32(message.entries.len() as u32);
    for entry in &message.entries {
        out.u64s(&[entry.index, entry.term]);
        out.u8(u8::from(entry.get_entry_type() != EntryType::EntryNormal));
        out.bytes(&entry.data);
    }
}

fn get_raft(reader: &mut Reader) -> Result<Message, WireError> {
    let mut message = Message::default();
    let kind = RAFT_KINDS.get(usize::from(reader.u8()?)).copied();
    message.set_msg_type(kind.ok_or(WireError::Damaged("no such message"))?);
    message.reject = reader.bool()?;
    message.from = reader.u64()?;
    message.to = reader.u64()?;
    message.term = reader.u64()?;
    message.log_term = reader.u64()?;
    message.index = reader.u64()?;
    message.commit = reader.u64()?;
    message.commit_term = reader.u64()?;
    message.reject_hint = reader.u64()?;
    message.request_snapshot = reader.u64()?;
    let (index, term) = (reader.u64()?, reader.u64()?);
    if index != 0 {
        let meta = message.mut_snapshot().mut_metadata();
        (meta.index, meta.term) = (index, term);
    }
    message.context = reader.bytes()?;
    let count = reader.u32()? as usize;
    if count > reader.0.len() / ENTRY_LEN_MIN {
        return Err(WireError::Damaged("more entries than bytes"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let mut entry = Entry { index: reader.u64()?, term: reader.u64()?, ..Entry::default() };
        if reader.bool()? {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
        }
        entry.data = reader.bytes()?;
        entries.push(entry);
    }
    message.set_entries(entries.into());
    Ok(message)
}

fn put_image(image: &ImageId, out: &mut Parts) {
    out.u64s(&[image.index, image.term, image.len]);
    out.u32(image.digest);
}

fn get_image(reader: &mut Reader) -> Result<ImageId, WireError> {
    Ok(ImageId { index: reader.u64()?, term: reader.u64()?, len: reader.u64()?, digest: reader.u32()? })
}

fn put_members(members: &Members, out: &mut Parts) {
    let parts =
        [&members.voters, &members.learners, &members.outgoing, &members.learners_next, &members.removed];
    for part in parts {
        out.u32(part.len() as u32);
        out.u64s(part);
    }
    out.u32(members.incarnations.len() as u32);
    for (node, incarnation) in &members.incarnations {
        out.u64s(&[*node, *incarnation]);
    }
    out.u8(u8::from(members.auto_leave));
}

fn get_members(reader: &mut Reader) -> Result<Members, WireError> {
    let voters = reader.u64s()?;
    let learners = reader.u64s()?;
    let outgoing = reader.u64s()?;
    let learners_next = reader.u64s()?;
    let removed = reader.u64s()?;
    let count = reader.count(16)?;
    let mut incarnations = Vec::with_capacity(count);
    for _ in 0..count {
        incarnations.push((reader.u64()?, reader.u64()?));
    }
    let auto_leave = reader.bool()?;
    Ok(Members { voters, learners, outgoing, learners_next, auto_leave, incarnations, removed })
}

/// Takes values off the front, if they are there.
struct Reader(Bytes);

const SHORT: WireError = WireError::Damaged("it ends too early");

impl Reader {
    fn u8(&mut self) -> Result<u8, WireError> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Damaged("neither yes nor no")),
        }
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.0.try_get_u32_le().map_err(|_| SHORT)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.0.try_get_u64_le().map_err(|_| SHORT)
    }

    fn u128(&mut self) -> Result<u128, WireError> {
        self.0.try_get_u128_le().map_err(|_| SHORT)
    }

    /// A count of things of `each` bytes that are all there.
    fn count(&mut self, each: usize) -> Result<usize, WireError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / each { Err(SHORT) } else { Ok(count) }
    }

    fn u64s(&mut self) -> Result<Vec<u64>, WireError> {
        let count = self.count(8)?;
        (0..count).map(|_| self.u64()).collect()
    }

    fn bytes(&mut self) -> Result<Bytes, WireError> {
        let len = self.count(1)?;
        Ok(self.0.split_to(len))
    }
}
