//! The threads for the event stream's files: one writes, one reads for others, and in a cluster one fills gaps.
//!
//! Deliberately not here: what they do ([`crate::stream`]).

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_protocol::ids::ClusterId;

use super::shared::{Shared, give_up};
use super::{NodeError, spawn};
use crate::datadir::DataDir;
use crate::peers::Post;
use crate::stream::fill::{Given, Giver};
use crate::stream::reads::{self, Asked, Reads};
use crate::stream::thread::{self, Events, Writer};
use crate::stream::{Missing, Reader, Store};

/// What the threads begin with.
pub(super) struct Begun {
    writer: Writer,
    reader: Reader,
    asked: Asked,
}

/// The threads, as the node knows them.
#[derive(Debug)]
pub(super) struct EventThreads {
    /// Ends by itself when the node stops.
    pub(super) filler: JoinHandle<()>,
    /// End when they are told to.
    pub(super) files: [JoinHandle<()>; 2],
}

/// The threads' own ends of their queues, and the others'.
pub(super) fn queues(store: Store) -> (Begun, (Events, Reads)) {
    let reader = store.reader();
    let (events, writer) = thread::queue(store);
    let (reads, asked) = reads::queue();
    (Begun { writer, reader, asked }, (events, reads))
}

impl Begun {
    /// Starts them. `rate` is how many bytes a second may be fetched from other nodes.
    pub(super) fn start(
        self,
        shared: &Arc<Shared>,
        data_dir: &Arc<DataDir>,
        cluster: ClusterId,
        rate: u64,
    ) -> Result<EventThreads, NodeError> {
        let Self { mut writer, reader, asked } = self;
        let with = Arc::clone(shared);
        let writes = spawn("events", data_dir, move || {
            if let Err(error) = writer.run(&with.metrics, &with.board.stream.tail) {
                give_up(&with, &format!("events cannot be written: {error}"));
            }
        })?;
        let with = Arc::clone(shared);
        let reads = spawn("event-reads", data_dir, move || reads::run(reader, &asked, &with.metrics))?;
        let with = Arc::clone(shared);
        let filler = spawn("events-fill", data_dir, move || fill_gaps(&with, cluster, rate))?;
        Ok(EventThreads { filler, files: [writes, reads] })
    }
}

/// How long it is waited before what is missing is asked for again, or anything is missing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Fetches what is missing here from other nodes, until the node stops.
fn fill_gaps(shared: &Shared, cluster: ClusterId, rate: u64) {
    let Some(post) = &shared.post else { return };
    while !shared.is_stopping() {
        let gap = shared.events.missing().first().copied();
        if !gap.is_some_and(|gap| fill_from_others(shared, post, cluster, rate, gap)) {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

/// Fills what the first node that has anything of a gap has of it. Whether any had.
fn fill_from_others(shared: &Shared, post: &Post, cluster: ClusterId, rate: u64, gap: Missing) -> bool {
    let book = post.book();
    let others = book.nodes().filter(|node| *node != post.node());
    let (mut all, mut without) = (0, 0);
    for node in others {
        all += 1;
        let Some(entry) = book.get(node) else { continue };
        match fill(shared, &entry.clients, cluster, rate, gap) {
            Ok(true) => return true,
            Ok(false) => without += 1,
            Err(error) => {
                tracing::debug!(from = gap.from, at = entry.clients, %error, "events cannot be fetched");
            }
        }
    }
    if all > 0 && without == all && shared.board.stream.groups().iter().next().is_none() {
        // An earlier version kept none, and nobody waits for them.
        shared.events.give_up(gap.to);
    }
    false
}

/// Fills what one node has of a gap. Whether it had anything.
fn fill(shared: &Shared, address: &str, cluster: ClusterId, rate: u64, mut gap: Missing) -> io::Result<bool> {
    let mut giver = Giver::connect(address, cluster, rate)?;
    let mut progress = false;
    while gap.from <= gap.to && !shared.is_stopping() {
        match giver.give(gap)? {
            Given::Events(events) => {
                let filled = events.len() as u64;
                tracing::info!(from = gap.from, to = gap.from + filled - 1, at = address, "events filled in");
                shared.events.fill(events);
                gap.from += filled;
            }
            Given::DroppedBefore(first) => {
                let upto = gap.to.min(first - 1);
                tracing::warn!(from = gap.from, to = upto, at = address, "events were dropped everywhere");
                shared.events.give_up(upto);
                return Ok(upto >= gap.from);
            }
            Given::Nothing => break,
        }
        progress = true;
    }
    Ok(progress)
}
