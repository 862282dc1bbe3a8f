//! Whether this database and the group fit together: the group must have acknowledged nothing that the database lacks.
//!
//! They part ways if the database is set back, by a backup or by a standby that had not heard of the last commits, or is
//! another one than before; or if somebody moves the group forward. What is between would be missing in silence, so each
//! new connection looks. Deliberately not here: cursors of single lanes, which the server does not tell, and groups that do
//! not want all events: how far they stand says nothing of what the database must have.

use sluice_client::{Client as Sluice, ConsumeError, Group};
use tokio_postgres::Client;

use crate::error::HandOffError;
use crate::ledger::LedgerTables;
use crate::values::bigint;

/// Why it cannot be said that they fit.
#[derive(Debug)]
pub(crate) enum StandingError {
    Postgres(tokio_postgres::Error),
    Sluice(ConsumeError),
    Unfit(HandOffError),
}

impl From<tokio_postgres::Error> for StandingError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// What is looked at.
pub(crate) struct Standing<'a> {
    pub(crate) sluice: &'a Sluice,
    pub(crate) db: &'a Client,
    pub(crate) tables: &'a LedgerTables,
    pub(crate) group: &'a str,
    /// What is missing was passed over on purpose.
    pub(crate) is_accepted: bool,
}

impl Standing<'_> {
    /// Looks. The group is asked before the database, which is never behind it later than it was earlier.
    ///
    /// # Errors
    /// See [`StandingError`].
    pub(crate) async fn check(&self) -> Result<(), StandingError> {
        let known =
            self.sluice.group(self.group).await.map_err(|error| StandingError::Sluice(error.into()))?;
        self.make_cursors().await?;
        let groups = &self.tables.groups;
        let select = format!("SELECT base FROM {groups} WHERE group_name = $1");
        let row = self.db.query_opt(&select, &[&self.group]).await?;
        let cursor = known.as_ref().map_or(0, |group| group.cursor);
        let Some(row) = row else {
            if cursor == 0 || self.is_accepted {
                // The row is there before the group is: a group that is there without it has another database.
                return self.enter((cursor > 0).then_some(cursor)).await;
            }
            return Err(self.behind(cursor, 0));
        };
        let Some(group) = known else { return Ok(()) };
        let Some(base) = row.try_get::<_, Option<i64>>(0)? else {
            return self.enter(Some(cursor)).await;
        };
        self.compare(&group, base as u64).await
    }

    /// Each lane has its row, so that there is something to lock.
    async fn make_cursors(&self) -> Result<(), tokio_postgres::Error> {
        let cursors = &self.tables.cursors;
        let insert = format!(
            "INSERT INTO {cursors} (group_name, lane, sequence) SELECT $1, generate_series(0, 63), 0 \
             ON CONFLICT DO NOTHING"
        );
        self.db.execute(&insert, &[&self.group]).await?;
        Ok(())
    }

    /// The database takes part in the group, from behind this sequence on if that is known.
    async fn enter(&self, base: Option<u64>) -> Result<(), StandingError> {
        let groups = &self.tables.groups;
        let insert = format!(
            "INSERT INTO {groups} AS g (group_name, base) VALUES ($1, $2) \
             ON CONFLICT (group_name) DO UPDATE SET base = coalesce(g.base, excluded.base)"
        );
        self.db.execute(&insert, &[&self.group, &base.map(bigint)]).await?;
        Ok(())
    }

    async fn compare(&self, group: &Group, base: u64) -> Result<(), StandingError> {
        let wants_all = group.terms.kinds == 0 && group.terms.products.iter().all(|product| product.0 == 0);
        if !wants_all || group.cursor <= base {
            return Ok(());
        }
        let LedgerTables { groups, cursors, gaps, .. } = self.tables;
        let select = format!(
            "SELECT greatest((SELECT max(sequence) FROM {cursors} WHERE group_name = $1), \
             (SELECT max(to_sequence) FROM {gaps} WHERE group_name = $1), $2::bigint)"
        );
        let row = self.db.query_one(&select, &[&self.group, &bigint(base)]).await?;
        let has = row.try_get::<_, i64>(0)? as u64;
        if group.cursor <= has {
            // What is acknowledged is committed here. From this place on it can be handed on again, if this database is
            // ever set back to what it is now.
            let base = format!("UPDATE {groups} SET base = $2 WHERE group_name = $1 AND base < $2");
            self.db.execute(&base, &[&self.group, &bigint(group.cursor)]).await?;
            return Ok(());
        }
        if !self.is_accepted {
            return Err(self.behind(group.cursor, base));
        }
        let note = format!(
            "WITH gap AS (INSERT INTO {gaps} (group_name, from_sequence, to_sequence) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING) UPDATE {groups} SET base = $3 WHERE group_name = $1"
        );
        self.db.execute(&note, &[&self.group, &bigint(has + 1), &bigint(group.cursor)]).await?;
        Ok(())
    }

    fn behind(&self, cursor: u64, database: u64) -> StandingError {
        let group = self.group.to_owned();
        StandingError::Unfit(HandOffError::Behind { group, cursor, database })
    }
}
