//! From a data directory to everything a replica starts with.
//!
//! Relies on each store to refuse what is damaged. Deliberately not here: threads.

use std::path::PathBuf;

use sluice_core::ledger::Ledger;
use sluice_core::ledger::image::ImageError;
use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_core::replica::{Recovered, StartError};
use thiserror::Error;

use super::found::{self, FoundError};
use crate::config::Config;
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::failpoint::{self, Point};
use crate::files;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::stream::{self, StreamError};
use crate::wal::{Backend, LogStore, Options, StoreError};

/// Why a data directory was refused. Nothing in it was changed or deleted.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// The directory itself.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] StoreError),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The event stream's files.
    #[error(transparent)]
    Events(#[from] StreamError),
    /// A snapshot that is whole, but not an image of a ledger.
    #[error("the snapshot at index {index} cannot be used: {error}")]
    Image {
        /// Its index.
        index: u64,
        /// Why.
        error: ImageError,
    },
    /// Snapshot and log do not fit together.
    #[error("{0}. Restore the whole data directory from a copy taken after a clean stop")]
    Start(#[from] StartError),
    /// Making it failed.
    #[error(transparent)]
    Found(#[from] FoundError),
    /// There is nothing to start from, and it is not for a start to decide what should be there.
    #[error(
        "data directory {} is empty, and a node with --peer-listen is one of several: run `sluice init` to make a new \
         cluster, or `sluice join` to become a new node of one. If this node was in use before, its disk was wiped: it \
         must not come back under its old id, so let it join as a new one, and remove the old", .0.display()
    )]
    Empty(PathBuf),
}

impl RecoveryError {
    /// Whether the disk is full, which says nothing about what is on it: once there is room a start may succeed.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::DataDir(DataDirError::Io { source, .. }) => files::is_full(source),
            Self::DataDir(DataDirError::Log(error)) | Self::Log(error) => {
                matches!(error, StoreError::DiskFull { .. })
            }
            Self::Snapshot(error) => matches!(error, SnapshotError::DiskFull { .. }),
            _ => false,
        }
    }
}

/// Everything a node starts with.
pub(super) struct Opened {
    pub(super) data_dir: DataDir,
    pub(super) identity: Identity,
    pub(super) log: Box<dyn LogStore>,
    pub(super) snapshots: SnapshotStore,
    pub(super) events: stream::Store,
    pub(super) recovered: Recovered,
    /// The first index in the log.
    pub(super) log_first: u64,
    /// Keeps clients from choosing ids that collide in this process's tables.
    pub(super) seed: u64,
}

/// Opens the data directory, or makes it.
pub(super) fn open(config: &Config) -> Result<Opened, RecoveryError> {
    let mut data_dir = DataDir::open(&config.node.data)?;
    let seed = found::random()?;
    let identity = match data_dir.identity() {
        Some(identity) => {
            failpoint::reach(Point::StartLocked);
            identity
        }
        None if config.peers.listen.is_some() => return Err(RecoveryError::Empty(config.node.data.clone())),
        None => found::create(&mut data_dir, config)?,
    };
    let options = Options { open_timeout: config.log.open_timeout, ..Options::default() };
    let (log, found) = Backend::open(data_dir.path(), options)?;
    let mut snapshots = SnapshotStore::open(data_dir.path(), identity.cluster)?;
    snapshots.settle(found.log_base)?;
    failpoint::reach(Point::StartSnapshots);
    let snapshot =
        snapshots.load_latest(found.first_index)?.ok_or(StartError::Gap { snapshot: 0, first: 1 })?;
    let index = snapshot.meta.index;
    let ledger = load(&snapshot, config.limits.records_expected, seed)?;
    failpoint::reach(Point::StartLoaded);
    let keep = stream::Options { retain: config.stream.retain, retain_bytes: config.stream.retain_bytes };
    let mut events = stream::Store::open(data_dir.path(), identity.cluster, ledger.sequence(), keep)?;
    let is_alone = snapshot.meta.members.is_alone(identity.node.0);
    if is_alone && ledger.groups().iter().next().is_none() {
        // What an earlier version did not keep nobody has, and nobody waits for it.
        events.give_up(ledger.sequence())?;
    }
    tracing::info!(
        snapshot = index,
        log_first = found.first_index,
        log_entries = found.entries.len(),
        records = ledger.totals().records,
        "recovered"
    );
    warn_of_settings(&ledger, config);
    let older =
        snapshots.kept().iter().copied().filter(|kept| *kept < index && *kept + 1 >= found.first_index);
    let recovered = Recovered {
        snapshot: SnapshotMeta { members: knowing(snapshot.meta.members, &identity), ..snapshot.meta },
        older_snapshot: older.max().unwrap_or(index),
        ledger,
        hard_state: found.hard_state,
        entries: found.entries,
        log_base: found.log_base,
    };
    let log_first = found.first_index;
    Ok(Opened { data_dir, identity, log, snapshots, events, recovered, log_first, seed })
}

/// The ledger in a snapshot.
pub(super) fn load(snapshot: &Snapshot, records_expected: usize, seed: u64) -> Result<Ledger, RecoveryError> {
    let index = snapshot.meta.index;
    let ledger = Ledger::from_sections(snapshot.sections(), records_expected, seed)
        .map_err(|error| RecoveryError::Image { index, error })?;
    if ledger.index() != index {
        // The log would go on from another entry than the image ends with.
        let error = ImageError::Damaged("its file is of another index than its ledger");
        return Err(RecoveryError::Image { index, error });
    }
    Ok(ledger)
}

/// The members as a node alone knows them. Older snapshots do not say which data directory a member has; of its own it
/// knows, and others must learn it before the first of them joins.
pub(super) fn knowing(mut members: Members, own: &Identity) -> Members {
    let node = own.node.0;
    if members.is_alone(node) && members.incarnation(node).is_none() {
        members.incarnations.push((node, own.incarnation));
    }
    members
}

/// What all nodes agree on was agreed when the cluster was made. A configuration that says otherwise is not in effect.
fn warn_of_settings(ledger: &Ledger, config: &Config) {
    let (agreed, asked) = (ledger.settings(), config.cluster.ledger_settings());
    if agreed != asked {
        tracing::warn!(
            ?agreed,
            ?asked,
            "the [cluster] settings differ from those this data directory was made with, which stay in effect"
        );
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::{ClusterId, NodeId};

    use super::*;

    #[test]
    fn a_node_alone_knows_its_own_incarnation() {
        let own = Identity { cluster: ClusterId(1), node: NodeId(2), incarnation: 9 };
        let of = |voters: &[u64], incarnations: &[(u64, u64)]| Members {
            voters: voters.to_vec(),
            incarnations: incarnations.to_vec(),
            ..Members::default()
        };
        assert_eq!(knowing(of(&[2], &[]), &own), of(&[2], &[(2, 9)]));
        // What is recorded stays, and of others it knows nothing.
        for members in [of(&[2], &[(2, 8)]), of(&[1], &[]), of(&[1, 2], &[]), of(&[], &[])] {
            assert_eq!(knowing(members.clone(), &own), members);
        }
    }
}
