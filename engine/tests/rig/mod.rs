//! A server in a process of its own, or a cluster of them, a crowd that loads it, and the audit: for tests in which servers
//! die.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

pub mod apart;
pub mod cables;
pub mod cluster;
pub mod command;
pub mod court;
pub mod crowd;
mod frames;
pub mod rival;
pub mod roads;
pub mod scenes;
pub mod shop;
pub mod steady;
pub mod taker;
pub mod taps;
pub mod worker;

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_engine::child::{Launch, ServerProcess};
use sluice_engine::wal::Backend;
use tokio::task::LocalSet;

pub use self::cluster::ClusterRig;
pub use self::crowd::{Crowd, Dice};
pub use self::shop::{Load, Shop};
pub use self::steady::Callers;

/// Longer than anything here takes: it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where a seed is read from.
const SEED_VARIABLE: &str = "SLUICE_TEST_SEED";

/// The seed asked for, or another one each time.
pub fn seed() -> u64 {
    let seed =
        env::var(SEED_VARIABLE).map_or_else(|_| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
    eprintln!("{SEED_VARIABLE}={seed}");
    seed
}

/// Which log is tried: SLUICE_TEST_BACKEND, or what users get.
pub fn backend() -> Backend {
    env::var("SLUICE_TEST_BACKEND").map_or(Backend::DEFAULT, |name| name.parse().unwrap())
}

/// The flags that every test wants, and more.
fn with_common(flags: &[&str]) -> Vec<String> {
    let common = ["--disk-free-min", "0", "--log-backend", backend().name()];
    common.iter().chain(flags).map(|flag| (*flag).to_owned()).collect()
}

/// See the module.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub shop: Shop,
    pub server: Option<ServerProcess>,
    pub launch: Launch,
}

impl Deref for Rig {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

impl Rig {
    /// A server on an empty directory.
    pub async fn start(seed: u64, flags: &[&str]) -> Self {
        let mut rig = Self::new(seed, flags);
        rig.serve().await;
        rig
    }

    /// No server yet, and no directory. `flags` come beside those that every test wants.
    pub fn new(seed: u64, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_sluice")),
            data: dir.path().join("data"),
            log: dir.path().join("log"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            flags: with_common(flags),
            variables: Vec::new(),
        };
        let shop = Shop::new(seed, vec![launch.log.clone()], usize::MAX);
        Self { dir, shop, server: None, launch }
    }

    /// Starts the server on some port and stays with that.
    pub async fn serve(&mut self) {
        let server = ServerProcess::start_anywhere(&self.launch, PATIENCE).await;
        let server = server.unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
        (self.launch, self.shop.url) = (server.launch().clone(), server.url());
        self.server = Some(server);
    }

    pub fn kill(&mut self) {
        self.server.take().unwrap().kill().unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
    }

    pub fn start_again(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the server again with these variables in its environment.
    pub fn start_with(&mut self, variables: &[(&str, &str)]) {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let launch = Launch { variables: variables.collect(), ..self.launch.clone() };
        self.server = Some(ServerProcess::start(&launch).unwrap());
    }

    /// Waits until the server says that it serves. Before that a signal to stop ends it like any process.
    pub async fn ready(&mut self) {
        let ready = self.server.as_mut().unwrap().ready(PATIENCE).await;
        ready.unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// The indexes of the snapshots in a data directory.
pub fn snapshots_in(data: &Path) -> Vec<u64> {
    let names = fs::read_dir(data.join("snapshots")).unwrap();
    let index =
        |name: String| u64::from_str_radix(name.strip_prefix("snapshot-")?.strip_suffix(".sluice")?, 16).ok();
    names.filter_map(|entry| index(entry.unwrap().file_name().into_string().unwrap())).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}
