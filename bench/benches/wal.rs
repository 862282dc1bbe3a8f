//! Durable appends to the log: one entry at a time, fdatasync included, on the disk under the temporary directory
//! (`TMPDIR` chooses another).
//!
//! The front is compacted as a snapshot would allow, so the disk does not fill up. Deliberately not here: several steps
//! joined into one, which the log's thread does under load.

use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry};
use sluice_engine::wal::{Backend, Options};

/// Bytes of an entry: a single reservation's, and a full batch's.
const ENTRIES: [usize; 2] = [128, 32 * 1024];

/// Entries that stay in the log.
const KEPT: u64 = 64;

const TERM: u64 = 1;

fn wal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (backend, len) in Backend::ALL.into_iter().flat_map(|backend| ENTRIES.map(|len| (backend, len))) {
        let folder = tempfile::tempdir().expect("there is a temporary directory");
        backend.create(folder.path()).expect("a log can be made");
        let (mut store, _) = Backend::open(folder.path(), Options::default()).expect("a new log opens");
        // Bytes that do not repeat, as ids do not.
        let data: Vec<u8> =
            (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let data = Bytes::from(data);
        let mut index = 0;
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new(format!("{backend}, append and sync"), len), |bench| {
            bench.iter(|| {
                index += 1;
                let entry = LogEntry { index, term: TERM, kind: EntryKind::Normal, data: data.clone() };
                let step = Append {
                    hard_state: Some(HardState { term: TERM, vote: 1, commit: index - 1 }),
                    entries: vec![entry],
                    compact_to: index.saturating_sub(KEPT),
                    reset: None,
                };
                store.append(&step).expect("the log can be written")
            });
        });
        store.close().expect("the log can be closed");
    }
    group.finish();
}

criterion_group!(benches, wal);
criterion_main!(benches);
