//! The data directory: one process at a time, one node for good.
//!
//! `LOCK` keeps a second process out. `IDENTITY` says whose data this is; it is written last when a directory is
//! created, so a directory without one is empty or was left half made by a crash, and a directory with one is whole.
//! `BOOT` counts its starts (`boot`). `JOIN` is there while a node joins a cluster (`join`), `PEERS` says where the others are.
//!
//! Deliberately not here: the log and the snapshots themselves.

mod boot;
mod join;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use sluice_protocol::ids::{ClusterId, NodeId};
use thiserror::Error;

use self::boot::{BOOT_FILE, BOOT_FILE_ASIDE};
use self::join::{JOIN_FILE, JOIN_FILE_ASIDE};
use crate::failpoint::{self, Point};
use crate::files::{self, sync_dir};
use crate::peers::{BOOK_FILE, BOOK_FILE_ASIDE};
use crate::wal::{Backend, StoreError};

/// The format of the whole directory that this build writes.
pub const FORMAT: u32 = 1;

const LOCK_FILE: &str = "LOCK";
const IDENTITY_FILE: &str = "IDENTITY";
const IDENTITY_FILE_ASIDE: &str = "IDENTITY.tmp";

/// What a directory may hold before it has an identity: the leavings of a creation that a crash cut short.
const HALF_MADE: [&str; 16] = [
    LOCK_FILE,
    JOIN_FILE,
    JOIN_FILE_ASIDE,
    BOOK_FILE,
    BOOK_FILE_ASIDE,
    BOOT_FILE,
    BOOT_FILE_ASIDE,
    IDENTITY_FILE_ASIDE,
    "wal",
    "wal.tmp",
    "segments",
    "segments.tmp",
    "wal.fence",
    "wal.fence.tmp",
    "snapshots",
    "lost+found",
];

/// Whose data a directory holds. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; the same on all its nodes.
    pub cluster: ClusterId,
    /// The node; never 0.
    pub node: NodeId,
    /// Drawn at random when the directory was created: a wiped node that comes back under its old id is told apart.
    pub incarnation: u64,
}

/// Why a data directory was refused.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("data directory {} is in use by process {pid}: stop that one, or use another directory", .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process, or `?` if it has not said.
        pid: String,
    },
    /// Something else is in there.
    #[error("{} is neither empty nor a data directory (it holds {found:?}): name another one", .dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// The first name that does not belong.
        found: String,
    },
    /// The identity is missing or not what was written.
    #[error("{} is damaged: {what}. Restore the whole data directory from a copy taken after a clean stop, or, in a \
             cluster, start with an empty one under a new node id", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a later version.
    #[error("data directory {} has format {found}; this build reads up to {FORMAT}: run the newer version", .dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
    },
    /// The log within it.
    #[error(transparent)]
    Log(#[from] StoreError),
    /// The operating system refused.
    #[error("{} ({doing}): {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// A data directory that this process holds. Dropping it lets go of the lock.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Option<Identity>,
    boot: u64,
    _lock: File,
}

impl DataDir {
    /// Takes the directory for this process, and counts that; makes it if there is none.
    ///
    /// # Errors
    /// [`DataDirError`] if another process holds it, or it is not a data directory that this build can use.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        if !path.exists() {
            make_durably(path).map_err(|e| io_error(path, "creating the data directory", e))?;
        }
        if !path.join(LOCK_FILE).exists() {
            // Not so much as a lock is put into what may be somebody else's.
            check_names(path)?;
        }
        let lock = take_lock(path)?;
        let file = path.join(IDENTITY_FILE);
        let identity = match fs::read(&file) {
            Ok(bytes) => Some(parse(&bytes, &file, path)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                check_names(path)?;
                check_unused(path)?;
                failpoint::reach(Point::CreateLocked);
                None
            }
            Err(e) => return Err(io_error(&file, "reading", e)),
        };
        let boot = boot::count(path)?;
        Ok(Self { path: path.to_path_buf(), identity, boot, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is; `None` while it is being created.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// How often it was opened, this time included. Durable.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Ends the creation: everything else in it is in place and durable. Durable on return.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    ///
    /// # Panics
    /// If the directory has an identity already: it never changes.
    pub fn seal(&mut self, identity: Identity) -> Result<(), DataDirError> {
        assert!(self.identity.is_none(), "the identity of a data directory never changes");
        let (file, aside) = (self.path.join(IDENTITY_FILE), self.path.join(IDENTITY_FILE_ASIDE));
        let points = [Point::CreateIdentityRename, Point::CreateIdentityRenamed];
        let written = failpoint::check(Point::CreateIdentity)
            .and_then(|()| files::replace(&file, &aside, print(&identity).as_bytes(), Some(points)));
        written.map_err(|e| io_error(&aside, "writing the identity", e))?;
        self.identity = Some(identity);
        Ok(())
    }

    /// The incarnation that this directory joins a cluster with: the same however often that is tried. Durable on return.
    ///
    /// # Errors
    /// [`DataDirError`] if what was written cannot be read, or nothing can be written.
    pub(crate) fn joining(&self, fresh: u64) -> Result<u64, DataDirError> {
        join::incarnation(&self.path, fresh)
    }

    /// The node has joined: nothing need be remembered of that.
    pub(crate) fn joined(&self) {
        join::forget(&self.path);
    }
}

/// Whether the creation of a data directory has ended, so that whatever is missing from now on was lost.
pub(crate) fn is_sealed(path: &Path) -> bool {
    path.join(IDENTITY_FILE).exists()
}

/// Bytes that an ordinary process may still write on the file system of `path`.
///
/// # Errors
/// The system's.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes a directory and those above it that are missing, each of them durable.
fn make_durably(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.exists() {
        make_durably(parent)?;
    }
    fs::create_dir(path)?;
    failpoint::check(Point::CreateDir)?;
    sync_dir(parent)
}

/// The lock is the kernel's and goes with the process, however that ends. The number in the file is for people.
fn take_lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK_FILE);
    let io = |e: io::Error| io_error(&path, "locking", e);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Only for the message: a holder that has not written its number yet is still a holder.
            let _ = file.read_to_string(&mut holder);
            let pid = if holder.trim().is_empty() { "?".to_owned() } else { holder.trim().to_owned() };
            return Err(DataDirError::Locked { dir: dir.to_path_buf(), pid });
        }
        Err(e) => return Err(io(e.into())),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// A directory without an identity holds nothing but what a creation puts there before.
fn check_names(dir: &Path) -> Result<(), DataDirError> {
    let io = |e| io_error(dir, "listing", e);
    for item in fs::read_dir(dir).map_err(io)? {
        let name = item.map_err(io)?.file_name();
        if name != IDENTITY_FILE && !HALF_MADE.iter().any(|known| name == *known) {
            let found = name.to_string_lossy().into_owned();
            return Err(DataDirError::Foreign { dir: dir.to_path_buf(), found });
        }
    }
    Ok(())
}

/// An identity that is missing beside a log in use was lost, not yet to be written.
fn check_unused(dir: &Path) -> Result<(), DataDirError> {
    if Backend::was_used(dir)? {
        let file = dir.join(IDENTITY_FILE);
        return Err(DataDirError::Damaged {
            file,
            what: "the file is missing, but the log beside it was in use".to_owned(),
        });
    }
    Ok(())
}

/// The lines that the checksum covers.
fn body(identity: &Identity) -> String {
    format!(
        "format={FORMAT}\ncluster={}\nnode={}\nincarnation={:016x}\n",
        identity.cluster, identity.node, identity.incarnation
    )
}

fn print(identity: &Identity) -> String {
    seal_text(body(identity))
}

/// Puts a checksum line behind lines of text.
pub(crate) fn seal_text(mut body: String) -> String {
    let crc = crc32fast::hash(body.as_bytes());
    body.push_str(&format!("crc={crc:08x}\n"));
    body
}

/// The lines before the checksum line, if that is theirs and their format one that this build reads.
pub(crate) fn open_text<'a>(
    bytes: &'a [u8],
    file: &Path,
    dir: &Path,
    newest: u32,
) -> Result<&'a str, DataDirError> {
    let damaged = |what: &str| DataDirError::Damaged { file: file.to_path_buf(), what: what.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (body, crc) = text
        .rsplit_once("crc=")
        .and_then(|(body, crc)| Some((body, u32::from_str_radix(crc.strip_suffix('\n')?, 16).ok()?)))
        .ok_or_else(|| damaged("it has no checksum line"))?;
    if crc32fast::hash(body.as_bytes()) != crc {
        return Err(damaged("its checksum does not match"));
    }
    // A later version may have more lines, but its format comes first and its checksum last.
    let format =
        line(body, "format").and_then(|v| v.parse().ok()).ok_or_else(|| damaged("it has no format"))?;
    if format > newest {
        return Err(DataDirError::NewerFormat { dir: dir.to_path_buf(), found: format });
    }
    Ok(body)
}

fn parse(bytes: &[u8], file: &Path, dir: &Path) -> Result<Identity, DataDirError> {
    let damaged = |what: &str| DataDirError::Damaged { file: file.to_path_buf(), what: what.to_owned() };
    let body = open_text(bytes, file, dir, FORMAT)?;
    let identity = Identity {
        cluster: line(body, "cluster")
            .and_then(|v| v.parse::<ClusterId>().ok())
            .ok_or_else(|| damaged("it has no cluster"))?,
        node: line(body, "node")
            .and_then(|v| v.parse::<NodeId>().ok())
            .ok_or_else(|| damaged("it has no node"))?,
        incarnation: line(body, "incarnation")
            .and_then(|v| u64::from_str_radix(v, 16).ok())
            .ok_or_else(|| damaged("it has no incarnation"))?,
    };
    if print(&identity).as_bytes() != bytes {
        return Err(damaged("it is not written the way this format is"));
    }
    Ok(identity)
}

fn line<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn io_error(file: &Path, doing: &'static str, source: io::Error) -> DataDirError {
    DataDirError::Io { file: file.to_path_buf(), doing, source }
}
