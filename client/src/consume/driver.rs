//! The task behind a consumer: it fetches ahead, acknowledges, tells what failed, and gives signs of life while the
//! application works.
//!
//! One request of each kind is under way at a time; one that is lost is sent again, which does no harm. The task ends when
//! the consumer is closed or dropped, or its group is gone. Deliberately not here: what any of it means ([`super::book`]).

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sluice_protocol::group::{GroupName, JoinItem};
use sluice_protocol::limits::EVENTS_MAX;
use sluice_protocol::seat::{AckItem, NakItem};
use sluice_protocol::{Kind, Status};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use super::book::fetched::{Next, Sent};
use super::error::ConsumeError;
use crate::call::{Asked, Lost, Reply};
use crate::client::Client;
use crate::client::settle::ask;
use crate::connection::{Link, Route};
use crate::error::Error;
use crate::outcome::Invalid;
use crate::retry::{Attempts, Because, Next as Judged, Repeat};

/// While fewer events than this wait to be handed out, the next fetch leaves: one delivery is worked on, one waits.
pub(super) const FETCH_AHEAD: usize = EVENTS_MAX;

/// How long a fetch waits for news at most. A leader that hangs is missed when a fetch has waited in vain.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a server has to answer, at least: what is sent again too soon costs it twice.
const ANSWER_TIME_MIN: Duration = Duration::from_secs(1);

/// How long after an answer that helped nobody it is asked again.
const LATER: Duration = Duration::from_secs(1);

/// How often it is looked for deliveries that nobody has answered, at most and at least.
const SWEEP_MIN: Duration = Duration::from_millis(10);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// A request under way.
type Asking = Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send>>;

/// Requests of one kind, one after the other.
struct Errand {
    attempts: Attempts,
    under_way: Option<Asking>,
    not_before: Instant,
}

impl Errand {
    fn new() -> Self {
        Self { attempts: Attempts::new(Repeat::Harmless, 0), under_way: None, not_before: Instant::now() }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.under_way.is_none() && self.not_before <= now
    }

    /// When it may be sent again, if it waits for that.
    fn free_at(&self, now: Instant) -> Option<Instant> {
        (self.under_way.is_none() && self.not_before > now).then_some(self.not_before)
    }

    /// The end of what is under way; never, if nothing is.
    async fn done(&mut self) -> Result<Reply, Lost> {
        let fate = match &mut self.under_way {
            Some(asking) => poll_fn(|context| asking.as_mut().poll(context)).await,
            None => pending().await,
        };
        self.under_way = None;
        fate
    }
}

/// What a fetch errand is about.
enum Fetching {
    Events(Box<Sent>),
    Join,
}

/// See the module.
pub(super) struct Driver {
    client: Client,
    link: Arc<Link>,
    shared: Arc<Shared>,
    name: GroupName,
    session: Duration,
    ack_every: Duration,
    fetch: Errand,
    fetching: Fetching,
    ack: Errand,
    acking: Vec<AckItem>,
    ack_at: Option<Instant>,
    nak: Errand,
    nakking: Vec<NakItem>,
    must_join: bool,
    /// When the server last had a sign of life, and when it last answered.
    told_at: Instant,
    heard_at: Instant,
    is_told_lost: bool,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        shared: Arc<Shared>,
        name: GroupName,
        session: Duration,
        ack_every: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            link: Arc::new(client.open_link(Route::Leader)),
            client,
            shared,
            name,
            session,
            ack_every,
            fetch: Errand::new(),
            fetching: Fetching::Join,
            ack: Errand::new(),
            acking: Vec::new(),
            ack_at: None,
            nak: Errand::new(),
            nakking: Vec::new(),
            must_join: false,
            told_at: now,
            heard_at: now,
            is_told_lost: false,
        }
    }

    /// Runs until there is nothing more to do.
    pub(super) async fn run(mut self, redeliver_after: Duration) {
        let sweep_every = (redeliver_after / 16).clamp(SWEEP_MIN, SWEEP_MAX);
        let mut sweep_at = Instant::now() + sweep_every;
        let shared = Arc::clone(&self.shared);
        let error = loop {
            let now = Instant::now();
            shared.book().nudge(now);
            if sweep_at <= now {
                shared.book().sweep(now);
                sweep_at = now + sweep_every;
            }
            self.send(now);
            if shared.book().is_closing {
                self.leave().await;
                break None;
            }
            let sweep = shared.book().has_open().then_some(sweep_at);
            let alarm = [sweep, self.alarm(now)].into_iter().flatten().min();
            let ended = tokio::select! {
                fate = self.fetch.done() => self.fetched(fate),
                fate = self.ack.done() => self.acked(fate),
                fate = self.nak.done() => self.nakked(fate),
                () = shared.tally.driver.notified() => None,
                () = sleep_until(alarm.unwrap_or(now)), if alarm.is_some() => None,
            };
            if ended.is_some() {
                break ended;
            }
        };
        shared.book().end(error);
        shared.tally.progress.notify_waiters();
    }

    /// How often the server gets a sign of life: a member that is silent for a session has left.
    fn sign_every(&self) -> Duration {
        (self.session / 3).min(WAIT_MAX)
    }

    /// When something is to be done, whatever comes.
    fn alarm(&self, now: Instant) -> Option<Instant> {
        let sign = self.fetch.under_way.is_none().then(|| self.told_at + self.sign_every());
        let errands = [&self.fetch, &self.ack, &self.nak].map(|errand| errand.free_at(now));
        let due = self.shared.book().next_due();
        let ack = self.ack_at.filter(|_| self.ack.under_way.is_none());
        errands.into_iter().chain([sign, due, ack]).flatten().filter(|at| *at > now).min()
    }

    /// Sends what is to be sent now.
    fn send(&mut self, now: Instant) {
        if self.fetch.is_free(now) {
            self.send_fetch(now);
        }
        if self.nak.is_free(now) && !self.must_join {
            self.nakking = self.shared.book().naks();
            if !self.nakking.is_empty() {
                let asked = Asked::Naks(self.nakking.clone());
                self.nak.under_way = Some(self.ask(Kind::Nak, asked, Duration::ZERO));
            }
        }
        if self.ack.is_free(now) && !self.must_join && self.is_time_to_ack(now) {
            self.acking = self.shared.book().acks();
            self.ack_at = None;
            self.shared.book().wake();
            if !self.acking.is_empty() {
                let asked = Asked::Acks(self.acking.clone());
                self.ack.under_way = Some(self.ask(Kind::Ack, asked, Duration::ZERO));
            }
        }
    }

    /// The first acknowledgement starts the clock. It stops early if many have come, or somebody waits.
    fn is_time_to_ack(&mut self, now: Instant) -> bool {
        let (any, many) = self.shared.tally.look();
        if any && self.ack_at.is_none() {
            self.ack_at = Some(now + self.ack_every);
        }
        many || self.ack_at.is_some_and(|at| at <= now) || self.shared.book().flushing > 0
    }

    fn send_fetch(&mut self, now: Instant) {
        if self.must_join {
            let member = self.shared.book().seat.member;
            let asked = Asked::Join(JoinItem::new(self.name, member));
            self.fetching = Fetching::Join;
            self.fetch.under_way = Some(self.ask(Kind::Join, asked, Duration::ZERO));
            return;
        }
        let (item, sent) = {
            let mut book = self.shared.book();
            let is_look = !book.wants_events(FETCH_AHEAD);
            if is_look && !book.is_stale && now < self.told_at + self.sign_every() {
                return;
            }
            let wait = self.sign_every().as_millis() as u32;
            book.fetch(is_look, EVENTS_MAX as u32, wait)
        };
        self.told_at = now;
        self.fetching = Fetching::Events(Box::new(sent));
        let wait = Duration::from_millis(u64::from(item.wait_ms()));
        self.fetch.under_way = Some(self.ask(Kind::Fetch, Asked::Fetch(item), wait));
    }

    /// How long an answer may take.
    fn answer_time(&self) -> Duration {
        self.client.deadline().max(ANSWER_TIME_MIN)
    }

    /// A request over the consumer's own connection. It has the client's deadline, behind what it may wait for.
    fn ask(&self, kind: Kind, asked: Asked, wait: Duration) -> Asking {
        let (link, deadline) = (Arc::clone(&self.link), Instant::now() + wait + self.answer_time());
        Box::pin(async move { ask(&link, kind, asked, deadline).await })
    }

    fn fetched(&mut self, fate: Result<Reply, Lost>) -> Option<ConsumeError> {
        let reply = self.judge(fate, |driver| &mut driver.fetch)?;
        let next = match (&self.fetching, reply) {
            (Fetching::Events(sent), Reply::Delivery(head, events)) => {
                self.shared.book().delivered(&head, &events, sent)
            }
            (Fetching::Join, Reply::Answer(answer)) => match answer.status() {
                Some(Status::Done) => {
                    let [_, epoch, lanes] = answer.numbers();
                    self.must_join = false;
                    self.shared.book().moved(epoch, lanes);
                    Next::On
                }
                Some(Status::Invalid) => return Invalid::read(&answer).map(ConsumeError::Refused),
                Some(Status::UnknownGroup) => Next::Over,
                _ => Next::Later,
            },
            _ => Next::Later,
        };
        match next {
            Next::On => {}
            Next::Join => self.must_join = true,
            // Being asked is a sign of life as well.
            Next::Later => self.fetch.not_before = Instant::now() + self.sign_every(),
            Next::Over => return Some(ConsumeError::UnknownGroup { name: self.name.to_string() }),
        }
        // How far it was looked may be worth telling, though nothing was delivered.
        self.ack_at = self.ack_at.or_else(|| Some(Instant::now() + self.ack_every));
        None
    }

    fn acked(&mut self, fate: Result<Reply, Lost>) -> Option<ConsumeError> {
        let items = std::mem::take(&mut self.acking);
        // Whatever is not known to have arrived is gathered again.
        self.ack_at = Some(Instant::now() + self.ack_every);
        let Some(Reply::Answers(answers)) = self.judge(fate, |driver| &mut driver.ack) else { return None };
        let mut book = self.shared.book();
        items.iter().zip(&answers).for_each(|(item, answer)| book.acked(item, answer));
        None
    }

    fn nakked(&mut self, fate: Result<Reply, Lost>) -> Option<ConsumeError> {
        let items = std::mem::take(&mut self.nakking);
        let reply = self.judge(fate, |driver| &mut driver.nak);
        let answers = match &reply {
            Some(Reply::Answers(answers)) => &answers[..],
            _ => &[],
        };
        let now = Instant::now();
        self.nak.not_before = self.nak.not_before.max(now + self.ack_every);
        let mut book = self.shared.book();
        for (nth, item) in items.iter().enumerate() {
            book.nakked(item, answers.get(nth), now);
        }
        None
    }

    /// What came of a request; `None`: it has to be sent again, after a pause.
    fn judge(&mut self, fate: Result<Reply, Lost>, errand: fn(&mut Self) -> &mut Errand) -> Option<Reply> {
        let now = Instant::now();
        let client = self.client.clone();
        let attempts = &mut errand(self).attempts;
        let (pause, because) = match attempts.judge(fate, Duration::MAX, client.jitter()) {
            Judged::Done(reply) => {
                *attempts = Attempts::new(Repeat::Harmless, 0);
                (self.heard_at, self.is_told_lost) = (now, false);
                return Some(reply);
            }
            Judged::Pause(pause) => (pause, Because::Unsent),
            Judged::Doubt => (LATER, Because::Unsent),
            Judged::Nothing(because) => (LATER, because),
        };
        errand(self).not_before = now + pause;
        if now >= self.heard_at + self.session && !self.is_told_lost {
            self.is_told_lost = true;
            let error = match client.error(because) {
                // It left this process, and nobody answered.
                Error::Deadline => Error::Unanswered,
                other => other,
            };
            let mut book = self.shared.book();
            book.tell(super::book::Note::Error(error.into()));
            book.wake();
        }
        None
    }

    /// Tells the last of what is done, and gives the seat back; within the client's deadline, or not at all.
    async fn leave(&mut self) {
        let deadline = Instant::now() + self.client.deadline();
        let seat = self.shared.book().seat_item();
        let last = async {
            loop {
                if self.ack.under_way.is_none() {
                    self.acking = self.shared.book().acks();
                    if self.acking.is_empty() || self.must_join {
                        break;
                    }
                    let asked = Asked::Acks(self.acking.clone());
                    self.ack.under_way = Some(self.ask(Kind::Ack, asked, Duration::ZERO));
                }
                let fate = self.ack.done().await;
                self.acked(fate);
                sleep_until(self.ack.not_before).await;
            }
            let _ = self.ask(Kind::Leave, Asked::Seat(seat), Duration::ZERO).await;
        };
        // Whoever does not hear of it will miss this member after a session.
        let _ = timeout_at(deadline, last).await;
    }
}
