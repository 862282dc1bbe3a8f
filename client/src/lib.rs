//! The client of Sluice, the stock engine of flash sales.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = sluice_engine::testing::Server::start();
//! # let url = server.url();
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! use sluice_client::{Client, ReserveOutcome, Terms};
//!
//! let client = Client::connect(&url).await?; // sluice://127.0.0.1:7400
//! let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 1, hold_ms: 900_000, unlimited: false };
//! assert!(client.put_product(7, 100, terms).await?.is_done());
//!
//! match client.reserve(7, 4242, 1).await? {
//!     ReserveOutcome::Reserved { id, .. } => assert!(client.confirm(id).await?.is_confirmed()),
//!     refused => println!("not this time: {refused:?}"),
//! }
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What it promises
//! - **An outcome is final.** `Reserved` is on disk; a refusal never rests on something that could still change.
//!   What is not final is an [`Error`], and says whether anything may have been done.
//! - **Retries keep the id**, so that a lost reply cannot take units twice. A call that ends in doubt is resolved:
//!   the server tells what became of the id, or makes sure that nothing ever will. Only if nobody can be asked in
//!   time does the caller hear [`Error::Unresolved`], with the id to ask about.
//! - **A cluster is one server.** Give the addresses of its nodes; calls go to whoever leads. When a leader dies, stops
//!   or hangs, they wait for the next one within their deadline and reach it within a tenth of a second; what was
//!   under way is sent again as a later attempt. A server of another cluster is never used. Reads can be spread
//!   over all nodes: [`ReadFrom`].
//! - **Calls pack themselves.** Whatever waits when the socket has room shares a frame; one call alone leaves at
//!   once. There is no timer in between, and an idle client does nothing at all.
//! - **What was sold is streamed.** A consumer gets every change in order, at least once, and goes on after any crash: see
//!   [`consume`]. `examples/consumer.rs` is an order system in one page.
//! - **Everything is bounded**: the queue, the frames in flight, the time a call may take.
//!
//! Works on current-thread and multi-thread runtimes of tokio.
//!
//! # The map
//! - [`Client`], [`Builder`]: what to call; the settings
//! - [`Reserve`], [`StockChange`]: orders that carry their own id
//! - [`consume`]: the stream of events; [`Watch`]: one reservation
//! - [`books`]: what a server has sold as of one sequence, for auditors
//! - [`outcome`]: final answers; [`view`]: what reads return
//! - [`Error`]: no final answer, and what to do about it; [`Tried`], [`Trouble`]: what was wrong with which server
//! - [`IdGenerator`], [`fresh_id`]: where ids come from; [`Utc`]: times as people read them
//!
//! Inside, from caller to socket: `client`, `batch` and `reads` (calls, in their callers' futures), `retry` (when to
//! try again), `waiter` (the two ends of a call), `intake` and `lanes` (calls that wait, by kind), `connection` (the
//! task behind a connection), `serve` (its life from welcome to end), `session` (bytes, without the socket),
//! `vigil` (a leader that fell silent); `consume` (a task of its own behind each consumer, over a connection of its own); and to find a server: `search` (who is asked, and when), `router` (what is
//! known of the servers), `greet` and `dial` (one address).

mod batch;
pub mod books;
mod builder;
mod call;
mod client;
mod connection;
pub mod consume;
mod dial;
mod error;
mod greet;
mod ids;
mod intake;
mod lanes;
mod order;
pub mod outcome;
mod reads;
mod retry;
mod router;
mod search;
mod serve;
mod session;
mod tail;
#[cfg(test)]
mod tests;
mod time;
mod trouble;
mod url;
pub mod view;
mod vigil;
mod waiter;
mod watch;

pub use builder::{
    Builder, CONNECT_DEADLINE_DEFAULT, CONNECTIONS_MAX, DEADLINE_DEFAULT, PATIENCE_DEFAULT,
    RESOLVE_BUDGET_DEFAULT,
};
pub use client::Client;
pub use consume::{Consume, ConsumeError, Consumed, Consumer, Delivery, Fenced, Start};
pub use error::Error;
pub use ids::{IdGenerator, fresh_id};
pub use order::{Reserve, StockChange};
pub use outcome::{
    At, CancelOutcome, ConfirmOutcome, Ended, GroupOutcome, Invalid, LetterOutcome, PutOutcome,
    ReserveOutcome, Resolution, SealOutcome, StockOutcome,
};
pub use reads::ReadFrom;
pub use sluice_protocol::event::{EventKind, EventView};
pub use sluice_protocol::group::{GroupName, GroupTerms};
pub use sluice_protocol::request::Terms;
pub use sluice_protocol::{
    ClusterId, FaultCode, NodeId, ProductId, RefusedField, ReservationId, State, Status, UserId,
};
pub use tail::{Tail, Tailed};
pub use time::Utc;
pub use trouble::{Tried, Trouble};
pub use url::{ADDRESSES_MAX, Address, UrlError};
pub use view::{DeadLetter, Group, Member, Position, Product, Products, Reservation, StreamBounds};
pub use watch::Watch;
