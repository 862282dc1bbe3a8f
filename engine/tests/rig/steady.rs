//! Callers who are used to being answered: each of their calls must get its outcome in the time that it has.
//!
//! All of it is on record, for the audit. Deliberately not here: calls that are dropped or repeated ([`super::crowd`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{Client, ProductId, UserId};
use sluice_engine::audit::{Account, Promise, Said, Ticket, Witness};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use super::{Dice, Shop};

/// Who call at the same time.
const CALLERS: u64 = 24;

/// What a call has. Whoever is elected must be found within it.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Limits are reached, and one product sells out.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
    Promise { stock: 1_000_000, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 50, per_user_limit: 0, hold_ms: 200 },
];

const USERS: u64 = 300;

/// See the module.
pub struct Steady {
    dice: Dice,
    witness: Witness,
    products: Vec<ProductId>,
    /// Calls that got no outcome.
    failed: RefCell<Vec<&'static str>>,
    stopping: Cell<bool>,
    answered: Notify,
}

/// Callers at work.
pub struct Callers {
    pub steady: Rc<Steady>,
    pub account: Rc<RefCell<Account>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    pub async fn start(shop: &Shop) -> Self {
        let builder = Client::builder().deadline(DEADLINE).connections(2);
        let client = builder.connect(&shop.url).await.unwrap();
        let account = shop.open_sale(&client, &PRODUCTS).await;
        let steady = Rc::new(Steady {
            dice: Dice::new(shop.dice.next()),
            witness: Witness::new(client, Rc::clone(&account)),
            products: account.borrow().products(),
            failed: RefCell::default(),
            stopping: Cell::new(false),
            answered: Notify::new(),
        });
        let call = |_| {
            let steady = Rc::clone(&steady);
            spawn_local(async move {
                while !steady.stopping.get() {
                    steady.call().await;
                    steady.answered.notify_one();
                }
            })
        };
        Self { tasks: (0..CALLERS).map(call).collect(), steady, account }
    }

    /// Waits until so many more answers were given.
    pub async fn answers(&self, more: usize) {
        let wanted = self.account.borrow().answers() + more;
        while self.account.borrow().answers() < wanted {
            self.steady.answered.notified().await;
        }
    }

    /// Lets everybody finish, and fails if any call failed.
    pub async fn finish(self, shop: &Shop) -> Rc<RefCell<Account>> {
        self.steady.stopping.set(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        let failed = self.steady.failed.borrow();
        assert!(failed.is_empty(), "{} calls failed: {failed:?}\n{}", failed.len(), shop.words());
        self.account
    }
}

impl Steady {
    async fn call(&self) {
        let product = self.products[self.dice.below(self.products.len() as u64) as usize];
        let user = UserId(1 + self.dice.below(USERS));
        let ticket = self.witness.order(product, user, 1 + self.dice.below(3) as u32);
        let said = self.witness.reserve(ticket).await;
        self.note("reserve", said);
        if said.is_some_and(Said::is_held) {
            self.decide(ticket).await;
        }
        if self.dice.below(8) == 0 {
            let read = self.witness.client().product(product).await;
            if !matches!(read, Ok(Some(_))) {
                self.failed.borrow_mut().push("product");
            }
        }
        if self.dice.below(16) == 0 {
            let (_, said) = self.witness.restock(product, 1).await;
            self.note("restock", said);
        }
    }

    async fn decide(&self, ticket: Ticket) {
        match self.dice.below(3) {
            0 => self.note("confirm", self.witness.confirm(ticket).await),
            1 => self.note("cancel", self.witness.cancel(ticket, 1).await),
            _ => {}
        }
    }

    fn note(&self, call: &'static str, said: Option<Said>) {
        if matches!(said, None | Some(Said::Nothing | Said::Dead)) {
            self.failed.borrow_mut().push(call);
        }
    }
}
