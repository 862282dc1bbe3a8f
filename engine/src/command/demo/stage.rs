//! The servers on which the sale takes place: a cluster of processes on this machine, or a node alone.
//!
//! Deliberately not here: who buys, and what is measured.

use std::path::Path;
use std::time::Duration;

use super::Trouble;
use crate::child::LaunchError;
use crate::child::cluster::{ClusterLaunch, LocalCluster, last_words};
use crate::child::view::View;

/// How long any step of a server's life may take: a start, an election, the way back to what the others have.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines of each server's log that are shown if something goes wrong.
const LOG_LINES_SHOWN: usize = 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    cluster: LocalCluster,
}

/// How many replicas have every entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Complete {
    pub(super) replicas: usize,
    pub(super) of: usize,
}

impl Stage {
    /// Makes so many new nodes in a directory, and waits until one leads.
    pub(super) async fn start(dir: &Path, nodes: usize) -> Result<Self, Trouble> {
        let launch = ClusterLaunch {
            binary: std::env::current_exe()
                .map_err(Trouble::system("cannot find this program's own file"))?,
            dir: dir.to_owned(),
            nodes,
            flags: ["--disk-free-min", "0"].map(str::to_owned).to_vec(),
            variables: Vec::new(),
            patience: PATIENCE,
        };
        Ok(Self { cluster: LocalCluster::start(&launch).await? })
    }

    /// Where clients connect: to all nodes.
    pub(super) fn url(&self) -> String {
        self.cluster.url()
    }

    /// Kills whoever leads, and tells who that was. `now` is called just before: when this returns, it is dead.
    pub(super) async fn kill_leader(&mut self, now: impl FnOnce()) -> Result<u64, Trouble> {
        let leader = self.leader().await?;
        now();
        self.cluster.kill(leader).map_err(Trouble::system("cannot kill the server"))?;
        Ok(leader)
    }

    /// Starts a node again, on its data and its port, and waits until it serves or follows.
    pub(super) async fn start_again(&mut self, id: u64) -> Result<(), LaunchError> {
        self.cluster.start_again(id).await
    }

    /// Who leads, by its own word.
    pub(super) async fn leader(&self) -> Result<u64, LaunchError> {
        self.cluster.leader().await
    }

    /// Waits until a node keeps up with the others; how long that took.
    pub(super) async fn caught_up(&self, id: u64) -> Result<Duration, LaunchError> {
        View::caught_up(self.cluster.peers(), PATIENCE, id).await
    }

    /// Waits until every replica has all that is committed; how many have, if some do not in time. Nothing may be asked
    /// meanwhile.
    pub(super) async fn complete(&self) -> Result<Complete, LaunchError> {
        let of = self.cluster.ids().count();
        match self.watch(move |view| view.complete() == of).await {
            Ok(_) => Ok(Complete { replicas: of, of }),
            Err(_) => self.watch(|_| true).await.map(|view| Complete { replicas: view.complete(), of }),
        }
    }

    async fn watch(&self, is_it: impl FnMut(&View) -> bool + Send + 'static) -> Result<View, LaunchError> {
        View::wait(self.cluster.peers(), PATIENCE, is_it).await
    }
}

/// The end of each server's log.
pub(super) fn logs(dir: &Path) -> String {
    let mut shown = String::new();
    for node in 1.. {
        let log = dir.join(format!("n{node}.log"));
        if !log.exists() {
            break;
        }
        let words = last_words(&log, LOG_LINES_SHOWN).replace('\n', "\n  ");
        shown.push_str(&format!("\nThe last words of node {node}:\n  {words}"));
    }
    shown
}
