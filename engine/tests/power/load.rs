//! Real clients at work: what the server is recorded doing.
//!
//! Each actor waits for an answer before it asks what depends on it, and remembers what it was told, so that the trace
//! can be held against it. Deliberately not here: the recording.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{Client, ReservationId, Reserve, State, StockChange, Terms};
use tokio::task::JoinSet;

use super::draw::Draw;

/// Products of every run. The last one has few units, so that it sells out.
pub const PRODUCTS: [(u64, u64); 3] = [(1, 1_000_000), (2, 50_000), (3, 12)];

/// Holds end long after the test. Every put raises it by one, which tells puts apart.
pub const HOLD_MS: u32 = 86_400_000;

const ACTORS: u64 = 5;

/// What one run of clients is to do.
#[derive(Clone, Debug)]
pub struct Load {
    pub seed: u64,
    /// Ids are this and the numbers behind it.
    pub ids_from: u128,
    /// Of each actor.
    pub orders: usize,
    /// Frames full of changed terms: they make the log grow and nothing else.
    pub puts: usize,
    /// The hold time of the first put.
    pub hold_ms_from: u32,
    /// Ids to read first: whoever reads them is told something too.
    pub ask: Vec<ReservationId>,
}

/// Outcomes that clients heard, and who wants to know how many there are.
#[derive(Clone)]
pub struct Heard {
    outcomes: Rc<RefCell<Vec<(ReservationId, State)>>>,
    tell: Rc<dyn Fn(usize)>,
}

impl Heard {
    pub fn new(tell: impl Fn(usize) + 'static) -> Self {
        Self { outcomes: Rc::default(), tell: Rc::new(tell) }
    }

    fn push(&self, id: ReservationId, state: State) {
        self.outcomes.borrow_mut().push((id, state));
        (self.tell)(self.outcomes.borrow().len());
    }

    pub fn take(&self) -> Vec<(ReservationId, State)> {
        self.outcomes.take()
    }
}

#[derive(Clone)]
struct Actor {
    client: Client,
    heard: Heard,
    draw: Draw,
    next_id: u128,
}

fn terms(hold_ms: u32) -> Terms {
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms, unlimited: false }
}

/// Works until all is done, or the server is gone.
pub async fn run(url: &str, load: &Load, heard: &Heard) {
    let client = Client::builder()
        .connections(2)
        .deadline(Duration::from_secs(20))
        .resolve_budget(Duration::from_millis(1))
        .connect(url)
        .await
        .unwrap();
    for (number, (product, stock)) in (0..).zip(PRODUCTS) {
        let hold_ms = load.hold_ms_from + number;
        if client.put_product(product, stock, terms(hold_ms)).await.is_err() {
            return;
        }
    }
    for id in &load.ask {
        let _ = client.reservation(*id).await;
    }
    let actor = Actor { client, heard: heard.clone(), draw: Draw::new(load.seed), next_id: load.ids_from };
    let mut actors = JoinSet::new();
    for number in 0..ACTORS {
        let mut actor = actor.clone();
        actor.draw = Draw::new(load.seed + number);
        actor.next_id += u128::from(number) << 32;
        let orders = load.orders;
        actors.spawn_local(async move {
            while actor.next_id as u32 as usize <= orders && actor.order().await.is_some() {}
        });
    }
    let (puts, from) = (load.puts, load.hold_ms_from + PRODUCTS.len() as u32);
    actors.spawn_local(async move { actor.put(puts, from).await });
    while let Some(actor) = actors.join_next().await {
        actor.unwrap();
    }
}

impl Actor {
    /// One order to its end; `None` if the server is gone.
    async fn order(&mut self) -> Option<()> {
        self.next_id += 1;
        let id = ReservationId(self.next_id);
        let (product, _) = PRODUCTS[self.draw.below(PRODUCTS.len())];
        let quantity = 1 + self.draw.below(3) as u32;
        if self.draw.below(8) == 0 {
            return self.change_stock(id, product, quantity).await;
        }
        let order = Reserve::new(product, self.draw.next() % 1000, quantity).fresh_id(id);
        if !self.client.reserve_with(order).await.ok()?.is_reserved() {
            return Some(());
        }
        let state = match self.draw.below(3) {
            0 => State::Held,
            1 => self.client.confirm(id).await.ok()?.is_confirmed().then_some(State::Confirmed)?,
            _ => {
                let _ = self.client.cancel(id, 17).await.ok()?;
                State::Cancelled
            }
        };
        self.heard.push(id, state);
        Some(())
    }

    async fn change_stock(&mut self, id: ReservationId, product: u64, quantity: u32) -> Option<()> {
        let change = StockChange::new(product, quantity).fresh_id(id);
        let outcome = match self.draw.below(2) {
            0 => self.client.restock_with(change).await,
            _ => self.client.write_off_with(change).await,
        };
        if outcome.ok()?.is_done() {
            self.heard.push(id, State::Applied);
        }
        Some(())
    }

    /// Changes terms by whole frames.
    async fn put(&self, frames: usize, mut hold_ms: u32) {
        const ITEMS: u32 = 900;
        for _ in 0..frames {
            let mut puts = JoinSet::new();
            for _ in 0..ITEMS {
                hold_ms += 1;
                let client = self.client.clone();
                puts.spawn_local(async move { client.change_terms(1, terms(hold_ms)).await.is_ok() });
            }
            while let Some(done) = puts.join_next().await {
                if !done.unwrap() {
                    return;
                }
            }
        }
    }
}
