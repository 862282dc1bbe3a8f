//! The ready-made effect: a table with one row for each reservation.
//!
//! A batch becomes one statement, whatever its size: its orders go as one array for each column. Deliberately not here:
//! which events those are ([`crate::Effect`]).
//!
//! - `row`: a row, and the table's shape
//! - `fold`: what a batch makes of each reservation

use sluice_client::EventView;
use tokio_postgres::{Client, Statement, Transaction};

use crate::effect::{Effect, EffectError};
use crate::shape::TableName;
use crate::values::{Number, TimeMs, Uuid, bigint};

mod fold;
mod row;

pub(crate) use row::COLUMNS;
use row::ORDERS;
pub use row::{Order, OrderState};

/// The name of the table unless it is set.
pub const TABLE_DEFAULT: &str = "sluice_orders";

/// Keeps a row for each reservation, in its newest state.
#[derive(Clone, Debug)]
pub struct Orders {
    table: TableName,
    upsert: Option<Statement>,
}

impl Default for Orders {
    fn default() -> Self {
        Self::new(TableName::new(TABLE_DEFAULT))
    }
}

impl Orders {
    /// Orders in this table, which is made if it is missing.
    pub fn new(table: TableName) -> Self {
        Self { table, upsert: None }
    }

    /// The table.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// The SQL that makes the table, for whoever lets nobody else make tables.
    pub fn sql(&self) -> String {
        ORDERS.sql(&self.table)
    }

    /// Inserts, or moves on, all rows of the arrays; an event older than what a row shows only adds what is not known.
    fn upsert_sql(&self) -> String {
        let table = &self.table;
        format!(
            "INSERT INTO {table} AS o ({COLUMNS}) \
             SELECT * FROM unnest($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::text[], $6::bigint[], \
             $7::timestamptz[], $8::bigint[], $9::timestamptz[], $10::timestamptz[]) \
             ON CONFLICT (reservation) DO UPDATE SET \
             state = CASE WHEN excluded.sequence > o.sequence THEN excluded.state ELSE o.state END, \
             reason = CASE WHEN excluded.sequence > o.sequence THEN excluded.reason ELSE o.reason END, \
             updated_at = CASE WHEN excluded.sequence > o.sequence THEN excluded.updated_at ELSE o.updated_at END, \
             sequence = greatest(o.sequence, excluded.sequence), \
             deadline = coalesce(o.deadline, excluded.deadline), \
             reserved_at = coalesce(o.reserved_at, excluded.reserved_at)"
        )
    }
}

impl Effect for Orders {
    async fn prepare(&mut self, client: &Client) -> Result<(), EffectError> {
        ORDERS.ensure(client, &self.table).await?;
        self.upsert = Some(client.prepare(&self.upsert_sql()).await?);
        Ok(())
    }

    async fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[EventView],
    ) -> Result<(), EffectError> {
        let orders = fold::fold(events);
        if orders.is_empty() {
            return Ok(());
        }
        let statement = self.upsert.as_ref().expect("it is prepared before anything is applied");
        let reservations: Vec<_> = orders.iter().map(|order| Uuid(order.reservation.0)).collect();
        let products: Vec<_> = orders.iter().map(|order| Number(order.product.0)).collect();
        let users: Vec<_> = orders.iter().map(|order| Number(order.user.0)).collect();
        let quantities: Vec<_> = orders.iter().map(|order| Number(order.quantity)).collect();
        let states: Vec<_> = orders.iter().map(|order| order.state.as_str()).collect();
        let reasons: Vec<_> = orders.iter().map(|order| order.reason.map(bigint)).collect();
        let deadlines: Vec<_> = orders.iter().map(|order| order.deadline_ms.map(TimeMs)).collect();
        let sequences: Vec<_> = orders.iter().map(|order| bigint(order.sequence)).collect();
        let reserved: Vec<_> = orders.iter().map(|order| order.reserved_ms.map(TimeMs)).collect();
        let updated: Vec<_> = orders.iter().map(|order| TimeMs(order.updated_ms)).collect();
        transaction
            .execute(
                statement,
                &[
                    &reservations,
                    &products,
                    &users,
                    &quantities,
                    &states,
                    &reasons,
                    &deadlines,
                    &sequences,
                    &reserved,
                    &updated,
                ],
            )
            .await?;
        Ok(())
    }
}
