//! Messages to peers as parts: nothing large is copied on its way out, and the parts are the message.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use bytes::Bytes;
use raft::prelude::{Entry, Message, MessageType};
use sluice_core::replica::disk::SnapshotMeta;
use sluice_core::replica::peer::{Body, Chunk, Envelope, Identity, ImageId, MESSAGE_LEN_MAX};
use sluice_core::replica::{CHUNK_LEN, ENTRY_BYTES_MAX};
use sluice_protocol::ids::ClusterId;

fn envelope(body: Body) -> Envelope {
    let from = Identity { cluster: ClusterId(5), node: 2, incarnation: 3, boot: 4, nonce: 6 };
    Envelope { from, to: 1, body }
}

/// An append of entries with data of these lengths.
fn append(lens: &[usize]) -> (Envelope, Vec<Bytes>) {
    let data: Vec<Bytes> = lens.iter().map(|len| vec![*len as u8; *len].into()).collect();
    let entries = data.iter().zip(9..).map(|(data, index)| {
        let mut entry = Entry { index, term: 3, ..Entry::default() };
        entry.data = data.clone();
        entry
    });
    let mut message = Message { from: 2, to: 1, term: 3, index: 8, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    message.set_entries(entries.collect::<Vec<_>>().into());
    (envelope(Body::Raft(Box::new(message))), data)
}

/// The parts, which together must be the message.
fn parts(message: &Envelope) -> Vec<Bytes> {
    let mut parts = vec![Bytes::from_static(b"another message")];
    message.encode_into(&mut parts);
    assert_eq!(parts.remove(0), "another message", "what was there stays there");
    let whole = Bytes::from(parts.concat());
    assert_eq!(whole, message.encode());
    assert_eq!(Envelope::decode(whole).as_ref(), Ok(message));
    assert!(parts.iter().all(|part| !part.is_empty()));
    parts
}

fn shares(part: &Bytes, data: &Bytes) -> bool {
    (part.as_ptr(), part.len()) == (data.as_ptr(), data.len())
}

#[test]
fn large_entries_share_their_buffers_and_small_ones_lie_together() {
    let (message, data) = append(&[0, 511, 512, 100, 4000, 5000, 0]);
    let parts = parts(&message);
    let shared: Vec<usize> =
        (0..parts.len()).filter(|at| data.iter().any(|d| shares(&parts[*at], d))).collect();
    assert_eq!((shared, parts.len()), (vec![1, 3, 5], 7));
    let small: Vec<&Bytes> = parts.iter().step_by(2).collect();
    for (one, next) in small.iter().zip(&small[1..]) {
        assert_eq!(one.as_ptr_range().end, next.as_ptr(), "in one buffer");
    }
}

#[test]
fn a_message_of_small_things_is_one_part() {
    assert_eq!(parts(&append(&[511, 3]).0).len(), 1);
    assert_eq!(parts(&envelope(Body::Welcome { nonce: 7 })).len(), 1);
}

#[test]
fn a_chunk_is_sent_as_it_was_read() {
    let bytes = Bytes::from(vec![7; CHUNK_LEN]);
    let image = ImageId { index: 7, term: 2, len: 9, digest: 1 };
    let chunk = Chunk { image, meta: SnapshotMeta::default(), offset: 0, bytes: bytes.clone() };
    let parts = parts(&envelope(Body::Chunk(chunk)));
    assert!(parts.len() == 2 && shares(&parts[1], &bytes), "nothing stands behind it");
}

#[test]
fn the_checksum_covers_every_part() {
    let (message, _) = append(&[600, 700]);
    let whole = message.encode();
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        assert!(Envelope::decode(damaged.into()).is_err(), "byte {at}");
    }
}

#[test]
fn a_small_message_has_these_bytes() {
    let hex: String =
        envelope(Body::Welcome { nonce: 0x0102 }).encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let (front, rest) = hex.split_at(8);
    assert_eq!(front, "01010000");
    let numbers = "05000000000000000000000000000000\
                   0200000000000000030000000000000004000000000000000600000000000000\
                   0100000000000000\
                   0201000000000000";
    assert_eq!(&rest[8..], numbers);
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let checksum = crc32fast::hash(&[&bytes[..4], &bytes[8..]].concat());
    assert_eq!(bytes[4..8], checksum.to_le_bytes());
}

#[test]
fn the_longest_append_is_within_what_a_receiver_may_have_to_allocate() {
    // Raft fills messages by its own count, of which four bytes are the least that an entry takes.
    let (empty, _) = append(&vec![0; 256 * 1024 / 4]);
    let (full, _) = append(&[ENTRY_BYTES_MAX; 4]);
    for message in [empty, full] {
        assert!(message.encode().len() <= MESSAGE_LEN_MAX);
    }
}
