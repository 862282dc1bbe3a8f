//! Snapshot files: an image of the ledger as of one log index, so that the log before it may go.
//!
//! A file is written aside, synced and renamed, so a name without `.tmp` is a whole file. The last two are kept: if
//! the newer is found damaged, the older serves, provided that the log still reaches back to it. docs/STORAGE.md has
//! the bytes.
//!
//! Relies on the caller holding the data directory's lock and on one save at a time. Deliberately not here: what is in
//! the sections, and when to take a snapshot.

mod error;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_protocol::ids::ClusterId;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use error::SnapshotError;

use crate::failpoint::{self, Point};
use crate::files::{is_full, sync_dir};

/// The format this build writes.
pub const FORMAT: u16 = 1;

/// Snapshots that are kept.
pub const KEPT: usize = 2;

/// Bytes in one section.
pub const SECTION_LEN_MAX: usize = 256 << 20;

/// Voters or learners in one snapshot.
pub const MEMBERS_MAX: u32 = 1024;

/// The file is synced each time that so much was written. One sync of a gigabyte at the end would hold up the log's.
const SYNC_EVERY: u64 = 16 << 20;

const DIR: &str = "snapshots";
const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".sluice";
const SUFFIX_ASIDE: &str = ".tmp";
const MAGIC: [u8; 8] = *b"SLUICESN";

/// Stands where the next section's length would.
const END_OF_SECTIONS: u32 = u32::MAX;

const CRC_LEN: usize = 4;

/// Followed by the voters and learners, 8 bytes each, and the checksum of all of it.
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

const _: () = assert!(size_of::<Header>() == 56 && size_of::<Trailer>() == 28);

/// The snapshots of one data directory.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    cluster: ClusterId,
    /// Indexes of the files, oldest first.
    kept: Vec<u64>,
}

/// A snapshot in memory; every byte of it has been checked.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is an image of.
    pub meta: SnapshotMeta,
    bytes: Vec<u8>,
    sections: Vec<Range<usize>>,
}

impl Snapshot {
    /// The snapshot that these bytes are, and its cluster. For fuzzing, which does not ask why not.
    #[doc(hidden)]
    pub fn read(bytes: Vec<u8>) -> Option<(ClusterId, Self)> {
        let (cluster, meta, sections) = parse(&bytes).ok()?;
        Some((cluster, Self { meta, bytes, sections }))
    }

    /// The sections, in the order in which they were saved.
    pub fn sections(&self) -> impl Iterator<Item = &[u8]> {
        self.sections.iter().map(|range| &self.bytes[range.clone()])
    }
}

impl SnapshotStore {
    /// Opens the snapshots in `data_dir`; makes their directory if there is none. What an interrupted save left is
    /// removed.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(data_dir: &Path, cluster: ClusterId) -> Result<Self, SnapshotError> {
        let dir = data_dir.join(DIR);
        let kept = prepare(data_dir, &dir).map_err(|e| io_error(&dir, "opening", e))?;
        Ok(Self { dir, cluster, kept })
    }

    /// Indexes of the snapshots there are, oldest first. The log may be compacted up to the first of them: then the
    /// older still serves if the newer is found damaged.
    pub fn kept(&self) -> &[u64] {
        &self.kept
    }

    /// Writes a snapshot; durable on return. Then all but the last [`KEPT`] are deleted. `progress` hears the bytes
    /// written so far, after each section. Returns the bytes of the file.
    ///
    /// # Errors
    /// [`SnapshotError::DiskFull`], [`SnapshotError::Io`]. The snapshots there were stay.
    ///
    /// # Panics
    /// If the snapshot is older than the last one, or a section exceeds [`SECTION_LEN_MAX`].
    pub fn save(
        &mut self,
        meta: &SnapshotMeta,
        sections: impl Iterator<Item = Vec<u8>>,
        progress: impl FnMut(u64),
    ) -> Result<u64, SnapshotError> {
        assert!(self.kept.last().is_none_or(|last| *last <= meta.index), "snapshots are taken in order");
        let path = self.path(meta.index);
        let mut aside = path.clone().into_os_string();
        aside.push(SUFFIX_ASIDE);
        let aside = PathBuf::from(aside);
        let written = write_file(&aside, self.cluster, meta, sections, progress)
            .and_then(|len| failpoint::check(Point::SnapshotRename).map(|()| len))
            .and_then(|len| fs::rename(&aside, &path).map(|()| len))
            .and_then(|len| failpoint::check(Point::SnapshotRenamed).map(|()| len))
            .and_then(|len| sync_dir(&self.dir).map(|()| len));
        match written {
            Ok(len) => {
                if self.kept.last() != Some(&meta.index) {
                    self.kept.push(meta.index);
                }
                failpoint::reach(Point::SnapshotDelete);
                self.remove_old();
                Ok(len)
            }
            Err(error) => {
                // It is worth nothing and takes space that may be what was missing. If it stays, the next open removes it.
                let _ = fs::remove_file(&aside);
                Err(if is_full(&error) {
                    SnapshotError::DiskFull { file: aside }
                } else {
                    io_error(&aside, "writing", error)
                })
            }
        }
    }

    /// The newest snapshot that is whole and that the log continues: `first_log_index` is the first entry the log has.
    /// `None` if there is no snapshot and the log begins at 1. A damaged one is reported to the log of the process and
    /// passed over only if an older one can be used.
    ///
    /// # Errors
    /// [`SnapshotError`] if there is none that can be used.
    pub fn load_latest(&self, first_log_index: u64) -> Result<Option<Snapshot>, SnapshotError> {
        let mut refused = Vec::new();
        for index in self.kept.iter().rev() {
            if index + 1 < first_log_index {
                refused.push(format!("the snapshot at {index} ends before that"));
                continue;
            }
            match self.load(*index) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(error @ SnapshotError::Damaged { .. }) => {
                    tracing::error!(%error, "a snapshot cannot be used; trying the one before it");
                    refused.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() && first_log_index <= 1 {
            return Ok(None);
        }
        let found = if refused.is_empty() { "there is none".to_owned() } else { refused.join("; ") };
        Err(SnapshotError::NoneUsable { dir: self.dir.clone(), first_log_index, found })
    }

    /// Reads and checks one snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`] unless it is what was written, for this cluster.
    pub fn load(&self, index: u64) -> Result<Snapshot, SnapshotError> {
        let path = self.path(index);
        let bytes = fs::read(&path).map_err(|e| io_error(&path, "reading", e))?;
        let (cluster, meta, sections) = parse(&bytes).map_err(|bad| match bad {
            Bad::Newer(found) => SnapshotError::NewerFormat { file: path.clone(), found },
            Bad::Damaged(what) => SnapshotError::Damaged { file: path.clone(), what: what.to_owned() },
        })?;
        if meta.index != index {
            let what = format!("it says that it was taken at {}", meta.index);
            return Err(SnapshotError::Damaged { file: path, what });
        }
        if cluster != self.cluster {
            return Err(SnapshotError::WrongCluster { file: path, found: cluster, expected: self.cluster });
        }
        Ok(Snapshot { meta, bytes, sections })
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{index:016x}{SUFFIX}"))
    }

    /// A file that cannot be deleted costs space and nothing else.
    fn remove_old(&mut self) {
        let surplus = self.kept.len().saturating_sub(KEPT);
        for index in self.kept.drain(..surplus).collect::<Vec<_>>() {
            let path = self.path(index);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "an old snapshot could not be deleted");
            }
        }
    }
}

/// Makes the directory, removes what interrupted saves left, and lists the snapshots, oldest first.
fn prepare(data_dir: &Path, dir: &Path) -> io::Result<Vec<u64>> {
    if !dir.exists() {
        fs::create_dir(dir)?;
        failpoint::check(Point::CreateSnapshots)?;
        sync_dir(data_dir)?;
    }
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if rest.ends_with(SUFFIX_ASIDE) {
            fs::remove_file(item.path())?;
        } else if let Some(hex) = rest.strip_suffix(SUFFIX)
            && let Ok(index) = u64::from_str_radix(hex, 16)
        {
            found.push(index);
        }
    }
    // A rename that was seen by nobody but the page cache must not be built upon.
    sync_dir(dir)?;
    found.sort_unstable();
    Ok(found)
}

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

fn write_file(
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
    let count = |ids: &[u64]| {
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        assert!(count <= MEMBERS_MAX, "a cluster has at most {MEMBERS_MAX} members");
        U32::new(count)
    };
    let fixed = Header {
        magic: MAGIC,
        version: U16::new(FORMAT),
        reserved: [0; 6],
        cluster: U128::new(cluster.0),
        index: U64::new(meta.index),
        term: U64::new(meta.term),
        voters: count(&meta.members.voters),
        learners: count(&meta.members.learners),
    };
    let mut bytes = fixed.as_bytes().to_vec();
    for id in meta.members.voters.iter().chain(&meta.members.learners) {
        bytes.extend_from_slice(&id.to_le_bytes());
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

enum Bad {
    Newer(u16),
    Damaged(&'static str),
}

type Parsed = (ClusterId, SnapshotMeta, Vec<Range<usize>>);

fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
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
    let whole = crc32fast::hash(&bytes[..bytes.len() - CRC_LEN]);
    if trailer.crc.get() != whole
        || trailer.reserved != U32::ZERO
        || trailer.sections.get() != sections.len() as u64
        || trailer.file_len.get() != bytes.len() as u64
    {
        return Err(Bad::Damaged("its trailer does not match"));
    }
    Ok((cluster, meta, sections))
}

fn parse_header(bytes: &[u8]) -> Result<(ClusterId, SnapshotMeta, usize), Bad> {
    let (fixed, ids) =
        Header::read_from_prefix(bytes).map_err(|_| Bad::Damaged("it ends within its header"))?;
    if fixed.magic != MAGIC {
        return Err(Bad::Damaged("it does not begin like a snapshot"));
    }
    // Before the checksum, which a later format may keep elsewhere.
    if fixed.version.get() > FORMAT {
        return Err(Bad::Newer(fixed.version.get()));
    }
    let (voters, learners) = (fixed.voters.get(), fixed.learners.get());
    if voters > MEMBERS_MAX || learners > MEMBERS_MAX {
        return Err(Bad::Damaged("it names too many members"));
    }
    let ids_len = (voters + learners) as usize * size_of::<u64>();
    let crc_at = size_of::<Header>() + ids_len;
    let (Some(ids), Some(crc)) = (ids.get(..ids_len), bytes.get(crc_at..crc_at + CRC_LEN)) else {
        return Err(Bad::Damaged("it ends within its header"));
    };
    if crc != crc32fast::hash(&bytes[..crc_at]).to_le_bytes() {
        return Err(Bad::Damaged("the checksum of its header does not match"));
    }
    if fixed.version.get() != FORMAT || fixed.reserved != [0; 6] {
        return Err(Bad::Damaged("its version or a reserved byte is wrong"));
    }
    let mut ids = ids
        .chunks_exact(size_of::<u64>())
        .map(|id| U64::read_from_bytes(id).expect("the chunks have the size of a number").get());
    let members = Members {
        voters: ids.by_ref().take(voters as usize).collect(),
        learners: ids.collect(),
        ..Members::default()
    };
    let meta = SnapshotMeta { index: fixed.index.get(), term: fixed.term.get(), members };
    Ok((ClusterId(fixed.cluster.get()), meta, crc_at + CRC_LEN))
}

fn io_error(file: &Path, doing: &'static str, source: io::Error) -> SnapshotError {
    SnapshotError::Io { file: file.to_path_buf(), doing, source }
}
