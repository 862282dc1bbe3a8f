//! The settings of a hand-off, and its beginning and end.
//!
//! Deliberately not here: its work ([`crate::run`]).

use std::future::Future;
use std::time::Duration;

use sluice_client::consume::{WINDOW_DEFAULT, WINDOW_MAX};
use sluice_client::{Client, Consume, GroupTerms, Start};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, Socket};

use crate::effect::Effect;
use crate::error::HandOffError;
use crate::ledger::LedgerTables;
use crate::link::{Dial, dial};
use crate::news::{Counts, News};
use crate::run::Run;

/// Events in one transaction, at most, unless it is set: enough that what a transaction costs is nothing for each.
pub const BATCH_DEFAULT: usize = 4_096;

/// The most that may be set.
pub const BATCH_MAX: usize = 65_536;

/// How long a transaction may take unless it is set.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// Batches that fit into the consumer's window: one is worked on while the next are fetched.
const WINDOW_BATCHES: usize = 4;

/// How long a delivery may be in hand: longer than any database is away. An event that waits for PostgreSQL has not failed,
/// and must not become a dead letter.
const IN_HAND_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Whoever hears what happens.
type Observe = Box<dyn FnMut(&News) + Send>;

/// Hands the events of a group to PostgreSQL. See the crate.
#[must_use = "a hand-off does nothing until it runs"]
pub struct HandOff<E> {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) dial: Dial,
    pub(crate) group: String,
    pub(crate) effect: E,
    pub(crate) tables: LedgerTables,
    pub(crate) batch_max: usize,
    pub(crate) patience: Duration,
    pub(crate) is_accepted: bool,
    pub(crate) observe: Option<Observe>,
    start: Start,
    terms: Option<GroupTerms>,
    ack_every: Option<Duration>,
}

impl<E: Effect> HandOff<E> {
    /// Hands the events of this group to this database, to this effect. A group belongs to one database; it may have
    /// several members there, in as many processes.
    pub fn new(client: &Client, config: Config, group: impl Into<String>, effect: E) -> Self {
        Self {
            client: client.clone(),
            config,
            dial: dial(NoTls),
            group: group.into(),
            effect,
            tables: LedgerTables::default(),
            batch_max: BATCH_DEFAULT,
            patience: PATIENCE_DEFAULT,
            is_accepted: false,
            observe: None,
            start: Start::Beginning,
            terms: None,
            ack_every: None,
        }
    }

    /// Where a new group begins: see [`Consume::start`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How a new group reads: see [`Consume::terms`].
    pub fn terms(mut self, terms: GroupTerms) -> Self {
        self.terms = Some(terms);
        self
    }

    /// Where the cursors are kept.
    pub fn tables(mut self, tables: LedgerTables) -> Self {
        self.tables = tables;
        self
    }

    /// Events in one transaction, at most: 1 to 65,536. Nobody waits until there are so many.
    pub fn batch_max(mut self, events: usize) -> Self {
        self.batch_max = events;
        self
    }

    /// How long a transaction may take, connections and locks included, from 1 ms on. Then the connection is given up and
    /// another one made. PostgreSQL gives up a transaction in which nothing happens for so long, too.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// How long acknowledgements are gathered: see [`Consume::ack_every`].
    pub fn ack_every(mut self, pause: Duration) -> Self {
        self.ack_every = Some(pause);
        self
    }

    /// Encrypts the connection to PostgreSQL, with whatever library: without this there is no TLS, and a server that wants it
    /// refuses.
    pub fn tls<T>(mut self, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.dial = dial(tls);
        self
    }

    /// Hears what happens. It is called between transactions and holds them up.
    pub fn observe(mut self, observe: impl FnMut(&News) + Send + 'static) -> Self {
        self.observe = Some(Box::new(observe));
        self
    }

    /// What the group has acknowledged and this database does not have is passed over, and noted as a gap. Otherwise it is
    /// [`HandOffError::Behind`].
    pub fn accept_skipped(mut self) -> Self {
        self.is_accepted = true;
        self
    }

    /// Works until `stop` is done, then tells Sluice the last of what is committed and leaves the group, so that others go on
    /// at once. What is under way in that moment is given up and comes again. May be dropped instead: only the leaving is
    /// missed, and whoever goes on waits for the end of the session.
    ///
    /// # Errors
    /// See [`HandOffError`]. Losses of PostgreSQL and of Sluice are none: it goes on by itself when they are back.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Counts, HandOffError> {
        self.check()?;
        let (mut run, mut seat) = (Run::new(self), None);
        let outcome = tokio::select! {
            biased;
            () = stop => Ok(()),
            outcome = run.work(&mut seat) => outcome,
        };
        if let Some(consumer) = seat {
            run.leave(consumer).await;
        }
        outcome.map(|()| run.counts)
    }

    pub(crate) fn consume(&self) -> Consume {
        let window = (self.batch_max * WINDOW_BATCHES).clamp(WINDOW_DEFAULT, WINDOW_MAX);
        let consume =
            self.client.consume(&self.group).start(self.start).window(window).redeliver_after(IN_HAND_MAX);
        let consume = self.terms.into_iter().fold(consume, Consume::terms);
        self.ack_every.into_iter().fold(consume, Consume::ack_every)
    }

    fn check(&self) -> Result<(), HandOffError> {
        let setting = |setting, got, allowed| Err(HandOffError::Setting { setting, got, allowed });
        if !(1..=BATCH_MAX).contains(&self.batch_max) {
            return setting("batch_max", self.batch_max.to_string(), "1 to 65536");
        }
        if self.patience < Duration::from_millis(1) {
            return setting("patience", format!("{:?}", self.patience), "1 ms or more");
        }
        Ok(())
    }
}
