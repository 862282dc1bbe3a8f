//! From an empty data directory to a node: the first of a new cluster, or a new one of an old cluster.
//!
//! The identity is written last: without it, all of it is done again. Deliberately not here: starting the node.

use std::io;
use std::time::{Duration, Instant};

use sluice_core::fault::Mutant;
use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{Members, SnapshotMeta};
use sluice_protocol::{ClusterId, NodeId};
use thiserror::Error;

use super::recovery::knowing;
use crate::config::Config;
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::failpoint::{self, Point};
use crate::peers::operator::{self, Answer, Ask, Joined};
use crate::snapshot::{SnapshotError, SnapshotStore};
use crate::wal::StoreError;

/// The node of a cluster that was just made.
const FIRST_NODE: NodeId = NodeId(1);

/// How long to wait before a cluster is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no new node.
#[derive(Debug, Error)]
pub enum FoundError {
    /// The directory itself.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] StoreError),
    /// The first snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is a node already.
    #[error("the data directory holds node {node} of cluster {cluster} already: `sluice serve` starts it")]
    Exists {
        /// The cluster.
        cluster: ClusterId,
        /// The node.
        node: NodeId,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// Nobody who could say yes was found in time.
    #[error(
        "no leader of a cluster was found at {addresses}: {trouble}. Nothing was lost: the same command goes on"
    )]
    Unreachable {
        /// Where it was looked for.
        addresses: String,
        /// The last answer.
        trouble: String,
    },
    /// The cluster does not want it.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// The addresses of the others could not be kept.
    #[error("the addresses of the other nodes cannot be written down: {0}")]
    Book(io::Error),
}

/// Makes a new cluster of one node.
///
/// # Errors
/// [`FoundError`]; a directory that is left half made is made anew.
pub fn found(config: &Config) -> Result<Identity, FoundError> {
    create(&mut empty(config)?, config)
}

/// Makes a new node of the cluster that one of `addresses` belongs to. It learns the log when it is started, and does not
/// vote until it is promoted.
///
/// # Errors
/// [`FoundError`]; the same may be tried again, and does not become another node.
pub fn join(config: &Config, addresses: &[String], by: Instant) -> Result<Identity, FoundError> {
    let mut data_dir = empty(config)?;
    let incarnation = data_dir.joining(random()?)?;
    let joined = ask(addresses, incarnation, by)?;
    let cluster = joined.cluster.parse();
    let cluster: ClusterId =
        cluster.map_err(|_| FoundError::Refused(format!("{} is no cluster id", joined.cluster)))?;
    let identity = Identity { cluster, node: NodeId(joined.node), incarnation };
    joined.book.save(data_dir.path()).map_err(FoundError::Book)?;
    let settings = Settings { records_max: joined.records_max, retention_ms: joined.retention_ms };
    make(&mut data_dir, config, identity, Members::default(), settings)?;
    data_dir.joined();
    Ok(identity)
}

fn empty(config: &Config) -> Result<DataDir, FoundError> {
    let data_dir = DataDir::open(&config.node.data)?;
    match data_dir.identity() {
        Some(Identity { cluster, node, .. }) => Err(FoundError::Exists { cluster, node }),
        None => Ok(data_dir),
    }
}

/// A number that nobody can foresee.
pub(super) fn random() -> Result<u64, FoundError> {
    getrandom::u64().map_err(FoundError::Random)
}

/// Makes a new cluster in a directory that is empty.
pub(super) fn create(data_dir: &mut DataDir, config: &Config) -> Result<Identity, FoundError> {
    let cluster = u128::from(random()?) << 64 | u128::from(random()?);
    let identity = Identity { cluster: ClusterId(cluster), node: FIRST_NODE, incarnation: random()? };
    let members = Members { voters: vec![FIRST_NODE.0], ..Members::default() };
    make(data_dir, config, identity, knowing(members, &identity), config.cluster.ledger_settings())?;
    tracing::info!(cluster = %identity.cluster, data = %data_dir.path().display(), "made a new cluster of one node");
    Ok(identity)
}

/// Makes an empty log and the first snapshot. The ledger before the first entry is the same on all nodes of a cluster.
fn make(
    data_dir: &mut DataDir,
    config: &Config,
    identity: Identity,
    members: Members,
    settings: Settings,
) -> Result<(), FoundError> {
    config.log.backend.create(data_dir.path())?;
    if failpoint::is_on(Mutant::IdentityFirst) {
        data_dir.seal(identity)?;
    }
    let genesis = SnapshotMeta { index: 0, term: 0, members };
    let image = Ledger::new(settings, 0).freeze();
    SnapshotStore::open(data_dir.path(), identity.cluster)?.save(&genesis, image.sections(), |_| {})?;
    if data_dir.identity().is_none() {
        data_dir.seal(identity)?;
    }
    failpoint::reach(Point::CreateDone);
    Ok(())
}

/// Asks one address after the other, and the leader where it is named, until one says yes.
fn ask(addresses: &[String], incarnation: u64, by: Instant) -> Result<Joined, FoundError> {
    match operator::ask_leader(addresses, &Ask::Join { incarnation }, by, PAUSE) {
        Ok(Answer::Joined(joined)) => Ok(joined),
        Ok(Answer::Refused { message, retry: false, .. }) => Err(FoundError::Refused(message)),
        Ok(Answer::Refused { message, .. }) => {
            Err(FoundError::Unreachable { addresses: addresses.join(", "), trouble: message })
        }
        Ok(_) => Err(FoundError::Refused("it answered something else".to_owned())),
        Err(error) => {
            Err(FoundError::Unreachable { addresses: addresses.join(", "), trouble: error.to_string() })
        }
    }
}
