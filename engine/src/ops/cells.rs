//! The small atomics that metrics are made of. All orderings are relaxed: a scrape may see one number a moment
//! before another, but never a number that was not there.
//!
//! Writers add once per batch, not once per item. Deliberately not here: names and help texts.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use sluice_protocol::{Answer, Kind, Status};

use super::labels::{Label, Role};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that its owner sets, or that several threads raise and lower.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the number. What does not fit 63 bits is shown as the largest that does.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    /// Raises it by one.
    pub fn increment(&self) {
        self.shift(1);
    }

    /// Lowers it by one.
    pub fn decrement(&self) {
        self.shift(-1);
    }

    /// Raises or lowers it.
    pub fn shift(&self, by: i64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// The number now. Threads that raise and lower may pass each other, so zero is the least that is shown.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed).try_into().unwrap_or(0)
    }
}

/// A span of time that its owner sets in milliseconds; shown in seconds.
#[derive(Debug, Default)]
pub struct MillisGauge(Gauge);

impl MillisGauge {
    /// Replaces it.
    pub fn set_ms(&self, ms: u64) {
        self.0.set(ms);
    }

    /// Milliseconds.
    pub fn ms(&self) -> u64 {
        self.0.get()
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L: Label> {
    cells: Box<[Counter]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| Counter::default()).collect(), label: std::marker::PhantomData }
    }
}

impl<L: Label> Counters<L> {
    /// The counter of one value.
    pub fn of(&self, value: L) -> &Counter {
        &self.cells[value.position()]
    }
}

/// One gauge for each value of a label.
#[derive(Debug)]
pub struct Gauges<L: Label> {
    cells: Box<[Gauge]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for Gauges<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| Gauge::default()).collect(), label: std::marker::PhantomData }
    }
}

impl<L: Label> Gauges<L> {
    /// The gauge of one value.
    pub fn of(&self, value: L) -> &Gauge {
        &self.cells[value.position()]
    }
}

/// Status numbers fit in it, so that a status is its own column.
const STATUS_COLUMNS: usize = 64;

const _: () = assert!((Status::Queueing as usize) < STATUS_COLUMNS, "Queueing has the highest number");

/// Answers by kind of request and by status: a flat table, so that counting is one indexed add.
#[derive(Debug)]
pub struct AnswerCounts {
    cells: Box<[Counter]>,
}

impl Default for AnswerCounts {
    fn default() -> Self {
        let cells = Kind::ANSWERED.len() * STATUS_COLUMNS;
        Self { cells: (0..cells).map(|_| Counter::default()).collect() }
    }
}

impl AnswerCounts {
    /// Counts `n` answers of one status to requests of `kind`.
    ///
    /// # Panics
    /// If items of this kind are not answered one by one (hello, ping, replies): the caller's bug.
    pub fn add(&self, kind: Kind, status: Status, n: u64) {
        self.cells[row(kind) * STATUS_COLUMNS + status as usize].add(n);
    }

    /// Counts the answers of one reply frame. Runs of one status, the usual case in a sale, cost one add.
    ///
    /// # Panics
    /// As [`AnswerCounts::add`].
    pub fn count(&self, kind: Kind, answers: &[Answer]) {
        for run in answers.chunk_by(|one, next| one.status_byte() == next.status_byte()) {
            if let Some(status) = run[0].status() {
                self.add(kind, status, run.len() as u64);
            }
        }
    }

    /// How many answers of one status went out to requests of `kind`.
    ///
    /// # Panics
    /// As [`AnswerCounts::add`].
    pub fn get(&self, kind: Kind, status: Status) -> u64 {
        self.cells[row(kind) * STATUS_COLUMNS + status as usize].get()
    }
}

/// The row of each kind, by its number; beyond the last row where there is none.
const ROWS: [u8; 256] = {
    let mut rows = [u8::MAX; 256];
    let mut at = 0;
    while at < Kind::ANSWERED.len() {
        rows[Kind::ANSWERED[at] as usize] = at as u8;
        at += 1;
    }
    rows
};

fn row(kind: Kind) -> usize {
    let row = usize::from(ROWS[kind as usize]);
    assert!(row < Kind::ANSWERED.len(), "items of {kind:?} have no answers");
    row
}

/// The part this node plays.
#[derive(Debug, Default)]
pub struct RoleCell(AtomicU8);

impl RoleCell {
    /// Replaces the role.
    pub fn set(&self, role: Role) {
        self.0.store(role.position() as u8, Relaxed);
    }

    /// The role now.
    pub fn get(&self) -> Role {
        Role::ALL[usize::from(self.0.load(Relaxed))]
    }
}

/// Sums over all products at one log index. The replica thread publishes them together, so that their sum can be
/// checked: stored one by one a scrape would see halves of two states and cry wolf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The log index they hold at.
    pub index: u64,
    /// Products.
    pub products: u64,
    /// Records: reservations in any state, restocks, write-offs, fences.
    pub records: u64,
    /// Units ever put in, less those written off. Products without a stock limit are in none of the four sums.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units held by reservations that are not confirmed yet.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
}

impl Totals {
    /// `stock − free − held − sold`. Anything but 0 means that units were made or lost.
    pub fn conservation_error(&self) -> i64 {
        let error =
            i128::from(self.stock) - i128::from(self.free) - i128::from(self.held) - i128::from(self.sold);
        error.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

/// Where the replica thread puts its [`Totals`], some times a second. A lock, since it is never contended for
/// longer than a copy.
#[derive(Debug, Default)]
pub struct TotalsCell(Mutex<Totals>);

impl TotalsCell {
    /// Replaces all sums at once.
    pub fn set(&self, totals: Totals) {
        *self.0.lock() = totals;
    }

    /// The sums, of one index.
    pub fn get(&self) -> Totals {
        *self.0.lock()
    }
}
