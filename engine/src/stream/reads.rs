//! The thread that reads events from files for others, who must not wait for a disk: net threads above all.
//!
//! Its queue is bounded; when it is full the asker hears so at once, and asks later. Deliberately not here: what becomes of
//! an answer.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use sluice_protocol::event::EventRecord;

use super::{ReadError, Reader};
use crate::ops::metrics::Metrics;

/// Reads that may wait.
pub const WAITING_MAX: usize = 1024;

/// What is done with events that were read, by the thread that read them: it must not take long.
pub type Reply = Box<dyn FnOnce(Result<Vec<EventRecord>, ReadError>) + Send>;

/// What is done with a sequence that was found.
pub type FoundReply = Box<dyn FnOnce(Result<u64, ReadError>) + Send>;

/// What the thread is to do.
pub enum Ask {
    /// [`Reader::read`].
    Read {
        /// The first sequence wanted.
        from: u64,
        /// How many at most.
        max: usize,
        /// Where they go.
        reply: Reply,
    },
    /// [`Reader::find_time`].
    FindTime {
        /// Ledger time, milliseconds since 1970.
        time_ms: u64,
        /// Where the sequence goes.
        reply: FoundReply,
    },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { from, max, .. } => {
                f.debug_struct("Read").field("from", from).field("max", max).finish()
            }
            Self::FindTime { time_ms, .. } => f.debug_struct("FindTime").field("time_ms", time_ms).finish(),
        }
    }
}

/// The thread, as the others see it.
#[derive(Clone, Debug)]
pub struct Reads(SyncSender<Option<Ask>>);

/// Its end of the queue.
#[derive(Debug)]
pub struct Asked(Receiver<Option<Ask>>);

/// Both ends.
pub fn queue() -> (Reads, Asked) {
    let (asks, asked) = sync_channel(WAITING_MAX);
    (Reads(asks), Asked(asked))
}

impl Reads {
    /// Has something read.
    ///
    /// # Errors
    /// The same, if as many as may wait do.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        self.0.try_send(Some(ask)).map_err(|error| match error {
            TrySendError::Full(ask) | TrySendError::Disconnected(ask) => ask.expect("it was just put there"),
        })
    }

    /// Ends the thread once it has read what was asked before.
    pub fn stop(&self) {
        // A thread that is gone has ended.
        let _ = self.0.send(None);
    }
}

/// Reads until it is stopped.
pub fn run(mut reader: Reader, asked: &Asked, metrics: &Metrics) {
    while let Ok(Some(ask)) = asked.0.recv() {
        metrics.event_reads.increment();
        match ask {
            Ask::Read { from, max, reply } => {
                let read = reader.read(from, max);
                note(metrics, read.as_ref().err());
                reply(read);
            }
            Ask::FindTime { time_ms, reply } => {
                let found = reader.find_time(time_ms);
                note(metrics, found.as_ref().err());
                reply(found);
            }
        }
    }
}

/// Files that do not have what was written are told; that something is not here is no fault of theirs.
fn note(metrics: &Metrics, error: Option<&ReadError>) {
    if let Some(error @ (ReadError::Damaged { .. } | ReadError::Io { .. })) = error {
        metrics.event_reads_failed.increment();
        tracing::error!(%error, "events cannot be read");
    }
}
