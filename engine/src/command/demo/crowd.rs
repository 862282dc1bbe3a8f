//! The buyers: what each does from the first attempt to the last word.
//!
//! Every call is put on record by a [`Witness`]. Deliberately not here: the server's life, and the truth.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sluice_client::{Error, Product, ProductId, UserId};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::meter::Meter;
use super::plan::{Habit, Intent, Plan, Visit};
use crate::audit::{Said, Ticket, Witness};

/// What is sold.
pub(super) const PRODUCT: ProductId = ProductId(1);

/// Buyers who wait for an answer at a time.
const BUYERS_AT_A_TIME: u64 = 1024;

/// Buyers of the waiting queue who ask at a time.
const QUEUE_AT_A_TIME: u64 = 256;

/// How often the waiting queue looks for free units.
const QUEUE_POLL: Duration = Duration::from_millis(20);

/// The shop's own code for "changed my mind".
const REASON: u32 = 1;

/// See the module. One thread uses it.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) plan: Plan,
    pub(super) meter: Meter,
    /// Those who wait for their answers.
    patient: Witness,
    /// Those who do not: whose calls are dropped half way.
    hasty: Witness,
    next_visit: Cell<u64>,
    next_honest: Cell<u64>,
    /// Buyers who got something and have yet to make up their minds.
    deciding: RefCell<Vec<JoinHandle<()>>>,
    /// Half of the units are taken, or half of the attempts made.
    half: Notify,
    half_told: Cell<bool>,
}

impl Crowd {
    pub(super) fn new(plan: Plan, patient: Witness, hasty: Witness) -> Self {
        Self {
            plan,
            meter: Meter::new(),
            patient,
            hasty,
            next_visit: Cell::new(0),
            next_honest: Cell::new(0),
            deciding: RefCell::default(),
            half: Notify::new(),
            half_told: Cell::new(false),
        }
    }

    /// Waits until the sale is in its midst.
    pub(super) async fn midst(&self) {
        self.half.notified().await;
    }

    /// Makes all planned attempts.
    pub(super) async fn rush(self: &Rc<Self>) {
        self.meter.open();
        let line = |_| {
            let crowd = Rc::clone(self);
            spawn_local(async move {
                while let Some(visit) = crowd.next_in_line() {
                    crowd.visit(visit).await;
                    crowd.meter.attempt_done();
                    crowd.tell_half();
                }
            })
        };
        let lines: Vec<_> = (0..BUYERS_AT_A_TIME).map(line).collect();
        for line in lines {
            line.await.expect("buyers do not panic");
        }
        self.meter.rush_over();
    }

    /// Sells what is left, or comes back, to honest buyers who wait for it, until nothing is left.
    pub(super) async fn sell_the_rest(self: &Rc<Self>) -> Result<(), Error> {
        while let Some(product) = self.patient.client().product(PRODUCT).await? {
            if product.sold >= self.plan.units {
                break;
            }
            if product.free == 0 {
                sleep(QUEUE_POLL).await;
                continue;
            }
            let buyers = (0..product.free.min(QUEUE_AT_A_TIME)).map(|_| {
                let (crowd, witness) = (Rc::clone(self), self.patient.clone());
                spawn_local(async move { crowd.honest(&witness).await })
            });
            for buyer in buyers.collect::<Vec<_>>() {
                buyer.await.expect("buyers do not panic");
            }
        }
        Ok(())
    }

    /// Waits until everybody has made up their minds.
    pub(super) async fn settle(&self) {
        loop {
            let Some(last) = self.deciding.borrow_mut().pop() else { return };
            last.await.expect("buyers do not panic");
        }
    }

    /// One buyer who was not there before and pays at once. Whether there was an answer, yes or no.
    pub(super) async fn honest(&self, witness: &Witness) -> bool {
        let number = self.next_honest.replace(self.next_honest.get() + 1);
        let ticket = witness.order(PRODUCT, UserId(self.plan.honest_user(number)), 1);
        let asked = Instant::now();
        let said = witness.reserve(ticket).await;
        self.meter.heard(asked, said);
        let said = match said {
            Some(said) => said,
            None => known(witness, ticket).await,
        };
        if said.is_held() {
            spawn_decision(&self.deciding, pay(witness.clone(), ticket));
        }
        said != Said::Nothing
    }

    /// How the product stands, if the server says so soon.
    pub(super) async fn look(&self, patience: Duration) -> Option<Product> {
        self.patient.client().with_deadline(patience).product(PRODUCT).await.ok().flatten()
    }

    fn next_in_line(&self) -> Option<Visit> {
        let number = self.next_visit.get();
        if number >= self.plan.attempts {
            return None;
        }
        self.next_visit.set(number + 1);
        Some(self.plan.visit(number))
    }

    fn tell_half(&self) {
        let counts = self.meter.counts();
        let half = counts.yes * 2 >= self.plan.units || counts.attempts * 2 >= self.plan.attempts;
        if half && !self.half_told.replace(true) {
            self.half.notify_one();
        }
    }

    /// One attempt, from the first request to the answer; what follows from a yes goes on by itself.
    async fn visit(self: &Rc<Self>, visit: Visit) {
        // Whoever hears that nothing was done tries again: under a new id, as the rules are.
        let (ticket, said) = loop {
            let ticket = self.patient.order(PRODUCT, UserId(visit.user), 1);
            let said = self.ask(ticket, visit.habit).await;
            if said != Said::Nothing {
                break (ticket, said);
            }
        };
        if visit.habit == Habit::Doubles && said.is_held() {
            // The account compares the answers.
            self.patient.reserve_again(ticket).await;
        }
        if said.is_held() {
            let (witness, hold) = (self.patient.clone(), self.plan.hold);
            spawn_decision(&self.deciding, decide(witness, ticket, visit.intent, hold));
        }
    }

    async fn ask(&self, ticket: Ticket, habit: Habit) -> Said {
        let asked = Instant::now();
        let said = match habit {
            Habit::Patient | Habit::Doubles => self.patient.reserve(ticket).await,
            Habit::Asks(wait) => match timeout(wait, self.hasty.reserve(ticket)).await {
                Ok(said) => said,
                Err(_) => return known(&self.patient, ticket).await,
            },
            Habit::Repeats(wait) => match timeout(wait, self.hasty.reserve(ticket)).await {
                Ok(said) => said,
                Err(_) => match self.patient.reserve_again(ticket).await {
                    Some(said) => return said,
                    None => return known(&self.patient, ticket).await,
                },
            },
        };
        self.meter.heard(asked, said);
        match said {
            Some(said) => said,
            None => known(&self.patient, ticket).await,
        }
    }
}

/// Asks until it is known what became of an id.
async fn known(witness: &Witness, ticket: Ticket) -> Said {
    loop {
        if let Some(said) = witness.resolve(ticket).await {
            return said;
        }
    }
}

async fn decide(witness: Witness, ticket: Ticket, intent: Intent, hold: Duration) {
    match intent {
        Intent::Pay(after) => {
            sleep(after).await;
            pay(witness, ticket).await;
        }
        Intent::Cancel(after) => {
            sleep(after).await;
            while witness.cancel(ticket, REASON).await.is_none() {}
        }
        Intent::PayLate(after) => {
            sleep(hold + after).await;
            pay(witness, ticket).await;
        }
        Intent::Forget => {}
    }
}

async fn pay(witness: Witness, ticket: Ticket) {
    while witness.confirm(ticket).await.is_none() {}
}

fn spawn_decision(deciding: &RefCell<Vec<JoinHandle<()>>>, decision: impl Future<Output = ()> + 'static) {
    deciding.borrow_mut().push(spawn_local(decision));
}
