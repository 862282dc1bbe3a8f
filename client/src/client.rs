//! [`Client`]: one method for each thing that can be asked.
//!
//! Each call runs in its caller's own future: it queues the request, waits, judges what came back, pauses,
//! tries again, and at the end resolves what is in doubt. So a dropped future leaves nothing running.
//! Deliberately not here: sockets ([`crate::connection`]), the rules of repetition ([`crate::retry`]), rows
//! of requests ([`crate::batch`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_protocol::request::{IdItem, ListItem, ProductItem, PutProductItem, Terms};
use sluice_protocol::{Answer, Kind, ProductId, ReservationId, Status, UserId};
use tokio::time::{Instant, sleep, timeout_at};

use crate::builder::Builder;
use crate::call::{Asked, Call, Lost, Reply};
use crate::connection::{Common, Link};
use crate::error::Error;
use crate::order::{Directed, Order, Reserve, StockChange};
use crate::outcome::{
    CancelOutcome, ConfirmOutcome, PutOutcome, ReserveOutcome, Resolution, SealOutcome, StockOutcome,
};
use crate::retry::{Attempts, Because, Next, Repeat};
use crate::view::{Product, Products, Reservation};
use crate::waiter::{self, Wait};

/// A client of a Sluice server or cluster. Cheap to clone; all clones share its connections.
///
/// # What a dropped call means
/// Dropping the future of a call that has not left this process cancels it: it never will. If it has left, the
/// server goes on with it. For reads, puts and seals that is all; for a reservation, units may then be held
/// under an id that nobody waits for, until their hold expires. Where calls may be dropped, choose the id with
/// [`Reserve::fresh_id`] and keep it, so that it can be resolved or cancelled.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    common: Arc<Common>,
    links: Vec<Link>,
    turn: AtomicUsize,
    resolve_budget: Duration,
}

/// Why a call has no final answer.
pub(crate) enum End {
    /// It may have been done.
    Doubt,
    /// Certainly nothing was done.
    Nothing(Error),
}

impl Client {
    /// Products in one page at most.
    pub const PAGE_MAX: u32 = sluice_protocol::limits::ITEMS_MAX as u32;

    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// The URL is not one, or no server there could be reached in time: see [`Builder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url).await
    }

    /// A client with other settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(
        common: Common,
        connections: usize,
        deadline: Duration,
        resolve_budget: Duration,
    ) -> Self {
        let common = Arc::new(common);
        let links = (0..connections).map(|_| Link::open(Arc::clone(&common))).collect();
        Self {
            shared: Arc::new(Shared { common, links, turn: AtomicUsize::new(0), resolve_budget }),
            deadline,
        }
    }

    /// The same client, whose calls have this long.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// How long a call has. One whose reply is lost may take the resolve budget in addition.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes units of a product for a user, under a new id. See [`Client::reserve_with`].
    ///
    /// # Errors
    /// See [`Client::reserve_with`].
    pub async fn reserve(
        &self,
        product: impl Into<ProductId>,
        user: impl Into<UserId>,
        quantity: u32,
    ) -> Result<ReserveOutcome, Error> {
        self.reserve_with(Reserve::new(product, user, quantity)).await
    }

    /// Takes units of a product for a user. A refusal is an outcome, not an error.
    ///
    /// # Errors
    /// Only if there is no outcome. All but two mean that nothing was taken: [`Error::Unresolved`], when the
    /// reply was lost and nobody could be asked (call [`Client::resolve`] with the id); and none other.
    /// [`Error::Killed`] means that the reply was lost, nothing was taken, and the id is dead.
    pub async fn reserve_with(&self, order: Reserve) -> Result<ReserveOutcome, Error> {
        let id = order.reservation();
        let answer = self.settle(&order).await?;
        ReserveOutcome::read(id, &answer).ok_or(Error::Unresolved { id })
    }

    /// Sells the units of a reservation for good. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`Error::Unresolved`] if the reply was lost until the deadline: confirm again. With any other error
    /// nothing was done.
    pub async fn confirm(&self, id: ReservationId) -> Result<ConfirmOutcome, Error> {
        let answer = self.insist(Kind::Confirm, id, IdItem::new(id)).await?;
        ConfirmOutcome::read(&answer).ok_or(Error::Unresolved { id })
    }

    /// Gives the units of a reservation back, or makes sure that it never takes any. `reason` is the shop's own
    /// code; it is kept and streamed. Doing it twice is doing it once.
    ///
    /// # Errors
    /// [`Error::Unresolved`] if the reply was lost until the deadline: cancel again. With any other error
    /// nothing was done.
    pub async fn cancel(&self, id: ReservationId, reason: u32) -> Result<CancelOutcome, Error> {
        let answer = self.insist(Kind::Cancel, id, IdItem::with_reason(id, reason)).await?;
        CancelOutcome::read(&answer).ok_or(Error::Unresolved { id })
    }

    /// Tells what became of an id; one that has no outcome yet is killed by asking, so that it never gets one.
    ///
    /// # Errors
    /// [`Error::Unresolved`] if no reply came until the deadline: ask again.
    pub async fn resolve(&self, id: ReservationId) -> Result<Resolution, Error> {
        let answer = self.insist(Kind::Resolve, id, IdItem::new(id)).await?;
        Resolution::read(&answer).ok_or(Error::Unresolved { id })
    }

    /// Reads a reservation; `None` if none has the id, or it was forgotten.
    ///
    /// # Errors
    /// No answer came in time. A read changes nothing.
    pub async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Error> {
        match self.read(Kind::QueryReservation, &Asked::Id(IdItem::new(id))).await? {
            Reply::Reservation(reply) => Ok(Reservation::read(&reply)),
            _ => Err(Error::Unanswered),
        }
    }

    /// Reads a product; `None` if there is none.
    ///
    /// # Errors
    /// No answer came in time. A read changes nothing.
    pub async fn product(&self, product: impl Into<ProductId>) -> Result<Option<Product>, Error> {
        match self.read(Kind::QueryProduct, &Asked::Product(ProductItem::new(product.into()))).await? {
            Reply::Product(reply) => Ok(Product::read(&reply)),
            _ => Err(Error::Unanswered),
        }
    }

    /// Reads at most `limit` products, from 1 to [`Client::PAGE_MAX`], in the order of their ids, from the id
    /// `from` on. An empty page is the end.
    ///
    /// # Errors
    /// No answer came in time, or `limit` is out of its range. A read changes nothing.
    pub async fn list_products(&self, from: impl Into<ProductId>, limit: u32) -> Result<Vec<Product>, Error> {
        if limit == 0 || limit > Self::PAGE_MAX {
            return Err(Error::Setting { setting: "limit", got: limit.to_string(), allowed: "1 to 1024" });
        }
        match self.read(Kind::ListProducts, &Asked::List(ListItem::new(from.into(), limit))).await? {
            Reply::Page(page) => Ok(page.iter().filter_map(Product::read).collect()),
            _ => Err(Error::Unanswered),
        }
    }

    /// All products, read a page at a time as they are asked for.
    pub fn products(&self) -> Products {
        Products::new(self.clone())
    }

    /// Creates a product with this stock and these terms. If it exists with the same stock at creation its terms
    /// are changed; its stock never is.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if the reply was lost until the deadline: put again. With any other error nothing
    /// was done.
    pub async fn put_product(
        &self,
        product: impl Into<ProductId>,
        stock: u64,
        terms: Terms,
    ) -> Result<PutOutcome, Error> {
        self.put(PutProductItem::new(product.into(), Some(stock), terms)).await
    }

    /// Changes the terms of a product that exists. Its stock stays.
    ///
    /// # Errors
    /// As [`Client::put_product`].
    pub async fn change_terms(
        &self,
        product: impl Into<ProductId>,
        terms: Terms,
    ) -> Result<PutOutcome, Error> {
        self.put(PutProductItem::new(product.into(), None, terms)).await
    }

    async fn put(&self, item: PutProductItem) -> Result<PutOutcome, Error> {
        let reply = self.read(Kind::PutProduct, &Asked::Put(item)).await?;
        reply.answer().and_then(|answer| PutOutcome::read(&answer)).ok_or(Error::Unanswered)
    }

    /// Adds stock, under a new id. See [`Client::restock_with`].
    ///
    /// # Errors
    /// See [`Client::reserve_with`].
    pub async fn restock(&self, product: impl Into<ProductId>, quantity: u32) -> Result<StockOutcome, Error> {
        self.restock_with(StockChange::new(product, quantity)).await
    }

    /// Adds stock, once, however often the same id is sent.
    ///
    /// # Errors
    /// See [`Client::reserve_with`].
    pub async fn restock_with(&self, change: StockChange) -> Result<StockOutcome, Error> {
        self.change_stock(Kind::Restock, change).await
    }

    /// Removes free stock, under a new id. See [`Client::write_off_with`].
    ///
    /// # Errors
    /// See [`Client::reserve_with`].
    pub async fn write_off(
        &self,
        product: impl Into<ProductId>,
        quantity: u32,
    ) -> Result<StockOutcome, Error> {
        self.write_off_with(StockChange::new(product, quantity)).await
    }

    /// Removes free stock, once, however often the same id is sent.
    ///
    /// # Errors
    /// See [`Client::reserve_with`].
    pub async fn write_off_with(&self, change: StockChange) -> Result<StockOutcome, Error> {
        self.change_stock(Kind::WriteOff, change).await
    }

    async fn change_stock(&self, kind: Kind, change: StockChange) -> Result<StockOutcome, Error> {
        let id = change.change();
        let answer = self.settle(&Directed { kind, change }).await?;
        StockOutcome::read(id, &answer).ok_or(Error::Unresolved { id })
    }

    /// Promises that the product's stock never grows again, which makes "sold out" final. Doing it twice is
    /// doing it once.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if the reply was lost until the deadline: seal again. With any other error nothing
    /// was done.
    pub async fn seal(&self, product: impl Into<ProductId>) -> Result<SealOutcome, Error> {
        let reply = self.read(Kind::Seal, &Asked::Product(ProductItem::new(product.into()))).await?;
        reply.answer().and_then(|answer| SealOutcome::read(&answer)).ok_or(Error::Unanswered)
    }

    /// How long the server takes to answer a request that asks for nothing, measured from writing it to reading
    /// the reply.
    ///
    /// # Errors
    /// No answer came in time.
    pub async fn ping(&self) -> Result<Duration, Error> {
        match self.read(Kind::Ping, &Asked::Nothing).await? {
            Reply::Pong(took) => Ok(took),
            _ => Err(Error::Unanswered),
        }
    }
}

/// How calls are brought to an end.
impl Client {
    /// Sends an order until it has a final answer; resolves it if none came and one might be due.
    async fn settle(&self, order: &impl Order) -> Result<Answer, Error> {
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
    async fn insist(&self, kind: Kind, id: ReservationId, item: IdItem) -> Result<Answer, Error> {
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        let deadline = Instant::now() + self.deadline;
        match self.pursue(kind, |_| Asked::Id(item), &mut attempts, deadline).await {
            Ok(reply) => reply.answer().ok_or(Error::Unresolved { id }),
            Err(End::Nothing(error)) => Err(error),
            Err(End::Doubt) => Err(Error::Unresolved { id }),
        }
    }

    /// Sends anything else whose repetition does no harm.
    async fn read(&self, kind: Kind, asked: &Asked) -> Result<Reply, Error> {
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        let deadline = Instant::now() + self.deadline;
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
            let fate = match self.submit(kind, asked(attempts.number()), deadline).await {
                Ok(wait) => wait_until(wait, deadline).await,
                Err(lost) => Err(lost),
            };
            match attempts.judge(fate, deadline.saturating_duration_since(Instant::now()), self.jitter()) {
                Next::Done(reply) => return Ok(reply),
                Next::Pause(pause) => sleep(pause).await,
                Next::Doubt => return Err(End::Doubt),
                Next::Nothing(because) => return Err(End::Nothing(self.error(because))),
            }
        }
    }

    /// Queues a request, waiting for room if there is none.
    pub(crate) async fn submit(&self, kind: Kind, asked: Asked, deadline: Instant) -> Result<Wait, Lost> {
        let (promise, wait) = waiter::pair();
        let queue = &self.link().queue;
        match timeout_at(deadline, queue.send(Call { kind, asked, deadline, promise })).await {
            Ok(Ok(())) => Ok(wait),
            Ok(Err(_)) => Err(Lost::Closed),
            Err(_) => Err(Lost::Unsent),
        }
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
        let trouble = || self.shared.links.iter().find_map(Link::trouble);
        match because {
            Because::Busy { retry_after_ms } => Error::Busy { retry_after_ms },
            Because::Full { retry_after_ms } => Error::Full { retry_after_ms },
            Because::NotLeader => Error::NotLeader,
            Because::Unsent | Because::Hopeless => trouble().map_or(Error::Deadline, Error::from),
            Because::Closed => Error::Closed,
        }
    }

    pub(crate) fn jitter(&self) -> &crate::retry::Jitter {
        &self.shared.common.jitter
    }

    pub(crate) fn resolve_budget(&self) -> Duration {
        self.shared.resolve_budget
    }

    /// Items that every connection's server allows in a frame.
    pub(crate) fn items_max(&self) -> usize {
        self.shared.links.iter().map(Link::items_max).min().expect("a client has a connection")
    }
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
    use sluice_protocol::State;
    told.status() == Some(Status::Fenced)
        || (told.status() == Some(Status::Already) && told.state() == State::Fenced)
}
