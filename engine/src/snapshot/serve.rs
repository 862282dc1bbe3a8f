//! Snapshot files that are read for a peer, a part at a time.
//!
//! A file is read once from beginning to end before its first part leaves: nothing damaged is sent, and the name that it
//! gets holds its checksum. Deliberately not here: which peers, and when.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use sluice_core::replica::disk::SnapshotMeta;
use sluice_core::replica::peer::ImageId;
use sluice_protocol::ids::ClusterId;

use super::format::{self, Bad, CRC_LEN};
use super::{SnapshotError, io_error};

/// Bytes read at once while a file is checked. Its header is within the first of them.
const BLOCK_LEN: usize = 1 << 20;

const _: () = assert!(format::HEADER_LEN_MAX <= BLOCK_LEN);

/// A sound file.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) image: ImageId,
    pub(super) meta: SnapshotMeta,
    file: File,
}

impl Served {
    /// Opens a file and checks all of it.
    pub(super) fn open(path: &Path, index: u64, cluster: ClusterId) -> Result<Self, SnapshotError> {
        let io = |e| io_error(path, "reading", e);
        let damaged = |what: &str| SnapshotError::Damaged { file: path.to_owned(), what: what.to_owned() };
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let covered = len.checked_sub(CRC_LEN as u64).ok_or_else(|| damaged("it ends within its header"))?;
        let mut crc = crc32fast::Hasher::new();
        let mut header = None;
        let mut block = Vec::new();
        for at in (0..covered).step_by(BLOCK_LEN) {
            block.clear();
            let most = (covered - at).min(BLOCK_LEN as u64);
            if file.by_ref().take(most).read_to_end(&mut block).map_err(io)? as u64 != most {
                return Err(damaged("it ends while it is read"));
            }
            crc.update(&block);
            if header.is_none() {
                header = Some(format::parse_header(&block).map_err(|bad| bad.of(path))?);
            }
        }
        let mut stored = [0; CRC_LEN];
        file.read_exact(&mut stored).map_err(io)?;
        let digest = crc.finalize();
        let (found, meta, _) = header.ok_or_else(|| damaged("it ends within its header"))?;
        if stored != digest.to_le_bytes() || meta.index != index {
            return Err(damaged("its checksum does not match, or it is of another index"));
        }
        if found != cluster {
            return Err(SnapshotError::WrongCluster { file: path.to_owned(), found, expected: cluster });
        }
        let image = ImageId { index, term: meta.term, len, digest };
        Ok(Self { image, meta, file })
    }

    /// At most `len` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = self.image.len.saturating_sub(offset).min(len as u64);
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Bad {
    /// Says of which file it is.
    pub(super) fn of(self, path: &Path) -> SnapshotError {
        match self {
            Self::Newer(found) => SnapshotError::NewerFormat { file: path.to_owned(), found },
            Self::Damaged(what) => SnapshotError::Damaged { file: path.to_owned(), what: what.to_owned() },
        }
    }
}
