//! Nodes of one cluster, or a node alone, each a `sluice serve` of its own.
//!
//! Deliberately not here: how they become a cluster, which is `LocalCluster`'s.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_engine::child::LaunchError;
use sluice_engine::child::cluster::{ClusterLaunch, LocalCluster};
use sluice_engine::child::view::View;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::sluice::{binary, folder};
use crate::error::BenchError;
use crate::process::Process;

/// How long any step of a node's life may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a node may take to get what it lacks.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(600);

/// See the module. The processes end with it, and their data goes.
#[derive(Debug)]
pub struct SluiceCluster {
    runtime: Runtime,
    cluster: LocalCluster,
    launch: ClusterLaunch,
    _data: TempDir,
}

impl SluiceCluster {
    /// Starts so many voters with their data in a new folder below `parent`, and waits until one leads. `settings` are
    /// flags of `sluice serve`.
    ///
    /// # Errors
    /// If there is no binary, or they become no cluster.
    pub fn start(parent: &Path, nodes: usize, settings: &[String]) -> Result<Self, BenchError> {
        let data = folder(parent)?;
        let quiet = ["--log-filter", "warn"].map(str::to_owned);
        let launch = ClusterLaunch {
            binary: binary()?,
            dir: data.path().to_owned(),
            nodes,
            flags: quiet.into_iter().chain(settings.iter().cloned()).collect(),
            variables: Vec::new(),
            patience: PATIENCE,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BenchError::io("starting a runtime"))?;
        let cluster = runtime.block_on(LocalCluster::start(&launch))?;
        Ok(Self { runtime, cluster, launch, _data: data })
    }

    /// Where the data of the next node that is added will be.
    pub fn next_data(&self) -> PathBuf {
        let next = self.ids().count() + 1;
        self.launch.dir.join(format!("n{next}"))
    }

    /// Adds a node that learns; its id.
    ///
    /// # Errors
    /// If it does not start.
    pub fn add(&mut self) -> Result<u64, BenchError> {
        Ok(self.runtime.block_on(self.cluster.add(&self.launch))?)
    }

    /// Who leads, by its own word.
    ///
    /// # Errors
    /// If nobody does in time.
    pub fn leader(&self) -> Result<u64, BenchError> {
        Ok(self.runtime.block_on(self.cluster.leader())?)
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        self.cluster.ids()
    }

    /// Where a node's clients connect.
    pub fn address(&self, id: u64) -> SocketAddr {
        self.cluster.node(id).launch().listen
    }

    /// Where a node's data is.
    pub fn data(&self, id: u64) -> &Path {
        &self.cluster.node(id).launch().data
    }

    /// Where clients connect: to all nodes.
    pub fn url(&self) -> String {
        self.cluster.url()
    }

    /// What runs a node, if it runs.
    pub fn process(&self, id: u64) -> Option<Process> {
        self.cluster.node(id).process().map(|process| Process::new(process.id()))
    }

    /// Ends a node as a crash would: when this returns it is dead.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub fn kill(&mut self, id: u64) -> Result<(), BenchError> {
        self.cluster.kill(id).map_err(BenchError::io("killing a node"))
    }

    /// Starts a node again and waits until it serves or follows.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_again(&mut self, id: u64) -> Result<(), BenchError> {
        Ok(self.runtime.block_on(self.cluster.start_again(id))?)
    }

    /// Waits until a node has all that was committed a moment before; how long that took.
    ///
    /// # Errors
    /// If it does not get there in time.
    pub fn caught_up(&self, id: u64) -> Result<Duration, LaunchError> {
        self.runtime.block_on(View::caught_up(self.cluster.peers(), CATCH_UP_PATIENCE, id))
    }
}
