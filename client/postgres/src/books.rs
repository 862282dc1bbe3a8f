//! What the database says, all as of one moment: cursors, what was passed over, and the orders in the order of their ids.
//!
//! For whoever holds it against the server's books. It is one read-only transaction at `REPEATABLE READ`, so a hand-off at
//! work disturbs nothing and is not disturbed; orders come as a stream, so that millions of them need no memory here.
//! Deliberately not here: what they should say.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use sluice_client::ReservationId;
use sluice_protocol::event::LANES;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, RowStream, Transaction};

use crate::ledger::LedgerTables;
use crate::orders::{COLUMNS, Order};
use crate::shape::TableName;
use crate::values::{Uuid, sequence};

/// The books cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// PostgreSQL refused something, or was lost.
    #[error("the database cannot be read: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// A row is not what a hand-off wrote.
    #[error("a row of {table} is damaged: {why}")]
    Damaged {
        /// The table.
        table: TableName,
        /// What is wrong.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No hand-off of this group has ever worked in this database.
    #[error(
        "the database knows of no group {group:?}: it is another database, another schema, or another name"
    )]
    UnknownGroup {
        /// The group.
        group: String,
    },
}

/// An event that the cursor of its lane has passed, and that has not taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// Its sequence.
    pub sequence: u64,
    /// Its reservation, restock or write-off.
    pub reservation: ReservationId,
    /// Why.
    pub cause: String,
}

/// Events that were kept no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first that may be missing.
    pub from: u64,
    /// The last that is.
    pub to: u64,
}

/// The database as of one moment. Dropped, its transaction ends.
pub struct Snapshot<'a> {
    transaction: Transaction<'a>,
    orders: TableName,
    /// What is behind this sequence was handed to this database; what is before, only if the group was moved back.
    pub base: u64,
    /// Up to where each lane is done; 0 where it never did anything. See [`sluice_protocol::event::lane_of`].
    pub cursors: [u64; LANES as usize],
    /// What was passed over and has not taken effect, in the order of sequences.
    pub undone: Vec<Undone>,
    /// What was never handed out.
    pub gaps: Vec<Missing>,
}

/// Begins to read the books of a group. The client is not used for anything else meanwhile.
///
/// # Errors
/// See [`ReadError`].
pub async fn snapshot<'a>(
    client: &'a mut Client,
    tables: &LedgerTables,
    orders: &TableName,
    group: &str,
) -> Result<Snapshot<'a>, ReadError> {
    let level = IsolationLevel::RepeatableRead;
    let transaction = client.build_transaction().isolation_level(level).read_only(true).start().await?;
    let damaged = |table: &TableName| {
        let table = table.clone();
        move |why: crate::values::Foreign| ReadError::Damaged { table, why: why.into() }
    };
    let base = format!("SELECT base FROM {} WHERE group_name = $1", tables.groups);
    let unknown = || ReadError::UnknownGroup { group: group.to_owned() };
    let row = match transaction.query_opt(&base, &[&group]).await {
        Ok(row) => row.ok_or_else(unknown)?,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    let base = row.try_get::<_, Option<i64>>(0)?.map(sequence).transpose();
    let base = base.map_err(damaged(&tables.groups))?.unwrap_or(0);

    let select = format!("SELECT lane, sequence FROM {} WHERE group_name = $1", tables.cursors);
    let mut cursors = [0; LANES as usize];
    for row in transaction.query(&select, &[&group]).await? {
        let lane: i16 = row.try_get(0)?;
        let place = usize::try_from(lane).ok().and_then(|lane| cursors.get_mut(lane));
        let damaged = damaged(&tables.cursors);
        if let Some(place) = place {
            *place = sequence(row.try_get(1)?).map_err(damaged)?;
        }
    }
    let columns = "SELECT sequence, reservation, cause FROM";
    let select = format!("{columns} {} WHERE group_name = $1 ORDER BY sequence", tables.undone);
    let mut undone = Vec::new();
    for row in transaction.query(&select, &[&group]).await? {
        let sequence = sequence(row.try_get(0)?).map_err(damaged(&tables.undone))?;
        let reservation = ReservationId(row.try_get::<_, Uuid>(1)?.0);
        undone.push(Undone { sequence, reservation, cause: row.try_get(2)? });
    }
    let columns = "SELECT from_sequence, to_sequence FROM";
    let select = format!("{columns} {} WHERE group_name = $1 ORDER BY from_sequence", tables.gaps);
    let mut gaps = Vec::new();
    for row in transaction.query(&select, &[&group]).await? {
        let from = sequence(row.try_get(0)?).map_err(damaged(&tables.gaps))?;
        let to = sequence(row.try_get(1)?).map_err(damaged(&tables.gaps))?;
        gaps.push(Missing { from, to });
    }
    Ok(Snapshot { transaction, orders: orders.clone(), base, cursors, undone, gaps })
}

impl Snapshot<'_> {
    /// All orders, in the order of their reservations' ids.
    ///
    /// # Errors
    /// [`ReadError::Postgres`].
    pub async fn orders(&self) -> Result<Orders, ReadError> {
        let select = format!("SELECT {COLUMNS} FROM {} ORDER BY reservation", self.orders);
        let nothing: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.transaction.query_raw(&select, nothing).await?;
        Ok(Orders { rows: Box::pin(rows), table: self.orders.clone() })
    }
}

/// Orders as they come.
pub struct Orders {
    rows: Pin<Box<RowStream>>,
    table: TableName,
}

impl Orders {
    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// [`ReadError::Postgres`], or [`ReadError::Damaged`] if somebody else has written into the table.
    pub async fn next(&mut self) -> Option<Result<Order, ReadError>> {
        let row = self.rows.next().await?;
        Some(self.read(row))
    }

    fn read(&self, row: Result<tokio_postgres::Row, tokio_postgres::Error>) -> Result<Order, ReadError> {
        Order::read(&row?).map_err(|why| ReadError::Damaged { table: self.table.clone(), why })
    }
}

impl Stream for Orders {
    type Item = Result<Order, ReadError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = self.rows.as_mut().poll_next(context);
        next.map(|row| row.map(|row| self.read(row)))
    }
}
