//! A server in a process of its own, a crowd that loads it, and the audit: for tests in which the server dies.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

pub mod crowd;

use std::cell::RefCell;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{Client, ProductId, Terms};
use sluice_engine::audit::{Account, Findings, Promise, Witness, fetch};
use sluice_engine::child::{Launch, ServerProcess};
use sluice_engine::wal::Backend;
use tokio::task::{JoinHandle, LocalSet};

pub use self::crowd::{Crowd, Dice};

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

/// See the module.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub seed: u64,
    pub dice: Dice,
    pub server: Option<ServerProcess>,
    pub launch: Launch,
    pub url: String,
    products: u64,
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
            flags: ["--disk-free-min", "0", "--log-backend", backend().name()]
                .iter()
                .chain(flags)
                .map(|flag| (*flag).to_owned())
                .collect(),
            variables: Vec::new(),
        };
        Self { dir, seed, dice: Dice::new(seed), server: None, launch, url: String::new(), products: 0 }
    }

    /// Starts the server on some port and stays with that.
    pub async fn serve(&mut self) {
        let server = ServerProcess::start_anywhere(&self.launch, PATIENCE).await;
        let server = server.unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
        (self.launch, self.url) = (server.launch().clone(), server.url());
        self.server = Some(server);
    }

    pub async fn client(&self) -> Client {
        let builder = Client::builder().deadline(PATIENCE).resolve_budget(PATIENCE);
        builder
            .connections(2)
            .connect(&self.url)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.words()))
    }

    /// What the servers said.
    pub fn words(&self) -> String {
        format!("seed {}\n{}", self.seed, std::fs::read_to_string(&self.launch.log).unwrap_or_default())
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

    /// New products, and an account of them.
    pub async fn open_sale(&mut self, client: &Client, promises: &[Promise]) -> Rc<RefCell<Account>> {
        let mut account = Account::default();
        for promise in promises {
            self.products += 1;
            let product = ProductId(self.products);
            let Promise { stock, per_user_limit, hold_ms } = *promise;
            let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit, hold_ms, unlimited: false };
            assert!(client.put_product(product, stock, terms).await.unwrap().is_done());
            account.product(product, *promise);
        }
        Rc::new(RefCell::new(account))
    }

    /// A sale with actors at work.
    pub async fn under_load(&mut self, promises: &[Promise]) -> Load {
        let client = self.client().await;
        let account = self.open_sale(&client, promises).await;
        let crowd = Crowd::new(self.dice.next(), Witness::new(client, Rc::clone(&account)));
        let actors = crowd.start();
        Load { account, crowd, actors }
    }

    /// Reads what became of everything in an account, and fails with evidence if anything was contradicted.
    pub async fn audit(&self, account: &Rc<RefCell<Account>>) -> Findings {
        let (ids, products) = (account.borrow().ids(), account.borrow().products());
        let books = fetch(&self.client().await, &ids, &products).await.unwrap();
        let findings = account.borrow_mut().judge(&books);
        if findings.contradicted > 0 || findings.oversold() > 0 {
            let shown: Vec<String> = findings.kept.iter().map(ToString::to_string).collect();
            panic!("{} answers contradicted\n{}\n{}", findings.contradicted, shown.join("\n"), self.words());
        }
        findings
    }

    /// The callers die with the server. Later somebody else asks what became of half of their calls, sends a few again,
    /// and forgets the rest.
    pub async fn cut_off(&self, load: Load) -> Rc<RefCell<Account>> {
        let account = load.abandon().await;
        let witness = Witness::new(self.client().await, Rc::clone(&account));
        let silent = account.borrow_mut().give_up();
        for (nth, ticket) in silent.into_iter().enumerate() {
            match nth % 4 {
                0 | 1 => drop(witness.resolve(ticket).await),
                2 => drop(witness.again(ticket).await),
                _ => {}
            }
        }
        account
    }
}

/// A sale in the midst of it.
pub struct Load {
    pub account: Rc<RefCell<Account>>,
    pub crowd: Rc<Crowd>,
    actors: Vec<JoinHandle<()>>,
}

impl Load {
    /// Lets everybody finish what they are at.
    pub async fn finish(self) -> Rc<RefCell<Account>> {
        self.crowd.stop();
        for actor in self.actors {
            actor.await.unwrap();
        }
        self.account
    }

    /// Drops everybody in the midst of what they are at.
    pub async fn abandon(self) -> Rc<RefCell<Account>> {
        for actor in self.actors {
            actor.abort();
            let _ = actor.await;
        }
        self.account
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// The indexes of the snapshots in a data directory.
pub fn snapshots_in(data: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(data.join("snapshots")).unwrap();
    let index =
        |name: String| u64::from_str_radix(name.strip_prefix("snapshot-")?.strip_suffix(".sluice")?, 16).ok();
    names.filter_map(|entry| index(entry.unwrap().file_name().into_string().unwrap())).collect()
}
