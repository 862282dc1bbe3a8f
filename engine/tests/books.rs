//! Books of a real server, as of every sequence that there ever was, against its events folded from the first on; across
//! restarts, snapshots, and events that are there no more.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_client::books::bytes::{self, Heading};
use sluice_client::books::{Entry, ProductSums, Sums};
use sluice_client::{
    Client, ConfirmOutcome, EventKind, EventView, ProductId, ReservationId, Start, State, Tailed, Terms,
    fresh_id,
};
use sluice_engine::config::{Config, ConfigArgs};
use sluice_engine::node::Node;
use sluice_engine::ops::fetch;

/// Longer than any of these tests needs: it only ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };

fn start(dir: &Path, settings: &[(&str, &str)]) -> Node {
    let args = ConfigArgs::default()
        .with("node.data", dir.join("data").display())
        .with("node.listen", "127.0.0.1:0")
        .with("ops.listen", "127.0.0.1:0")
        .with("log.disk_free_min", "0");
    let args = settings.iter().fold(args, |args, (key, value)| args.with(key, value));
    Node::start(&Config::load(&args).unwrap()).unwrap()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn ops(node: &Node) -> String {
    node.ops_address().to_string()
}

/// What the port answers: the status, and all of the body.
fn ask(ops: &str, path: &str) -> (u16, Vec<u8>) {
    let (status, mut answer) = fetch::open(ops, path, PATIENCE, PATIENCE).unwrap();
    let mut body = Vec::new();
    answer.read_to_end(&mut body).unwrap();
    (status, body)
}

fn refusal(ops: &str, path: &str) -> (u16, Value) {
    let (status, body) = ask(ops, path);
    (status, serde_json::from_slice(&body).unwrap())
}

fn books(ops: &str, at: u64) -> (Heading, Sums, BTreeMap<u128, Entry>) {
    let (status, body) = ask(ops, &format!("/books?at={at}"));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let mut entries = BTreeMap::new();
    let (heading, sums) = bytes::read(&body[..], |entry| {
        assert_eq!(entries.insert(entry.id.0, entry), None, "a reservation comes once");
    })
    .unwrap();
    (heading, sums, entries)
}

/// A history with everything that makes an event, some of it in one entry of the log.
async fn sell(client: &Client) {
    for product in 1..=3_u64 {
        let unlimited = product == 3;
        let stock = if unlimited { 0 } else { 100 };
        assert!(client.put_product(product, stock, Terms { unlimited, ..TERMS }).await.unwrap().is_done());
    }
    assert!(client.restock(1_u64, 7).await.unwrap().is_done());
    assert!(client.write_off(2_u64, 3).await.unwrap().is_done());
    // Frames of several reservations: several events of one log index.
    let ids: Vec<_> = (0..24).map(|_| fresh_id()).collect();
    let orders = ids.iter().enumerate().map(|(at, id)| {
        let (product, user) = (1 + at as u64 % 3, at as u64 % 5);
        client.reserve_with(sluice_client::Reserve::new(product, user, 1 + at as u32 % 3).id(*id))
    });
    for outcome in join(orders.collect()).await {
        assert!(outcome.unwrap().is_reserved());
    }
    for (at, id) in ids.iter().enumerate() {
        match at % 4 {
            0 => assert!(client.confirm(*id).await.unwrap().is_confirmed()),
            1 => assert!(client.cancel(*id, at as u32).await.unwrap().is_released()),
            _ => {}
        }
    }
    assert!(client.change_terms(1_u64, Terms { per_user_limit: 50, ..TERMS }).await.unwrap().is_done());
    assert!(client.seal(2_u64).await.unwrap().is_sealed());
}

/// A hold that expires, and is paid too late: its units are taken from what is free.
async fn pay_late(client: &Client, product: u64) -> ReservationId {
    let short = Terms { hold_ms: 1, ..TERMS };
    assert!(client.put_product(product, 10, short).await.unwrap().is_done());
    let id = fresh_id();
    let order = sluice_client::Reserve::new(product, 1_u64, 2).id(id);
    assert!(client.reserve_with(order).await.unwrap().is_reserved());
    until_some(async || {
        let read = client.reservation(id).await.unwrap()?;
        (read.state == State::Expired && read.sequence > 0).then_some(())
    })
    .await;
    assert!(matches!(client.confirm(id).await.unwrap(), ConfirmOutcome::Confirmed { .. }));
    id
}

async fn until_some<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came");
        tokio::task::yield_now().await;
    }
}

async fn join<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    // All are polled before one is awaited, so that they share a frame.
    let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, done) in calls.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = call.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn all_events(client: &Client) -> Vec<EventView> {
    let last = client.stream_bounds().await.unwrap().last;
    let mut tail = client.tail(Start::After(0)).await.unwrap();
    let mut events = Vec::new();
    while tail.after() < last {
        match tail.next(PATIENCE).await.unwrap() {
            Tailed::Events(more) => events.extend(more),
            Tailed::Gap { from, to } => panic!("{from} to {to} are gone"),
        }
    }
    events
}

/// Books kept with a pencil: what they are after these events.
#[derive(Default)]
struct Pencil {
    products: BTreeMap<u64, ProductSums>,
    entries: BTreeMap<u128, Entry>,
}

impl Pencil {
    fn note(&mut self, event: &EventView) {
        let product = self.products.entry(event.product.0).or_default();
        product.product = event.product;
        let limited = event.product != ProductId(3);
        let units = event.quantity;
        let state = match event.kind {
            EventKind::Restocked => {
                product.stock += units;
                product.free += units;
                return;
            }
            EventKind::WrittenOff => {
                product.stock -= units;
                product.free -= units;
                return;
            }
            EventKind::TermsChanged | EventKind::Sealed => return,
            EventKind::Reserved => State::Held,
            EventKind::Confirmed => State::Confirmed,
            EventKind::Cancelled => State::Cancelled,
            EventKind::Expired => State::Expired,
        };
        let was = self.entries.get(&event.id.0).copied();
        if let Some(was) = was {
            product.hash = product.hash.wrapping_sub(was.share());
        }
        match was.map(|was| was.state) {
            Some(State::Held) => product.held -= units,
            _ if limited => product.free -= units,
            _ => {}
        }
        match state {
            State::Held => product.held += units,
            State::Confirmed => product.sold += units,
            _ if limited => product.free += units,
            _ => {}
        }
        let detail = match state {
            State::Held | State::Cancelled => event.detail,
            State::Confirmed => event.time_ms,
            _ => 0,
        };
        let entry = Entry {
            id: event.id,
            product: event.product,
            user: event.user,
            quantity: units as u32,
            state,
            sequence: event.sequence,
            detail,
        };
        product.hash = product.hash.wrapping_add(entry.share());
        self.entries.insert(event.id.0, entry);
    }

    fn sums(&self) -> Sums {
        let live = self.entries.values().filter(|entry| entry.is_live()).count() as u64;
        Sums { live, products: self.products.values().copied().collect() }
    }
}

/// Asks for the books as of every sequence from `from` on, and compares. What ended before a snapshot may be forgotten.
fn check(ops: &str, events: &[EventView], from: u64, forgotten: &[ReservationId]) {
    let mut pencil = Pencil::default();
    for at in 0..=events.len() as u64 {
        if at > 0 {
            pencil.note(&events[at as usize - 1]);
        }
        if at < from {
            continue;
        }
        let (heading, sums, entries) = books(ops, at);
        assert_eq!(heading.sequence, at);
        let event = at.checked_sub(1).map(|at| &events[at as usize]);
        if let Some(event) = event.filter(|_| heading.index != 0) {
            assert_eq!((heading.index, heading.time_ms), (event.index, event.time_ms));
        }
        assert_eq!(sums, pencil.sums(), "as of {at}");
        let live = |all: &BTreeMap<u128, Entry>| -> Vec<Entry> {
            all.values().filter(|entry| entry.is_live()).copied().collect()
        };
        assert_eq!(live(&entries), live(&pencil.entries), "as of {at}");
        for (id, entry) in &pencil.entries {
            let told = entries.get(id);
            let is_forgotten = told.is_none() && forgotten.contains(&entry.id) && !entry.is_live();
            assert!(told == Some(entry) || is_forgotten, "as of {at}: {entry:?}, told {told:?}");
        }
        let (status, digest) = refusal(ops, &format!("/digest?at={at}"));
        assert_eq!((status, &digest["hash"]), (200, &Value::from(format!("{:032x}", sums.hash()))));
    }
}

#[test]
fn books_as_of_any_sequence_are_the_fold_of_the_events_before_it_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path(), &[]);
    let first = run(async {
        let client = Client::connect(&format!("sluice://{}", node.address())).await.unwrap();
        sell(&client).await;
        pay_late(&client, 4).await;
        all_events(&client).await
    });
    assert!(first.windows(2).any(|pair| pair[0].index == pair[1].index), "no entry made two events");
    check(&ops(&node), &first, 0, &[]);

    // A snapshot in the midst: what is before it comes from events, what is behind it begins with the snapshot.
    node.stop();
    node = start(dir.path(), &[]);
    let all = run(async {
        let client = Client::connect(&format!("sluice://{}", node.address())).await.unwrap();
        pay_late(&client, 5).await;
        for _ in 0..10 {
            let outcome = client.reserve(1_u64, 9_u64, 1).await.unwrap();
            assert!(outcome.is_reserved());
        }
        all_events(&client).await
    });
    assert_eq!(all[..first.len()], first[..], "history does not change");
    check(&ops(&node), &all, 0, &[]);
    node.stop();
}

#[test]
fn what_events_cannot_tell_any_more_is_refused_with_the_lowest_sequence_that_can_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), &[]);
    let connect = async |node: &Node| Client::connect(&format!("sluice://{}", node.address())).await.unwrap();
    let first = run(async {
        let client = connect(&node).await;
        sell(&client).await;
        all_events(&client).await
    });
    node.stop();
    for file in events_in(dir.path()) {
        std::fs::remove_file(file).unwrap();
    }
    let node = start(dir.path(), &[]);
    let snapshot = first.len() as u64;
    let more = run(async {
        let client = connect(&node).await;
        for _ in 0..5 {
            assert!(client.reserve(1_u64, 9_u64, 1).await.unwrap().is_reserved());
        }
        client.stream_bounds().await.unwrap().last
    });
    assert_eq!(more, snapshot + 5);
    // Before the first event there is nothing to be known.
    assert_eq!(books(&ops(&node), 0).1, Sums::default());
    for at in [1, snapshot - 1] {
        let (status, body) = refusal(&ops(&node), &format!("/books?at={at}"));
        assert_eq!((status, &body["code"]), (410, &"forgotten".into()), "{body}");
        assert_eq!(body["lowest"], snapshot, "{body}");
    }
    for at in snapshot..=more {
        assert_eq!(books(&ops(&node), at).0.sequence, at);
    }
    node.stop();
}

fn events_in(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("data/events")).unwrap().map(|item| item.unwrap().path());
    files.collect()
}

#[test]
fn a_sequence_that_has_not_come_is_waited_for_and_then_the_node_says_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Who asks for something that takes longer is given longer than others.
    let node = start(dir.path(), &[("ops.request_timeout", "100ms")]);
    let address = ops(&node);
    let (status, body) = refusal(&address, "/digest?at=3&wait_ms=300");
    assert_eq!((status, &body["code"], &body["here"]), (503, &"behind".into(), &0.into()), "{body}");
    let waiting = std::thread::spawn({
        let address = address.clone();
        move || ask(&address, "/digest?at=3&wait_ms=60000")
    });
    run(async {
        let client = Client::connect(&format!("sluice://{}", node.address())).await.unwrap();
        assert!(client.put_product(1_u64, 5, TERMS).await.unwrap().is_done());
        for user in 1..=2_u64 {
            assert!(client.reserve(1_u64, user, 2).await.unwrap().is_reserved());
        }
    });
    let (status, body) = waiting.join().unwrap();
    let digest: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &digest["sequence"], &digest["totals"]["held"]), (200, &3.into(), &2.into()));
    node.stop();
}

#[test]
fn one_is_told_at_a_time_and_whoever_goes_away_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), &[]);
    let address = ops(&node);
    let waiting = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut &waiting, b"GET /books?at=99&wait_ms=600000 HTTP/1.0\r\n\r\n").unwrap();
    let began = Instant::now();
    while ask(&address, "/digest").0 != 503 {
        assert!(began.elapsed() < PATIENCE, "the place was never taken");
    }
    assert_eq!(fetch::get(&address, "/healthz", PATIENCE).unwrap().0, 200, "health is told meanwhile");
    drop(waiting);
    while ask(&address, "/digest").0 != 200 {
        assert!(began.elapsed() < PATIENCE, "the place was never given back");
    }
    // A node that is stopped does not wait for who waits.
    let waiting = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut &waiting, b"GET /books?at=99&wait_ms=600000 HTTP/1.0\r\n\r\n").unwrap();
    while ask(&address, "/digest").0 != 503 {
        assert!(began.elapsed() < PATIENCE, "the place was never taken");
    }
    node.stop();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), &[]);
    for path in ["/books?at=x", "/digest?at=-1", "/books?product=1", "/digest?since=3"] {
        assert_eq!(refusal(&ops(&node), path).0, 400, "{path}");
    }
    node.stop();
}
