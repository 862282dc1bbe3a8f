//! `DROPPED`: the last sequence that retention has let go of. Without it, an event that is gone could not be told from one
//! that this node has lost, or never had.
//!
//! It is written before the segment goes, so a segment that a crash brought back is known. It is no part of what was
//! promised: where it is damaged or cannot be written, what was dropped counts as missing, which claims less.
//! Deliberately not here: what may be dropped.

use std::fs;
use std::io;
use std::path::Path;

use crate::datadir::{open_text, seal_text};
use crate::files;

/// The format this build writes.
const FORMAT: u32 = 1;

const FILE: &str = "DROPPED";
const FILE_ASIDE: &str = "DROPPED.tmp";

/// The last sequence that was dropped; 0 if none was, or nobody knows.
pub(super) fn read(dir: &Path) -> u64 {
    let file = dir.join(FILE);
    let parse = |bytes: &[u8]| {
        let body = open_text(bytes, &file, dir, FORMAT).ok()?;
        body.lines().find_map(|line| line.strip_prefix("dropped=")).and_then(|to| to.parse().ok())
    };
    match fs::read(&file) {
        Ok(bytes) => parse(&bytes).unwrap_or_else(|| {
            tracing::warn!(file = %file.display(), "it is damaged: events that were dropped count as missing");
            0
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "it cannot be read: events that were dropped count as missing");
            0
        }
    }
}

/// Durable on return.
pub(super) fn write(dir: &Path, to: u64) -> io::Result<()> {
    let text = seal_text(format!("format={FORMAT}\ndropped={to}\n"));
    files::replace(&dir.join(FILE), &dir.join(FILE_ASIDE), text.as_bytes(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), 0);
        write(dir.path(), 7).unwrap();
        write(dir.path(), 42).unwrap();
        assert_eq!(read(dir.path()), 42);
        let file = dir.path().join(FILE);
        let bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&file, changed).unwrap();
            assert_eq!(read(dir.path()), 0, "byte {at}");
        }
    }
}
