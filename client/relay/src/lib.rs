//! Relays the stream of events to message brokers: every event, once, in the order of the sequences.
//!
//! ```no_run
//! # async fn example(client: sluice_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use sluice_relay::nats::{Nats, Target};
//! use sluice_relay::Relay;
//!
//! let source = client.cluster().expect("a client that was connected knows its cluster").to_string();
//! let target = Target::parse("nats://127.0.0.1:4222")?;
//! let relay = Relay::new(client, Nats::new(target, source)?);
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! let tally = relay.run(stop, |note| eprintln!("{note}")).await?;
//! println!("{} events were published", tally.events);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - **The destination is a copy of the stream.** It has every event from where the group began, each once, in the order of
//!   the sequences; what the servers keep no more is a message of its own. Nothing else is ever between them.
//! - **The copy says how far it is.** What was published is read from the destination itself, at the beginning and after
//!   each trouble; the group's cursor follows. So a crash at any point, of either side, repeats nothing and loses nothing,
//!   however long it lasts.
//! - **Only one relay of a group publishes.** Another waits for its seat. One that was stopped in the midst and wakes up behind
//!   its successor is refused by the destination: each message is stored only directly behind its predecessor.
//!
//! # The rooms
//! - [`Relay`]: the whole, with its settings; `seat`: how one relay at a time comes to work; `session`: that work
//! - `lineup`: what comes next, without sockets
//! - [`Destination`]: what a broker must be able to do; [`Message`]: what it gets
//! - [`nats`]: NATS JetStream
//! - [`event_json`]: an event as an object for programs
//! - [`Note`], [`Tally`]: what is told meanwhile; [`RelayError`]: why it ended

mod destination;
mod error;
mod json;
mod lineup;
mod message;
#[cfg(feature = "nats")]
pub mod nats;
mod note;
mod relay;
mod seat;
mod session;

pub use destination::{Destination, DestinationError};
pub use error::RelayError;
pub use json::{event_json, kind_name};
pub use message::{Message, Payload};
pub use note::{Note, Tally};
pub use relay::{GROUP_DEFAULT, Relay};
