//! The servers of others that tests and benchmarks need, as real processes that end with their owner.

mod nats;

pub use nats::Nats;
