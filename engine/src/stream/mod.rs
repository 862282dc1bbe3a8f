//! The files of the event stream: every committed event, in order, for order systems that read them later.
//!
//! Every replica applies the same log, so it makes the same events, and each node keeps its own copy. Behind the newest
//! snapshot events can be made again from the log; so writing them waits for no sync, and only a snapshot waits until all
//! events that it contains are durable. docs/STORAGE.md has the bytes.
//!
//! - `format`: the bytes of a segment's header, names of files
//! - `kept`: which sequences are here, which are missing, which retention has dropped; shared by writer and readers
//! - `dropped`: the small file that tells dropped from missing
//! - `open`: from files to what is kept; what the log will make again is cut
//! - [`store`]: the writer
//! - [`fill`]: what is missing here, from other nodes
//! - [`reader`]: reads beside the writer
//! - [`thread`]: the thread that writes, and where events come in; [`reads`]: the thread that reads for others
//! - [`error`]: why events could not be kept or read
//!
//! Deliberately not here: who may read what, how far anybody has read, and events in memory.

mod dropped;
pub mod error;
pub mod fill;
mod format;
mod kept;
mod open;
pub mod reader;
pub mod reads;
pub mod store;
pub mod thread;

use std::time::Duration;

pub use error::{ReadError, StreamError};
pub use kept::Missing;
pub use reader::Reader;
pub use store::Store;

/// The format this build writes.
pub const FORMAT: u16 = 1;

/// Bytes of the longest segment.
pub const SEGMENT_LEN_MAX: u64 = 64 << 20;

/// Bytes of the shortest: one page.
const SEGMENT_LEN_MIN: u64 = 4096;

/// Segments in what may be kept: a small budget has small segments, so that little more or less than it is kept.
const SEGMENTS_MIN: u64 = 16;

/// Events that one read returns at most: a good megabyte.
pub const READ_MAX: usize = 16_384;

const DIR: &str = "events";

/// How long events are kept. What somebody still needs stays beyond it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events that are older than this, by ledger time, may go.
    pub retain: Duration,
    /// Beyond so many bytes the oldest may go.
    pub retain_bytes: u64,
}

impl Options {
    /// Events in a full segment.
    fn segment_records(&self) -> u64 {
        let len = (self.retain_bytes / SEGMENTS_MIN).clamp(SEGMENT_LEN_MIN, SEGMENT_LEN_MAX);
        (len - format::HEADER_LEN) / format::RECORD_LEN
    }
}
