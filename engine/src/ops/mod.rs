//! What operators see: numbers, health, and the HTTP port that shows them.
//!
//! The rooms:
//! - [`metrics`]: every metric, declared once
//! - [`cells`]: the atomics they are made of
//! - [`histogram`]: distributions without a lock
//! - [`labels`]: the fixed sets of label values
//! - [`rates`]: answers a second, for people; [`groups`]: consumer groups
//! - [`health`]: alive, ready, and why not
//! - [`server`]: the HTTP port, each connection `bounded`; `books`: its answers to auditors
//! - [`stats`]: a node at a glance, as JSON
//! - [`fetch`]: asks such a port
//!
//! Threads that do the work only touch [`metrics::Metrics`] and [`health::Health`]; both exist before the port
//! opens and go on without it. Deliberately not here: numbers per product. A sale may have a million products, and
//! a time series for each would drown the collector; ask the protocol for a product's own figures.

mod books;
mod bounded;
pub mod cells;
mod export;
pub mod fetch;
pub mod groups;
pub mod health;
pub mod histogram;
pub mod labels;
pub mod members;
pub mod metrics;
pub mod rates;
pub mod server;
pub mod stats;

pub use health::Health;
pub use metrics::Metrics;
