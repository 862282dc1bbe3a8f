//! Where a crowd buys: what it connects to, what is on sale there, and the audit of what was said.
//!
//! The same for one server and for a cluster. Deliberately not here: processes.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{Client, Product, ProductId, ReadFrom, Terms};
use sluice_engine::audit::{Account, Books, Findings, Promise, Witness, fetch};
use sluice_engine::child::cluster::last_words;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Crowd, Dice, PATIENCE};

/// How often books are looked at that still change.
const POLL: Duration = Duration::from_millis(20);

/// Holds that are shorter than this end while a test waits.
const SHORT_HOLD_MS: u32 = 10_000;

/// See the module.
pub struct Shop {
    pub seed: u64,
    pub dice: Dice,
    pub url: String,
    /// Where the servers say what happens to them.
    logs: Vec<PathBuf>,
    /// Of each, so many of the last lines are shown when something is wrong.
    lines: usize,
    products: Cell<u64>,
}

impl Shop {
    pub fn new(seed: u64, logs: Vec<PathBuf>, lines: usize) -> Self {
        Self { seed, dice: Dice::new(seed), url: String::new(), logs, lines, products: Cell::new(0) }
    }

    pub async fn client(&self) -> Client {
        self.client_reading(ReadFrom::Leader).await
    }

    async fn client_reading(&self, from: ReadFrom) -> Client {
        let builder = Client::builder().deadline(PATIENCE).resolve_budget(PATIENCE);
        builder
            .connections(2)
            .read_from(from)
            .connect(&self.url)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.words()))
    }

    /// What the servers said.
    pub fn words(&self) -> String {
        let words: Vec<String> = self.logs.iter().map(|log| last_words(log, self.lines)).collect();
        format!("seed {}\n{}", self.seed, words.join("\n\n"))
    }

    /// Waits for what must come, and fails with the servers' words if it does not.
    pub async fn wait<T>(&self, what: &str, coming: impl Future<Output = T>) -> T {
        match timeout(PATIENCE, coming).await {
            Ok(came) => came,
            Err(_) => panic!("waited in vain for {what}\n{}", self.words()),
        }
    }

    /// New products, and an account of them.
    pub async fn open_sale(&self, client: &Client, promises: &[Promise]) -> Rc<RefCell<Account>> {
        let mut account = Account::default();
        for promise in promises {
            self.products.set(self.products.get() + 1);
            let product = ProductId(self.products.get());
            let Promise { stock, per_user_limit, hold_ms } = *promise;
            let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit, hold_ms, unlimited: false };
            let put = client.put_product(product, stock, terms).await;
            let put = put.unwrap_or_else(|error| panic!("{error}\n{}", self.words()));
            assert!(put.is_done(), "{put:?}\n{}", self.words());
            account.product(product, *promise);
        }
        Rc::new(RefCell::new(account))
    }

    /// A sale with actors at work, who look at what any server shows.
    pub async fn under_load(&self, promises: &[Promise]) -> Load {
        let client = self.client_reading(ReadFrom::Any).await;
        let account = self.open_sale(&client, promises).await;
        let crowd = Crowd::new(self.dice.next(), Witness::new(client, Rc::clone(&account)));
        let actors = crowd.start();
        Load { account, crowd, actors }
    }

    /// Reads what became of everything in an account.
    pub async fn read_all(&self, account: &Rc<RefCell<Account>>) -> Books {
        let (ids, products) = (account.borrow().ids(), account.borrow().products());
        let books = fetch(&self.client().await, &ids, &products).await;
        books.unwrap_or_else(|error| panic!("{error}\n{}", self.words()))
    }

    /// The books when no short hold can end any more, and the last event there was then.
    pub async fn quiet_books(&self, client: &Client, account: &Rc<RefCell<Account>>) -> (Vec<Product>, u64) {
        let products = account.borrow().products();
        let quiet = async {
            loop {
                let before = client.stream_bounds().await.unwrap().last;
                let mut books = Vec::new();
                for product in &products {
                    books.extend(client.product(*product).await.unwrap());
                }
                let ends = |book: &Product| book.held > 0 && book.terms.hold_ms < SHORT_HOLD_MS;
                let last = client.stream_bounds().await.unwrap().last;
                if last == before && !books.iter().any(ends) {
                    return (books, last);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        self.wait("short holds to end", quiet).await
    }

    /// Reads what became of everything in an account, and fails with evidence if anything was contradicted.
    pub async fn audit(&self, account: &Rc<RefCell<Account>>) -> Findings {
        let books = self.read_all(account).await;
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
