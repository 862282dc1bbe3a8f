//! The servers of others that tests and benchmarks need, as real processes that end with their owner.

mod nats;
mod postgres;

pub use nats::Nats;
pub use postgres::Postgres;
