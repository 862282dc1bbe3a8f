//! A shop with a real server and a real PostgreSQL: what is sold, what hands it over, and whether both agree.
//!
//! Deliberately not here: what goes wrong, which is the tests' business.

#![allow(dead_code, reason = "each test uses part of it")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sluice_client::{Client, EventView, GroupTerms, ReservationId, ReserveOutcome, State, Terms};
use sluice_engine::testing::Server;
use sluice_outside::Postgres;
use sluice_postgres::books::snapshot;
use sluice_postgres::orders::{Order, OrderState, Orders, TABLE_DEFAULT};
use sluice_postgres::tokio_postgres::{self, Config, NoTls, Transaction};
use sluice_postgres::{Counts, Effect, EffectError, HandOff, HandOffError, LedgerTables, TableName};
use sluice_protocol::event::lane_of;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take that is waited for: far longer than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The group.
pub(crate) const GROUP: &str = "orders";

/// Products that are sold, spread over many lanes.
pub(crate) const PRODUCTS: u64 = 24;

/// A product whose holds end at once.
pub(crate) const FLEETING: u64 = 1_000;

/// Calls that are under way together.
const CALLS: usize = 400;

/// See the module.
pub(crate) struct Shop {
    pub(crate) server: Server,
    pub(crate) postgres: Postgres,
    pub(crate) client: Client,
    pub(crate) reserved: Vec<ReservationId>,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let (server, postgres) = (Server::start(), Postgres::start());
        let client = Client::connect(&server.url()).await.unwrap();
        let terms =
            Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };
        for product in 1..=PRODUCTS {
            assert!(client.put_product(product, 1_000_000, terms).await.unwrap().is_done());
        }
        let fleeting = Terms { hold_ms: 100, ..terms };
        assert!(client.put_product(FLEETING, 1_000_000, fleeting).await.unwrap().is_done());
        Self { server, postgres, client, reserved: Vec::new() }
    }

    pub(crate) fn config(&self) -> Config {
        self.postgres.url().parse().unwrap()
    }

    pub(crate) async fn reserve(&mut self, product: u64, user: u64, quantity: u32) -> ReservationId {
        let id = reserve(&self.client, product, user, quantity).await;
        self.reserved.push(id);
        id
    }

    /// Sells: a quarter is confirmed, a quarter given back, a quarter stays held, a quarter expires.
    pub(crate) async fn sell(&mut self, count: u64) {
        self.reserved.extend(sell(&self.client, count).await);
    }

    pub(crate) fn hand_off(&self) -> HandOff<Witnessed> {
        HandOff::new(&self.client, self.config(), GROUP, Witnessed::default())
    }

    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until the group has acknowledged all that there is.
    pub(crate) async fn caught_up(&self) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.client.stream_bounds().await.unwrap().last;
            let group = self.client.group(GROUP).await.unwrap();
            if group.is_some_and(|group| group.cursor == last) {
                return last;
            }
            assert!(Instant::now() < deadline, "the group stands at {group:?} of {last}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All orders in the database.
    pub(crate) async fn orders(&self) -> HashMap<ReservationId, Order> {
        let mut client = self.connect().await;
        let table = TableName::new(TABLE_DEFAULT);
        let books = snapshot(&mut client, &LedgerTables::default(), &table, GROUP).await.unwrap();
        let mut stream = books.orders().await.unwrap();
        let (mut orders, mut before) = (HashMap::new(), None);
        while let Some(order) = stream.next().await {
            let order = order.unwrap();
            assert!(before < Some(order.reservation), "orders come in the order of their ids");
            before = Some(order.reservation);
            orders.insert(order.reservation, order);
        }
        orders
    }

    /// Everybody has everything, and the same: each reservation is one order in the state that the server knows.
    pub(crate) async fn agrees(&self) {
        let held = async || self.client.product(FLEETING).await.unwrap().unwrap().held;
        until("what is fleeting to be over", async || held().await == 0).await;
        self.caught_up().await;
        let orders = self.orders().await;
        assert_eq!(orders.len(), self.reserved.len(), "each reservation is one order");
        for id in &self.reserved {
            let known = self.client.reservation(*id).await.unwrap().unwrap();
            let order = &orders[id];
            let state = match order.state {
                OrderState::Held => State::Held,
                OrderState::Sold => State::Confirmed,
                OrderState::Cancelled => State::Cancelled,
                OrderState::Expired => State::Expired,
            };
            let here = (state, order.product, order.user, order.quantity, order.sequence);
            assert_eq!(here, (known.state, known.product, known.user, known.quantity.into(), known.sequence));
            let reason = (known.state == State::Cancelled).then_some(known.reason.into());
            assert_eq!(order.reason, reason, "{id}");
            assert!(known.deadline_ms == 0 || order.deadline_ms == Some(known.deadline_ms), "{id}");
        }
    }

    /// Each event up to the last has taken effect exactly once, those of each lane in their order.
    pub(crate) async fn each_event_once(&self) {
        let last = self.caught_up().await;
        let taken = self.witnessed().await;
        let mut sequences: Vec<u64> = taken.iter().map(|(sequence, _)| *sequence).collect();
        let mut lanes = [0; 64];
        for (sequence, product) in &taken {
            let lane = &mut lanes[lane_of((*product).into()) as usize];
            assert!(*lane < *sequence, "{sequence} took effect behind {lane} of its lane");
            *lane = *sequence;
        }
        sequences.sort_unstable();
        assert!(sequences.iter().copied().eq(1..=last), "not each of {last} events once: {}", taken.len());
    }

    /// Sequences and products of events in the order in which they took effect.
    pub(crate) async fn witnessed(&self) -> Vec<(u64, u64)> {
        let select = "SELECT sequence, product::text FROM witnessed ORDER BY nth";
        let rows = self.connect().await.query(select, &[]).await.unwrap();
        let number = |row: &tokio_postgres::Row| row.get::<_, String>(1).parse().unwrap();
        rows.iter().map(|row| (row.get::<_, i64>(0) as u64, number(row))).collect()
    }

    /// How many have taken effect, if anything has begun yet.
    pub(crate) async fn witnessed_if_any(&self) -> usize {
        let client = self.connect().await;
        make_witness(&client).await.unwrap();
        let row = client.query_one("SELECT count(*) FROM witnessed", &[]).await.unwrap();
        row.get::<_, i64>(0) as usize
    }

    /// A group that gives an event up after this many failed deliveries, tried again at once.
    pub(crate) fn terms(attempts_max: u32) -> GroupTerms {
        GroupTerms { attempts_max, retry_ms: 1, retry_ms_max: 1, ..GroupTerms::default() }
    }
}

async fn reserve(client: &Client, product: u64, user: u64, quantity: u32) -> ReservationId {
    match client.reserve(product, user, quantity).await.unwrap() {
        ReserveOutcome::Reserved { id, .. } => id,
        other => panic!("there is enough: {other:?}"),
    }
}

/// See [`Shop::sell`]; what was reserved.
pub(crate) async fn sell(client: &Client, count: u64) -> Vec<ReservationId> {
    let mut sold = Vec::new();
    let all: Vec<u64> = (0..count).collect();
    for some in all.chunks(CALLS) {
        let orders = some.iter().map(|nth| async move {
            let product = if nth % 4 == 3 { FLEETING } else { 1 + nth % PRODUCTS };
            let id = reserve(client, product, *nth, 1 + (*nth % 3) as u32).await;
            match nth % 4 {
                0 => assert!(client.confirm(id).await.unwrap().is_confirmed()),
                1 => drop(client.cancel(id, *nth as u32).await.unwrap()),
                _ => {}
            }
            id
        });
        sold.extend(join_all(orders).await);
    }
    sold
}

/// Orders, and a witness of each event: a table that would take the same event twice.
#[derive(Default)]
pub(crate) struct Witnessed {
    orders: Orders,
}

/// Makes the witness, one at a time.
pub(crate) async fn make_witness(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    let table = "CREATE TABLE IF NOT EXISTS witnessed (nth bigserial, sequence bigint, product numeric(20))";
    for step in ["SELECT pg_advisory_lock(1)", table, "SELECT pg_advisory_unlock(1)"] {
        client.batch_execute(step).await?;
    }
    Ok(())
}

impl Effect for Witnessed {
    async fn prepare(&mut self, client: &tokio_postgres::Client) -> Result<(), EffectError> {
        make_witness(client).await?;
        self.orders.prepare(client).await
    }

    async fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[EventView],
    ) -> Result<(), EffectError> {
        self.orders.apply(transaction, events).await?;
        witness(transaction, events).await
    }
}

/// Writes events down, in their order.
pub(crate) async fn witness(transaction: &Transaction<'_>, events: &[EventView]) -> Result<(), EffectError> {
    let sequences: Vec<i64> = events.iter().map(|event| event.sequence as i64).collect();
    let products: Vec<String> = events.iter().map(|event| event.product.to_string()).collect();
    let insert = "INSERT INTO witnessed (sequence, product) SELECT s, p::numeric FROM \
                  unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS e(s, p, n) ORDER BY n";
    transaction.execute(insert, &[&sequences, &products]).await?;
    Ok(())
}

/// A hand-off at work.
pub(crate) struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Counts, HandOffError>>,
}

impl Working {
    pub(crate) fn start<E: Effect + 'static>(hand_off: HandOff<E>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let run = hand_off.run(async {
            let _ = stopped.await;
        });
        Self { stop, task: tokio::spawn(run) }
    }

    /// Ends it as it should be.
    pub(crate) async fn stop(self) -> Counts {
        // If it has ended before, it tells why.
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap()
    }

    /// Ends it as a crash would: without a word.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for what it ends of.
    pub(crate) async fn ends(self) -> HandOffError {
        let _stop = self.stop;
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it ends by itself");
        ended.unwrap().expect_err("it has a reason")
    }
}

/// Polls until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
