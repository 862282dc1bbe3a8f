//! Why a snapshot could not be written or read, and what the operator should do about it.
//!
//! Deliberately not here: any attempt to repair.

use std::io;
use std::path::PathBuf;

use sluice_protocol::ids::ClusterId;
use thiserror::Error;

use super::FORMAT;

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Not what was written.
    #[error("snapshot {} is damaged: {what}. Keep the file for diagnosis; {ADVICE}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// None of the snapshots joins the log.
    #[error("no snapshot in {} can be used: the log begins at entry {first_log_index}, and {found}; {ADVICE}", .dir.display())]
    NoneUsable {
        /// The directory.
        dir: PathBuf,
        /// The first entry that the log has.
        first_log_index: u64,
        /// What there is.
        found: String,
    },
    /// The log goes on from a received snapshot that is not there.
    #[error("the log goes on from a snapshot that a peer sent, at entry {index}, and it is missing from {}: {ADVICE}", .dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// The snapshot's index.
        index: u64,
    },
    /// It belongs to another cluster.
    #[error("snapshot {} belongs to cluster {found}, not to {expected}: it was copied here by mistake", .file.display())]
    WrongCluster {
        /// The file.
        file: PathBuf,
        /// The cluster it names.
        found: ClusterId,
        /// The cluster of this data directory.
        expected: ClusterId,
    },
    /// Written by a later version.
    #[error("snapshot {} has format {found}; this build reads up to {FORMAT}: run the newer version", .file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format found.
        found: u16,
    },
    /// The file system has no room left. The earlier snapshots and the log stay as they are.
    #[error("no space left for {}: free some; the log cannot be shortened until then", .file.display())]
    DiskFull {
        /// The file that could not be written.
        file: PathBuf,
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

const ADVICE: &str = "restore the whole data directory from a copy taken after a clean stop, or, in a cluster, start \
                      with an empty one under a new node id";
