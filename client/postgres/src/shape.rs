//! Tables: what they are called, how they are made, and whether one that is there is what it should be.
//!
//! A table is made if it is missing, with plain SQL that may as well be run by hand before. One that is there must have the
//! columns that are needed, of their types; it may have more. Deliberately not here: which tables there are
//! ([`crate::ledger`], [`crate::orders`]).

use std::fmt;

use thiserror::Error;
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;

use crate::error::words;

/// The longest name that PostgreSQL keeps, bytes.
const NAME_MAX: usize = 63;

/// The name of a table, perhaps with its schema; quoted wherever it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    schema: Option<String>,
    table: String,
}

impl TableName {
    /// A table in the first schema of the search path.
    pub fn new(table: impl Into<String>) -> Self {
        Self { schema: None, table: table.into() }
    }

    /// The same in this schema.
    pub fn in_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Whether PostgreSQL would keep it as it is.
    fn is_sound(&self) -> bool {
        let fits = |name: &String| (1..=NAME_MAX).contains(&name.len()) && !name.contains('\0');
        fits(&self.table) && self.schema.as_ref().is_none_or(fits)
    }
}

/// As SQL writes it.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quoted(schema))?;
        }
        f.write_str(&quoted(&self.table))
    }
}

/// A table cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A name is empty, or longer than PostgreSQL keeps.
    #[error("{table} is no name of a table: schema and table have 1 to {NAME_MAX} bytes each")]
    Name {
        /// The name.
        table: TableName,
    },
    /// The table is there, and is not what is meant.
    #[error(
        "table {table} is of another shape: column {column} is {found} and should be {expected}. Rename that table, \
         choose another name or schema, or change the column"
    )]
    Column {
        /// The table.
        table: TableName,
        /// The column.
        column: &'static str,
        /// Its type, or `missing`.
        found: String,
        /// The type that it should have.
        expected: &'static str,
    },
    /// PostgreSQL refused something, or was lost.
    #[error("table {table} cannot be made or looked at: {}", words(.source))]
    Postgres {
        /// The table.
        table: TableName,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
}

/// What a table must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Columns and their types, as `format_type` writes them.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// What stands behind `CREATE TABLE name`.
    pub(crate) definition: &'static str,
}

impl Shape {
    /// The SQL that makes the table.
    pub(crate) fn sql(&self, table: &TableName) -> String {
        format!("CREATE TABLE IF NOT EXISTS {table} {};", self.definition)
    }

    /// Makes the table if it is missing, and looks at it if it is not.
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub(crate) async fn ensure(&self, db: &impl GenericClient, table: &TableName) -> Result<(), ShapeError> {
        if !table.is_sound() {
            return Err(ShapeError::Name { table: table.clone() });
        }
        let failed = |source| ShapeError::Postgres { table: table.clone(), source };
        if self.found(db, table).await.map_err(failed)?.is_empty() {
            // `IF NOT EXISTS` asks for the right to create also where nothing is created, so it is not asked before.
            match db.batch_execute(&self.sql(table)).await {
                Err(error) if !is_made_meanwhile(&error) => return Err(failed(error)),
                _ => {}
            }
        }
        let found = self.found(db, table).await.map_err(failed)?;
        for (column, expected) in self.columns {
            let kind = found.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.as_str());
            if kind != Some(expected) {
                let found = kind.unwrap_or("missing").to_owned();
                return Err(ShapeError::Column { table: table.clone(), column, found, expected });
            }
        }
        Ok(())
    }

    /// The columns that the table has; none if there is no table.
    async fn found(
        &self,
        db: &impl GenericClient,
        table: &TableName,
    ) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
        let columns = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                       WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = db.query(columns, &[&table.to_string()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// Two made it at the same time, and the other one was first: even `IF NOT EXISTS` says so.
fn is_made_meanwhile(error: &tokio_postgres::Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::DUPLICATE_TABLE) || code == Some(&SqlState::UNIQUE_VIOLATION)
}
