//! Why books cannot be told, and what to ask instead.

use std::time::Duration;

use sluice_client::books::BooksError;
use sluice_core::ledger::ImageError;
use thiserror::Error;

use super::base::CHANGES_MAX;
use crate::snapshot::SnapshotError;
use crate::stream::ReadError;

/// See the module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NoBooks {
    /// It has not happened here yet.
    #[error(
        "this node is at sequence {here}, and {at} did not come within {waited:?}: ask again, or wait longer"
    )]
    Behind {
        /// What was asked for.
        at: u64,
        /// How far this node is.
        here: u64,
        /// How long it was waited.
        waited: Duration,
    },
    /// It was too long ago.
    #[error(
        "sequence {at} is too long ago for this node: {why}; the lowest that can be had here is {lowest}; \
         another node may have kept more"
    )]
    Forgotten {
        /// What was asked for.
        at: u64,
        /// The lowest sequence after it of which this node has a state.
        lowest: u64,
        /// What is missing.
        why: String,
    },
    /// Too much has happened between the last state before it and the sequence that was asked for.
    #[error(
        "more than {CHANGES_MAX} reservations have changed between sequence {base} and {at}: ask for one that is nearer \
         to a snapshot, or for now"
    )]
    TooFar {
        /// What was asked for.
        at: u64,
        /// The state that it would be carried forward from.
        base: u64,
    },
    /// The node is stopping, or has not begun.
    #[error("this node is stopping: ask another")]
    Stopping,
    /// A snapshot file cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A state is damaged.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Events cannot be read.
    #[error(transparent)]
    Events(#[from] ReadError),
    /// States and events do not add up.
    #[error(transparent)]
    Books(#[from] BooksError),
}

impl NoBooks {
    /// A name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Behind { .. } => "behind",
            Self::Forgotten { .. } => "forgotten",
            Self::TooFar { .. } => "too_far",
            Self::Stopping => "stopping",
            Self::Snapshot(_) | Self::Events(_) => "unreadable",
            Self::Image(_) | Self::Books(_) => "damaged",
        }
    }
}
