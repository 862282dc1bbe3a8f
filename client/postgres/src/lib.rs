//! Hands the stream of events to PostgreSQL, exactly once in its effect: orders and cursor in one transaction.
//!
//! ```no_run
//! # async fn example(client: sluice_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use sluice_postgres::{HandOff, orders::Orders};
//!
//! let database = "postgres://shop@db.example/shop".parse()?;
//! let hand_off = HandOff::new(&client, database, "orders", Orders::default());
//! hand_off.run(std::future::pending()).await?; // until there is nothing to go on with
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - **Each event takes effect exactly once**, whoever crashes where: Sluice, PostgreSQL, this process, the network in the
//!   midst of a commit. Several members of a group may work at once, and one that was thought dead may go on.
//! - **In order** for each product, except dead letters that are delivered again.
//! - **Only what is committed is acknowledged.** PostgreSQL may be away for days: nothing fails meanwhile, and nothing is lost.
//! - **Nothing is passed over in silence.** What the effect refuses becomes a dead letter as the group's terms say, and is noted
//!   in `sluice_undone`; what is kept no more is noted in `sluice_gaps`; a database that was set back is refused.
//!
//! It needs a database whose commits are durable, and connections that are sessions: a pool in front of PostgreSQL must not
//! share one connection among transactions.
//!
//! # The map
//! - [`HandOff`]: settings, and [`HandOff::run`]; [`News`], [`Counts`]: what it tells; [`HandOffError`]: why it ended
//! - [`orders`]: the ready-made effect, one row for each reservation
//! - [`Effect`], [`EffectError`]: effects of your own
//! - [`books`]: what the database says as of one moment, for whoever audits it
//! - [`reconcile`]: the table of orders held against the server's books
//! - [`LedgerTables`], [`TableName`], [`ShapeError`]: the hand-off's own tables; how tables are called and made
//!
//! Inside: `run` (what is taken, tried again, acknowledged), `turn` (one transaction, and the rule that makes it exactly once),
//! `gathered` and `in_hand` (deliveries that are not begun, and not done), `link` (a connection), `standing` (whether database and group fit), `ledger`,
//! `shape` and `values` (tables, columns, numbers).

pub mod books;
mod effect;
mod error;
mod gathered;
mod hand_off;
mod in_hand;
mod ledger;
mod link;
mod news;
pub mod orders;
pub mod reconcile;
mod run;
mod shape;
mod standing;
mod turn;
mod values;

pub use effect::{Effect, EffectError};
pub use error::HandOffError;
pub use hand_off::{BATCH_DEFAULT, BATCH_MAX, HandOff, PATIENCE_DEFAULT};
pub use ledger::LedgerTables;
pub use news::{Counts, News};
pub use shape::{ShapeError, TableName};
pub use tokio_postgres;
