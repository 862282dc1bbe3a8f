//! What a directory that joins a cluster calls itself, until it has its identity. Whoever asks twice to join, because an
//! answer was lost, must not become two nodes.
//!
//! Deliberately not here: asking.

use std::fs;
use std::io;
use std::path::Path;

use super::{DataDirError, io_error, line, open_text, seal_text};
use crate::files;

/// The format this build writes.
const FORMAT: u32 = 1;

pub(super) const JOIN_FILE: &str = "JOIN";
pub(super) const JOIN_FILE_ASIDE: &str = "JOIN.tmp";

/// The incarnation that was written down, or `fresh`, which then is. Durable on return.
pub(super) fn incarnation(dir: &Path, fresh: u64) -> Result<u64, DataDirError> {
    let (file, aside) = (dir.join(JOIN_FILE), dir.join(JOIN_FILE_ASIDE));
    match fs::read(&file) {
        Ok(bytes) => return parse(&bytes, &file, dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_error(&file, "reading", e)),
    }
    let text = seal_text(format!("format={FORMAT}\nincarnation={fresh:016x}\n"));
    files::replace(&file, &aside, text.as_bytes(), None)
        .map_err(|e| io_error(&aside, "writing what this node is to be known by", e))?;
    Ok(fresh)
}

/// Removes it. One that stays does no harm: a directory with an identity never joins again.
pub(super) fn forget(dir: &Path) {
    let _ = fs::remove_file(dir.join(JOIN_FILE));
}

fn parse(bytes: &[u8], file: &Path, dir: &Path) -> Result<u64, DataDirError> {
    let body = open_text(bytes, file, dir, FORMAT)?;
    let incarnation = line(body, "incarnation").and_then(|text| u64::from_str_radix(text, 16).ok());
    incarnation.ok_or_else(|| DataDirError::Damaged {
        file: file.to_path_buf(),
        what: "it names no incarnation".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(incarnation(dir.path(), 7).unwrap(), 7);
        assert_eq!(incarnation(dir.path(), 8).unwrap(), 7);
        forget(dir.path());
        assert_eq!(incarnation(dir.path(), 8).unwrap(), 8);
        let file = dir.path().join(JOIN_FILE);
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(matches!(incarnation(dir.path(), 9), Err(DataDirError::Damaged { .. })));
    }
}
