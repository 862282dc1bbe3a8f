//! A table of rows in chunks, which can be frozen without copying a row.
//!
//! A chunk belongs to the ledger alone until [`Chunked::freeze`] shares it with an image. The first write to a
//! shared chunk takes it back if the image is done with it, and copies this one chunk if not. So a freeze costs
//! a pointer per chunk, and a write between freezes costs no atomic operation.
//!
//! Deliberately not here: what a row is, and which rows are in use.

use std::sync::Arc;

/// No row: the end of a list, an empty list, no product.
pub(super) const NONE: u32 = u32::MAX;

/// Rows in chunks of `N`, a power of two.
pub(super) struct Chunked<T, const N: usize> {
    chunks: Vec<Chunk<T>>,
    len: u32,
}

/// Room for `N` rows, and those pushed so far: what is not used is not written either. Sharing must not move the rows,
/// so a vector goes into the `Arc` and comes out again as it is.
enum Chunk<T> {
    Owned(Vec<T>),
    Shared(Arc<Vec<T>>),
}

/// A frozen chunk: its first row's number, and its rows that were in use.
pub(super) struct Frozen<T> {
    pub(super) first: u32,
    rows: Arc<Vec<T>>,
}

impl<T> Frozen<T> {
    pub(super) fn rows(&self) -> &[T] {
        &self.rows
    }
}

impl<T: Clone, const N: usize> Chunked<T, N> {
    pub(super) fn new() -> Self {
        const { assert!(N.is_power_of_two()) }
        Self { chunks: Vec::new(), len: 0 }
    }

    /// Rows ever pushed.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of all chunks.
    pub(super) fn bytes(&self) -> u64 {
        (self.chunks.len() * N * size_of::<T>()) as u64
    }

    /// Adds a row and returns its number.
    pub(super) fn push(&mut self, row: T) -> u32 {
        let slot = self.len;
        assert!(slot < NONE, "the caller bounds its rows well below the number that means none");
        let at = slot as usize / N;
        if at == self.chunks.len() {
            self.chunks.push(Chunk::Owned(Vec::with_capacity(N)));
        }
        self.owned(at).push(row);
        self.len += 1;
        slot
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &T {
        let slot = slot as usize;
        match &self.chunks[slot / N] {
            Chunk::Owned(rows) => &rows[slot % N],
            Chunk::Shared(rows) => &rows[slot % N],
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        let slot = slot as usize;
        &mut self.owned(slot / N)[slot % N]
    }

    #[inline]
    fn owned(&mut self, at: usize) -> &mut Vec<T> {
        if let Chunk::Shared(_) = self.chunks[at] {
            self.take_back(at);
        }
        match &mut self.chunks[at] {
            Chunk::Owned(rows) => rows,
            Chunk::Shared(_) => unreachable!("a chunk that was taken back is owned"),
        }
    }

    /// All rows, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slices().flat_map(|(_, rows)| rows)
    }

    /// The rows chunk by chunk, each with its first row's number.
    pub(super) fn slices(&self) -> impl Iterator<Item = (u32, &[T])> {
        self.chunks.iter().enumerate().map(|(at, chunk)| {
            let rows = match chunk {
                Chunk::Owned(rows) => rows,
                Chunk::Shared(rows) => &**rows,
            };
            ((at * N) as u32, rows.as_slice())
        })
    }

    /// Shares every chunk with the caller.
    pub(super) fn freeze(&mut self) -> Vec<Frozen<T>> {
        let mut frozen = Vec::with_capacity(self.chunks.len());
        for at in 0..self.chunks.len() {
            let rows = match self.chunks.swap_remove(at) {
                Chunk::Owned(rows) => Arc::new(rows),
                Chunk::Shared(rows) => rows,
            };
            frozen.push(Frozen { first: (at * N) as u32, rows: Arc::clone(&rows) });
            self.put_back(at, Chunk::Shared(rows));
        }
        frozen
    }

    #[cold]
    fn take_back(&mut self, at: usize) {
        let rows = match self.chunks.swap_remove(at) {
            Chunk::Owned(rows) => rows,
            Chunk::Shared(rows) => Arc::try_unwrap(rows).unwrap_or_else(|rows| {
                let mut copy = Vec::with_capacity(N);
                copy.extend_from_slice(&rows);
                copy
            }),
        };
        self.put_back(at, Chunk::Owned(rows));
    }

    /// Undoes a `swap_remove`: the chunk that moved to `at` returns to the end.
    fn put_back(&mut self, at: usize, chunk: Chunk<T>) {
        self.chunks.push(chunk);
        let last = self.chunks.len() - 1;
        self.chunks.swap(at, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_rows_keep_what_they_were() {
        let mut rows = Chunked::<u64, 4>::new();
        for row in 0..10 {
            rows.push(row);
        }
        let frozen = rows.freeze();
        *rows.get_mut(1) = 100;
        rows.push(10);
        let kept: Vec<u64> = frozen.iter().flat_map(|chunk| chunk.rows().to_vec()).collect();
        assert_eq!(kept, (0..10).collect::<Vec<_>>());
        assert_eq!(frozen.iter().map(|chunk| chunk.first).collect::<Vec<_>>(), [0, 4, 8]);
        let now: Vec<u64> = rows.iter().copied().collect();
        assert_eq!(now, [0, 100, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_write_takes_back_only_its_own_chunk() {
        let mut rows = Chunked::<u64, 4>::new();
        for row in 0..12 {
            rows.push(row);
        }
        drop(rows.freeze());
        *rows.get_mut(5) = 50;
        let owned: Vec<bool> = rows.chunks.iter().map(|chunk| matches!(chunk, Chunk::Owned(_))).collect();
        assert_eq!(owned, [false, true, false]);
    }
}
