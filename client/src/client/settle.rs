//! How one call is brought to an end: queue the request, wait, judge what came back, pause, try again; and
//! when no answer came though one might be due, ask what became of it.
//!
//! The rules of repetition are [`crate::retry`]'s; here they are carried out. A call ends at its deadline,
//! one that must be resolved a resolve budget later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_protocol::request::IdItem;
use sluice_protocol::{Answer, Kind, ReservationId, State, Status};
use tokio::time::{Instant, timeout, timeout_at};

use super::Client;
use crate::call::{Asked, Call, Lost, Reply};
use crate::connection::Link;
use crate::error::Error;
use crate::order::Order;
use crate::retry::{Attempts, Because, Jitter, Next, Repeat};
use crate::waiter::{self, Wait};

/// Why a call has no final answer.
pub(crate) enum End {
    /// It may have been done.
    Doubt,
    /// Certainly nothing was done.
    Nothing(Error),
}

impl Client {
    /// Sends an order until it has a final answer; resolves it if none came and one might be due.
    pub(super) async fn settle(&self, order: &impl Order) -> Result<Answer, Error> {
        let mut attempts = Attempts::new(Repeat::Named, u8::from(!order.is_fresh()));
        let deadline = Instant::now() + self.deadline;
        let asked = |attempt| order.asked(attempt);
        match self.pursue(order.kind(), asked, &mut attempts, deadline).await {
            Ok(reply) => reply.answer().ok_or(Error::Unresolved { id: order.id() }),
            Err(End::Nothing(error)) => Err(error),
            Err(End::Doubt) => self.settle_doubt(order, attempts.number()).await,
        }
    }

    /// Asks what became of an order, or kills it. Has its own short budget, behind the call's deadline.
    async fn settle_doubt(&self, order: &impl Order, attempt: u8) -> Result<Answer, Error> {
        let id = order.id();
        let deadline = Instant::now() + self.shared.resolve_budget;
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        let asked = |_| Asked::Id(IdItem::new(id));
        let told = match self.pursue(Kind::Resolve, asked, &mut attempts, deadline).await {
            Ok(reply) => reply.answer().ok_or(Error::Unresolved { id })?,
            Err(_) => return Err(Error::Unresolved { id }),
        };
        if is_dead(&told) {
            return Err(Error::Killed { id });
        }
        if order.is_fresh() {
            return Ok(told);
        }
        // The id has an outcome, but others may have used it for something else. Sent again it can take nothing
        // any more, and the ledger compares what was asked.
        let mut attempts = Attempts::new(Repeat::Harmless, attempt.max(1));
        let asked = |attempt| order.asked(attempt);
        match self.pursue(order.kind(), asked, &mut attempts, deadline).await {
            Ok(reply) => reply.answer().ok_or(Error::Unresolved { id }),
            Err(_) => Err(Error::Unresolved { id }),
        }
    }

    /// Sends a request about an id, whose repetition does no harm, until it has a final answer.
    pub(super) async fn insist(&self, kind: Kind, id: ReservationId, item: IdItem) -> Result<Answer, Error> {
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        let deadline = Instant::now() + self.deadline;
        match self.pursue(kind, |_| Asked::Id(item), &mut attempts, deadline).await {
            Ok(reply) => reply.answer().ok_or(Error::Unresolved { id }),
            Err(End::Nothing(error)) => Err(error),
            Err(End::Doubt) => Err(Error::Unresolved { id }),
        }
    }

    /// Sends anything else whose repetition does no harm.
    pub(crate) async fn repeat(&self, kind: Kind, asked: &Asked) -> Result<Reply, Error> {
        self.repeat_until(kind, asked, Instant::now() + self.deadline).await
    }

    /// Sends a read, to whoever is to answer it.
    pub(crate) async fn read(&self, kind: Kind, asked: &Asked) -> Result<Reply, Error> {
        let deadline = Instant::now() + self.deadline;
        if let Some(reads) = &self.shared.reads
            && let Some(reply) = reads.ask(kind, asked, deadline).await
        {
            return Ok(reply);
        }
        self.repeat_until(kind, asked, deadline).await
    }

    async fn repeat_until(&self, kind: Kind, asked: &Asked, deadline: Instant) -> Result<Reply, Error> {
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        match self.pursue(kind, |_| asked.clone(), &mut attempts, deadline).await {
            Ok(reply) => Ok(reply),
            Err(End::Nothing(error)) => Err(error),
            Err(End::Doubt) => Err(Error::Unanswered),
        }
    }

    /// Attempts and pauses until there is a final reply, or none can come any more.
    async fn pursue(
        &self,
        kind: Kind,
        asked: impl Fn(u8) -> Asked,
        attempts: &mut Attempts,
        deadline: Instant,
    ) -> Result<Reply, End> {
        loop {
            let epoch = self.epoch();
            let fate = ask(self.link(), kind, asked(attempts.number()), deadline).await;
            match attempts.judge(fate, deadline.saturating_duration_since(Instant::now()), self.jitter()) {
                Next::Done(reply) => return Ok(reply),
                Next::Pause(pause) => self.pause(pause, epoch).await,
                Next::Doubt => return Err(End::Doubt),
                Next::Nothing(because) => return Err(End::Nothing(self.error(because))),
            }
        }
    }

    /// Which leader calls go to, counted.
    pub(crate) fn epoch(&self) -> u64 {
        self.shared.common.router.epoch()
    }

    /// Waits, but no longer than until a leader is found behind that epoch: what another server asked for, or
    /// could not do, does not bind it.
    pub(crate) async fn pause(&self, pause: Duration, epoch: u64) {
        // Whichever ends first: there is nothing to tell apart.
        let _ = timeout(pause, self.shared.common.router.found_after(epoch)).await;
    }

    /// Queues a request for the leader, waiting for room if there is none.
    pub(crate) async fn submit(&self, kind: Kind, asked: Asked, deadline: Instant) -> Result<Wait, Lost> {
        submit(self.link(), kind, asked, deadline).await
    }

    /// Connections take turns, without those that cannot connect as long as another can.
    fn link(&self) -> &Link {
        let links = &self.shared.links;
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        (0..links.len())
            .map(|ahead| &links[turn.wrapping_add(ahead) % links.len()])
            .find(|link| !link.is_failing())
            .unwrap_or(&links[turn % links.len()])
    }

    /// What certainly nothing was done because of, as the caller hears it.
    pub(crate) fn error(&self, because: Because) -> Error {
        let tried = || match self.server() {
            // A connection there is, but it did not take the call in time.
            Some(_) => Vec::new(),
            None => self.troubles(),
        };
        match because {
            Because::Busy { retry_after_ms } => Error::Busy { retry_after_ms },
            Because::Full { retry_after_ms } => Error::Full { retry_after_ms },
            Because::NotLeader => match tried() {
                tried if tried.is_empty() => Error::NotLeader,
                tried => Error::from(tried),
            },
            Because::Unsent | Because::Hopeless => Error::from(tried()),
            Because::Closed => Error::Closed,
        }
    }

    pub(crate) fn jitter(&self) -> &Jitter {
        &self.shared.common.jitter
    }

    pub(crate) fn resolve_budget(&self) -> Duration {
        self.shared.resolve_budget
    }

    /// Items of a row that every connection's server allows in a frame.
    pub(crate) fn row_max(&self) -> usize {
        self.shared.links.iter().map(Link::row_max).min().expect("a client has a connection")
    }
}

/// Queues a request for one connection, waiting for room if there is none.
async fn submit(link: &Link, kind: Kind, asked: Asked, deadline: Instant) -> Result<Wait, Lost> {
    let (promise, wait) = waiter::pair();
    match timeout_at(deadline, link.queue.send(Call { kind, asked, deadline, promise })).await {
        Ok(Ok(())) => Ok(wait),
        Ok(Err(_)) => Err(Lost::Closed),
        Err(_) => Err(Lost::Unsent),
    }
}

/// One attempt over one connection.
pub(crate) async fn ask(link: &Link, kind: Kind, asked: Asked, deadline: Instant) -> Result<Reply, Lost> {
    wait_until(submit(link, kind, asked, deadline).await?, deadline).await
}

/// Waits for a reply; at the deadline, stops and says what is certain.
pub(crate) async fn wait_until(mut wait: Wait, deadline: Instant) -> Result<Reply, Lost> {
    match timeout_at(deadline, &mut wait).await {
        Ok(fate) => fate,
        Err(_) => wait.give_up(),
    }
}

/// Whether a resolve says that the id took nothing and never will.
pub(crate) fn is_dead(told: &Answer) -> bool {
    told.status() == Some(Status::Fenced)
        || (told.status() == Some(Status::Already) && told.state() == State::Fenced)
}
