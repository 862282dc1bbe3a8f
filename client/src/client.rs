//! [`Client`]: one method for each thing that can be asked.
//!
//! Each call runs in its caller's own future, so a dropped future leaves nothing running. Deliberately not
//! here: how a call is brought to its end ([`settle`]), rows of requests ([`crate::batch`]).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sluice_protocol::request::{IdItem, ListItem, ProductItem, PutProductItem, Terms};
use sluice_protocol::{ClusterId, Kind, ProductId, ReservationId, UserId};

use crate::builder::{Builder, TIME_MAX, TIME_MIN};
use crate::call::{Asked, Reply};
use crate::connection::{Common, Link, Route};
use crate::error::Error;
use crate::order::{Directed, Reserve, StockChange};
use crate::outcome::{
    CancelOutcome, ConfirmOutcome, PutOutcome, ReserveOutcome, Resolution, SealOutcome, StockOutcome,
};
use crate::reads::Reads;
use crate::trouble::Tried;
use crate::url::Address;
use crate::view::{Product, Products, Reservation};

pub(crate) mod groups;
pub(crate) mod settle;

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
    /// To the leader.
    links: Vec<Link>,
    /// To every server, if they are to answer reads.
    reads: Option<Reads>,
    turn: AtomicUsize,
    resolve_budget: Duration,
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
        readers: Vec<Address>,
        deadline: Duration,
        resolve_budget: Duration,
    ) -> Self {
        let common = Arc::new(common);
        let links = (0..connections).map(|_| Link::open(Arc::clone(&common), Route::Leader)).collect();
        let reads = (!readers.is_empty()).then(|| Reads::open(&common, readers));
        let turn = AtomicUsize::new(0);
        Self { shared: Arc::new(Shared { common, links, reads, turn, resolve_budget }), deadline }
    }

    /// The same client, whose calls have this long: from 1 ms to 60 s; anything else is taken as the nearest.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: deadline.clamp(TIME_MIN, TIME_MAX) }
    }

    /// How long a call has. One whose reply is lost may take the resolve budget in addition.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A connection beside those that calls share.
    pub(crate) fn open_link(&self, route: Route) -> Link {
        Link::open(Arc::clone(&self.shared.common), route)
    }

    /// The server that leads, as far as this client is connected to it at this moment.
    pub fn server(&self) -> Option<Address> {
        self.shared.links.iter().find_map(Link::server)
    }

    /// The cluster that this client talks to, for good: that of the first server which welcomed it. A client that was
    /// connected knows it.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.shared.common.cluster.known()
    }

    /// What was wrong with each server that was tried since a leader was last found, for logs and status pages.
    /// Errors that come of it carry it themselves.
    pub fn troubles(&self) -> Vec<Tried> {
        self.shared.common.router.tried()
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
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = sluice_engine::testing::Server::start();
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let client = sluice_client::Client::connect(&server.url()).await?;
    /// # let terms = sluice_client::Terms {
    /// #     opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false,
    /// # };
    /// # let _ = client.put_product(7, 100, terms).await?;
    /// use sluice_client::{Error, Reserve, ReserveOutcome, fresh_id};
    ///
    /// let id = fresh_id(); // kept with the order, before anything is sent
    /// match client.reserve_with(Reserve::new(7, 4242, 2).fresh_id(id)).await {
    ///     Ok(ReserveOutcome::Reserved { deadline_ms, .. }) => println!("pay until {deadline_ms}"),
    ///     Ok(refused) => println!("no, for good: {refused:?}"),
    ///     Err(Error::Unresolved { id }) => println!("ask resolve({id}) until it tells"),
    ///     Err(error) => println!("nothing was taken: {error}"),
    /// }
    ///
    /// // The same id again takes nothing more.
    /// let again = client.reserve_with(Reserve::new(7, 4242, 2).id(id)).await?;
    /// assert!(matches!(again, ReserveOutcome::Reserved { repeated: true, .. }));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// Only if there is no outcome. [`Error::Unresolved`] means that the reply was lost and nobody could be asked:
    /// call [`Client::resolve`] with the id. With any other error nothing was done; after [`Error::Killed`] the id
    /// is dead.
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
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = sluice_engine::testing::Server::start();
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let client = sluice_client::Client::connect(&server.url()).await?;
    /// # let terms = sluice_client::Terms {
    /// #     opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false,
    /// # };
    /// # let _ = client.put_product(7, 100, terms).await?;
    /// use sluice_client::{Reserve, ReserveOutcome, Resolution, fresh_id};
    ///
    /// let id = fresh_id();
    /// assert!(matches!(client.resolve(id).await?, Resolution::Never { .. }));
    /// let late = client.reserve_with(Reserve::new(7, 4242, 1).id(id)).await?;
    /// assert!(matches!(late, ReserveOutcome::Fenced { .. }));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
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
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = sluice_engine::testing::Server::start();
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let client = sluice_client::Client::connect(&server.url()).await?;
    /// # let terms = sluice_client::Terms {
    /// #     opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false,
    /// # };
    /// # let _ = client.put_product(7, 100, terms).await?;
    /// let mut products = client.products();
    /// while let Some(product) = products.next().await? {
    ///     assert_eq!(product.stock, product.free + product.held + product.sold);
    /// }
    /// # Ok(())
    /// # })
    /// # }
    /// ```
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
        let reply = self.repeat(Kind::PutProduct, &Asked::Put(item)).await?;
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
        let reply = self.repeat(Kind::Seal, &Asked::Product(ProductItem::new(product.into()))).await?;
        reply.answer().and_then(|answer| SealOutcome::read(&answer)).ok_or(Error::Unanswered)
    }

    /// How long the server takes to answer a request that asks for nothing, measured from writing it to reading
    /// the reply.
    ///
    /// # Errors
    /// No answer came in time.
    pub async fn ping(&self) -> Result<Duration, Error> {
        match self.repeat(Kind::Ping, &Asked::Nothing).await? {
            Reply::Pong(took) => Ok(took),
            _ => Err(Error::Unanswered),
        }
    }
}
