//! A snapshot's file: what it is a snapshot of, the image's sections, and a checksum over all.

use std::sync::Arc;

use sluice_core::ledger::Ledger;
use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_core::replica::peer::ImageId;

const MAGIC: u64 = u64::from_le_bytes(*b"SIMSNAP1");

/// A file that was written and synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name.
    pub id: ImageId,
    /// What it was a snapshot of when it was written.
    pub meta: SnapshotMeta,
    /// Its bytes, as the disk has them now.
    pub bytes: Arc<Vec<u8>>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn list(&mut self) -> Option<Vec<u64>> {
        let len = self.number()?;
        (0..len).map(|_| self.number()).collect()
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_list(out: &mut Vec<u8>, list: &[u64]) {
    put(out, list.len() as u64);
    list.iter().for_each(|number| put(out, *number));
}

impl SnapshotFile {
    /// The file of an image.
    pub fn new(meta: SnapshotMeta, sections: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut bytes = Vec::new();
        put(&mut bytes, MAGIC);
        put(&mut bytes, meta.index);
        put(&mut bytes, meta.term);
        let members = &meta.members;
        let lists =
            [&members.voters, &members.learners, &members.outgoing, &members.learners_next, &members.removed];
        lists.into_iter().for_each(|list| put_list(&mut bytes, list));
        put(&mut bytes, u64::from(members.auto_leave));
        let incarnations: Vec<u64> =
            members.incarnations.iter().flat_map(|(node, drawn)| [*node, *drawn]).collect();
        put_list(&mut bytes, &incarnations);
        for section in sections {
            put(&mut bytes, section.len() as u64);
            bytes.extend_from_slice(&section);
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let id = ImageId {
            index: meta.index,
            term: meta.term,
            len: bytes.len() as u64,
            digest: crc32fast::hash(&bytes),
        };
        Self { id, meta, bytes: Arc::new(bytes) }
    }

    /// A file that came from a peer, if it is the one that was named.
    pub fn received(id: ImageId, bytes: Vec<u8>) -> Option<Self> {
        if bytes.len() as u64 != id.len || crc32fast::hash(&bytes) != id.digest {
            return None;
        }
        let meta = read(&bytes)?.0;
        let file = Self { id, meta, bytes: Arc::new(bytes) };
        ((file.meta.index, file.meta.term) == (id.index, id.term)).then_some(file)
    }

    /// What the file holds, if its bytes are what was written and an image of a ledger.
    pub fn load(&self, seed: u64) -> Option<(SnapshotMeta, Ledger)> {
        let (meta, sections) = read(&self.bytes)?;
        let ledger = Ledger::from_sections(sections.into_iter(), 0, seed).ok()?;
        (ledger.index() == meta.index).then_some((meta, ledger))
    }

    /// Whether its bytes are what was written.
    pub(super) fn is_intact(&self) -> bool {
        crc32fast::hash(&self.bytes) == self.id.digest
    }

    /// Flips a bit.
    pub(super) fn flip(&mut self, at: usize, bit: u32) {
        let bytes = Arc::make_mut(&mut self.bytes);
        bytes[at] ^= 1 << bit;
    }
}

fn read(bytes: &[u8]) -> Option<(SnapshotMeta, Vec<&[u8]>)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut reader = Reader(body);
    if reader.number()? != MAGIC {
        return None;
    }
    let (index, term) = (reader.number()?, reader.number()?);
    let (voters, learners) = (reader.list()?, reader.list()?);
    let (outgoing, learners_next, removed) = (reader.list()?, reader.list()?, reader.list()?);
    let auto_leave = reader.number()? == 1;
    let incarnations = reader.list()?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let members = Members { voters, learners, outgoing, learners_next, auto_leave, incarnations, removed };
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        let len = reader.number()?;
        sections.push(reader.take(len as usize)?);
    }
    Some((SnapshotMeta { index, term, members }, sections))
}
