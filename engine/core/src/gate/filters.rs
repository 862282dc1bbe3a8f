//! A [`Filter`] that grows: a row of them, each twice as large as the one before.
//!
//! A key goes into the newest filter that has room, and stays there. A reader asks all of them: as many as doublings, so
//! sixteen times the keys that were expected cost five looks instead of one. What is full is never copied, and nothing
//! is taken away from readers; so growing costs one allocation of zeroed memory, whose pages are touched ahead, a few with
//! each insert.
//!
//! **A key is removed only where exactly one filter may contain it.** That one holds it, since a filter never misses what it
//! holds. If several may, one of them is mistaken, and taking a twin out of it would hide the twin's own key. Then nothing
//! is removed: the key stays as a false positive, one in some ten thousand of those that are removed.
//!
//! Deliberately not here: shrinking. A restart makes the filters anew.

use std::fmt;
use std::sync::OnceLock;

use super::filter::Filter;
use super::sync::{AtomicU64, Ordering};

/// Filters there may be: room for a million times as many keys as were expected. Beyond it the answers drift towards
/// *maybe*.
const FILTERS_MAX: usize = 20;

/// Inserts for each page of the next filter that is touched ahead.
const INSERTS_PER_PAGE: u64 = 64;

/// One filter, and how many keys it was given and has not lost.
struct Link {
    filter: Filter,
    /// The writer's alone.
    keys: AtomicU64,
}

impl Link {
    fn new(keys: usize) -> Self {
        Self { filter: Filter::with_capacity(keys), keys: AtomicU64::new(0) }
    }

    fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.keys() < self.filter.capacity()
    }
}

/// An approximate set of hashes that grows. One thread writes, any number read.
pub struct Filters {
    links: [OnceLock<Link>; FILTERS_MAX],
    /// Links that readers look at. One more may have been made and not be in use.
    len: AtomicU64,
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links().map(|link| &link.filter)).finish()
    }
}

impl Filters {
    /// One filter for so many keys; see [`Filter::with_capacity`].
    pub fn with_capacity(keys: usize) -> Self {
        let links: [OnceLock<Link>; FILTERS_MAX] = std::array::from_fn(|_| OnceLock::new());
        links[0].get_or_init(|| Link::new(keys));
        Self { links, len: AtomicU64::new(1) }
    }

    /// Whether the key with this hash may be in the set. `false` is certain for what was inserted, and not
    /// removed, before the caller could know of it.
    pub fn maybe_contains(&self, hash: u64) -> bool {
        self.links().any(|link| link.filter.maybe_contains(hash))
    }

    /// Reads what [`Filters::insert`] of this hash will look at first. To be called for several in a row, well ahead: then
    /// the processor waits for all of their memory at once.
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        self.newest().filter.touch(hash)
    }

    /// Adds a key. A key added twice must be removed twice. Writer only.
    pub fn insert(&self, hash: u64) {
        let newest = self.newest();
        let link = if newest.has_room() {
            newest
        } else {
            let older = self.links().find(|link| link.has_room());
            older.unwrap_or_else(|| self.grow())
        };
        link.filter.insert(hash);
        let keys = link.keys() + 1;
        link.keys.store(keys, Ordering::Relaxed);
        if std::ptr::eq(link, newest) && keys.is_multiple_of(INSERTS_PER_PAGE) {
            self.prepare(link);
        }
    }

    /// Takes a key out that was inserted. Writer only. See the head of this file for when it stays.
    pub fn remove(&self, hash: u64) {
        let mut holders = self.links().filter(|link| link.filter.maybe_contains(hash));
        if let (Some(link), None) = (holders.next(), holders.next()) {
            link.filter.remove(hash);
            link.keys.store(link.keys().saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// Forgets everything, but keeps its size. Writer only; a reader at the same time may miss any key.
    pub fn clear(&self) {
        for link in self.links() {
            link.filter.clear();
            link.keys.store(0, Ordering::Relaxed);
        }
    }

    /// How many filters a reader asks.
    pub fn depth(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Buckets that answer *maybe* to everything.
    pub fn saturated(&self) -> u64 {
        self.links().map(|link| link.filter.saturated()).sum()
    }

    /// Bytes of all filters.
    pub fn bytes(&self) -> u64 {
        self.links().map(|link| link.filter.bytes()).sum()
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        let len = self.len.load(Ordering::Acquire) as usize;
        self.links[..len].iter().map(|link| link.get().expect("what is counted was made"))
    }

    #[inline]
    fn newest(&self) -> &Link {
        let len = self.len.load(Ordering::Acquire) as usize;
        self.links[len - 1].get().expect("what is counted was made")
    }

    /// The filter behind the newest, which nobody reads yet; `None` if there may not be more.
    fn next(&self) -> Option<&Link> {
        let next = self.links.get(self.depth())?;
        let keys = 2 * self.newest().filter.capacity();
        Some(next.get_or_init(|| Link::new(usize::try_from(keys).unwrap_or(usize::MAX))))
    }

    /// Touches a page of the next filter while the newest one runs full.
    fn prepare(&self, newest: &Link) {
        let capacity = newest.filter.capacity();
        let Some(beyond) = newest.keys().checked_sub(capacity - capacity / 4) else { return };
        if let Some(next) = self.next() {
            next.filter.touch_page(beyond / INSERTS_PER_PAGE);
        }
    }

    /// Lets readers see one more filter. Whoever learns of a key in it has seen it too: the key comes later.
    #[cold]
    fn grow(&self) -> &Link {
        if let Some(next) = self.next() {
            self.len.store(self.depth() as u64 + 1, Ordering::Release);
            return next;
        }
        self.newest()
    }
}
