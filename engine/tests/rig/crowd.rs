//! Buyers and stock keepers who do everything that can be done, at random, until they are told to stop or are
//! cut off. All of it is on record.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sluice_client::{ProductId, UserId};
use sluice_engine::audit::{Said, Ticket, Witness};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

/// Who act at the same time.
const ACTORS: u64 = 48;

/// Orders in one row at most.
const ROW_MAX: u64 = 64;

/// Users, few, so that limits are reached.
const USERS: u64 = 400;

/// How long an impatient buyer waits at most, microseconds.
const IMPATIENCE_US_MAX: u64 = 3_000;

const REASON: u32 = 4;

/// Random numbers (SplitMix64), the same for the same seed.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    pub fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let value = self.0.get();
        let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// See the module.
pub struct Crowd {
    dice: Dice,
    witness: Witness,
    products: Vec<ProductId>,
    /// Ids that were used, to be used again.
    used: RefCell<Vec<Ticket>>,
    stopping: Cell<bool>,
    /// Told when so many answers were given.
    mark: Cell<usize>,
    marked: Notify,
}

impl Crowd {
    pub fn new(seed: u64, witness: Witness) -> Rc<Self> {
        let products = witness.account().products();
        Rc::new(Self {
            dice: Dice::new(seed),
            witness,
            products,
            used: RefCell::default(),
            stopping: Cell::new(false),
            mark: Cell::new(usize::MAX),
            marked: Notify::new(),
        })
    }

    pub fn start(self: &Rc<Self>) -> Vec<JoinHandle<()>> {
        let act = |_| {
            let crowd = Rc::clone(self);
            spawn_local(async move {
                while !crowd.stopping.get() {
                    crowd.act().await;
                    if crowd.witness.account().answers() >= crowd.mark.get() {
                        crowd.marked.notify_one();
                    }
                }
            })
        };
        (0..ACTORS).map(act).collect()
    }

    /// Waits until so many more answers were given.
    pub async fn answers(&self, more: usize) {
        let wanted = self.witness.account().answers() + more;
        self.mark.set(wanted);
        // Somebody may have told of an earlier mark when nobody waited any more.
        while self.witness.account().answers() < wanted {
            self.marked.notified().await;
        }
    }

    pub fn stop(&self) {
        self.stopping.set(true);
    }

    async fn act(&self) {
        match self.dice.below(100) {
            0..5 => self.look().await,
            5..45 => self.buy().await,
            45..60 => self.buy_many().await,
            60..70 => self.lose_patience().await,
            70..80 => self.come_again().await,
            80..90 => self.make_up_mind().await,
            90..94 => self.cancel_before().await,
            94..98 => {
                self.witness.restock(self.any_product(), self.few()).await;
            }
            _ => {
                self.witness.write_off(self.any_product(), self.few()).await;
            }
        }
    }

    /// What is seen is on no account: only who listens to all can say whether it was true.
    async fn look(&self) {
        let _ = self.witness.client().product(self.any_product()).await;
    }

    async fn buy(&self) {
        let ticket = self.order();
        if let Some(said) = self.witness.reserve(ticket).await {
            self.used.borrow_mut().push(ticket);
            if said.is_held() {
                self.decide(ticket).await;
            }
        }
    }

    async fn buy_many(&self) {
        let row: Vec<Ticket> = (0..1 + self.dice.below(ROW_MAX)).map(|_| self.order()).collect();
        let said = self.witness.reserve_row(&row).await;
        let held =
            |(ticket, said): (&Ticket, Option<Said>)| said.is_some_and(Said::is_held).then_some(*ticket);
        let mut held: Vec<Ticket> = row.iter().zip(said).filter_map(held).collect();
        self.used.borrow_mut().extend_from_slice(&held);
        held.truncate(held.len() / 2);
        if self.dice.below(2) == 0 {
            self.witness.confirm_row(&held).await;
        } else {
            for ticket in held {
                self.witness.cancel(ticket, REASON).await;
            }
        }
    }

    /// Drops a call half way; what became of it may be asked later, or never.
    async fn lose_patience(&self) {
        let ticket = self.order();
        let wait = Duration::from_micros(self.dice.below(IMPATIENCE_US_MAX));
        if timeout(wait, self.witness.reserve(ticket)).await.is_ok() {
            return;
        }
        match self.dice.below(3) {
            0 => drop(self.witness.resolve(ticket).await),
            1 => drop(self.witness.reserve_again(ticket).await),
            _ => {}
        }
    }

    /// Sends what was sent before; the answer must be what it was.
    async fn come_again(&self) {
        let Some(ticket) = self.any_used() else { return };
        // After a definite no an id may not be used again: see the audit's rule.
        let was_refused = self.witness.account().was_refused(ticket);
        if self.dice.below(2) == 0 || was_refused {
            self.witness.resolve(ticket).await;
        } else {
            self.witness.reserve_again(ticket).await;
        }
    }

    async fn make_up_mind(&self) {
        if let Some(ticket) = self.any_used() {
            self.decide(ticket).await;
        }
    }

    /// Cancels an id before it is used: then it must be dead.
    async fn cancel_before(&self) {
        let ticket = self.order();
        self.witness.cancel(ticket, REASON).await;
        self.witness.reserve_again(ticket).await;
    }

    async fn decide(&self, ticket: Ticket) {
        match self.dice.below(10) {
            0..4 => drop(self.witness.confirm(ticket).await),
            4..6 => drop(self.witness.cancel(ticket, REASON).await),
            _ => {}
        }
    }

    fn order(&self) -> Ticket {
        let user = UserId(1 + self.dice.below(USERS));
        self.witness.order(self.any_product(), user, self.few())
    }

    fn any_product(&self) -> ProductId {
        self.products[self.dice.below(self.products.len() as u64) as usize]
    }

    fn any_used(&self) -> Option<Ticket> {
        let used = self.used.borrow();
        let nth = self.dice.below(used.len().max(1) as u64) as usize;
        used.get(nth).copied()
    }

    fn few(&self) -> u32 {
        1 + self.dice.below(3) as u32
    }
}
