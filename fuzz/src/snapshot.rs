//! Any bytes as a snapshot: the file, and the image of a ledger in it. Refused, or a file that encodes to the same bytes
//! and a ledger for which everything holds, now and while it goes on.
//!
//! The first byte chooses: a file as it is; a file built from its parts, then flawed; a genuine image with some bytes
//! changed under good checksums, then entries applied to what it loads as; or sections of any content. The file's layout
//! stands here a second time, plainly, from docs/STORAGE.md. Deliberately not here: directories, and which file is taken.

use arbitrary::{Arbitrary, Unstructured};
use sluice_core::ledger::command::Batch;
use sluice_engine::snapshot::Snapshot;

use crate::script::{Order, Stamp};
use crate::watch::{Sections, Watched, load};
use crate::{entry, heap};

const TERM: u64 = 7;

/// Bytes in front of a section of an image.
const PREFIX_LEN: usize = 12;

/// What loading may allocate beside some multiple of the bytes: a chunk of each kind of row, small tables.
const ALLOCATED_MAX: u64 = 1 << 20;

/// What it may allocate for each byte of an image: a row is as long as in the image, and stands in tables.
const ALLOCATED_PER_BYTE: u64 = 64;

/// See the module.
pub fn target(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut source = Unstructured::new(bytes);
    match mode % 4 {
        0 => read(bytes.to_vec()),
        1 => {
            if let Ok(built) = Built::arbitrary(&mut source) {
                built.read();
            }
        }
        2 => {
            if let Ok(changed) = Changed::arbitrary(&mut source) {
                changed.load();
            }
        }
        _ => {
            if let Ok(sections) = Vec::<(u8, Vec<u8>)>::arbitrary(&mut source) {
                let sections = sections.iter().map(|(kind, archive)| section(1 + kind % 3, archive));
                go_on(&sections.collect::<Sections>(), &[]);
            }
        }
    }
}

/// The parts of a file.
#[derive(Clone, Debug, Default, PartialEq, Arbitrary)]
struct File {
    /// Of the format that knows of members only who votes and who learns.
    is_old: bool,
    cluster: u128,
    index: u64,
    term: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    more: More,
    sections: Sections,
}

/// What the old format does not know.
#[derive(Clone, Debug, Default, PartialEq, Arbitrary)]
struct More {
    outgoing: Vec<u64>,
    learners_next: Vec<u64>,
    removed: Vec<u64>,
    incarnations: Vec<(u64, u64)>,
    auto_leave: bool,
}

impl File {
    /// The bytes, by the tables of docs/STORAGE.md.
    fn encode(&self) -> Vec<u8> {
        let mut out = b"SLUICESN".to_vec();
        out.extend_from_slice(&[if self.is_old { 1 } else { 2 }, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.cluster.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&(self.voters.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.learners.len() as u32).to_le_bytes());
        let More { outgoing, learners_next, removed, incarnations, auto_leave } = &self.more;
        let mut numbers = [self.voters.as_slice(), &self.learners].concat();
        if !self.is_old {
            for count in [outgoing.len(), learners_next.len(), removed.len(), incarnations.len()] {
                out.extend_from_slice(&(count as u32).to_le_bytes());
            }
            out.extend_from_slice(&[u8::from(*auto_leave), 0, 0, 0, 0, 0, 0, 0]);
            numbers.extend([outgoing.as_slice(), learners_next, removed].concat());
            numbers.extend(incarnations.iter().flat_map(|(node, incarnation)| [*node, *incarnation]));
        }
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        for (number, section) in (0_u32..).zip(&self.sections) {
            let len = (section.len() as u32).to_le_bytes();
            let crc = crc32fast::hash(&[&number.to_le_bytes(), &len, section.as_slice()].concat());
            out.extend_from_slice(&len);
            out.extend_from_slice(&crc.to_le_bytes());
            out.extend_from_slice(section);
        }
        out.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        out.extend_from_slice(&(self.sections.len() as u64).to_le_bytes());
        out.extend_from_slice(&(out.len() as u64 + 12).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }
}

/// A file of these sections.
#[cfg(test)]
pub(crate) fn file(sections: Sections) -> Vec<u8> {
    File { index: 8, term: TERM, voters: vec![1], sections, ..File::default() }.encode()
}

/// A file built from its parts, and what is wrong with it.
#[derive(Debug, Arbitrary)]
struct Built {
    file: File,
    flaw: Option<(u16, u8)>,
    /// The checksum of the whole is mended after the flaw.
    mend: bool,
}

impl Built {
    fn read(&self) {
        let mut bytes = self.file.encode();
        let Some((at, by)) = self.flaw.filter(|(_, by)| *by != 0) else {
            let (_, snapshot) = Snapshot::read(bytes).expect("a file by the page");
            assert!(snapshot.sections().eq(self.file.sections.iter().map(Vec::as_slice)));
            return;
        };
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= by;
        if self.mend {
            let end = bytes.len() - 4;
            let sum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum.to_le_bytes());
        } else {
            assert!(Snapshot::read(bytes.clone()).is_none(), "a changed byte passed");
        }
        read(bytes);
    }
}

/// Reads a file; if it is one, it is the only way to write what is in it.
fn read(bytes: Vec<u8>) {
    let original = bytes.clone();
    let (read, taken) = heap::taken(|| Snapshot::read(bytes));
    assert!(taken <= ALLOCATED_MAX + 8 * original.len() as u64, "{taken} bytes");
    let Some((cluster, snapshot)) = read else { return };
    let members = &snapshot.meta.members;
    let file = File {
        is_old: original[8] == 1,
        cluster: cluster.0,
        index: snapshot.meta.index,
        term: snapshot.meta.term,
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        more: More {
            outgoing: members.outgoing.clone(),
            learners_next: members.learners_next.clone(),
            removed: members.removed.clone(),
            incarnations: members.incarnations.clone(),
            auto_leave: members.auto_leave,
        },
        sections: snapshot.sections().map(<[u8]>::to_vec).collect(),
    };
    assert!(file.encode() == original, "what decodes encodes to the same bytes");
    go_on(&file.sections, &[]);
}

/// A genuine image with some bytes changed, and what is applied to what it loads as.
#[derive(Debug, Arbitrary)]
struct Changed {
    changes: Vec<Change>,
    entries: Vec<(Stamp, Vec<Order>)>,
}

/// A change of a section's archive, counted from its end, where its fixed part stands.
#[derive(Debug, Arbitrary)]
enum Change {
    Byte { section: u8, at: u16, to: u8 },
    Word { section: u8, at: u16, to: u32 },
    Number { section: u8, at: u16, to: u64 },
    Nothing { section: u8, at: u16 },
    Swap(u8, u8),
    Drop(u8),
}

impl Changed {
    fn load(&self) {
        let mut sections: Sections = entry::furnished().ledger.freeze().sections().collect();
        for change in self.changes.iter().take(8) {
            change.make(&mut sections);
        }
        sections.iter_mut().for_each(|section| mend(section));
        go_on(&sections, &self.entries);
    }
}

impl Change {
    fn make(&self, sections: &mut Sections) {
        let count = sections.len().max(1);
        let mut put = |section: u8, at: u16, with: &[u8]| {
            let Some(section) = sections.get_mut(usize::from(section) % count) else { return };
            let len = section.len() - PREFIX_LEN;
            if with.len() <= len {
                let at = section.len() - with.len() - usize::from(at) % (len - with.len() + 1);
                section[at..at + with.len()].copy_from_slice(with);
            }
        };
        match *self {
            Self::Byte { section, at, to } => put(section, at, &[to]),
            Self::Word { section, at, to } => put(section, at, &to.to_le_bytes()),
            Self::Number { section, at, to } => put(section, at, &to.to_le_bytes()),
            Self::Nothing { section, at } => put(section, at, &[0; 8]),
            Self::Swap(one, other) => {
                if !sections.is_empty() {
                    sections.swap(usize::from(one) % count, usize::from(other) % count);
                }
            }
            Self::Drop(section) => {
                if !sections.is_empty() {
                    sections.remove(usize::from(section) % count);
                }
            }
        }
    }
}

/// A section whose prefix and checksum hold.
fn section(kind: u8, archive: &[u8]) -> Vec<u8> {
    let mut section = vec![1, kind, 0, 0];
    section.extend_from_slice(&[0; 8]);
    section.extend_from_slice(archive);
    mend(&mut section);
    section
}

fn mend(section: &mut [u8]) {
    let len = (section.len() - PREFIX_LEN) as u32;
    section[4..8].copy_from_slice(&len.to_le_bytes());
    let sum = crc32fast::hash(&[&section[..8], &section[PREFIX_LEN..]].concat());
    section[8..PREFIX_LEN].copy_from_slice(&sum.to_le_bytes());
}

/// Loads an image; what loads is a ledger for which everything holds, and it goes on as one.
fn go_on(sections: &[Vec<u8>], entries: &[(Stamp, Vec<Order>)]) {
    let bytes: usize = sections.iter().map(Vec::len).sum();
    let (loaded, taken) = heap::taken(|| load(sections, 9).is_ok());
    let allowed = ALLOCATED_MAX + ALLOCATED_PER_BYTE * bytes as u64;
    assert!(taken <= allowed, "{taken} bytes to load an image of {bytes}");
    if !loaded {
        return;
    }
    let mut watched = Watched::loaded(sections).expect("it loaded before");
    let mut stamp_ms = watched.ledger.now_ms();
    for (stamp, orders) in entries.iter().take(16) {
        stamp_ms = stamp.behind(stamp_ms);
        let groups = orders.iter().map(Order::group).collect();
        let index = watched.ledger.index().checked_add(1).expect("a loaded ledger has room for entries");
        watched.apply_batch(index, TERM, &Batch { proposer_term: TERM, stamp_ms, groups });
    }
    watched.reload();
}
