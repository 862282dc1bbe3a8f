//! The shop's database on the command line: where it is, and the tables that a hand-off keeps in it.
//!
//! Deliberately not here: connecting to it.

use clap::Args;
use sluice_postgres::orders::TABLE_DEFAULT;
use sluice_postgres::{LedgerTables, TableName};

/// Where orders are kept.
#[derive(Debug, Args)]
pub(super) struct DatabaseArgs {
    /// The database: postgres://user[:password]@host/database, without TLS
    #[arg(long, value_name = "URL", env = "SLUICE_POSTGRES", hide_env_values = true)]
    pub(super) postgres: String,
    /// The table of orders; with its schema: shop.sluice_orders
    #[arg(long, value_name = "TABLE", default_value = TABLE_DEFAULT)]
    table: String,
    /// The schema of the hand-off's own tables, unless they are found by the search path
    #[arg(long, value_name = "SCHEMA")]
    schema: Option<String>,
    /// The consumer group whose hand-off writes the table
    #[arg(long, value_name = "GROUP", default_value = "orders")]
    pub(super) group: String,
}

impl DatabaseArgs {
    /// The table of orders.
    pub(super) fn orders(&self) -> TableName {
        match self.table.split_once('.') {
            Some((schema, table)) => TableName::new(table).in_schema(schema),
            None => TableName::new(&self.table),
        }
    }

    /// The hand-off's own tables.
    pub(super) fn ledger(&self) -> LedgerTables {
        self.schema.as_deref().map_or_else(LedgerTables::default, LedgerTables::in_schema)
    }
}
