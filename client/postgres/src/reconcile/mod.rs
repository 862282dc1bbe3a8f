//! Holds the table of orders against a server's books: names each order that is missing, extra or different.
//!
//! Both sides are taken as of exact sequences. The books are the server's as of one event. The table is read as of one moment,
//! in which each lane has been handed over up to a sequence of its own; so the books are carried forward, lane by lane, by the
//! events in between. A sale and a hand-off that go on meanwhile do not disturb it.
//!
//! What is exact: every held and sold reservation; and every cancelled or expired one that the server still remembers, or
//! whose end came after the books. Of those that it has forgotten only their number is told ([`Report::forgotten`]).
//!
//! Memory: 64 bytes for each reservation, twice that at worst while they arrive, and up to 400 for each that changed after the
//! books were taken. Rows of the table stream by.
//!
//! - [`Reconcile`]: what to compare, and doing it
//! - [`Finding`], [`Report`]: what comes of it
//! - `compare`: the two sides, row by row
//! - [`Repair`]: writing what is missing or different, if somebody asks
//! - [`ReconcileError`]: why it could not be compared
//!
//! Deliberately not here: how books are asked for, and deleting anything.

mod compare;
mod error;
mod finding;
mod ours;
mod repair;

use std::time::{Duration, Instant};

use sluice_client::Client;
use sluice_client::books::bytes::Heading;
use sluice_client::books::{Entry, Sums};

use crate::books::snapshot;
use crate::{LedgerTables, TableName};

use self::compare::Comparison;
pub use self::error::ReconcileError;
pub use self::finding::{Difference, Finding, ProductReport, Report};
pub use self::repair::{Repair, Repaired};

/// How often it is looked whether the hand-off has come far enough.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is held for each reservation.
const _: () = assert!(size_of::<Entry>() == 64);

/// A server's books: as [`sluice_client::books::bytes::read`] reads them.
#[derive(Clone, Debug)]
pub struct ServerBooks {
    /// Whose, and as of when.
    pub heading: Heading,
    /// What they add up to.
    pub sums: Sums,
    /// All reservations.
    pub entries: Vec<Entry>,
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Reconcile {
    /// The servers.
    pub client: Client,
    /// The group whose hand-off writes the table.
    pub group: String,
    /// The hand-off's own tables.
    pub tables: LedgerTables,
    /// The table of orders.
    pub orders: TableName,
}

impl Reconcile {
    /// Waits until everything up to a sequence has been handed over. `progress` hears how far it is, now and then.
    ///
    /// # Errors
    /// [`ReconcileError::Behind`] if it takes longer than that; [`ReconcileError::NoGroup`], [`ReconcileError::Server`].
    pub async fn wait_for(
        &self,
        sequence: u64,
        patience: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ReconcileError> {
        let began = Instant::now();
        loop {
            let handed = self.handed().await?;
            progress(handed);
            if handed >= sequence {
                return Ok(());
            }
            if began.elapsed() >= patience {
                return Err(ReconcileError::Behind { sequence, handed, waited: patience });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Compares. `each` hears every finding as it is found, in the order of ids. Changes nothing.
    ///
    /// # Errors
    /// [`ReconcileError`] if it could not be compared to the end; what was heard until then stands.
    pub async fn compare(
        &self,
        db: &mut tokio_postgres::Client,
        books: ServerBooks,
        each: impl FnMut(&Finding),
    ) -> Result<Report, ReconcileError> {
        let sequence = books.heading.sequence;
        // Before the table is read: what is acknowledged is committed there.
        let handed = self.handed().await?;
        let theirs = snapshot(db, &self.tables, &self.orders, &self.group).await?;
        let reach = theirs.cursors.map(|cursor| cursor.max(handed));
        let lowest = reach.into_iter().min().unwrap_or(0);
        if lowest < sequence {
            return Err(ReconcileError::Behind { sequence, handed: lowest, waited: Duration::ZERO });
        }
        let ours = ours::carried(&self.client, books, &reach).await?;
        let mut comparison = Comparison::new(ours, sequence, theirs.base, each);
        let mut orders = theirs.orders().await?;
        while let Some(order) = orders.next().await {
            comparison.row(&order?);
        }
        let mut report = comparison.finish();
        report.cursors = theirs.cursors;
        report.undone = theirs.undone;
        report.gaps = theirs.gaps;
        Ok(report)
    }

    /// How far the group has acknowledged. Only what is committed is acknowledged.
    async fn handed(&self) -> Result<u64, ReconcileError> {
        let group = self.client.group(&self.group).await?;
        group.map(|group| group.cursor).ok_or_else(|| ReconcileError::NoGroup { group: self.group.clone() })
    }
}
