//! What one would write at first: an insert for each event, and the cursor beside it.
//!
//! It is lean: statements are prepared, columns have the cheapest types that would do, the cursor is one row, nothing is
//! locked for others, and acknowledgements are gathered. Deliberately not here: being right with several members, or with
//! dead letters.

use std::time::{Duration, Instant};

use sluice_client::{Client, EventView, Start};
use sluice_postgres::tokio_postgres::{self, Statement, Transaction};

use super::Scene;
use crate::error::BenchError;
use crate::stream::take::{delivery, over};

/// How long nothing may come while something should.
const PATIENCE: Duration = Duration::from_secs(30);

impl Scene {
    /// Inserts this many events into a new table, so many in a transaction; events a second.
    pub(super) async fn rows(&self, group: &str, batch: usize, events: u64) -> Result<f64, BenchError> {
        let client = Client::connect(&self.servers).await?;
        let mut db = self.connect().await?;
        let began = Instant::now();
        let mut consumer = client.consume(group).start(Start::Beginning).open().await?;
        let rows = Rows::prepare(&db, group).await?;
        let mut taken = 0;
        while taken < events {
            let next = tokio::time::timeout(PATIENCE, consumer.next_batch(batch)).await;
            let next = next.map_err(|_| BenchError::Undelivered(PATIENCE))?;
            let deliveries = next.ok_or_else(over)??.into_iter().map(delivery);
            let deliveries = deliveries.collect::<Result<Vec<_>, BenchError>>()?;
            let transaction = db.transaction().await?;
            for delivery in &deliveries {
                rows.insert(&transaction, delivery.event()).await?;
            }
            let last = deliveries.last().map_or(0, |delivery| delivery.event().sequence as i64);
            transaction.execute(&rows.cursor, &[&group, &last]).await?;
            transaction.commit().await?;
            taken += deliveries.len() as u64;
            for delivery in deliveries {
                delivery.ack().map_err(sluice_client::ConsumeError::from)?;
            }
        }
        consumer.flush().await?;
        let rate = taken as f64 / began.elapsed().as_secs_f64();
        consumer.close().await?;
        Ok(rate)
    }
}

struct Rows {
    insert: Statement,
    cursor: Statement,
}

impl Rows {
    async fn prepare(db: &tokio_postgres::Client, table: &str) -> Result<Self, BenchError> {
        let make = format!(
            "CREATE TABLE IF NOT EXISTS row_cursors (name text PRIMARY KEY, sequence bigint); \
             CREATE TABLE \"{table}\" (reservation text PRIMARY KEY, product bigint, user_id bigint, quantity bigint, \
             state text, deadline bigint, sequence bigint, updated_at bigint)"
        );
        db.batch_execute(&make).await?;
        let insert = format!(
            "INSERT INTO \"{table}\" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (reservation) \
             DO UPDATE SET state = excluded.state, sequence = excluded.sequence, updated_at = excluded.updated_at"
        );
        let cursor = "INSERT INTO row_cursors VALUES ($1, $2) \
                      ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence";
        Ok(Self { insert: db.prepare(&insert).await?, cursor: db.prepare(cursor).await? })
    }

    async fn insert(&self, transaction: &Transaction<'_>, event: &EventView) -> Result<(), BenchError> {
        let id = event.id.to_string();
        let state = format!("{:?}", event.kind);
        let [product, user, quantity] =
            [event.product.0, event.user.0, event.quantity].map(|number| number as i64);
        let [deadline, sequence, time] =
            [event.detail, event.sequence, event.time_ms].map(|number| number as i64);
        transaction
            .execute(&self.insert, &[&id, &product, &user, &quantity, &state, &deadline, &sequence, &time])
            .await?;
        Ok(())
    }
}
