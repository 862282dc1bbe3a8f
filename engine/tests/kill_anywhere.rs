//! Servers, a hand-off to PostgreSQL, a relay to NATS, the database and the broker are killed in turns while buyers buy, a
//! hundred times. Afterwards there is one order for each reservation and one message for each event, and they say what the
//! servers say and what buyers were told.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does. SLUICE_TEST_KILLS kills more or less often.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::rc::Rc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use sluice_client::{
    CancelOutcome, Client, ConfirmOutcome, EventKind, GroupTerms, ProductId, ReservationId, ReserveOutcome,
    Start, Terms, UserId,
};
use sluice_outside::{Nats, Postgres};
use sluice_postgres::orders::{Order, OrderState, TABLE_DEFAULT};
use sluice_postgres::{LedgerTables, TableName, books, tokio_postgres};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use self::rig::taker::{Taken, agrees_with_books, taken_by_another};
use self::rig::worker::Worker;
use self::rig::{ClusterRig, Dice, run, seed};

/// How often somebody is killed, unless it is set.
const KILLS: u64 = 100;
const KILLS_VARIABLE: &str = "SLUICE_TEST_KILLS";

/// As small as it may be, so that kills meet snapshots.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// Who buy at the same time, and answers between two kills at most.
const BUYERS: u64 = 12;
const ANSWERS_MAX: u64 = 400;

/// The groups of the two that hand events on. Buyers queue rather than that one of them falls far behind.
const ORDERS: &str = "orders";
const RELAY: &str = "relay-nats";
const LAG_MAX: u64 = 20_000;

/// A member that was killed is missed so soon.
const SESSION_MS: u32 = 1_000;

/// What is sold: stock, limit for each user, how long a hold lasts. The first two sell out again and again.
const PRODUCTS: [(u64, u32, u32); 3] = [(300, 3, 400), (40, 0, 200), (10_000_000, 0, 600_000)];
const USERS: u64 = 500;

const REASON: u32 = 7;

/// How often it is looked whether something has happened yet.
const POLL: Duration = Duration::from_millis(5);

/// Longer than anything here takes: it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Victim {
    HandOff,
    Relay,
    Leader,
    Follower,
    Database,
    Broker,
}

const VICTIMS: [Victim; 6] =
    [Victim::HandOff, Victim::Leader, Victim::Relay, Victim::Database, Victim::Follower, Victim::Broker];

/// Everything that can be killed.
struct Scene {
    rig: ClusterRig,
    database: Postgres,
    broker: Nats,
    hand_off: Worker,
    relay: Worker,
    client: Client,
}

impl Scene {
    async fn begin() -> Self {
        let rig = ClusterRig::start(seed(), &FLAGS).await;
        let client = rig.client().await;
        let terms = GroupTerms { session_ms: SESSION_MS, required_lag_max: LAG_MAX, ..GroupTerms::default() };
        for group in [ORDERS, RELAY] {
            let put = client.put_group(group, Start::Beginning, &terms).await.unwrap();
            assert!(put.is_done(), "{put:?}");
        }
        for (number, (stock, per_user_limit, hold_ms)) in (1..).zip(PRODUCTS) {
            let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit, hold_ms, unlimited: false };
            assert!(client.put_product(ProductId(number), stock, terms).await.unwrap().is_done());
        }
        let (database, broker) = (Postgres::start(), Nats::start());
        let log = |name: &str| rig.dir.path().join(name);
        let hand_off = ["hand-off", "--postgres", &database.url(), "--server", &rig.url];
        let hand_off = Worker::start(&hand_off, &log("hand-off.log"));
        let relay = ["relay", "--to", &broker.url(), "--server", &rig.url];
        let relay = Worker::start(&relay, &log("relay.log"));
        Self { rig, database, broker, hand_off, relay, client }
    }

    fn words(&self) -> String {
        format!("{}\n{}\n{}", self.rig.words(), self.hand_off.words(), self.relay.words())
    }

    /// Waits until a group is done with everything up to a sequence.
    async fn is_done(&self, group: &str, upto: u64) {
        let done = async {
            loop {
                let now = self.client.group(group).await;
                if now.is_ok_and(|now| now.unwrap().cursor >= upto) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, done).await;
        assert!(done.is_ok(), "{group} is not done with {upto}\n{}", self.words());
    }

    /// Waits until whoever is to be killed, or works with whoever is, has got something done since they last died: each kill
    /// is to meet them at work.
    async fn at_work(&self, victim: Victim, since: u64) {
        match victim {
            Victim::HandOff | Victim::Database => self.is_done(ORDERS, since).await,
            Victim::Relay | Victim::Broker => self.is_done(RELAY, since).await,
            Victim::Leader | Victim::Follower => {}
        }
    }

    /// Kills somebody, lets the others go on for a while, and starts whoever it was again.
    async fn kill(&mut self, victim: Victim, buyers: &Buyers) {
        let meanwhile = self.rig.dice.below(ANSWERS_MAX);
        match victim {
            Victim::HandOff => self.hand_off.kill(),
            Victim::Relay => self.relay.kill(),
            Victim::Database => self.database.kill(),
            Victim::Broker => self.broker.kill(),
            Victim::Leader | Victim::Follower => {
                let leader = self.rig.leader().await;
                let node = if victim == Victim::Leader { leader } else { 1 + leader % 3 };
                self.rig.kill(node);
                self.rig.wait("answers of two nodes", buyers.answers(meanwhile)).await;
                self.rig.start_again(node).await;
                return;
            }
        }
        self.rig.wait("answers meanwhile", buyers.answers(meanwhile)).await;
        match victim {
            Victim::HandOff => self.hand_off.start_again(),
            Victim::Relay => self.relay.start_again(),
            Victim::Database => self.database.restart(),
            _ => self.broker.restart(),
        }
    }
}

/// What buyers were told last of their reservations.
type Said = HashMap<ReservationId, OrderState>;

/// Buyers who reserve, pay, give back and forget.
struct Buyers {
    answers: Rc<Cell<u64>>,
    answered: Rc<Notify>,
    stopping: Rc<Cell<bool>>,
    tasks: Vec<JoinHandle<Said>>,
}

impl Buyers {
    fn start(client: &Client, dice: &Dice) -> Self {
        let (answers, answered, stopping) = <(Rc<Cell<u64>>, Rc<Notify>, Rc<Cell<bool>>)>::default();
        let buyer = |_| {
            let (client, dice) = (client.clone(), Dice::new(dice.next()));
            let (answers, answered, stopping) =
                (Rc::clone(&answers), Rc::clone(&answered), Rc::clone(&stopping));
            spawn_local(async move {
                let mut said = Said::new();
                while !stopping.get() {
                    buy(&client, &dice, &mut said).await;
                    answers.set(answers.get() + 1);
                    answered.notify_waiters();
                }
                said
            })
        };
        let tasks = (0..BUYERS).map(buyer).collect();
        Self { answers, answered, stopping, tasks }
    }

    /// Waits until so many more of them were answered.
    async fn answers(&self, more: u64) {
        let wanted = self.answers.get() + more;
        while self.answers.get() < wanted {
            self.answered.notified().await;
        }
    }

    async fn finish(self) -> Said {
        self.stopping.set(true);
        let mut said = Said::new();
        for task in self.tasks {
            said.extend(task.await.unwrap());
        }
        said
    }
}

/// One wish, as far as its buyer gets with it. What no answer came to claims nothing.
async fn buy(client: &Client, dice: &Dice, said: &mut Said) {
    let product = ProductId(1 + dice.below(PRODUCTS.len() as u64));
    let reserved = client.reserve(product, UserId(1 + dice.below(USERS)), 1 + dice.below(2) as u32).await;
    let Ok(ReserveOutcome::Reserved { id, .. }) = reserved else {
        // Somebody who is told to queue, or that nothing is left, does not ask again at once.
        return tokio::time::sleep(POLL).await;
    };
    said.insert(id, OrderState::Held);
    match dice.below(4) {
        0 | 1 => {
            if let Ok(ConfirmOutcome::Confirmed { .. }) = client.confirm(id).await {
                said.insert(id, OrderState::Sold);
            }
        }
        2 => {
            if let Ok(CancelOutcome::Cancelled { .. }) = client.cancel(id, REASON).await {
                said.insert(id, OrderState::Cancelled);
            }
        }
        _ => {}
    }
}

#[test]
#[ignore = "needs PostgreSQL and NATS: apt-get install --no-install-recommends postgresql nats-server"]
fn whoever_is_killed_there_is_one_order_for_each_reservation_and_one_message_for_each_event() {
    run(async {
        let kills = env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
        let mut scene = Scene::begin().await;
        let buyers = Buyers::start(&scene.rig.client().await, &scene.rig.dice);
        let mut worked = HashMap::new();
        for nth in 0..kills {
            let victim = VICTIMS[(nth % VICTIMS.len() as u64) as usize];
            scene.at_work(victim, worked.get(&victim).copied().unwrap_or(1)).await;
            let before = buyers.answers(1 + scene.rig.dice.below(ANSWERS_MAX));
            scene.rig.wait("answers", before).await;
            scene.kill(victim, &buyers).await;
            let last = scene.client.stream_bounds().await.unwrap().last;
            worked.insert(victim, last);
            eprintln!("{} of {kills}: {victim:?} was killed, {last} events so far", nth + 1);
        }
        let said = buyers.finish().await;
        let short = PRODUCTS.map(|(_, _, hold_ms)| u64::from(hold_ms)).into_iter().filter(|ms| *ms < 1_000);
        tokio::time::sleep(Duration::from_millis(2 * short.max().unwrap())).await;
        let last = scene.client.stream_bounds().await.unwrap().last;
        scene.is_done(ORDERS, last).await;
        scene.is_done(RELAY, last).await;
        scene.hand_off.stop();
        scene.relay.stop();

        let taken = taken_by_another(&scene.client, "truth", last).await;
        let mut books = Vec::new();
        for number in 1..=PRODUCTS.len() as u64 {
            books.extend(scene.client.product(ProductId(number)).await.unwrap());
        }
        agrees_with_books(&taken, last, &books);
        let orders = orders(&scene.database).await;
        assert_eq!(orders.len(), folded(&taken).len(), "orders");
        for (id, order) in folded(&taken) {
            assert_eq!(orders.get(&id), Some(&order), "{id}\n{}", scene.words());
        }
        believed(&said, &orders);
        relayed(&scene.broker, &taken).await;
        eprintln!("{last} events, {} orders, {kills} kills", orders.len());
    });
}

/// What buyers were told is what became of it, or what came before.
fn believed(said: &Said, orders: &BTreeMap<ReservationId, Order>) {
    for (id, state) in said {
        let now = orders.get(id).map(|order| order.state);
        let is_true = match state {
            OrderState::Held => now.is_some(),
            ended => now == Some(*ended),
        };
        assert!(is_true, "{id} was said to be {state}, and is {now:?}");
    }
}

/// The orders that events make.
fn folded(taken: &Taken) -> BTreeMap<ReservationId, Order> {
    let mut orders: BTreeMap<ReservationId, Order> = BTreeMap::new();
    for event in taken.values() {
        let state = match event.kind {
            EventKind::Reserved => OrderState::Held,
            EventKind::Confirmed => OrderState::Sold,
            EventKind::Cancelled => OrderState::Cancelled,
            EventKind::Expired => OrderState::Expired,
            _ => continue,
        };
        let order = orders.entry(event.id).or_insert(Order {
            reservation: event.id,
            product: event.product,
            user: event.user,
            quantity: event.quantity,
            state,
            reason: None,
            deadline_ms: Some(event.detail),
            sequence: event.sequence,
            reserved_ms: Some(event.time_ms),
            updated_ms: event.time_ms,
        });
        order.state = state;
        order.reason = (state == OrderState::Cancelled).then_some(event.detail);
        order.sequence = event.sequence;
        order.updated_ms = event.time_ms;
    }
    orders
}

/// The orders that there are.
async fn orders(database: &Postgres) -> BTreeMap<ReservationId, Order> {
    let (mut client, connection) =
        tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    let connection = spawn_local(connection);
    let (tables, table) = (LedgerTables::default(), TableName::new(TABLE_DEFAULT));
    let snapshot = books::snapshot(&mut client, &tables, &table, ORDERS).await.unwrap();
    assert_eq!((snapshot.gaps.len(), snapshot.undone.len()), (0, 0));
    let mut rows = snapshot.orders().await.unwrap();
    let mut orders = BTreeMap::new();
    while let Some(order) = rows.next().await {
        let order = order.unwrap();
        assert_eq!(orders.insert(order.reservation, order), None);
    }
    connection.abort();
    orders
}

/// The stream of messages holds each event once, in order.
async fn relayed(broker: &Nats, taken: &Taken) {
    let context = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let stream = context.get_stream("SLUICE").await.unwrap();
    let ordered = jetstream::consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(ordered).await.unwrap().messages().await.unwrap();
    assert_eq!(stream.cached_info().state.messages, taken.len() as u64, "messages");
    for event in taken.values() {
        let message = messages.next().await.unwrap().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let told = ["sequence", "product"].map(|name| said[name].as_u64().unwrap());
        assert_eq!(told, [event.sequence, event.product.0], "{said}");
        assert_eq!(said["id"].as_str(), (event.id.0 != 0).then(|| event.id.to_string()).as_deref());
    }
}
