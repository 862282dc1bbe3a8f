//! Three servers that are one cluster, each in a process of its own: for tests in which they die, and others lead.
//!
//! A node that ends by itself fails the test. Deliberately not here: what happens to them, and when.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use sluice_engine::audit::Account;
use sluice_engine::child::cluster::{ClusterLaunch, Door, LocalCluster};
use sluice_engine::peers::operator::{Ask, Cluster};
use sluice_judges::recorded::Evidence;

use super::court::{Court, judge};
use super::{PATIENCE, Shop, snapshots_in, with_common};

/// How often a cluster is looked at that is waited for.
const POLL: Duration = Duration::from_millis(5);

/// How a process ends that must not take part, or cannot use its directory.
pub const REFUSED: i32 = 4;

/// Lines of each node's log that are shown when something is wrong.
const LINES: usize = 25;

/// See the module.
pub struct ClusterRig {
    pub dir: tempfile::TempDir,
    pub shop: Shop,
    pub cluster: LocalCluster,
    pub launch: ClusterLaunch,
    /// Who judges it in the end, if anybody.
    pub court: Option<Court>,
}

impl Deref for ClusterRig {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

impl ClusterRig {
    /// A new cluster of three.
    pub async fn start(seed: u64, flags: &[&str]) -> Self {
        Self::start_for(env!("CARGO_BIN_EXE_sluice").into(), seed, flags, &[], None, &[]).await
    }

    /// The same, behind these doors, and judged in the end.
    pub async fn judged(seed: u64, flags: &[&str], doors: &[Door]) -> Self {
        Self::judged_with(seed, flags, doors, &[]).await
    }

    /// The same, with these variables in the environment of each node.
    pub async fn judged_with(seed: u64, flags: &[&str], doors: &[Door], variables: &[(&str, &str)]) -> Self {
        let court = Court::open(3);
        let doors = court.doors(doors);
        Self::start_for(env!("CARGO_BIN_EXE_sluice").into(), seed, flags, &doors, Some(court), variables)
            .await
    }

    /// A new cluster of three behind these doors, by a program that starts the server.
    pub async fn start_by(binary: PathBuf, seed: u64, flags: &[&str], doors: &[Door]) -> Self {
        Self::start_for(binary, seed, flags, doors, None, &[]).await
    }

    async fn start_for(
        binary: PathBuf,
        seed: u64,
        flags: &[&str],
        doors: &[Door],
        court: Option<Court>,
        variables: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut launch = ClusterLaunch {
            binary,
            dir: dir.path().to_owned(),
            nodes: 3,
            flags: with_common(&["--records-expected", "100000"]),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            patience: PATIENCE,
        };
        launch.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let logs: Vec<PathBuf> = (1..=launch.nodes).map(|id| dir.path().join(format!("n{id}.log"))).collect();
        let mut shop = Shop::new(seed, logs, LINES);
        let cluster = LocalCluster::start_at(&launch, doors).await;
        let cluster = cluster.unwrap_or_else(|error| panic!("{error}\n{}", shop.words()));
        shop.url = cluster.url();
        if let Some(Court { taps, .. }) = &court {
            taps.lead_to(cluster.ids().map(|id| cluster.node(id).launch().listen).collect());
            shop.url = taps.url();
        }
        Self { dir, shop, cluster, launch, court }
    }

    /// The way of clients to one node.
    pub fn url_of(&self, id: u64) -> String {
        let listen = self.cluster.node(id).launch().listen;
        let tap = self.court.as_ref().map(|court| court.taps.addresses[id as usize - 1]);
        format!("sluice://{}", tap.unwrap_or(listen))
    }

    pub fn kill(&mut self, id: u64) {
        let killed = self.cluster.kill(id);
        killed.unwrap_or_else(|error| panic!("node {id}: {error}\n{}", self.words()));
        self.look_at(id);
    }

    /// Stops a node.
    pub async fn stop(&mut self, id: u64) {
        self.cluster.stop(id).await.unwrap();
        self.look_at(id);
    }

    /// Has those who will judge see what a node that does not run has written.
    pub fn look_at(&mut self, id: u64) {
        if let Some(court) = &mut self.court {
            court.look_at(id, &self.cluster.node(id).launch().data, false);
        }
    }

    /// Starts a node and waits for nothing.
    pub fn start_only(&mut self, id: u64) {
        self.cluster.start_only(id).unwrap();
    }

    /// Starts a node and waits until it serves or follows.
    pub async fn start_again(&mut self, id: u64) {
        let started = self.cluster.start_again(id).await;
        started.unwrap_or_else(|error| panic!("node {id}: {error}\n{}", self.words()));
    }

    /// Who leads, once somebody does.
    pub async fn leader(&self) -> u64 {
        let leader = self.cluster.leader().await;
        leader.unwrap_or_else(|error| panic!("{error}\n{}", self.words()))
    }

    /// How a node sees the cluster, once it sees it as wanted.
    pub async fn seen_by(&self, id: u64, what: &str, is_so: impl Fn(&Cluster) -> bool) -> Cluster {
        let seen = async {
            loop {
                match self.cluster.look(id) {
                    Ok(cluster) if is_so(&cluster) => return cluster,
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        };
        self.wait(what, seen).await
    }

    /// Waits until there is something to see.
    pub async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let seen = async {
            loop {
                match look() {
                    Some(seen) => return seen,
                    None => tokio::time::sleep(POLL).await,
                }
            }
        };
        self.wait(what, seen).await
    }

    /// The nodes that were started and neither killed nor stopped.
    pub fn running(&self) -> Vec<u64> {
        self.cluster.ids().filter(|id| self.cluster.node(*id).process().is_some()).collect()
    }

    /// Waits until every running node has all that was committed when this was asked.
    pub async fn caught_up(&self) {
        let leader = self.leader().await;
        let commit = self.seen_by(leader, "the leader to tell its commit index", |_| true).await.commit;
        for id in self.running() {
            self.seen_by(id, &format!("node {id} to catch up"), |cluster| cluster.commit >= commit).await;
        }
    }

    /// Has a node lead.
    pub async fn transfer(&self, to: u64) {
        let transferred = async {
            loop {
                if self.cluster.leader_now().await == Some(to) {
                    return;
                }
                // Raft may drop it: the node may lag, or another election may be under way.
                let _ = self.cluster.operate(Ask::Transfer { to }).await;
                tokio::time::sleep(POLL).await;
            }
        };
        self.wait(&format!("node {to} to lead"), transferred).await;
    }

    /// Every running node leads once, and its books are held against each account.
    pub async fn audit_everywhere(&self, accounts: &[Rc<RefCell<Account>>]) {
        self.caught_up().await;
        for id in self.running() {
            self.transfer(id).await;
            for account in accounts {
                self.audit(account).await;
            }
        }
    }

    /// Waits until a node ends by itself, as whoever must not take part does. Returns what it said from `said_before` on.
    pub async fn ends_refused(&mut self, id: u64, said_before: usize) -> String {
        let process = self.cluster.node_mut(id).take_process().unwrap();
        let status = process.ended(PATIENCE).await;
        let said = self.said(id).split_off(said_before);
        let code = status.as_ref().ok().and_then(ExitStatus::code);
        assert_eq!(code, Some(REFUSED), "node {id}: {status:?}\n{said}\n{}", self.words());
        said
    }

    /// All that a node has said.
    pub fn said(&self, id: u64) -> String {
        std::fs::read_to_string(&self.cluster.node(id).launch().log).unwrap()
    }

    /// Stops all nodes at once; each takes a last snapshot. Snapshots of one index are the same bytes, whoever took them.
    /// If there are judges, all of it is judged. Returns how many snapshots could be compared.
    pub async fn stop_and_compare(&mut self) -> usize {
        self.stop_all().await;
        let dirs = self.cluster.ids().map(|id| self.cluster.node(id).launch().data.clone());
        let compared =
            compare_snapshots(&dirs.filter(|dir| dir.join("snapshots").exists()).collect::<Vec<_>>());
        if let Some(court) = self.court.take() {
            let verdict = judge(&court.evidence(&self.cluster), || self.words());
            eprintln!("judged: {:?}", verdict.tally);
        }
        compared
    }

    /// Stops all nodes at once, and returns what those who judge may know.
    pub async fn stop_for_evidence(&mut self) -> Evidence {
        self.stop_all().await;
        self.court.take().unwrap().evidence(&self.cluster)
    }

    async fn stop_all(&mut self) {
        for id in self.cluster.ids() {
            if let Some(process) = self.cluster.node(id).process() {
                process.ask_to_stop().unwrap();
            }
        }
        for id in self.cluster.ids() {
            if let Some(process) = self.cluster.node_mut(id).take_process() {
                let status = process.ended(PATIENCE).await;
                let code = status.as_ref().ok().and_then(ExitStatus::code);
                assert_eq!(code, Some(0), "node {id}: {status:?}\n{}", self.words());
            }
        }
    }
}

fn compare_snapshots(dirs: &[PathBuf]) -> usize {
    let mut known: BTreeMap<u64, (&Path, Vec<u8>)> = BTreeMap::new();
    let mut compared = 0;
    for dir in dirs {
        for index in snapshots_in(dir) {
            let file = dir.join("snapshots").join(format!("snapshot-{index:016x}.sluice"));
            let bytes = std::fs::read(file).unwrap();
            match known.get(&index) {
                None => drop(known.insert(index, (dir, bytes))),
                Some((other, same)) => {
                    assert!(*same == bytes, "{dir:?} and {other:?} differ at index {index}");
                    compared += 1;
                }
            }
        }
    }
    compared
}
