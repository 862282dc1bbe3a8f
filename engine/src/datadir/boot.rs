//! How often a data directory was opened. Peers remember the highest count they have heard from a node: a directory that
//! comes with a lower one is an older copy of it, and with the same one a second process on a copy.
//!
//! So the count must be durable before the process says anything. Deliberately not here: what peers make of it.

use std::fs;
use std::io;
use std::path::Path;

use super::{DataDirError, io_error, line, open_text, seal_text};
use crate::failpoint::Point;
use crate::files;

/// The format this build writes.
const FORMAT: u32 = 1;

pub(super) const BOOT_FILE: &str = "BOOT";
pub(super) const BOOT_FILE_ASIDE: &str = "BOOT.tmp";

/// Counts this start. Durable on return. A directory that was made before starts were counted has had none.
///
/// # Errors
/// [`DataDirError`] if the count is not what was written, or cannot be written.
pub(super) fn count(dir: &Path) -> Result<u64, DataDirError> {
    let (file, aside) = (dir.join(BOOT_FILE), dir.join(BOOT_FILE_ASIDE));
    let before = match fs::read(&file) {
        Ok(bytes) => parse(&bytes, &file, dir)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(io_error(&file, "reading", e)),
    };
    let boot = before.checked_add(1).expect("nobody starts so often");
    let points = [Point::BootRename, Point::BootRenamed];
    let written = files::replace(&file, &aside, print(boot).as_bytes(), Some(points));
    written.map_err(|e| io_error(&aside, "counting this start", e))?;
    Ok(boot)
}

fn print(boot: u64) -> String {
    seal_text(format!("format={FORMAT}\nboot={boot}\n"))
}

fn parse(bytes: &[u8], file: &Path, dir: &Path) -> Result<u64, DataDirError> {
    let body = open_text(bytes, file, dir, FORMAT)?;
    let boot = line(body, "boot").and_then(|boot| boot.parse().ok());
    boot.filter(|boot| print(*boot).as_bytes() == bytes).ok_or_else(|| DataDirError::Damaged {
        file: file.to_path_buf(),
        what: "it is not written the way this format is".to_owned(),
    })
}
