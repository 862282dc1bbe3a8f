//! The servers of others that tests and benchmarks need, as real processes that end with their owner.

mod postgres;

pub use postgres::Postgres;
