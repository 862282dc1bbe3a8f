//! Why events could not be kept or read, and what to do about it.
//!
//! Deliberately not here: any attempt to repair. What is damaged here is whole on other nodes.

use std::io;
use std::path::{Path, PathBuf};

use sluice_protocol::ids::ClusterId;
use thiserror::Error;

use super::FORMAT;
use super::kept::Missing;
use crate::files::is_full;

/// Why events cannot be kept. The caller ends the process: a restart makes again what was not written.
#[derive(Debug, Error)]
pub enum StreamError {
    /// They belong to another cluster.
    #[error("events in {} belong to cluster {found}, not to {expected}: they were copied here by mistake", .file.display())]
    WrongCluster {
        /// The file.
        file: PathBuf,
        /// The cluster it names.
        found: ClusterId,
        /// The cluster of this data directory.
        expected: ClusterId,
    },
    /// Written by a later version.
    #[error("{} has format {found}; this build reads up to {FORMAT}: run the newer version", .file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format found.
        found: u16,
    },
    /// The file system has no room left.
    #[error("no space left for {} ({doing}): free some and start again; nothing is lost", .file.display())]
    DiskFull {
        /// The file that could not grow.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
    },
    /// The operating system refused.
    #[error("{} ({doing}): {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl StreamError {
    pub(super) fn io(file: &Path, doing: &'static str, source: io::Error) -> Self {
        if is_full(&source) {
            Self::DiskFull { file: file.to_path_buf(), doing }
        } else {
            Self::Io { file: file.to_path_buf(), doing, source }
        }
    }
}

/// Why events cannot be read here.
#[derive(Debug, Error)]
pub enum ReadError {
    /// This node does not have them; another may.
    #[error("events {} to {} are missing on this node", .0.from, .0.to)]
    Missing(Missing),
    /// They were kept for as long as they had to be.
    #[error("events up to {to} were dropped by retention")]
    Dropped {
        /// The last that was dropped.
        to: u64,
    },
    /// What is stored is not the event that was written.
    #[error("event {sequence} in {} is damaged", .file.display())]
    Damaged {
        /// Its sequence.
        sequence: u64,
        /// The file.
        file: PathBuf,
    },
    /// The operating system refused.
    #[error("reading {}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
