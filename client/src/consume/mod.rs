//! Consuming the stream of events: an order system that may crash anywhere, and goes on where it stood.
//!
//! ```no_run
//! # async fn example(client: sluice_client::Client) -> Result<(), sluice_client::ConsumeError> {
//! use sluice_client::{Consumed, EventKind, Start};
//!
//! let mut consumer = client.consume("orders").start(Start::Beginning).open().await?;
//! while let Some(consumed) = consumer.next().await {
//!     match consumed? {
//!         Consumed::Event(delivery) => {
//!             if delivery.event().kind == EventKind::Confirmed {
//!                 println!("ship {} of {}", delivery.event().quantity, delivery.event().product);
//!             }
//!             delivery.ack()?;
//!         }
//!         Consumed::Gap { from, to } => println!("{from} to {to} are kept no more: look into the books"),
//!         parked => println!("given up: {parked:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - **At least once, in order.** Events of one product come to one member at a time, in the order of their sequences.
//!   After a crash what was not acknowledged comes again, under the same sequence: keep the last sequence with your own
//!   effects, in one transaction, and each effect happens once.
//! - **A failed delivery holds back what is behind it** in its lane (the products that share one of 64 lanes) until it
//!   is delivered again and done, or has become a dead letter. Other lanes go on. What the application had in hand already
//!   it has: whoever must not overtake finishes one event before asking for the next.
//! - **Nothing is skipped in silence.** Events that are kept no more are a [`Consumed::Gap`], dead letters a
//!   [`Consumed::Parked`], damaged ones a [`ConsumeError::Damaged`].
//! - **Members come and go.** What has moved to another member is taken away: [`Fenced`] says so to whoever acknowledges
//!   it. What stays is not delivered twice.
//!
//! # The rooms
//! - `sheet`, `delivery`: what is handed out, and a byte for each event that says where it stands
//! - `book`: all bookkeeping, without sockets
//! - `driver`: the task that fetches, acknowledges and gives signs of life
//! - `consumer`: the application's end
//! - `error`: what can be heard instead of an event

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sluice_protocol::Kind;
use sluice_protocol::Status;
use sluice_protocol::group::{GroupTerms, JoinItem};

use crate::call::Asked;
use crate::client::Client;
use crate::client::groups::group_name;
use crate::error::Error;
use crate::ids::random_u64;
use crate::outcome::{GroupOutcome, Invalid};

mod book;
mod consumer;
mod delivery;
mod driver;
mod error;
mod sheet;

use book::{Book, Seat};
pub use consumer::Consumer;
pub use delivery::{CAUSE_PANICKED, CAUSE_TIMED_OUT, Consumed, Delivery};
use driver::Driver;
pub use error::{ConsumeError, Fenced};
use sheet::Tally;

/// Events delivered and not acknowledged, at most, unless it is set.
pub const WINDOW_DEFAULT: usize = 8192;

/// The most that a window may be: each event costs some hundred bytes.
pub const WINDOW_MAX: usize = 1 << 20;

/// How long acknowledgements are gathered unless it is set. Longer costs the servers less; after a crash as much more
/// is delivered again.
pub const ACK_EVERY_DEFAULT: Duration = Duration::from_millis(20);

/// How long a delivery may go without an answer unless it is set.
pub const REDELIVER_AFTER_DEFAULT: Duration = Duration::from_secs(30);

/// Where a new group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first event that is kept.
    Beginning,
    /// With the next event there will be.
    End,
    /// Behind this sequence.
    After(u64),
    /// With the first event at or after this ledger time, milliseconds.
    At(u64),
}

/// What a consumer's two ends share.
#[derive(Debug)]
pub(crate) struct Shared {
    book: Mutex<Book>,
    tally: Arc<Tally>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settings of a consumer. See [`Client::consume`].
#[derive(Clone, Debug)]
#[must_use = "a consumer does nothing until it is opened"]
pub struct Consume {
    client: Client,
    name: String,
    start: Start,
    terms: Option<GroupTerms>,
    change_terms: bool,
    window: usize,
    ack_every: Duration,
    redeliver_after: Duration,
}

impl Client {
    /// A consumer of the stream of events, as a member of the group of this name. See [`crate::consume`].
    pub fn consume(&self, name: impl Into<String>) -> Consume {
        Consume {
            client: self.clone(),
            name: name.into(),
            start: Start::Beginning,
            terms: None,
            change_terms: false,
            window: WINDOW_DEFAULT,
            ack_every: ACK_EVERY_DEFAULT,
            redeliver_after: REDELIVER_AFTER_DEFAULT,
        }
    }
}

impl Consume {
    /// Where the group begins if there is none of this name yet: at the beginning unless it is set. One that exists
    /// stays where it is; [`Client::seek_group`] moves it.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How the group reads if there is none of this name yet. One that exists keeps its terms, unless
    /// [`Consume::change_terms`] says otherwise.
    pub fn terms(mut self, terms: GroupTerms) -> Self {
        self.terms = Some(terms);
        self
    }

    /// A group that exists gets the terms of [`Consume::terms`], for all of its members.
    pub fn change_terms(mut self) -> Self {
        self.change_terms = true;
        self
    }

    /// Events delivered and not acknowledged, at most: 1 to 1,048,576. Beyond it nothing more is handed out. A little
    /// more is fetched ahead.
    pub fn window(mut self, events: usize) -> Self {
        self.window = events;
        self
    }

    /// How long acknowledgements are gathered before they are sent, at most; they are also sent when half of the window
    /// is acknowledged.
    pub fn ack_every(mut self, pause: Duration) -> Self {
        self.ack_every = pause;
        self
    }

    /// How long a delivery may be neither acknowledged nor given back, from 1 ms on. It has then failed, with
    /// [`CAUSE_TIMED_OUT`], and what is said of it later is [`Fenced`].
    pub fn redeliver_after(mut self, time: Duration) -> Self {
        self.redeliver_after = time;
        self
    }

    /// Makes the group if there is none, and takes a seat in it. The consumer has a connection of its own, so that events
    /// hold up no other calls.
    ///
    /// # Errors
    /// [`ConsumeError::Call`] if a call did not come to its end before the client's deadline, a setting is out of its
    /// range, or there are as many members as there may be; [`ConsumeError::Refused`] if the terms are not allowed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(self) -> Result<Consumer, ConsumeError> {
        self.check()?;
        let name = group_name(&self.name)?;
        let unknown = || ConsumeError::UnknownGroup { name: self.name.clone() };
        let mut group = self.client.group(&self.name).await?;
        if group.is_none() || self.change_terms {
            let terms = self.terms.unwrap_or_default();
            match self.client.put_group(&self.name, self.start, &terms).await? {
                GroupOutcome::Done { .. } => group = self.client.group(&self.name).await?,
                GroupOutcome::Invalid(invalid) => return Err(ConsumeError::Refused(invalid)),
                GroupOutcome::UnknownGroup { .. } => return Err(unknown()),
            }
        }
        let group = group.ok_or_else(unknown)?;
        // Zero is no number of a member.
        let member = random_u64().max(1);
        let reply = self.client.repeat(Kind::Join, &Asked::Join(JoinItem::new(name, member))).await?;
        let answer = reply.answer().ok_or(Error::Unanswered)?;
        let seat = match answer.status() {
            Some(Status::Done) => {
                let [number, epoch, lanes] = answer.numbers();
                let number = u32::try_from(number).map_err(|_| Error::Unanswered)?;
                Seat { group: number, member, epoch, lanes }
            }
            Some(Status::Invalid) => {
                return Err(Invalid::read(&answer).map_or(Error::Unanswered.into(), ConsumeError::Refused));
            }
            Some(Status::UnknownGroup) => return Err(unknown()),
            _ => return Err(Error::Unanswered.into()),
        };
        let tally = Arc::new(Tally::new((self.window / 2).max(1)));
        let (window, redeliver_after) = (self.window, self.redeliver_after);
        let shared = Arc::new_cyclic(|home: &Weak<Shared>| {
            let (counts, home) = (Arc::clone(&tally), home.clone());
            let book = Book::new(seat, group.cursor, window, redeliver_after, counts, home);
            Shared { book: Mutex::new(book), tally }
        });
        let session = Duration::from_millis(u64::from(group.terms.session_ms));
        let driver = Driver::new(self.client.clone(), Arc::clone(&shared), name, session, self.ack_every);
        let task = tokio::spawn(driver.run(redeliver_after));
        Ok(Consumer::new(shared, task, self.client.deadline()))
    }

    fn check(&self) -> Result<(), Error> {
        if self.window == 0 || self.window > WINDOW_MAX {
            let got = self.window.to_string();
            return Err(Error::Setting { setting: "window", got, allowed: "1 to 1048576" });
        }
        if self.redeliver_after < Duration::from_millis(1) {
            let got = format!("{:?}", self.redeliver_after);
            return Err(Error::Setting { setting: "redeliver_after", got, allowed: "1 ms or more" });
        }
        Ok(())
    }
}
