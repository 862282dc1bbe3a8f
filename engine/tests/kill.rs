//! The real binary, killed at random under load; then every answer it ever gave is checked.
//!
//! What the other tests show of the parts, these show of the whole: whatever was said before SIGKILL is true after it.
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "kill/crowd.rs"]
mod crowd;

use std::cell::RefCell;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use sluice_client::{Client, ProductId, Terms};
use sluice_engine::audit::{Account, Findings, Promise, Witness, fetch};
use sluice_engine::child::{Launch, ServerProcess};
use tokio::task::{JoinHandle, LocalSet};

use self::crowd::{Crowd, Dice};

/// Times the server is killed.
const CYCLES: u64 = 50;

/// Answers before a kill, at most.
const ANSWERS_MAX: u64 = 20_000;

/// Answers in a cycle that rides through the kill, after it.
const ANSWERS_AFTER: usize = 500;

/// Longer than anything here takes: it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sold in each cycle: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 200, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 30, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

struct Rig {
    dir: tempfile::TempDir,
    seed: u64,
    dice: Dice,
    server: Option<ServerProcess>,
    launch: Launch,
    url: String,
    products: u64,
}

impl Rig {
    async fn start() -> Self {
        let seed = env::var("SLUICE_TEST_SEED")
            .map_or_else(|_| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
        eprintln!("SLUICE_TEST_SEED={seed}");
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_sluice")),
            data: dir.path().join("data"),
            log: dir.path().join("log"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            // As small as it may be, so that kills meet snapshots and truncations.
            flags: ["--disk-free-min", "0", "--snapshot-every-bytes", "1MiB"].map(str::to_owned).to_vec(),
        };
        let server = ServerProcess::start_anywhere(&launch, PATIENCE).await.unwrap();
        let (launch, url) = (server.launch().clone(), server.url());
        Self { dir, seed, dice: Dice::new(seed), server: Some(server), launch, url, products: 0 }
    }

    async fn client(&self) -> Client {
        let builder = Client::builder().deadline(PATIENCE).resolve_budget(PATIENCE);
        builder
            .connections(2)
            .connect(&self.url)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.words()))
    }

    /// What the servers said.
    fn words(&self) -> String {
        format!("seed {}\n{}", self.seed, std::fs::read_to_string(&self.launch.log).unwrap_or_default())
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill().unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
    }

    fn start_again(&mut self) {
        self.server = Some(ServerProcess::start(&self.launch).unwrap());
    }

    /// New products, and an account of them.
    async fn open_sale(&mut self, client: &Client) -> Rc<RefCell<Account>> {
        let mut account = Account::default();
        for promise in PRODUCTS {
            self.products += 1;
            let product = ProductId(self.products);
            let Promise { stock, per_user_limit, hold_ms } = promise;
            let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit, hold_ms, unlimited: false };
            assert!(client.put_product(product, stock, terms).await.unwrap().is_done());
            account.product(product, promise);
        }
        Rc::new(RefCell::new(account))
    }

    /// A sale with actors at work.
    async fn under_load(&mut self) -> Load {
        let client = self.client().await;
        let account = self.open_sale(&client).await;
        let crowd = Crowd::new(self.dice.next(), Witness::new(client, Rc::clone(&account)));
        let actors = crowd.start();
        Load { account, crowd, actors }
    }

    /// Reads what became of everything in an account, and fails with evidence if anything was contradicted.
    async fn audit(&self, account: &Rc<RefCell<Account>>) -> Findings {
        let (ids, products) = (account.borrow().ids(), account.borrow().products());
        let books = fetch(&self.client().await, &ids, &products).await.unwrap();
        let findings = account.borrow_mut().judge(&books);
        if findings.contradicted > 0 || findings.oversold() > 0 {
            let shown: Vec<String> = findings.kept.iter().map(ToString::to_string).collect();
            panic!("{} answers contradicted\n{}\n{}", findings.contradicted, shown.join("\n"), self.words());
        }
        findings
    }
}

struct Load {
    account: Rc<RefCell<Account>>,
    crowd: Rc<Crowd>,
    actors: Vec<JoinHandle<()>>,
}

impl Load {
    /// Lets everybody finish what they are at.
    async fn finish(self) -> Rc<RefCell<Account>> {
        self.crowd.stop();
        for actor in self.actors {
            actor.await.unwrap();
        }
        self.account
    }

    /// Drops everybody in the midst of what they are at.
    async fn abandon(self) -> Rc<RefCell<Account>> {
        for actor in self.actors {
            actor.abort();
            let _ = actor.await;
        }
        self.account
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn what_was_answered_before_a_kill_is_true_after_it() {
    run(async {
        let mut rig = Rig::start().await;
        let mut accounts = Vec::new();
        let mut refusals = 0;
        for cycle in 0..CYCLES {
            let load = rig.under_load().await;
            load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize).await;
            rig.kill();
            rig.start_again();
            let account = if cycle % 2 == 0 {
                load.crowd.answers(ANSWERS_AFTER).await;
                load.finish().await
            } else {
                cut_off(&rig, load).await
            };
            refusals += rig.audit(&account).await.refusals;
            accounts.push(account);
        }
        let snapshots = snapshots_in(&rig.launch.data);
        assert!(snapshots.iter().any(|index| *index > 0), "kills met no snapshot: {snapshots:?}");
        let mut answers = 0;
        for account in &accounts {
            answers += rig.audit(account).await.answers;
        }
        eprintln!("{CYCLES} kills, {answers} answers, {refusals} refusals checked by their figures");
        assert!(refusals > 0, "no refusal was checked");
    });
}

/// The callers die with the server. Later somebody else asks what became of half of their calls, sends a few again,
/// and forgets the rest.
async fn cut_off(rig: &Rig, load: Load) -> Rc<RefCell<Account>> {
    let account = load.abandon().await;
    let witness = Witness::new(rig.client().await, Rc::clone(&account));
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

/// The indexes of the snapshots in a data directory.
fn snapshots_in(data: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(data.join("snapshots")).unwrap();
    let index =
        |name: String| u64::from_str_radix(name.strip_prefix("snapshot-")?.strip_suffix(".sluice")?, 16).ok();
    names.filter_map(|entry| index(entry.unwrap().file_name().into_string().unwrap())).collect()
}

#[test]
fn a_stop_under_load_keeps_everything_and_exits_with_0() {
    run(async {
        let mut rig = Rig::start().await;
        for _ in 0..3 {
            let load = rig.under_load().await;
            load.crowd.answers(ANSWERS_AFTER).await;
            let status = rig.server.take().unwrap().terminate(PATIENCE).unwrap();
            assert_eq!(status.code(), Some(0), "{}", rig.words());
            rig.start_again();
            load.crowd.answers(ANSWERS_AFTER).await;
            let account = load.finish().await;
            rig.audit(&account).await;
        }
    });
}

#[test]
fn a_second_process_on_the_data_of_a_busy_one_is_refused_and_does_no_harm() {
    run(async {
        let mut rig = Rig::start().await;
        let load = rig.under_load().await;
        load.crowd.answers(ANSWERS_AFTER).await;
        let log = rig.dir.path().join("second");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let second = Launch { log: log.clone(), listen, ..rig.launch.clone() };
        let status = ServerProcess::start(&second).unwrap().wait(PATIENCE).unwrap();
        let words = std::fs::read_to_string(log).unwrap();
        assert_eq!(status.code(), Some(4), "{words}");
        assert!(words.contains("in use"), "{words}");
        load.crowd.answers(ANSWERS_AFTER).await;
        let account = load.finish().await;
        rig.audit(&account).await;
    });
}

#[test]
fn two_demos_at_once_sell_exactly_what_they_have() {
    let sizes = [["--units", "1", "--buyers", "10"], ["--units", "300", "--buyers", "5000"]];
    let demo = |size: [&str; 4]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .arg("demo")
            .args(size)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for (size, demo) in sizes.map(|size| (size, demo(size))) {
        let output = demo.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{size:?}: {text:?} {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
        assert_eq!(report["sold"], report["units"]);
        assert_eq!(report["units"].to_string(), size[1]);
    }
}
