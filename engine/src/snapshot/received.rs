//! Snapshot files that come from a peer, in parts.
//!
//! Parts are written aside, under a name that says which file they are of: index, term, length and checksum. So a node
//! that was restarted goes on where it was, and a part of another file never gets into this one. What a crash made of
//! the parts is seen when the file is whole: then it is synced and checked, and begins again if it is not what was sent.
//!
//! Relies on parts being written by one thread, in the order in which they are asked for. Deliberately not here: when a
//! file takes its place among the node's own snapshots.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sluice_core::replica::peer::{Chunk, ImageId};
use sluice_protocol::ids::ClusterId;

use super::format::SYNC_EVERY;
use super::{Snapshot, SnapshotError, io_error, load_file};
use crate::files::{is_full, sync_dir};

const PREFIX: &str = "received-";

/// What became of a part.
#[derive(Debug)]
pub enum Received {
    /// So many bytes from the file's beginning are there. They need not be durable.
    Partial(u64),
    /// The file is whole, checked and durable.
    Whole(ImageId, Box<Snapshot>),
}

/// Files that were received, or are being.
#[derive(Debug)]
pub(super) struct Inbox {
    dir: PathBuf,
    cluster: ClusterId,
    arriving: Option<Arriving>,
    /// Indexes of files to which the log is being reset: they stay, whatever else arrives.
    pinned: Vec<u64>,
}

/// The file that parts are written to.
#[derive(Debug)]
struct Arriving {
    image: ImageId,
    path: PathBuf,
    file: File,
    have: u64,
    synced: u64,
}

impl Inbox {
    pub(super) fn new(dir: &Path, cluster: ClusterId) -> Self {
        Self { dir: dir.to_owned(), cluster, arriving: None, pinned: Vec::new() }
    }

    /// The file of this index stays until [`Inbox::forget`].
    pub(super) fn pin(&mut self, index: u64) {
        self.pinned.push(index);
    }

    /// Writes a part; see [`super::SnapshotStore::receive`].
    pub(super) fn receive(&mut self, chunk: &Chunk) -> Result<Received, SnapshotError> {
        let image = chunk.image;
        let path = path_of(&self.dir, &image);
        let failed = |error| {
            if is_full(&error) {
                SnapshotError::DiskFull { file: path.clone() }
            } else {
                io_error(&path, "writing what a peer sends", error)
            }
        };
        let received = match self.write(chunk).map_err(failed) {
            Ok(have) if have < image.len => return Ok(Received::Partial(have)),
            Ok(_) => self.finish(chunk),
            Err(error) => Err(error),
        };
        if received.is_err() {
            // What could not be written or synced is not trusted, nor written again; what is damaged is of no use.
            self.discard(&image);
        }
        match received {
            Ok(snapshot) => Ok(Received::Whole(image, Box::new(snapshot))),
            Err(error @ SnapshotError::Damaged { .. }) => {
                tracing::warn!(%error, "a snapshot did not arrive as it was sent; it is asked for again");
                Ok(Received::Partial(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a file that cannot be used.
    pub(super) fn discard(&mut self, image: &ImageId) {
        self.arriving = None;
        remove(&path_of(&self.dir, image));
    }

    /// Takes the file of this index out, if it was received whole. Where it is.
    pub(super) fn take(&mut self, index: u64) -> io::Result<Option<PathBuf>> {
        for (path, image) in self.list()? {
            if image.index == index && fs::metadata(&path)?.len() == image.len {
                self.arriving.take_if(|arriving| arriving.image == image);
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Removes what is of no use to a node with a snapshot at `index`, and of the rest all but the newest.
    pub(super) fn forget(&mut self, index: u64) -> io::Result<()> {
        self.pinned.retain(|pinned| *pinned > index);
        self.arriving.take_if(|arriving| arriving.image.index <= index);
        let mut found = self.list()?;
        let newest = found.iter().map(|(_, image)| image.index).max();
        found.retain(|(_, image)| image.index <= index || Some(image.index) != newest);
        self.remove_all(&found);
        Ok(())
    }

    /// Brings the part to the file. How many bytes of it are there.
    fn write(&mut self, chunk: &Chunk) -> io::Result<u64> {
        if self.arriving.as_ref().is_none_or(|arriving| arriving.image != chunk.image) {
            self.arriving = None;
            let mut others = self.list()?;
            others.retain(|(_, image)| *image != chunk.image);
            self.remove_all(&others);
            self.arriving = Some(Arriving::begin(&self.dir, chunk.image)?);
        }
        let arriving = self.arriving.as_mut().expect("it was just begun, if it was not there");
        let end = chunk.offset.checked_add(chunk.bytes.len() as u64);
        if chunk.offset == arriving.have && end.is_some_and(|end| end <= arriving.image.len) {
            arriving.put(&chunk.bytes)?;
        }
        Ok(arriving.have)
    }

    /// Syncs and checks a file of which all bytes are there.
    fn finish(&mut self, chunk: &Chunk) -> Result<Snapshot, SnapshotError> {
        let Arriving { path, file, .. } = self.arriving.take().expect("a part of it was just written");
        file.sync_all()
            .and_then(|()| sync_dir(&self.dir))
            .map_err(|e| io_error(&path, "syncing what a peer has sent", e))?;
        let (snapshot, digest) = load_file(&path, self.cluster)?;
        if digest != chunk.image.digest || snapshot.meta != chunk.meta {
            let what = "it is not the file that the peer named".to_owned();
            return Err(SnapshotError::Damaged { file: path, what });
        }
        Ok(snapshot)
    }

    /// What was received, whole or not.
    fn list(&self) -> io::Result<Vec<(PathBuf, ImageId)>> {
        let mut found = Vec::new();
        for item in fs::read_dir(&self.dir)? {
            let path = item?.path();
            if let Some(image) = image_of(&path) {
                found.push((path, image));
            }
        }
        Ok(found)
    }

    fn remove_all(&self, files: &[(PathBuf, ImageId)]) {
        for (path, _) in files.iter().filter(|(_, image)| !self.pinned.contains(&image.index)) {
            remove(path);
        }
    }
}

impl Arriving {
    /// Goes on with a file, or begins it.
    fn begin(dir: &Path, image: ImageId) -> io::Result<Self> {
        let path = path_of(dir, &image);
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let mut have = file.metadata()?.len();
        if have > image.len {
            file.set_len(0)?;
            have = 0;
        }
        Ok(Self { image, path, file, have, synced: have })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.have += bytes.len() as u64;
        // One sync of a gigabyte at the end would hold up the log's.
        if self.have - self.synced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = self.have;
        }
        Ok(())
    }
}

/// A file that cannot be deleted costs space and nothing else.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "what a peer had sent could not be deleted");
        }
        _ => {}
    }
}

fn path_of(dir: &Path, image: &ImageId) -> PathBuf {
    let ImageId { index, term, len, digest } = image;
    dir.join(format!("{PREFIX}{index:016x}-{term:016x}-{len:016x}-{digest:08x}"))
}

fn image_of(path: &Path) -> Option<ImageId> {
    let mut parts = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('-');
    let mut part = || u64::from_str_radix(parts.next()?, 16).ok();
    let image = ImageId { index: part()?, term: part()?, len: part()?, digest: u32::try_from(part()?).ok()? };
    (path_of(path.parent()?, &image) == path).then_some(image)
}
