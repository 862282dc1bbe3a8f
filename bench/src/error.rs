//! Why a measurement could not be made, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sluice_engine::child::LaunchError;
use sluice_protocol::DecodeError;
use thiserror::Error;

/// See the module.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The binary to measure has not been built.
    #[error(
        "there is no server at {0}: build it with `cargo build --release --bins -p sluice-engine -p sluice-bench`, \
         or name a running one with --server"
    )]
    NoServer(PathBuf),
    /// The other system is not installed.
    #[error("{0} is not installed: `apt-get install redis-server redis-tools`")]
    NoRedis(&'static str),
    /// A server of our own did not start.
    #[error("{program} did not start: {said}")]
    NotStarted {
        /// Which one.
        program: String,
        /// Its last words.
        said: String,
    },
    /// Nodes of our own became no cluster, or one of them did not come back.
    #[error("the cluster: {0}")]
    Cluster(#[from] LaunchError),
    /// A new node got the log instead.
    #[error("no snapshot was sent: there was too little log for one; make more reservations with --live")]
    NoSnapshot,
    /// Nobody sold on after the leader's death.
    #[error("nobody sells on {} s after the leader's death", .0.as_secs())]
    Silent(Duration),
    /// Somebody was told something that is not so.
    #[error("{answers} answers were wrong: the figures above are worth nothing")]
    Wrong {
        /// How many.
        answers: usize,
    },
    /// A server's address is not one.
    #[error("{0:?} is no server's address: write sluice://host:port")]
    Address(String),
    /// A server broke off, or said something that its protocol does not allow.
    #[error("{0}")]
    Protocol(String),
    /// Bytes that are not a frame.
    #[error("the server's reply is malformed: {0}")]
    Frame(#[from] DecodeError),
    /// The client crate gave up.
    #[error("the client crate: {0}")]
    Client(#[from] sluice_client::Error),
    /// A consumer gave up.
    #[error("the consumer: {0}")]
    Consume(#[from] sluice_client::ConsumeError),
    /// Events that there are do not come.
    #[error("no event was delivered for {} s, and there are more", .0.as_secs())]
    Undelivered(Duration),
    /// PostgreSQL refused something, or was lost.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sluice_postgres::tokio_postgres::Error),
    /// The hand-off gave up.
    #[error("the hand-off: {0}")]
    HandOff(#[from] sluice_postgres::HandOffError),
    /// The system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl BenchError {
    /// For `map_err`: names what was being done.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
