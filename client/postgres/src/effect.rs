//! What a hand-off does with events: the trait, and how an effect says that it could not.
//!
//! Deliberately not here: the transaction around it ([`crate::turn`]).

use std::future::Future;

use sluice_client::EventView;
use thiserror::Error;
use tokio_postgres::{Client, Transaction};

use crate::shape::ShapeError;

/// What is done with events, in the transaction that moves the cursors.
///
/// # Duties
/// - All that is to happen exactly once happens through the `transaction`. What reaches further, an e-mail say, may happen
///   again after a crash: write it into a table, and send from there.
/// - The transaction is not ended, and no error of a statement in it is hidden: after one PostgreSQL commits nothing.
/// - An effect may be tried several times with the same events, and with part of them, before one try is committed: what it
///   keeps in memory is only true of what is committed once `apply` is called again.
pub trait Effect: Send {
    /// Called on each new connection before anything is applied: makes tables, prepares statements.
    ///
    /// # Errors
    /// Those that pass are tried again on another connection; all others end the hand-off.
    fn prepare(&mut self, client: &Client) -> impl Future<Output = Result<(), EffectError>> + Send {
        let _ = client;
        async { Ok(()) }
    }

    /// Carries out events that have taken no effect yet: those of each product in their order. A dead letter that is
    /// delivered again comes alone, behind events that are newer.
    ///
    /// # Errors
    /// See [`EffectError`].
    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[EventView],
    ) -> impl Future<Output = Result<(), EffectError>> + Send;
}

/// Why an effect could not be carried out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EffectError {
    /// PostgreSQL said so. Its code decides: data that does not fit (classes 21, 22, 23, 44 and P0) is the event's fault;
    /// what passes (08, 40, 53, 55, 57, 58, a lost connection) is tried again; all else ends the hand-off.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// A table is not what it should be: the hand-off ends.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The effect itself refuses an event: its delivery fails, and becomes a dead letter after as many as the group's terms
    /// allow.
    #[error("refused with cause {cause}: {why}")]
    Refused {
        /// A code of the shop's own, kept with a dead letter.
        cause: u32,
        /// For people.
        why: String,
    },
    /// There is nothing to go on with: the hand-off ends.
    #[error("{0}")]
    Fatal(Box<dyn std::error::Error + Send + Sync>),
}
