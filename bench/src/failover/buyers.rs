//! A steady crowd on a thread of its own: calls of the client crate that are due at a rate, each on record.
//!
//! A call that is in doubt is resolved until it is known what became of it. Deliberately not here: who is killed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_client::{Client, ProductId, Terms, UserId};
use sluice_engine::audit::{Account, Promise, Said, Ticket, Witness, fetch};
use tokio::task::{LocalSet, spawn_local};

use crate::error::BenchError;
use crate::workload::{HOLD, PLENTY};

/// What they buy. The probes' products are others.
const PRODUCT: ProductId = ProductId(1);

/// How often calls that are due are made. A kill is not noticed sooner than this.
const TURN: Duration = Duration::from_millis(1);

/// Calls under way at a time: beyond it what is due is not made, and counted.
const CALLS_MAX: usize = 200_000;

/// The part of the rate that comes when few do.
const CALM_SHARE: f64 = 0.1;

/// How long a call may take: longer than any failover that would pass.
const DEADLINE: Duration = Duration::from_secs(10);

/// Connections of the client.
const CONNECTIONS: usize = 2;

/// What the audit found.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Ids that were used.
    pub ids: usize,
    /// Answers that were given.
    pub answers: usize,
    /// Answers that are not so.
    pub contradicted: usize,
    /// The first of them.
    pub contradictions: Vec<String>,
    /// Calls that ended with the word that nothing was done.
    pub nothing_done: u64,
    /// Calls that were due when too many were under way.
    pub unsent: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Buyers {
    shared: Arc<Shared>,
    heard: Receiver<Instant>,
    thread: JoinHandle<Result<Verdict, BenchError>>,
}

/// What the two threads know of each other.
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Only a few come.
    calm: AtomicBool,
    /// The next yes to a call that was made since then is to be told.
    since: Mutex<Option<Instant>>,
}

impl Buyers {
    /// Puts a product on sale and begins to buy.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn start(url: &str, rate: f64) -> Result<Self, BenchError> {
        let (shared, url) = (Arc::new(Shared::default()), url.to_owned());
        let (tell, heard) = channel();
        let (ready, is_ready) = channel();
        let theirs = Arc::clone(&shared);
        let run = move || buy(&url, rate, theirs, tell, &ready);
        let thread = std::thread::Builder::new().name("buyers".to_owned()).spawn(run);
        let thread = thread.map_err(BenchError::io("starting a thread"))?;
        match is_ready.recv() {
            Ok(()) => Ok(Self { shared, heard, thread }),
            // It has gone without a word to us: its result says why.
            Err(_) => Err(thread.join().expect("buyers do not panic").expect_err("it ended before it began")),
        }
    }

    /// Waits for the first reservation that was asked for since then; when it was granted.
    pub fn first_since(&self, since: Instant, patience: Duration) -> Option<Instant> {
        *self.shared.since.lock().expect("nobody panics with it") = Some(since);
        self.heard.recv_timeout(patience).ok()
    }

    /// Lets few come until it is said otherwise. They would make so many records meanwhile that in the end it is these
    /// which are measured.
    pub fn calm(&self, calm: bool) {
        self.shared.calm.store(calm, Ordering::Relaxed);
    }

    /// Ends the load, waits for all answers, and holds them against the books.
    ///
    /// # Errors
    /// If the books cannot be read.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(self) -> Result<Verdict, BenchError> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("buyers do not panic")
    }
}

/// What the calls share.
struct Crowd {
    witness: Witness,
    shared: Arc<Shared>,
    tell: Sender<Instant>,
    under_way: Cell<usize>,
    nothing_done: Cell<u64>,
}

fn buy(
    url: &str,
    rate: f64,
    shared: Arc<Shared>,
    tell: Sender<Instant>,
    ready: &Sender<()>,
) -> Result<Verdict, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::io("starting a runtime"))?;
    LocalSet::new().block_on(&runtime, async {
        let builder = Client::builder().name("sluice-bench").connections(CONNECTIONS);
        let client = builder.deadline(DEADLINE).resolve_budget(DEADLINE).connect(url).await?;
        let account = Rc::new(RefCell::new(Account::default()));
        put_on_sale(&client, &account).await?;
        let witness = Witness::new(client.clone(), Rc::clone(&account));
        let (under_way, nothing_done) = (Cell::new(0), Cell::new(0));
        let crowd = Rc::new(Crowd { witness, shared, tell, under_way, nothing_done });
        // Whoever started this has gone if nobody hears.
        let _ = ready.send(());
        let unsent = calls(&crowd, rate).await;
        let (ids, products) = (account.borrow().ids(), account.borrow().products());
        let books = fetch(&client, &ids, &products).await?;
        let findings = account.borrow_mut().judge(&books);
        Ok(Verdict {
            ids: findings.ids,
            answers: findings.answers,
            contradicted: findings.contradicted,
            contradictions: findings.kept.iter().map(ToString::to_string).collect(),
            nothing_done: crowd.nothing_done.get(),
            unsent,
        })
    })
}

async fn put_on_sale(client: &Client, account: &Rc<RefCell<Account>>) -> Result<(), BenchError> {
    let hold_ms = HOLD.as_millis() as u32;
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 1, hold_ms, unlimited: false };
    let put = client.put_product(PRODUCT, PLENTY, terms).await?;
    if !put.is_done() {
        return Err(BenchError::Protocol(format!("the product was refused: {put:?}")));
    }
    account.borrow_mut().product(PRODUCT, Promise { stock: PLENTY, per_user_limit: 1, hold_ms });
    Ok(())
}

/// Makes calls when they are due until the load is over and all have ended; how many were not made.
async fn calls(crowd: &Rc<Crowd>, rate: f64) -> u64 {
    let (mut last, mut due, mut user, mut unsent) = (Instant::now(), 0.0, 0, 0);
    let mut turn = tokio::time::interval(TURN);
    while !crowd.shared.over.load(Ordering::Relaxed) || crowd.under_way.get() > 0 {
        turn.tick().await;
        if crowd.shared.over.load(Ordering::Relaxed) {
            continue;
        }
        let (now, calm) = (Instant::now(), crowd.shared.calm.load(Ordering::Relaxed));
        due += now.duration_since(last).as_secs_f64() * if calm { rate * CALM_SHARE } else { rate };
        last = now;
        while due >= 1.0 {
            (due, user) = (due - 1.0, user + 1);
            if crowd.under_way.get() >= CALLS_MAX {
                unsent += 1;
                continue;
            }
            crowd.under_way.set(crowd.under_way.get() + 1);
            spawn_local(call(Rc::clone(crowd), UserId(user)));
        }
    }
    unsent
}

async fn call(crowd: Rc<Crowd>, user: UserId) {
    let witness = &crowd.witness;
    let ticket = witness.order(PRODUCT, user, 1);
    let asked = Instant::now();
    match witness.reserve(ticket).await {
        Some(said) if said.is_held() => crowd.shared.granted(asked, &crowd.tell),
        Some(Said::Nothing) => crowd.nothing_done.set(crowd.nothing_done.get() + 1),
        Some(_) => {}
        None => known(witness, ticket).await,
    }
    crowd.under_way.set(crowd.under_way.get() - 1);
}

/// Asks until it is known what became of an id.
async fn known(witness: &Witness, ticket: Ticket) {
    while witness.resolve(ticket).await.is_none() {}
}

impl Shared {
    /// Tells of a yes if it is the one that is waited for.
    fn granted(&self, asked: Instant, tell: &Sender<Instant>) {
        let mut since = self.since.lock().expect("nobody panics with it");
        if since.is_some_and(|since| asked >= since) {
            *since = None;
            // Whoever waited may have given up.
            let _ = tell.send(Instant::now());
        }
    }
}
