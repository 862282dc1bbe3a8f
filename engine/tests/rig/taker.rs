//! An order system that takes events by a group and keeps them, and one that only looks; and what must be true of what they
//! have: dense, in the order of each product, each the same whenever it comes, and in agreement with the books.
//!
//! Deliberately not here: servers, and what happens to them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use sluice_client::{Client, Consume, Consumed, EventKind, EventView, Product, ProductId, ReservationId};
use sluice_engine::datadir::DataDir;
use sluice_engine::stream::{Options, READ_MAX, Store};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

/// What somebody has of the stream, by sequence.
pub type Taken = BTreeMap<u64, EventView>;

/// A member of a group that acknowledges whatever it gets.
pub struct Taker {
    kept: Rc<Kept>,
    task: JoinHandle<()>,
}

/// What it has.
#[derive(Default)]
struct Kept {
    taken: RefCell<Taken>,
    /// How many deliveries came a second time.
    repeated: Cell<u64>,
    gaps: RefCell<Vec<(u64, u64)>>,
    changed: Notify,
    stopping: Notify,
    /// The last sequence of each product that came since it was last opened.
    last: RefCell<HashMap<ProductId, u64>>,
}

impl Taker {
    /// Joins, and takes until it is told to stop.
    pub async fn start(consume: Consume) -> Self {
        let consumer = consume.open().await.unwrap();
        let kept = Rc::new(Kept::default());
        let own = Rc::clone(&kept);
        let task = spawn_local(async move {
            let mut consumer = consumer;
            loop {
                let next = tokio::select! {
                    next = consumer.next() => next,
                    () = own.stopping.notified() => break,
                };
                own.keep(next.unwrap());
            }
            consumer.close().await.unwrap();
        });
        Self { kept, task }
    }

    /// Waits until it has everything up to a sequence, or has heard that it is lost.
    pub async fn has_upto(&self, sequence: u64) {
        while self.kept.taken.borrow().last_key_value().is_none_or(|(last, _)| *last < sequence) {
            self.kept.changed.notified().await;
        }
    }

    /// How many deliveries came again.
    pub fn repeated(&self) -> u64 {
        self.kept.repeated.get()
    }

    /// What it heard of what is lost.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        self.kept.gaps.borrow().clone()
    }

    /// Whether it has all from the first on, up to wherever it is.
    pub fn is_dense(&self) -> bool {
        self.kept.taken.borrow().keys().copied().eq(1..=self.last())
    }

    /// The last sequence it has.
    pub fn last(&self) -> u64 {
        self.kept.taken.borrow().last_key_value().map_or(0, |(last, _)| *last)
    }

    /// Leaves, and returns what it has.
    pub async fn stop(self) -> Taken {
        self.kept.stopping.notify_one();
        self.task.await.unwrap();
        self.kept.taken.take()
    }
}

impl Kept {
    fn keep(&self, consumed: Result<Consumed, sluice_client::ConsumeError>) {
        match consumed {
            Ok(Consumed::Event(delivery)) => {
                let event = *delivery.event();
                self.in_order(&event);
                match self.taken.borrow_mut().insert(event.sequence, event) {
                    None => {}
                    Some(before) => {
                        assert_eq!(before, event, "an event changed");
                        self.repeated.set(self.repeated.get() + 1);
                    }
                }
                // What was taken away meanwhile comes again.
                let _ = delivery.ack();
            }
            Ok(Consumed::Gap { from, to }) => self.gaps.borrow_mut().push((from, to)),
            Ok(other) => panic!("nothing was given up: {other:?}"),
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
        self.changed.notify_one();
    }

    /// Within a product nothing comes before what was delivered already, unless it is delivered again.
    fn in_order(&self, event: &EventView) {
        let mut last = self.last.borrow_mut();
        let before = last.insert(event.product, event.sequence).unwrap_or(0);
        let is_again = self.taken.borrow().contains_key(&event.sequence);
        assert!(event.sequence > before || is_again, "{} came behind {before}", event.sequence);
    }
}

/// Everything there is up to a sequence, by consuming it under a group that is made for that.
pub async fn taken_by_another(client: &Client, name: &str, upto: u64) -> Taken {
    let taker = Taker::start(client.consume(name)).await;
    taker.has_upto(upto).await;
    assert_eq!(taker.gaps(), []);
    taker.stop().await
}

/// The last sequence there is.
pub async fn last_sequence(client: &Client) -> u64 {
    client.stream_bounds().await.unwrap().last
}

/// What a node that does not run has in its files, whole or in pieces.
pub fn in_files(data: &Path) -> Taken {
    let copy = tempfile::tempdir().unwrap();
    super::copy_dir(&data.join("events"), &copy.path().join("events"));
    let options = Options { retain: std::time::Duration::MAX, retain_bytes: u64::MAX };
    let store = Store::open(copy.path(), cluster_of(data), u64::MAX / 2, options).unwrap();
    let mut reader = store.reader();
    let mut taken = Taken::new();
    let mut from = reader.first();
    let missing = reader.missing();
    loop {
        match reader.read(from, READ_MAX) {
            Ok(events) if events.is_empty() => return taken,
            Ok(events) => {
                from += events.len() as u64;
                taken.extend(events.iter().map(|event| (event.sequence(), event.view().unwrap())));
            }
            Err(error) => match missing.iter().find(|missing| (missing.from..=missing.to).contains(&from)) {
                Some(missing) if missing.to < u64::MAX / 2 => from = missing.to + 1,
                Some(_) => return taken,
                None => panic!("{error}"),
            },
        }
    }
}

/// Which cluster a node belongs to: its first file of events says so.
fn cluster_of(data: &Path) -> sluice_client::ClusterId {
    let dir = DataDir::open(data).unwrap();
    dir.identity().unwrap().cluster
}

/// That there is every sequence up to the last, and what they tell adds up to what the servers' books say.
pub fn agrees_with_books(taken: &Taken, last: u64, books: &[Product]) {
    let sequences: Vec<u64> = taken.keys().copied().collect();
    let wanted: Vec<u64> = (1..=last).collect();
    assert!(sequences == wanted, "not dense: {} of {last}", sequences.len());
    let mut products: HashMap<ProductId, [i64; 3]> = HashMap::new();
    let mut held: HashMap<ReservationId, bool> = HashMap::new();
    for event in taken.values() {
        let [free, holds, sold] = products.entry(event.product).or_default();
        let units = i64::try_from(event.quantity).unwrap();
        match event.kind {
            EventKind::Reserved => {
                assert!(held.insert(event.id, true).is_none(), "{event:?} is not the first of its id");
                (*free, *holds) = (*free - units, *holds + units);
            }
            EventKind::Confirmed => {
                let was_held = held.insert(event.id, false) == Some(true);
                *(if was_held { &mut *holds } else { &mut *free }) -= units;
                *sold += units;
            }
            EventKind::Cancelled | EventKind::Expired => {
                assert_eq!(held.insert(event.id, false), Some(true), "{event:?} was not held");
                (*free, *holds) = (*free + units, *holds - units);
            }
            EventKind::Restocked => *free += units,
            EventKind::WrittenOff => *free -= units,
            EventKind::TermsChanged | EventKind::Sealed => {}
        }
        assert!(*free >= 0 && *holds >= 0, "{event:?} takes what is not there");
    }
    for book in books {
        let told = products[&book.product].map(|units| u64::try_from(units).unwrap());
        assert_eq!(told, [book.free, book.held, book.sold], "product {}", book.product);
    }
}
