//! First inputs: genuine bytes, so that the fuzzer need not invent them.
//!
//! `cargo test -- --ignored plant` writes them into `corpus/`. Deliberately not here: what the fuzzer found since.

use std::fs;
use std::path::Path;

use raft::prelude::{Entry, Message, MessageType};
use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry, Members, SnapshotMeta};
use sluice_core::replica::peer::{Body, Chunk, Envelope, Hello, Identity, ImageId, Refusal};
use sluice_engine::wal::fence::{self, Mark};
use sluice_engine::wal::record::{self, State};

use sluice_protocol::ids::ClusterId;

use crate::watch::Sections;
use crate::{entry, snapshot};

#[test]
#[ignore = "writes into corpus/"]
fn plant() {
    let page = include_str!("../../../docs/PROTOCOL.md");
    for (at, frame) in golden(page).into_iter().enumerate() {
        keep("frame", at, &[&[0], frame.as_slice()].concat());
    }
    for (at, entry) in entry::genuine().into_iter().enumerate() {
        let len = (entry.len() as u16).to_le_bytes();
        keep("entry", at, &[&[2], len.as_slice(), &entry].concat());
        let archive = &entry[8..];
        let len = (archive.len() as u16).to_le_bytes();
        keep("entry", 100 + at, &[&[3], len.as_slice(), archive].concat());
    }
    let image: Sections = entry::furnished().ledger.freeze().sections().collect();
    let empty: Sections = Ledger::new(Settings::default(), 0).freeze().sections().collect();
    for (at, sections) in [image, empty].into_iter().enumerate() {
        keep("snapshot", at, &[&[0], snapshot::file(sections).as_slice()].concat());
    }
    for mode in 1..4_u8 {
        keep("snapshot", 10 + usize::from(mode), &[mode; 200]);
    }
    let hard = HardState { term: 5, vote: 2, commit: 9 };
    let state = State { step: 7, end_index: 12, compact_to: 3, hard, base: 0 };
    let data = b"data".as_slice().into();
    let entry = LogEntry { index: 11, term: 4, kind: EntryKind::Normal, data };
    keep("wal", 0, &[&[0], record::encode_entry(&entry, &state).0.as_slice()].concat());
    keep("wal", 1, &[&[1], record::encode_state(&state).as_slice()].concat());
    let mark = Mark { step: 7, index: 12, term: 4, entry_crc: 5, compact_to: 3 };
    keep("wal", 2, &[&[2], &fence::encode(9, &mark)[..56]].concat());
    keep("wal", 3, &[&[3], &fence::encode(8, &mark)[..56]].concat());
    keep("wal", 4, &[4; 100]);
    for (at, message) in messages().into_iter().enumerate() {
        let bytes = message.encode();
        keep("peer", at, &[&[0, bytes[1]], &bytes[8..]].concat());
        keep("peer", 100 + at, &[&[1], &bytes[..]].concat());
    }
    for (at, name) in ["ledger", "session"].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..600_u32).map(|byte| (byte * byte * 7 / 16) as u8).collect();
        keep(name, at, &bytes);
    }
}

/// A message of each kind.
fn messages() -> Vec<Envelope> {
    let identity = Identity { cluster: ClusterId(5), node: 2, incarnation: 3, boot: 4, nonce: 6 };
    let image = ImageId { index: 7, term: 2, len: 9, digest: 1 };
    let members = Members {
        voters: vec![1, 2],
        learners: vec![4],
        outgoing: vec![1, 3],
        learners_next: vec![3],
        auto_leave: true,
        incarnations: vec![(1, 8), (2, 9)],
        removed: vec![5],
    };
    let meta = SnapshotMeta { index: 7, term: 2, members };
    let mut append = Message { from: 2, to: 1, term: 3, index: 8, commit: 7, ..Message::default() };
    append
        .set_entries(vec![Entry { index: 9, term: 3, data: vec![1; 20].into(), ..Entry::default() }].into());
    let mut snapshot = Message { from: 2, to: 1, term: 3, ..Message::default() };
    snapshot.set_msg_type(MessageType::MsgSnapshot);
    (snapshot.mut_snapshot().mut_metadata().index, snapshot.mut_snapshot().mut_metadata().term) = (7, 2);
    append.set_msg_type(MessageType::MsgAppend);
    let bodies = [
        Body::Hello(Hello { term: 3, last_index: 9 }),
        Body::Welcome { nonce: 6 },
        Body::WhoAreYou { nonce: 6 },
        Body::Refused { nonce: 6, refusal: Refusal::LostState, quorum: 2 },
        Body::Raft(Box::new(append)),
        Body::Raft(Box::new(snapshot)),
        Body::Chunk(Chunk { image, meta, offset: 0, bytes: vec![7; 9].into() }),
        Body::ChunkAck { image, have: 9 },
        Body::Digest { index: 7, digest: 11, format: 1 },
        Body::RoundAsk { name: 3 },
        Body::RoundDone { nonce: 6, name: 3, index: 9 },
    ];
    bodies.into_iter().map(|body| Envelope { from: identity, to: 1, body }).collect()
}

#[test]
fn a_message_of_each_kind_is_read_as_it_was_written() {
    for message in messages() {
        assert_eq!(Envelope::decode(message.encode()), Ok(message));
    }
}

fn keep(name: &str, number: usize, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("seed-{number:03}")), bytes).unwrap();
}

/// The frames of the page's hex blocks.
fn golden(page: &str) -> Vec<Vec<u8>> {
    let blocks = page.split("```hex ").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let lines = blocks.map(|block| block.lines().skip(1).map(|line| line.split('#').next().unwrap()));
    lines
        .map(|lines| {
            let words = lines.flat_map(str::split_whitespace);
            words.map(|word| u8::from_str_radix(word, 16).unwrap()).collect()
        })
        .collect()
}
