//! The real binary, made to fail at every fail point there is, under load; then every answer it ever gave is checked.
//!
//! The list is the program's own (`sluice_engine::failpoint`): a point that is added is exercised here, and a point that
//! is never met fails. Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does, and
//! SLUICE_FAIL_ROUNDS asks for more deaths at each point.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod events_support;
mod rig;

use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{Client, ProductId, UserId};
use sluice_engine::audit::{Account, Promise, Said, Witness};
use sluice_engine::failpoint::{Fact, OnError, POINTS, VARIABLE, When};
use sluice_engine::ops::fetch;
use sluice_engine::ops::stats::{EventStats, Stats};
use sluice_engine::wal::Backend;

use self::events_support::files::{self, Events};
use self::rig::{Dice, Load, PATIENCE, Rig, run, seed, snapshots_in};

/// Deaths at each point, unless SLUICE_FAIL_ROUNDS says otherwise.
const ROUNDS: u64 = 3;

/// Answers before and after the deaths at a point.
const ANSWERS: usize = 150;

/// Snapshots, and what follows from them, several times a second; tables and filters that are made at once; events of which
/// the oldest are soon dropped.
const FLAGS: [&str; 6] =
    ["--snapshot-every-bytes", "16KiB", "--records-expected", "100000", "--stream-retain-bytes", "64KiB"];

/// What is sold around each point: one product with a limit for each user, one that sells out, one that does not.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 200, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 30, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// Points that are met while a directory is made, beside those of creation itself: first start, first snapshot, first
/// fence.
const ALSO_CREATING: [&str; 10] = [
    "boot.rename@1",
    "boot.renamed@1",
    "snapshot.section@1",
    "snapshot.sync@1",
    "snapshot.rename@1",
    "snapshot.renamed@1",
    "snapshot.delete@1",
    "fence.half@1",
    "fence.half@2",
    "fence.sync@2",
];

/// Met by every start on a directory that is not whole yet, whatever of it is there.
const AGAIN_CREATING: [&str; 4] =
    ["create.fence@1", "snapshot.renamed@1", "create.identity_rename@1", "create.done@1"];

/// Met by every start on a whole directory.
const AGAIN_STARTING: [&str; 3] = ["start.locked@1", "start.fenced@1", "start.ready@1"];

/// Of these, a stop meets the first hit if no snapshot was due before: it takes one itself.
const ALSO_STOPPING: [&str; 5] =
    ["snapshot.frozen", "snapshot.section", "snapshot.rename", "snapshot.renamed", "snapshot.saved"];

/// Where the server stalls for longer than it tries to answer, one after another: clients hear that nobody knows, and
/// the answer comes to a desk that has given it up.
const STALLED: [&str; 7] = [
    "desk.queued",
    "replica.taken",
    "log.write",
    "log.sync",
    "apply.applied",
    "reply.settled",
    "snapshot.sync",
];

/// How long each stall is. The server tries for a second if a request does not say.
const STALL_MS: u64 = 1200;

/// A stall comes at one of so many hits.
const STALL_HITS: u64 = 4;

/// How long a death while the log is written waits, two times in three: so long may an answer that was given too early
/// travel before nothing is left of what it rests on.
const LATE_MS: u64 = 40;

/// How a process ends that is killed.
const SIGKILL: i32 = 9;

/// How often files that the server writes are looked at.
const POLL: Duration = Duration::from_millis(2);

fn rounds() -> u64 {
    env::var("SLUICE_FAIL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

fn met(when: impl Fn(When) -> bool) -> Vec<&'static Fact> {
    // A log in sled has no segments.
    let is_met = |fact: &&Fact| rig::backend() == Backend::Segments || !fact.name.starts_with("segment.");
    let facts: Vec<_> = POINTS.iter().filter(is_met).filter(|fact| when(fact.when)).collect();
    assert!(!facts.is_empty());
    facts
}

/// The last hit worth waiting for. A new kind of point needs a test of its own, and an arm here.
fn most(when: When) -> u64 {
    match when {
        When::Serving(most) | When::Logging(most) | When::Saving(most) => most,
        When::Creating | When::Starting | When::Stopping => 1,
    }
}

/// The first hit, then low and high ones in turn, and none twice as long as there are others.
fn hits(dice: &Dice, most: u64) -> Vec<u64> {
    let mut hits = vec![1];
    while (hits.len() as u64) < rounds() {
        let bound = if hits.len() % 2 == 1 { most.div_ceil(8).max(2) } else { most };
        let fresh: Vec<u64> = (1..=bound).filter(|hit| !hits.contains(hit)).collect();
        let any = fresh.get(dice.below(fresh.len().max(1) as u64) as usize);
        hits.push(any.copied().unwrap_or_else(|| 1 + dice.below(most)));
    }
    hits
}

/// The deaths of a rig's server.
struct Deaths {
    rig: Rig,
    accounts: Vec<Rc<RefCell<Account>>>,
    /// What was in the files of the stream after any of the deaths.
    events: Events,
    deaths: u64,
}

impl Deaths {
    fn new(rig: Rig) -> Self {
        Self { rig, accounts: Vec::new(), events: Events::new(), deaths: 0 }
    }

    /// Starts the server so that it fails at `point@hit`. Returns where its words begin.
    fn start(&mut self, point: &str, action: &str) -> usize {
        let (name, hit) = point.split_once('@').unwrap();
        let words = self.rig.words().len();
        self.rig.start_with(&[(VARIABLE, &format!("{name}={action}@{hit}"))]);
        words
    }

    /// Starts the server and waits until it has killed itself at `point@hit`.
    async fn die(&mut self, point: &str) {
        let from = self.start(point, "kill");
        self.dead(point, from).await;
    }

    /// As `die`, but the threads that do not stand at the point go on for a while before.
    async fn die_late(&mut self, point: &str) {
        let from = self.start(point, &format!("kill:{LATE_MS}"));
        self.dead(point, from).await;
    }

    /// Waits until the server has killed itself.
    async fn dead(&mut self, point: &str, from: usize) {
        let ended = self.rig.server.take().unwrap().ended(PATIENCE).await;
        let words = self.rig.words();
        let status = ended.unwrap_or_else(|_| panic!("{point} was never met\n{words}"));
        let (name, hit) = point.split_once('@').unwrap();
        let itself = words[from..].contains(&format!("fail point {name}, hit {hit}: killed"));
        assert!(status.signal() == Some(SIGKILL) && itself, "{point}: {status}\n{words}");
        self.deaths += 1;
        self.look_at_events();
    }

    /// The server is dead: its events are dense, as far as snapshots reach at least, and none is another than it was.
    fn look_at_events(&mut self) {
        let data = &self.rig.launch.data;
        if !data.join("events").exists() {
            return;
        }
        let found = files::read_whole(data).unwrap_or_else(|wrong| panic!("{wrong}\n{}", self.rig.words()));
        for (sequence, event) in found {
            let before = self.events.insert(sequence, event);
            assert!(before.is_none_or(|before| before == event), "event {sequence} was another before");
        }
    }

    /// A sale on a server that does not fail, and is killed from outside so that one that does can take its place.
    async fn sale(&mut self) -> Load {
        let load = self.rig.under_load(&PRODUCTS).await;
        load.crowd.answers(ANSWERS).await;
        self.rig.kill();
        load
    }

    /// The server serves again, the crowd goes on or is cut off, and everything is checked.
    async fn recover(&mut self, load: Load) {
        self.rig.start_again();
        self.check(load).await;
    }

    async fn check(&mut self, load: Load) {
        let account = if self.rig.dice.below(2) == 0 {
            load.crowd.answers(ANSWERS).await;
            load.finish().await
        } else {
            self.rig.cut_off(load).await
        };
        self.rig.audit(&account).await;
        self.accounts.push(account);
    }

    /// A point to die at under load, with a hit.
    fn any_under_load(&self) -> String {
        let facts = met(|when| matches!(when, When::Serving(_) | When::Logging(_) | When::Saving(_)));
        let fact = facts[self.rig.dice.below(facts.len() as u64) as usize];
        format!("{}@{}", fact.name, 1 + self.rig.dice.below(most(fact.when)))
    }

    /// What was true before is still true after all that came later.
    async fn finish(mut self) {
        let mut answers = 0;
        for account in &self.accounts {
            answers += self.rig.audit(account).await.answers;
        }
        let last = all_events_written(&self.rig).await;
        self.rig.server.take().unwrap().terminate(PATIENCE).unwrap();
        self.look_at_events();
        assert!(self.events.keys().next_back().copied() >= Some(last));
        eprintln!("{} deaths, {answers} answers and {} events checked", self.deaths, self.events.len());
    }
}

/// Dies at each of these points, some hits into the load of a crowd that lives on.
async fn die_under_load(facts: Vec<&'static Fact>) {
    let mut deaths = Deaths::new(Rig::start(seed(), &FLAGS).await);
    for fact in facts {
        let load = deaths.sale().await;
        for (round, hit) in hits(&deaths.rig.dice, most(fact.when)).into_iter().enumerate() {
            let point = format!("{}@{hit}", fact.name);
            match fact.when {
                When::Logging(_) if round % 3 > 0 => deaths.die_late(&point).await,
                _ => deaths.die(&point).await,
            }
        }
        deaths.recover(load).await;
    }
    deaths.finish().await;
}

#[test]
fn a_death_while_clients_are_served_loses_and_contradicts_nothing() {
    run(die_under_load(met(|when| matches!(when, When::Serving(_)))));
}

#[test]
fn a_death_while_the_log_is_written_loses_and_contradicts_nothing() {
    run(die_under_load(met(|when| matches!(when, When::Logging(_)))));
}

#[test]
fn a_death_while_a_snapshot_is_saved_loses_and_contradicts_nothing() {
    run(die_under_load(met(|when| matches!(when, When::Saving(_)))));
}

/// Two failures: dead at a point under load, and dead again while that is recovered from.
#[test]
fn a_death_in_the_recovery_from_another_loses_and_contradicts_nothing() {
    run(async {
        let mut deaths = Deaths::new(Rig::start(seed(), &FLAGS).await);
        for fact in met(|when| when == When::Starting) {
            let load = deaths.sale().await;
            for _ in 0..rounds() {
                let first = deaths.any_under_load();
                deaths.die(&first).await;
                deaths.die(&format!("{}@1", fact.name)).await;
            }
            deaths.recover(load).await;
        }
        deaths.finish().await;
    });
}

#[test]
fn a_death_while_it_stops_loses_and_contradicts_nothing() {
    run(async {
        // Snapshots are due when the log has grown by far more than it does here.
        let mut deaths = Deaths::new(Rig::start(seed(), &FLAGS[2..]).await);
        let points = met(|when| when == When::Stopping).into_iter().map(|fact| fact.name);
        for name in points.chain(ALSO_STOPPING) {
            let load = deaths.sale().await;
            for _ in 0..rounds() {
                let point = format!("{name}@1");
                let from = deaths.start(&point, "kill");
                load.crowd.answers(1 + deaths.rig.dice.below(ANSWERS as u64) as usize).await;
                deaths.rig.ready().await;
                deaths.rig.server.as_ref().unwrap().ask_to_stop().unwrap();
                deaths.dead(&point, from).await;
            }
            deaths.recover(load).await;
        }
        deaths.finish().await;
    });
}

#[test]
fn a_death_while_a_directory_is_made_leaves_one_that_can_be_used() {
    run(async {
        let seed = seed();
        let creating = met(|when| when == When::Creating);
        let whole = creating.iter().position(|fact| fact.name == "create.identity_renamed").unwrap();
        let points = creating.iter().map(|fact| format!("{}@1", fact.name));
        let also = ALSO_CREATING.map(str::to_owned);
        for (at, point) in points.chain(also).enumerate() {
            let again =
                if (whole..creating.len()).contains(&at) { &AGAIN_STARTING[..] } else { &AGAIN_CREATING[..] };
            for round in 0..rounds() as usize {
                let mut deaths = Deaths::new(Rig::new(seed, &FLAGS));
                deaths.die(&point).await;
                if round > 0 {
                    deaths.die(again[(at + round) % again.len()]).await;
                }
                deaths.rig.serve().await;
                let load = deaths.rig.under_load(&PRODUCTS).await;
                deaths.check(load).await;
            }
        }
    });
}

/// Waits until something is so that the server brings about.
async fn until(rig: &Rig, what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} never came\n{}", rig.words());
}

/// Waits until the stream's files end with the ledger, and nothing is missing. The last event.
async fn all_events_written(rig: &Rig) -> u64 {
    let words = rig.words();
    let (_, ops) = words.rsplit_once("ops=http://").unwrap();
    let ops = ops.split_whitespace().next().unwrap();
    let mut last = 0;
    until(rig, "the last event", || {
        let (_, stats) = fetch::get(ops, "/stats", PATIENCE).unwrap();
        let EventStats { made, last: written, missing, .. } =
            serde_json::from_str::<Stats>(&stats).unwrap().events;
        assert_eq!(missing, 0);
        last = written;
        made == written
    })
    .await;
    last
}

/// The server meets an error and ends, or lives with it.
async fn meet_error(deaths: &mut Deaths, point: &str, on_error: OnError) {
    let from = deaths.start(point, "error");
    let (name, hit) = point.split_once('@').unwrap();
    let said = format!("fail point {name}, hit {hit}: error");
    if let OnError::Ends(code) = on_error {
        let ended = deaths.rig.server.take().unwrap().ended(PATIENCE).await;
        let words = deaths.rig.words();
        let status = ended.unwrap_or_else(|_| panic!("{point} was never met\n{words}"));
        assert!(words[from..].contains(&said) && status.code() == Some(code), "{point}: {status}\n{words}");
        deaths.look_at_events();
        return;
    }
    let rig = &deaths.rig;
    until(rig, &said, || rig.words()[from..].contains(&said)).await;
    let newest = || snapshots_in(&rig.launch.data).into_iter().max();
    // One whose name was given before the error is there already.
    let before = newest();
    until(rig, "another snapshot", || newest() > before).await;
    deaths.rig.kill();
}

#[test]
fn an_error_ends_the_server_or_is_lived_with_and_nothing_is_lost() {
    run(async {
        let fails = |fact: &&&Fact| fact.on_error != OnError::Impossible;
        let mut deaths = Deaths::new(Rig::start(seed(), &FLAGS).await);
        for fact in met(|when| matches!(when, When::Logging(_) | When::Saving(_))).iter().filter(fails) {
            let load = deaths.sale().await;
            for hit in hits(&deaths.rig.dice, most(fact.when)) {
                // Not the first: it may come before the log is open, and then the start is refused.
                meet_error(&mut deaths, &format!("{}@{}", fact.name, hit + 1), fact.on_error).await;
            }
            deaths.recover(load).await;
        }
        for fact in met(|when| when == When::Starting).iter().filter(fails) {
            let load = deaths.sale().await;
            meet_error(&mut deaths, &format!("{}@1", fact.name), fact.on_error).await;
            deaths.recover(load).await;
        }
        deaths.finish().await;
        for fact in met(|when| when == When::Creating).iter().filter(fails) {
            let mut deaths = Deaths::new(Rig::new(seed(), &FLAGS));
            meet_error(&mut deaths, &format!("{}@1", fact.name), fact.on_error).await;
            deaths.rig.serve().await;
            let load = deaths.rig.under_load(&PRODUCTS).await;
            deaths.check(load).await;
        }
    });
}

#[test]
fn a_stall_beyond_every_deadline_contradicts_nothing() {
    run(async {
        let mut deaths = Deaths::new(Rig::start(seed(), &FLAGS).await);
        let load = deaths.sale().await;
        let stall = |name| format!("{name}=stall:{STALL_MS}@{}", 1 + deaths.rig.dice.below(STALL_HITS));
        let plan = STALLED.map(stall).join(";");
        deaths.rig.start_with(&[(VARIABLE, &plan)]);
        let rig = &deaths.rig;
        for name in STALLED {
            let said = format!("fail point {name}, hit");
            until(rig, &said, || rig.words().contains(&said)).await;
        }
        load.crowd.answers(ANSWERS).await;
        deaths.rig.kill();
        deaths.recover(load).await;
        deaths.finish().await;
    });
}

/// What ten buyers hear who have little patience.
async fn hear_ten(rig: &Rig, account: &Rc<RefCell<Account>>, product: ProductId) -> Vec<Option<Said>> {
    let impatience = Duration::from_millis(300);
    let hasty = Client::builder().deadline(impatience).resolve_budget(impatience);
    let witness = Witness::new(hasty.connect(&rig.url).await.unwrap(), Rc::clone(account));
    let row: Vec<_> = (1..=10).map(|user| witness.order(product, UserId(user), 1)).collect();
    witness.reserve_row(&row).await
}

/// Rule P, with the real disk thread: as long as nothing can be synced, nothing is promised.
#[test]
fn nothing_is_held_while_the_log_cannot_be_synced() {
    run(async {
        let mut rig = Rig::start(seed(), &FLAGS).await;
        let client = rig.client().await;
        let account = rig.open_sale(&client, &PRODUCTS).await;
        let product = *account.borrow().products().last().unwrap();
        assert!(hear_ten(&rig, &account, product).await.iter().all(|said| said.is_some_and(Said::is_held)));
        let file = rig.dir.path().join("hold");
        for point in ["log.write", "log.sync"] {
            rig.kill();
            rig.start_with(&[(VARIABLE, &format!("{point}=hold:{}", file.display()))]);
            assert!(client.product(product).await.unwrap().is_some());
            File::create(&file).unwrap();
            let said = hear_ten(&rig, &account, product).await;
            assert!(!said.iter().any(|said| said.is_some_and(Said::is_held)), "{point}: {said:?}");
            std::fs::remove_file(&file).unwrap();
            assert!(
                hear_ten(&rig, &account, product).await.iter().all(|said| said.is_some_and(Said::is_held))
            );
            rig.audit(&account).await;
        }
    });
}
