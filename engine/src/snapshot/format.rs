//! The bytes of a snapshot file: header, sections, trailer. docs/STORAGE.md has the tables.
//!
//! Relies on nothing but bytes and a writer. Deliberately not here: names of files, and which file is taken.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_protocol::ids::ClusterId;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT, MEMBERS_MAX, REMOVED_MAX, SECTION_LEN_MAX};
use crate::failpoint::{self, Point};

/// The file is synced each time that so much was written. One sync of a gigabyte at the end would hold up the log's.
pub(super) const SYNC_EVERY: u64 = 16 << 20;

/// The format that knows voters and learners only.
const FORMAT_OF_VOTERS: u16 = 1;

const MAGIC: [u8; 8] = *b"SLUICESN";

/// Stands where the next section's length would.
const END_OF_SECTIONS: u32 = u32::MAX;

/// Bytes of the checksum at the end of a file.
pub(super) const CRC_LEN: usize = 4;

/// Followed in format 2 by [`MoreCounts`]; then by the lists that both count, and the checksum of all of it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U16,
    reserved: [u8; 6],
    cluster: U128,
    index: U64,
    term: U64,
    voters: U32,
    learners: U32,
}

/// What format 1 does not know of the members.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct MoreCounts {
    outgoing: U32,
    learners_next: U32,
    removed: U32,
    incarnations: U32,
    auto_leave: u8,
    reserved: [u8; 7],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct SectionHeader {
    len: U32,
    /// Of the section's number, its length and its bytes, so that sections cannot change places.
    crc: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Trailer {
    end: U32,
    reserved: U32,
    sections: U64,
    file_len: U64,
    /// Of the whole file before this field.
    crc: U32,
}

const _: () =
    assert!(size_of::<Header>() == 56 && size_of::<MoreCounts>() == 24 && size_of::<Trailer>() == 28);

/// Bytes that the header of the largest cluster has, its lists included.
pub(super) const HEADER_LEN_MAX: usize = size_of::<Header>()
    + size_of::<MoreCounts>()
    + 8 * (6 * MEMBERS_MAX as usize + REMOVED_MAX as usize)
    + CRC_LEN;

/// Counts and checksums what goes by, and syncs now and then.
struct Writer {
    out: BufWriter<File>,
    crc: crc32fast::Hasher,
    len: u64,
    synced_len: u64,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.len += bytes.len() as u64;
        self.out.write_all(bytes)?;
        if self.len - self.synced_len >= SYNC_EVERY {
            self.synced_len = self.len;
            self.out.flush()?;
            self.out.get_ref().sync_data()?;
        }
        Ok(())
    }
}

/// Writes a whole file; synced on return. `progress` hears the bytes written so far, after each section. Returns the
/// bytes of the file.
pub(super) fn write_file(
    path: &Path,
    cluster: ClusterId,
    meta: &SnapshotMeta,
    sections: impl Iterator<Item = Vec<u8>>,
    progress: impl FnMut(u64),
) -> io::Result<u64> {
    let out = BufWriter::new(File::create(path)?);
    let mut writer = Writer { out, crc: crc32fast::Hasher::new(), len: 0, synced_len: 0 };
    let written = writer.put(&header(cluster, meta)).and_then(|()| fill(&mut writer, sections, progress));
    if written.is_err() {
        // Dropped with what it buffers, it would write once more to a file that has failed.
        let _ = writer.out.into_parts();
    }
    written
}

fn fill(
    writer: &mut Writer,
    sections: impl Iterator<Item = Vec<u8>>,
    mut progress: impl FnMut(u64),
) -> io::Result<u64> {
    let mut count: u32 = 0;
    for section in sections {
        assert!(section.len() <= SECTION_LEN_MAX, "section {count} exceeds the limit");
        let len = u32::try_from(section.len()).expect("the limit of a section is below 4 GiB");
        let crc = section_crc(count, len, &section);
        writer.put(SectionHeader { len: U32::new(len), crc: U32::new(crc) }.as_bytes())?;
        failpoint::check_with(Point::SnapshotSection, || {
            drop(writer.put(&section[..section.len() / 2]).and_then(|()| writer.out.flush()));
        })?;
        writer.put(&section)?;
        count = count.checked_add(1).expect("a snapshot has fewer than 2^32 sections");
        progress(writer.len);
    }
    let trailer = Trailer {
        end: U32::new(END_OF_SECTIONS),
        reserved: U32::ZERO,
        sections: U64::new(u64::from(count)),
        file_len: U64::new(writer.len + size_of::<Trailer>() as u64),
        crc: U32::ZERO,
    };
    writer.put(&trailer.as_bytes()[..size_of::<Trailer>() - CRC_LEN])?;
    let crc = writer.crc.clone().finalize();
    writer.put(&crc.to_le_bytes())?;
    writer.out.flush()?;
    failpoint::check(Point::SnapshotSync)?;
    writer.out.get_ref().sync_all()?;
    Ok(writer.len)
}

fn header(cluster: ClusterId, meta: &SnapshotMeta) -> Vec<u8> {
    let Members { voters, learners, outgoing, learners_next, auto_leave, incarnations, removed } =
        &meta.members;
    let count = |len: usize, max: u32| {
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        assert!(count <= max, "a cluster has at most {MEMBERS_MAX} members, and {REMOVED_MAX} that were");
        U32::new(count)
    };
    let fixed = Header {
        magic: MAGIC,
        version: U16::new(FORMAT),
        reserved: [0; 6],
        cluster: U128::new(cluster.0),
        index: U64::new(meta.index),
        term: U64::new(meta.term),
        voters: count(voters.len(), MEMBERS_MAX),
        learners: count(learners.len(), MEMBERS_MAX),
    };
    let more = MoreCounts {
        outgoing: count(outgoing.len(), MEMBERS_MAX),
        learners_next: count(learners_next.len(), MEMBERS_MAX),
        removed: count(removed.len(), REMOVED_MAX),
        incarnations: count(incarnations.len(), MEMBERS_MAX),
        auto_leave: u8::from(*auto_leave),
        reserved: [0; 7],
    };
    let mut bytes = [fixed.as_bytes(), more.as_bytes()].concat();
    let mut put = |number: &u64| bytes.extend_from_slice(&number.to_le_bytes());
    [voters, learners, outgoing, learners_next, removed].into_iter().flatten().for_each(&mut put);
    for (node, incarnation) in incarnations {
        put(node);
        put(incarnation);
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn section_crc(number: u32, len: u32, data: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(&len.to_le_bytes());
    crc.update(data);
    crc.finalize()
}

/// Why bytes are not a snapshot.
pub(super) enum Bad {
    /// Of a later format.
    Newer(u16),
    /// Not what was written.
    Damaged(&'static str),
}

/// What a sound file holds.
pub(super) struct Parsed {
    pub(super) cluster: ClusterId,
    pub(super) meta: SnapshotMeta,
    /// Where its sections are.
    pub(super) sections: Vec<Range<usize>>,
    /// The checksum of the whole file before its last four bytes, which hold it.
    pub(super) crc: u32,
}

/// Reads a whole file and checks every byte of it.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
    let (cluster, meta, mut at) = parse_header(bytes)?;
    let mut sections = Vec::new();
    loop {
        let rest = &bytes[at..];
        let (len, _) =
            U32::read_from_prefix(rest).map_err(|_| Bad::Damaged("it ends within its sections"))?;
        if len.get() == END_OF_SECTIONS {
            break;
        }
        let (head, _) = SectionHeader::read_from_prefix(rest)
            .map_err(|_| Bad::Damaged("it ends within a section's header"))?;
        let start = at + size_of::<SectionHeader>();
        let end = start + len.get() as usize;
        let data = bytes.get(start..end).ok_or(Bad::Damaged("it ends within a section"))?;
        let number = u32::try_from(sections.len()).map_err(|_| Bad::Damaged("it has too many sections"))?;
        if section_crc(number, len.get(), data) != head.crc.get() {
            return Err(Bad::Damaged("the checksum of a section does not match"));
        }
        sections.push(start..end);
        at = end;
    }
    let trailer = Trailer::read_from_bytes(&bytes[at..])
        .map_err(|_| Bad::Damaged("it does not end with its trailer"))?;
    let crc = crc32fast::hash(&bytes[..bytes.len() - CRC_LEN]);
    if trailer.crc.get() != crc
        || trailer.reserved != U32::ZERO
        || trailer.sections.get() != sections.len() as u64
        || trailer.file_len.get() != bytes.len() as u64
    {
        return Err(Bad::Damaged("its trailer does not match"));
    }
    Ok(Parsed { cluster, meta, sections, crc })
}

/// Reads the header, of which `bytes` holds all. Returns where the sections begin, too.
pub(super) fn parse_header(bytes: &[u8]) -> Result<(ClusterId, SnapshotMeta, usize), Bad> {
    let ends_early = || Bad::Damaged("it ends within its header");
    let (fixed, behind) = Header::read_from_prefix(bytes).map_err(|_| ends_early())?;
    if fixed.magic != MAGIC {
        return Err(Bad::Damaged("it does not begin like a snapshot"));
    }
    // Before the checksum, which a later format may keep elsewhere.
    let version = fixed.version.get();
    if version > FORMAT {
        return Err(Bad::Newer(version));
    }
    let (more, lists) = if version == FORMAT_OF_VOTERS {
        (MoreCounts::new_zeroed(), behind)
    } else {
        MoreCounts::read_from_prefix(behind).map_err(|_| ends_early())?
    };
    let counts = [fixed.voters, fixed.learners, more.outgoing, more.learners_next, more.removed];
    let [voters, learners, outgoing, learners_next, removed] = counts.map(|count| count.get() as usize);
    let incarnations = more.incarnations.get() as usize;
    let most = [voters, learners, outgoing, learners_next, incarnations].into_iter().max();
    if most > Some(MEMBERS_MAX as usize) || removed > REMOVED_MAX as usize {
        return Err(Bad::Damaged("it names too many members"));
    }
    let numbers = voters + learners + outgoing + learners_next + removed + 2 * incarnations;
    let crc_at = bytes.len() - lists.len() + numbers * size_of::<u64>();
    let Some(crc) = bytes.get(crc_at..crc_at + CRC_LEN) else { return Err(ends_early()) };
    if crc != crc32fast::hash(&bytes[..crc_at]).to_le_bytes() {
        return Err(Bad::Damaged("the checksum of its header does not match"));
    }
    if version == 0 || fixed.reserved != [0; 6] || more.reserved != [0; 7] || more.auto_leave > 1 {
        return Err(Bad::Damaged("its version or a reserved byte is wrong"));
    }
    let numbers = lists.chunks_exact(size_of::<u64>()).map(U64::read_from_bytes);
    let mut numbers = numbers.map(|number| number.expect("the chunks have the size of a number").get());
    let mut take = |count: usize| numbers.by_ref().take(count).collect::<Vec<_>>();
    let members = Members {
        voters: take(voters),
        learners: take(learners),
        outgoing: take(outgoing),
        learners_next: take(learners_next),
        auto_leave: more.auto_leave == 1,
        removed: take(removed),
        incarnations: take(2 * incarnations).chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
    };
    let meta = SnapshotMeta { index: fixed.index.get(), term: fixed.term.get(), members };
    Ok((ClusterId(fixed.cluster.get()), meta, crc_at + CRC_LEN))
}
