//! Events to write, and (`files`) what a node that does not run has kept of its stream.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

pub mod files;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::stream::{Options, Store, StreamError};
use sluice_protocol::event::{EventKind, EventRecord, EventView};
use sluice_protocol::{ClusterId, ProductId, ReservationId, UserId};

pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// With the smallest segments: as many events fit one.
pub const SEGMENT: u64 = 50;

/// Bytes that are kept in these tests, unless they say otherwise.
pub const RETAIN_BYTES: u64 = 16 * 4096;

/// How long events are kept in these tests.
pub const RETAIN_MS: u64 = 1000;

pub fn options() -> Options {
    Options { retain: Duration::from_millis(RETAIN_MS), retain_bytes: RETAIN_BYTES }
}

pub fn open(dir: &Path, upto: u64) -> Result<Store, StreamError> {
    Store::open(dir, CLUSTER, upto, options())
}

/// The time of an event: three share each.
pub fn time_ms(sequence: u64) -> u64 {
    1_000_000 + sequence / 3 * 10
}

pub fn event(sequence: u64) -> EventRecord {
    EventRecord::from(EventView {
        sequence,
        index: sequence / 2 + 1,
        time_ms: time_ms(sequence),
        kind: EventKind::ALL[sequence as usize % EventKind::ALL.len()],
        product: ProductId(sequence % 7),
        user: UserId(sequence % 11),
        quantity: 1,
        id: ReservationId(u128::from(sequence) << 40),
        detail: 0,
    })
}

pub fn events(sequences: Range<u64>) -> Vec<EventRecord> {
    sequences.map(event).collect()
}

/// So many events that follow the last, as one block.
pub fn append(store: &mut Store, count: u64) {
    let next = store.last() + 1;
    let block: Arc<[EventRecord]> = events(next..next + count).into();
    store.append(&[block]).unwrap();
}

pub fn dir_of(data: &Path) -> PathBuf {
    data.join("events")
}

/// The segment that begins with a sequence.
pub fn segment(data: &Path, first: u64) -> PathBuf {
    dir_of(data).join(format!("{first:016x}.events"))
}

/// The segments in a data directory, by the sequence they begin with.
pub fn segments(data: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(items) = fs::read_dir(dir_of(data)) else { return Vec::new() };
    let paths = items.map(|item| item.unwrap().path());
    let first = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        u64::from_str_radix(name.strip_suffix(".events")?, 16).ok()
    };
    let mut found: Vec<_> = paths.filter_map(|path| Some((first(&path)?, path))).collect();
    found.sort();
    found
}
