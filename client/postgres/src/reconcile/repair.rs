//! Writes what is missing or different into the table, in one transaction. Deletes nothing.
//!
//! The rows of cursors of the lanes concerned are locked first, and must be where they were when the table was compared: then
//! no hand-off has written in between, and none does until the end. Each row is made of the event that shaped it. Columns that
//! this event does not tell, such as when a sold order was reserved, stay as they are.
//!
//! Deliberately not here: deciding to.

use std::time::Duration;

use sluice_client::books::Entry;
use sluice_client::{EventView, Start, State, Tailed};
use sluice_protocol::event::{LANES, lane_of};

use super::finding::state_of;
use super::{Finding, Reconcile, ReconcileError};
use crate::orders::COLUMNS;
use crate::values::{Number, TimeMs, Uuid, bigint};

/// How long one look at the stream waits for an event that there is.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    entries: Vec<Entry>,
}

/// What a repair came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rows that were written.
    pub written: u64,
    /// Rows that were left, because the event that shaped them is kept no more.
    pub left: u64,
}

impl Repair {
    /// Takes a finding: what is missing or different is to be written. What is extra is left alone.
    pub fn take(&mut self, finding: &Finding) {
        match finding {
            Finding::Missing(entry) | Finding::Differs(entry, _) => self.entries.push(*entry),
            Finding::Extra(_) => {}
        }
    }

    /// Writes all of it, or nothing. `cursors` are those of the report.
    ///
    /// # Errors
    /// [`ReconcileError::Moved`] if the hand-off has gone on; [`ReconcileError::Postgres`], [`ReconcileError::Server`].
    pub async fn write(
        self,
        reconcile: &Reconcile,
        db: &mut tokio_postgres::Client,
        cursors: &[u64; LANES as usize],
    ) -> Result<Repaired, ReconcileError> {
        let mut repaired = Repaired::default();
        let transaction = db.transaction().await?;
        let lock = format!(
            "SELECT lane, sequence FROM {} WHERE group_name = $1 ORDER BY lane FOR UPDATE",
            reconcile.tables.cursors
        );
        let mut now = [0; LANES as usize];
        for row in transaction.query(&lock, &[&reconcile.group]).await? {
            let (lane, sequence): (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(place) = usize::try_from(lane).ok().and_then(|lane| now.get_mut(lane)) {
                *place = u64::try_from(sequence).unwrap_or(0);
            }
        }
        let has_moved = |entry: &Entry| {
            let lane = lane_of(entry.product) as usize;
            now[lane] != cursors[lane]
        };
        if self.entries.iter().any(has_moved) {
            return Err(ReconcileError::Moved);
        }
        let upsert = format!(
            "INSERT INTO {} AS o ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (reservation) DO UPDATE SET product = excluded.product, user_id = excluded.user_id, \
             quantity = excluded.quantity, state = excluded.state, reason = excluded.reason, \
             sequence = excluded.sequence, updated_at = excluded.updated_at, \
             deadline = coalesce(excluded.deadline, o.deadline), \
             reserved_at = coalesce(excluded.reserved_at, o.reserved_at)",
            reconcile.orders
        );
        let upsert = transaction.prepare(&upsert).await?;
        for entry in &self.entries {
            let Some(event) = event_of(reconcile, entry).await? else {
                repaired.left += 1;
                continue;
            };
            let is_held = entry.state == State::Held;
            let reason = (entry.state == State::Cancelled).then(|| bigint(entry.detail));
            transaction
                .execute(
                    &upsert,
                    &[
                        &Uuid(entry.id.0),
                        &Number(entry.product.0),
                        &Number(entry.user.0),
                        &Number(u64::from(entry.quantity)),
                        &state_of(entry).as_str(),
                        &reason,
                        &is_held.then_some(TimeMs(event.detail)),
                        &bigint(entry.sequence),
                        &is_held.then_some(TimeMs(event.time_ms)),
                        &TimeMs(event.time_ms),
                    ],
                )
                .await?;
            repaired.written += 1;
        }
        transaction.commit().await?;
        Ok(repaired)
    }
}

/// The event that shaped an entry, if it is kept.
async fn event_of(reconcile: &Reconcile, entry: &Entry) -> Result<Option<EventView>, ReconcileError> {
    let mut tail = reconcile.client.tail(Start::After(entry.sequence - 1)).await?;
    match tail.next(LOOK).await? {
        Tailed::Gap { .. } => Ok(None),
        Tailed::Events(events) => Ok(events.first().filter(|event| event.id == entry.id).copied()),
    }
}
