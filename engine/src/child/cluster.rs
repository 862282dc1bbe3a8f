//! A cluster on this machine, each node in a process of its own: made as an operator makes it, by `sluice init`, `join`,
//! `serve` and `node promote`. To be killed, paused and started again node by node.
//!
//! Nodes keep their ports. Deliberately not here: clients.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::view::{self, View};
use super::{Launch, LaunchError, ServerProcess, free_address};
use crate::peers::operator::{self, Answer, Ask, Cluster};

/// How often the leader is asked again for what it cannot do yet.
const POLL: Duration = Duration::from_millis(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterLaunch {
    /// The `sluice` binary.
    pub binary: PathBuf,
    /// Where the nodes' directories and logs are made: `n1`, `n1.log`, ….
    pub dir: PathBuf,
    /// How many nodes, all of them voters.
    pub nodes: usize,
    /// More flags of `sluice serve`, for each.
    pub flags: Vec<String>,
    /// More variables in their environment.
    pub variables: Vec<(String, String)>,
    /// How long any single step may take.
    pub patience: Duration,
}

/// Where others get to a node.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Where the node listens for peers; for clients it listens beside that.
    pub listen: SocketAddr,
    /// Where it tells peers to come; somebody there passes on what they say.
    pub advertise: SocketAddr,
    /// Where it tells clients to come, if not to itself.
    pub clients: Option<SocketAddr>,
}

/// One of its nodes.
#[derive(Debug)]
pub struct Node {
    launch: Launch,
    peers: SocketAddr,
    process: Option<ServerProcess>,
}

impl Node {
    /// Where its port for peers is.
    pub fn peers(&self) -> SocketAddr {
        self.peers
    }

    /// What it is started with. Changes are in effect from its next start on.
    pub fn launch_mut(&mut self) -> &mut Launch {
        &mut self.launch
    }

    /// What it is started with.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Option<&ServerProcess> {
        self.process.as_ref()
    }

    /// Lets go of its process, which may have ended by itself.
    pub fn take_process(&mut self) -> Option<ServerProcess> {
        self.process.take()
    }
}

/// See the module. Nodes are counted from 1, as their ids are.
#[derive(Debug)]
pub struct LocalCluster {
    nodes: Vec<Node>,
    patience: Duration,
}

impl LocalCluster {
    /// Makes a new cluster and waits until all nodes vote and one leads.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn start(launch: &ClusterLaunch) -> Result<Self, LaunchError> {
        Self::start_at(launch, &[]).await
    }

    /// The same, where the first nodes have doors that others are to come through.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn start_at(launch: &ClusterLaunch, doors: &[Door]) -> Result<Self, LaunchError> {
        let mut cluster = Self { nodes: Vec::new(), patience: launch.patience };
        for nth in 0..launch.nodes {
            match doors.get(nth) {
                Some(door) => cluster.add_at(launch, door).await?,
                None => cluster.add(launch).await?,
            };
        }
        for id in 2..=launch.nodes as u64 {
            cluster.operate(Ask::Promote { node: id }).await?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Makes one more node, which learns, and starts it. Returns its id.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn add(&mut self, launch: &ClusterLaunch) -> Result<u64, LaunchError> {
        let peers = free_address()?;
        self.add_at(launch, &Door { listen: peers, advertise: peers, clients: None }).await
    }

    /// The same, with a door of its own.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn add_at(&mut self, launch: &ClusterLaunch, door: &Door) -> Result<u64, LaunchError> {
        let id = self.nodes.len() + 1;
        let peers = door.listen;
        let listen = SocketAddr::new(peers.ip(), free_address()?.port());
        let mut flags = vec!["--peer-listen".to_owned(), peers.to_string()];
        if door.advertise != peers {
            flags.extend(["--peer-advertise".to_owned(), door.advertise.to_string()]);
        }
        if let Some(clients) = door.clients {
            flags.extend(["--advertise".to_owned(), clients.to_string()]);
        }
        flags.extend(launch.flags.iter().cloned());
        let node = Launch {
            binary: launch.binary.clone(),
            data: launch.dir.join(format!("n{id}")),
            log: launch.dir.join(format!("n{id}.log")),
            listen,
            flags,
            variables: launch.variables.clone(),
        };
        let cluster = self.peers().join(",");
        let command = if id == 1 { vec!["init"] } else { vec!["join", "--cluster", &cluster] };
        run(&node, &command)?;
        self.nodes.push(Node { launch: node, peers, process: None });
        self.start_again(id as u64).await?;
        Ok(id as u64)
    }

    /// Starts a node that does not run, on its data and its ports, and waits until it serves or follows.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn start_again(&mut self, id: u64) -> Result<(), LaunchError> {
        self.start_only(id)?;
        let patience = self.patience;
        match &mut self.node_mut(id).process {
            Some(process) => process.ready(patience).await,
            None => Ok(()),
        }
    }

    /// Starts a node that does not run, and waits for nothing.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn start_only(&mut self, id: u64) -> Result<(), LaunchError> {
        let node = self.node_mut(id);
        node.process = Some(ServerProcess::start(&node.launch)?);
        Ok(())
    }

    /// Kills a node as a power cut would, if it runs. When this returns it is dead.
    ///
    /// # Errors
    /// The system's words, or that it had ended by itself.
    pub fn kill(&mut self, id: u64) -> io::Result<()> {
        self.node_mut(id).process.take().map_or(Ok(()), ServerProcess::kill)
    }

    /// Asks a node to stop and waits until it has.
    ///
    /// # Errors
    /// The system's words.
    pub async fn stop(&mut self, id: u64) -> io::Result<Option<ExitStatus>> {
        let patience = self.patience;
        let Some(process) = self.node_mut(id).process.take() else { return Ok(None) };
        process.ask_to_stop()?;
        process.ended(patience).await.map(Some)
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    /// A node.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn node_mut(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.nodes.len() as u64
    }

    /// Where clients connect: to all of them.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.launch.listen.to_string()).collect();
        format!("sluice://{}", addresses.join(","))
    }

    /// The ports for peers, of all of them.
    pub fn peers(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.peers.to_string()).collect()
    }

    /// The cluster as the node sees it.
    ///
    /// # Errors
    /// The system's words, if it does not answer.
    pub fn look(&self, id: u64) -> io::Result<Cluster> {
        view::look(&self.node(id).peers.to_string())
    }

    /// Waits until a node leads and says so itself. Its id.
    ///
    /// # Errors
    /// [`LaunchError::Cluster`] if none does in time.
    ///
    /// # Panics
    /// Never: a leader is waited for.
    pub async fn leader(&self) -> Result<u64, LaunchError> {
        let view = View::wait(self.running(), self.patience, |view| view.leader().is_some()).await?;
        Ok(view.leader().expect("it was waited for").node)
    }

    /// The node that leads and says so itself, if there is one. Other tasks of this thread go on meanwhile.
    pub async fn leader_now(&self) -> Option<u64> {
        let running = self.running();
        let view = spawn_blocking(move || View::take(&running)).await.expect("looking does not panic");
        view.leader().map(|leader| leader.node)
    }

    /// The ports for peers of the nodes that run.
    fn running(&self) -> Vec<String> {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        running.map(|node| node.peers.to_string()).collect()
    }

    /// Has the leader do something. Other tasks of this thread go on meanwhile.
    ///
    /// # Errors
    /// [`LaunchError::Cluster`] if it did not.
    pub async fn operate(&self, ask: Ask) -> Result<Answer, LaunchError> {
        let (peers, by) = (self.peers(), Instant::now() + self.patience);
        // Asking blocks, and whoever runs tasks on this thread must not be held up by a cluster that elects.
        let asking = spawn_blocking(move || operator::ask_leader(&peers, &ask, by, POLL));
        match asking.await.expect("asking does not panic") {
            Ok(Answer::Refused { message, .. }) => Err(LaunchError::Cluster(message)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(LaunchError::Cluster(error.to_string())),
        }
    }
}

/// Runs a command that makes the node's directory.
fn run(node: &Launch, command: &[&str]) -> Result<(), LaunchError> {
    let mut process = Command::new(&node.binary);
    process.args(command).arg("--data").arg(&node.data).arg("--listen").arg(node.listen.to_string());
    process.args(&node.flags).stdin(Stdio::null());
    let output =
        process.output().map_err(|source| LaunchError::Spawn { binary: node.binary.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(LaunchError::Command { command: command.join(" "), status: output.status, words })
}

/// The last lines of a node's log, for whoever looks for the reason.
pub fn last_words(log: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let from = text.lines().count().saturating_sub(lines);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}
