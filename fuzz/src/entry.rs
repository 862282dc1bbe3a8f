//! Any bytes as log entries of a ledger that holds something of everything: refused without a trace, or applied with all
//! that must hold.
//!
//! The input is a row of entries: a byte of mode, two of length, the bytes. Mode bit 0 puts a sound prefix and checksum
//! in front, so that the fuzzer gets to the archive behind; bit 1 applies it under the term that it names, so that it is
//! not void. Deliberately not here: commands that make sense (`ledger`).

use sluice_core::ledger::Applied;
use sluice_core::ledger::command::{Batch, Cancel, ChangeStock, FORMAT, Group, Put, Reserve};
use sluice_core::ledger::settings::Settings;

use crate::heap;
use crate::watch::Watched;

const TERM: u64 = 7;

/// Entries of one input.
const ENTRIES_MAX: usize = 8;

/// See the module.
pub fn target(data: &[u8]) {
    let mut watched = furnished();
    let mut rest = data;
    for _ in 0..ENTRIES_MAX {
        let Some((&[mode, low, high], behind)) = rest.split_first_chunk() else { return };
        let len = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (entry, behind) = behind.split_at(len);
        rest = behind;
        apply(&mut watched, mode, entry);
    }
}

fn apply(watched: &mut Watched, mode: u8, entry: &[u8]) {
    let bytes = if mode & 1 == 1 { framed(entry) } else { entry.to_vec() };
    let (term, taken) = heap::taken(|| Batch::access(&bytes).map(|batch| batch.proposer_term.to_native()));
    assert_eq!(taken, 0, "an entry is read where it lies");
    let named = term.unwrap_or(TERM);
    let committed = if mode & 2 == 2 { named } else { TERM };
    let applied = watched.apply(watched.ledger.index() + 1, committed, &bytes);
    match (term, applied) {
        (Err(error), applied) if !bytes.is_empty() => assert_eq!(applied, Err(error)),
        (Err(_), applied) => assert_eq!(applied, Ok(Applied::default())),
        (Ok(_), applied) => assert_eq!(applied.map(|applied| applied.voided), Ok(named != committed)),
    }
}

/// The bytes as an entry whose prefix is sound.
fn framed(archive: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FORMAT, 0, 0, 0];
    bytes.extend_from_slice(&crc32fast::hash(archive).to_le_bytes());
    bytes.extend_from_slice(archive);
    bytes
}

/// A ledger with products of all sorts and ids in every state.
pub fn furnished() -> Watched {
    let mut watched = Watched::new(Settings { records_max: 40, retention_ms: 1000 });
    for (index, (stamp_ms, groups)) in (1..).zip(entries()) {
        watched.apply_batch(index, TERM, &Batch { proposer_term: TERM, stamp_ms, groups });
    }
    watched
}

/// The bytes of those entries.
#[cfg(test)]
pub(crate) fn genuine() -> Vec<Vec<u8>> {
    let batch = |(stamp_ms, groups)| Batch { proposer_term: TERM, stamp_ms, groups };
    entries().into_iter().map(|entry| batch(entry).encode()).collect()
}

/// The entries that furnish it.
fn entries() -> Vec<(u64, Vec<Group>)> {
    let put = |product, limit, unlimited| Put {
        product,
        stock: Some(if unlimited { 0 } else { 9 }),
        opens_ms: 0,
        closes_ms: 90_000,
        per_user_limit: limit,
        hold_ms: 500,
        unlimited,
    };
    let reserve = |id, product| Reserve { id, product, user: id as u64 % 3, quantity: 2 };
    let change = |id, quantity| ChangeStock { id, product: 1, quantity };
    vec![
        (1000, vec![Group::Put(vec![put(1, 0, false), put(2, 4, false), put(3, 0, true), put(4, 0, false)])]),
        (1000, vec![Group::Reserve((1..9).map(|id| reserve(id, 1 + id as u64 % 3)).collect())]),
        (1200, vec![Group::Confirm(vec![1, 3]), Group::Cancel(vec![Cancel { id: 2, reason: 9 }])]),
        (1300, vec![Group::Put(vec![Put { stock: None, hold_ms: 900, ..put(1, 0, false) }])]),
        (1600, vec![Group::Reserve(vec![reserve(11, 1), reserve(12, 2), reserve(13, 3), reserve(14, 77)])]),
        (
            1700,
            vec![Group::Restock(vec![change(20, 5)]), Group::WriteOff(vec![change(21, 1), change(22, 99)])],
        ),
        (1800, vec![Group::Resolve(vec![30, 31]), Group::Cancel(vec![Cancel { id: 5, reason: 1 }])]),
        (2300, vec![Group::Seal(vec![4]), Group::Reserve(vec![reserve(15, 1)])]),
    ]
}
