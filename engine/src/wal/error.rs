//! Why the log store refused, and what the operator should do about it.
//!
//! Relies on nothing. Deliberately not here: any attempt to repair. A log that is not whole is refused, because a
//! node that goes on with less than it acknowledged can vote twice or forget an answer it gave.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::files::is_full;

/// What to do with a log that is not whole. One voter has nobody to learn from; a member of a cluster has.
pub(super) const RESTORE_OR_REJOIN: &str = "Keep the directory for diagnosis and change nothing in it. A single node: \
     restore the whole data directory from a copy taken after a clean stop. A member of a cluster: start it with an \
     empty data directory under a new node id, and remove the old id from the membership; the old id must not return";

/// Why the log store refused.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("{} is in use by another process: stop that one, or give this one a data directory of its own", .file.display())]
    Locked {
        /// The locked file.
        file: PathBuf,
    },
    /// Some bytes are not what was written.
    #[error("{} is damaged: {what}. {advice}", .file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// What is stored is sound, but less than was acknowledged.
    #[error("{} has lost what it had acknowledged: {what}. {advice}", .file.display())]
    Lost {
        /// The file or directory that ends too early.
        file: PathBuf,
        /// What is missing.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// Written by a later version.
    #[error("{} has format {found}; this build reads {supported}: run the version that wrote it", .file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format found.
        found: String,
        /// The newest format this build reads.
        supported: String,
    },
    /// The file system has no room left. Nothing that was acknowledged is affected.
    #[error("no space left for {} ({doing}): free some and start again; what was acknowledged is safe", .file.display())]
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
    /// An earlier call failed. What reached the disk since is unknown, so only a restart may look.
    #[error("the log store stopped after an earlier failure ({cause}): restart the process")]
    Poisoned {
        /// That failure.
        cause: String,
    },
}

impl StoreError {
    pub(super) fn damaged(file: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), what: what.into(), advice: RESTORE_OR_REJOIN }
    }

    pub(super) fn lost(file: &Path, what: impl Into<String>) -> Self {
        Self::Lost { file: file.to_path_buf(), what: what.into(), advice: RESTORE_OR_REJOIN }
    }

    /// Files an I/O error under the kind the operator must tell apart: a full disk, or anything else.
    pub(super) fn io(file: &Path, doing: &'static str, source: io::Error) -> Self {
        if is_full(&source) {
            Self::DiskFull { file: file.to_path_buf(), doing }
        } else {
            Self::Io { file: file.to_path_buf(), doing, source }
        }
    }

    /// Files an error of sled's, which names neither the file nor the remedy.
    pub(super) fn sled(file: &Path, doing: &'static str, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::io(file, doing, source),
            other => Self::damaged(file, format!("{doing}: {other}")),
        }
    }
}
