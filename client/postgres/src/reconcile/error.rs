//! Why books and table could not be compared, or the table not be repaired.

use std::time::Duration;

use sluice_client::books::BooksError;
use thiserror::Error;

use crate::books::ReadError;

/// See the module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The hand-off has not come so far.
    #[error(
        "the hand-off is at sequence {handed}, and did not come to {sequence} within {waited:?}: is it running? wait \
         longer, or compare as of a sequence that it has passed"
    )]
    Behind {
        /// What was to be compared.
        sequence: u64,
        /// How far it is.
        handed: u64,
        /// How long it was waited.
        waited: Duration,
    },
    /// The servers know of no such group.
    #[error("the server has no group {group:?}: see `sluice group list`")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// Events between the books and the table are kept no more.
    #[error(
        "events {from} to {to} are kept no more, and the table is behind them: compare as of a later sequence"
    )]
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The hand-off has changed the table since it was compared.
    #[error(
        "the hand-off has gone on since the table was compared: nothing was repaired; stop it, or try again"
    )]
    Moved,
    /// The books do not add up.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// No server answered.
    #[error(transparent)]
    Server(#[from] sluice_client::Error),
    /// The table cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// PostgreSQL refused something, or was lost.
    #[error("the database cannot be repaired: {0}")]
    Postgres(#[from] tokio_postgres::Error),
}
