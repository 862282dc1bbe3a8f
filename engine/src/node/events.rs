//! The threads for the event stream's files: one writes, one reads for others.
//!
//! Deliberately not here: what they do ([`crate::stream`]).

use std::sync::Arc;
use std::thread::JoinHandle;

use super::shared::{Shared, give_up};
use super::{NodeError, spawn};
use crate::datadir::DataDir;
use crate::stream::reads::{self, Asked, Reads};
use crate::stream::thread::{self, Events, Writer};
use crate::stream::{Reader, Store};

/// What the threads begin with.
pub(super) struct Begun {
    writer: Writer,
    reader: Reader,
    asked: Asked,
}

/// The threads' own ends of their queues, and the others'.
pub(super) fn queues(store: Store) -> (Begun, (Events, Reads)) {
    let reader = store.reader();
    let (events, writer) = thread::queue(store);
    let (reads, asked) = reads::queue();
    (Begun { writer, reader, asked }, (events, reads))
}

impl Begun {
    /// Starts them.
    pub(super) fn start(
        self,
        shared: &Arc<Shared>,
        data_dir: &Arc<DataDir>,
    ) -> Result<[JoinHandle<()>; 2], NodeError> {
        let Self { mut writer, reader, asked } = self;
        let with = Arc::clone(shared);
        let writes = spawn("events", data_dir, move || {
            if let Err(error) = writer.run(&with.metrics, &with.board.stream.tail) {
                give_up(&with, &format!("events cannot be written: {error}"));
            }
        })?;
        let with = Arc::clone(shared);
        let reads = spawn("event-reads", data_dir, move || reads::run(reader, &asked, &with.metrics))?;
        Ok([writes, reads])
    }
}
