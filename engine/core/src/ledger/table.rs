//! A hash table that grows a little at a time: no apply ever pays for moving all of it.
//!
//! A hash chooses one of many *shards* by its upper bits, and each shard is a table of its own that grows alone.
//! Shards grow by different factors, so even those that were made equal do not stay in step: of ten million
//! entries some thousands are moved at a time, and never two doublings' worth.
//!
//! A shard is a row of cache lines. An entry lies in the line its hash names (its *home*) or, if that is full, in
//! the first behind it that was not. So all lines between an entry and its home are full; a removal pulls entries
//! back until that holds again, and there are no tombstones. Within a line entries stand without gaps, so the
//! last place tells whether it is full. Mostly one line decides a lookup, and [`Table::touch`] can ask for it early.
//!
//! Linear probing by buckets (Knuth vol. 3, 6.4), without its clustering: a line of several entries rarely overflows.
//!
//! Deliberately not here: keys. An entry tells its own place, and the caller says which one it means.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;

/// Of so many places in a shard …
const PLACES: usize = 8;
/// … so many may be in use.
const IN_USE_MAX: usize = 7;

/// A shard grows by a quarter of its size at least, and by less than three quarters, in so many different steps.
const STEPS: usize = 64;

/// What a table holds. The default is a free place.
pub(super) trait Entry: Copy + Default {
    /// Whether this is a free place.
    fn is_free(&self) -> bool;

    /// The [`place`] of the hash under which it was inserted.
    fn place(&self, hasher: &Hasher) -> u32;
}

/// Hashes keys, with a seed that differs between processes: clients choose ids, and must not choose collisions.
pub(super) struct Hasher(FixedState);

impl Hasher {
    #[inline]
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.0.hash_one(key)
    }
}

/// The part of a hash that says where in its shard an entry lies.
#[inline]
pub(super) fn place(hash: u64) -> u32 {
    (hash >> 16) as u32
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<E, const N: usize>([E; N]);

impl<E: Entry, const N: usize> Line<E, N> {
    #[inline]
    fn is_full(&self) -> bool {
        !self.0[N - 1].is_free()
    }

    /// A bit for each entry of which `may` holds. All are looked at, without a branch: processors guess how a loop
    /// ends, guess wrong once for each lookup, and learn so only when the line has come from memory.
    #[inline]
    fn which(&self, may: impl Fn(&E) -> bool) -> u32 {
        (0..N).fold(0, |bits, number| bits | u32::from(may(&self.0[number])) << number)
    }

    /// Adds an entry; false if the line is full.
    #[inline]
    fn add(&mut self, entry: E) -> bool {
        let used = self.which(|place| !place.is_free()).count_ones() as usize;
        self.0.get_mut(used).map(|place| *place = entry).is_some()
    }

    /// Takes an entry out and closes the gap.
    fn take(&mut self, at: usize) -> E {
        let last = self.0.iter().rposition(|place| !place.is_free()).expect("what is taken is there");
        self.0.swap(at, last);
        std::mem::take(&mut self.0[last])
    }
}

struct Shard<E, const N: usize> {
    lines: Box<[Line<E, N>]>,
    len: u32,
}

impl<E: Entry, const N: usize> Shard<E, N> {
    fn new(lines: usize) -> Self {
        const { assert!(size_of::<Line<E, N>>() == 64) }
        Self { lines: vec![Line([E::default(); N]); lines].into_boxed_slice(), len: 0 }
    }

    /// The line of a place: the upper half of a product, so that any number of lines will do (D. Lemire, 2019).
    #[inline]
    fn home(&self, place: u32) -> usize {
        ((u64::from(place) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    fn behind(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    /// Lines from one to another, going forward.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.lines.len() - from }
    }

    fn has_room(&self) -> bool {
        (self.len as usize) < self.lines.len() * N * IN_USE_MAX / PLACES
    }

    /// The line and the number in it of the entry that `is` the one, among those that it `may` be.
    #[inline]
    fn find(&self, place: u32, may: impl Fn(&E) -> bool, is: impl Fn(&E) -> bool) -> Option<(usize, usize)> {
        if self.lines.is_empty() {
            return None;
        }
        let mut at = self.home(place);
        loop {
            let line = &self.lines[at];
            let mut bits = line.which(&may);
            while bits != 0 {
                let number = bits.trailing_zeros() as usize;
                if !line.0[number].is_free() && is(&line.0[number]) {
                    return Some((at, number));
                }
                bits &= bits - 1;
            }
            if !line.is_full() {
                return None;
            }
            at = self.behind(at);
        }
    }

    /// Adds an entry that there is room for.
    #[inline]
    fn add(&mut self, place: u32, entry: E) {
        let mut at = self.home(place);
        while !self.lines[at].add(entry) {
            at = self.behind(at);
        }
        self.len += 1;
    }

    fn take(&mut self, line: usize, number: usize, hasher: &Hasher) -> E {
        let was_full = self.lines[line].is_full();
        let taken = self.lines[line].take(number);
        self.len -= 1;
        if was_full {
            self.pull_back(line, hasher);
        }
        taken
    }

    /// A line that was full has a free place now: whoever passed it by may have to come back.
    fn pull_back(&mut self, mut hole: usize, hasher: &Hasher) {
        let mut at = self.behind(hole);
        // Full lines all the way round do not happen: some place is always free.
        while at != hole {
            let was_full = self.lines[at].is_full();
            let gap = self.distance(hole, at);
            let passed_by =
                |entry: &E| !entry.is_free() && self.distance(self.home(entry.place(hasher)), at) >= gap;
            if let Some(number) = self.lines[at].0.iter().position(passed_by) {
                let entry = self.lines[at].take(number);
                let added = self.lines[hole].add(entry);
                assert!(added, "a line that lost an entry has room for one");
                hole = at;
            }
            if !was_full {
                return;
            }
            at = self.behind(at);
        }
    }
}

/// See the module. `N` entries fill a cache line.
pub(super) struct Table<E, const N: usize> {
    shards: Box<[Shard<E, N>]>,
    shard_bits: u32,
    hasher: Hasher,
    moved: u64,
}

impl<E: Entry, const N: usize> Table<E, N> {
    /// A table of 2 to the power of `shard_bits` shards, with room for `capacity` entries before any of them grows,
    /// unless the hashes are very uneven.
    pub(super) fn with_capacity(shard_bits: u32, capacity: usize, seed: u64) -> Self {
        let shards = 1 << shard_bits;
        let share = capacity / shards;
        // What falls to a shard varies by the square root of what falls to it on average; four of those suffice.
        let places = if capacity == 0 { 0 } else { share + 4 * (share.isqrt() + 1) };
        let lines = (places * PLACES).div_ceil(IN_USE_MAX * N);
        // An eighth more for some than for others, or all would run full together.
        let more = |number: usize| lines * (number % STEPS) / (8 * STEPS);
        Self {
            shards: (0..shards).map(|number| Shard::new(lines + more(number))).collect(),
            shard_bits,
            hasher: Hasher(FixedState::with_seed(seed)),
            moved: 0,
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash(key)
    }

    /// Bytes of all lines, and of the row of shards.
    pub(super) fn bytes(&self) -> u64 {
        let lines: usize = self.shards.iter().map(|shard| shard.lines.len()).sum();
        (lines * size_of::<Line<E, N>>() + self.shards.len() * size_of::<Shard<E, N>>()) as u64
    }

    /// Entries that were moved because a shard grew, ever.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    #[inline]
    fn shard(&self, hash: u64) -> usize {
        // Shifted twice: a table of one shard shifts by all 64 bits.
        (hash >> 1 >> (63 - self.shard_bits)) as usize
    }

    /// Reads a word of the line in which a lookup of this hash begins. To be called for several hashes in a row, well
    /// ahead of their lookups: then the processor waits for all of their memory at once, not for one after the other.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> bool {
        let shard = &self.shards[self.shard(hash)];
        shard.lines.get(shard.home(place(hash))).is_some_and(|line| line.0[0].is_free())
    }

    /// The entry under this hash that `is` the one meant. Only those are asked that it `may` be, which should be told
    /// from the entry alone.
    #[inline]
    pub(super) fn find(&self, hash: u64, may: impl Fn(&E) -> bool, is: impl Fn(&E) -> bool) -> Option<&E> {
        let shard = &self.shards[self.shard(hash)];
        shard.find(place(hash), may, is).map(|(line, number)| &shard.lines[line].0[number])
    }

    /// The entry under this hash of which `is` holds, to be changed. Its key must stay what it is.
    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, is: impl Fn(&E) -> bool) -> Option<&mut E> {
        let number = self.shard(hash);
        let shard = &mut self.shards[number];
        shard.find(place(hash), is, |_| true).map(|(line, number)| &mut shard.lines[line].0[number])
    }

    /// Adds an entry that is not there.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, entry: E) {
        let number = self.shard(hash);
        if !self.shards[number].has_room() {
            self.grow(number);
        }
        self.shards[number].add(place(hash), entry);
    }

    /// Takes out the entry under this hash of which `is` holds.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, is: impl Fn(&E) -> bool) -> Option<E> {
        let number = self.shard(hash);
        let shard = &mut self.shards[number];
        let (line, number) = shard.find(place(hash), is, |_| true)?;
        Some(shard.take(line, number, &self.hasher))
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        let lines = self.shards.iter().flat_map(|shard| &shard.lines);
        lines.flat_map(|line| line.0.iter().take_while(|entry| !entry.is_free()))
    }

    #[cold]
    fn grow(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        let lines = shard.lines.len();
        let more = lines * (STEPS + 2 * (number % STEPS)) / (4 * STEPS);
        let mut grown = Shard::new(lines + more + 1);
        self.moved += u64::from(shard.len);
        // In the order of places, nearly: both shards are walked from front to back.
        for entry in shard.lines.iter().flat_map(|line| &line.0).filter(|entry| !entry.is_free()) {
            grown.add(entry.place(&self.hasher), *entry);
        }
        *shard = grown;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A key and a value; the key is not 0.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Pair(u64, u64);

    impl Entry for Pair {
        fn is_free(&self) -> bool {
            self.0 == 0
        }

        fn place(&self, hasher: &Hasher) -> u32 {
            place(hasher.hash(self.0))
        }
    }

    type Pairs = Table<Pair, 4>;

    fn get(table: &Pairs, key: u64) -> Option<u64> {
        table.find(table.hash(key), |pair| pair.0 == key, |_| true).map(|pair| pair.1)
    }

    fn remove(table: &mut Pairs, key: u64) -> Option<u64> {
        table.remove(table.hash(key), |pair| pair.0 == key).map(|pair| pair.1)
    }

    /// Every entry is found where a lookup passes, lines have no gaps, and no shard is overfull.
    fn assert_sound(table: &Pairs) {
        for shard in &table.shards {
            let mut len = 0;
            for (at, line) in shard.lines.iter().enumerate() {
                let used = line.0.iter().take_while(|pair| !pair.is_free()).count();
                assert!(line.0[used..].iter().all(Entry::is_free), "a gap in a line");
                len += used;
                for pair in &line.0[..used] {
                    let mut passed = shard.home(pair.place(&table.hasher));
                    while passed != at {
                        assert!(shard.lines[passed].is_full(), "a lookup ends before the entry");
                        passed = shard.behind(passed);
                    }
                }
            }
            assert_eq!(len, shard.len as usize);
            assert!(len <= shard.lines.len() * 4 * IN_USE_MAX / PLACES);
        }
    }

    proptest! {
        /// Few shards, none with room at first, so that every run grows them and empties them again.
        #[test]
        fn a_table_is_a_map(shard_bits in 0..3_u32, capacity in 0..40_usize, seed: u64,
                            acts in prop::collection::vec((0..3_u8, 1..400_u64), 0..1500)) {
            let mut table = Pairs::with_capacity(shard_bits, capacity, seed);
            let mut map = HashMap::new();
            for (number, (act, key)) in (0..).zip(acts) {
                prop_assert_eq!(get(&table, key), map.get(&key).copied());
                if act == 0 {
                    prop_assert_eq!(remove(&mut table, key), map.remove(&key));
                } else if map.insert(key, number).is_none() {
                    table.insert(table.hash(key), Pair(key, number));
                } else {
                    table.find_mut(table.hash(key), |pair| pair.0 == key).unwrap().1 = number;
                }
                table.touch(table.hash(key));
            }
            assert_sound(&table);
            let all: HashMap<u64, u64> = table.iter().map(|pair| (pair.0, pair.1)).collect();
            prop_assert_eq!(table.iter().count(), map.len());
            prop_assert_eq!(all, map);
        }
    }

    #[test]
    fn a_table_made_to_measure_moves_nothing() {
        for keys in [1_000, 100_000] {
            let mut table = Pairs::with_capacity(6, keys, 9);
            (1..=keys as u64).for_each(|key| table.insert(table.hash(key), Pair(key, 0)));
            assert_eq!(table.moved(), 0);
            let bytes = table.bytes() as usize / keys;
            assert!(bytes < 16 * 2 || keys < 10_000, "{bytes} bytes for an entry of 16");
        }
    }

    #[test]
    fn a_table_uses_most_of_its_memory_at_any_size() {
        let mut table = Pairs::with_capacity(6, 0, 9);
        for key in 1..=200_000_u64 {
            table.insert(table.hash(key), Pair(key, 0));
            if key > 20_000 && key.is_multiple_of(1000) {
                let bytes = table.bytes() as f64 / key as f64;
                assert!(bytes < 27.0, "{bytes} bytes for each of {key} entries of 16");
            }
        }
        assert!(table.moved() < 4 * 200_000, "{} moves", table.moved());
    }

    #[test]
    fn a_key_that_comes_and_goes_costs_no_room() {
        let mut table = Pairs::with_capacity(0, 0, 9);
        for key in 1..=100_000_u64 {
            table.insert(table.hash(key), Pair(key, 0));
            if key > 100 {
                assert!(remove(&mut table, key - 100).is_some());
            }
        }
        assert_sound(&table);
        assert!(table.bytes() < 8 * 1024, "removed entries must leave nothing behind");
    }
}
