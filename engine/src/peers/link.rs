//! Messages on their way to one process, between the replica thread and a connection.
//!
//! Bounded in messages and bytes. What does not fit, or has no connection, is dropped and told: raft sends it again.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use sluice_core::replica::peer::{Body, Envelope};
use tokio::sync::Notify;

/// Messages that may wait.
const MESSAGES_MAX: usize = 1024;

/// What a message takes beside entries and chunks, about.
const MESSAGE_BYTES: usize = 256;

/// How a connection is, for people.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Whether there is a connection.
    pub(crate) is_up: bool,
    /// Since when.
    pub(crate) since: Instant,
    /// Why there is none, if it was tried.
    pub(crate) trouble: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    node: u64,
    bytes_max: usize,
    queue: ArrayQueue<Envelope>,
    bytes: AtomicUsize,
    is_up: AtomicBool,
    /// Something was dropped, or the connection was lost, since this was last asked.
    failed: AtomicBool,
    dropped: AtomicU64,
    standing: Mutex<Standing>,
    wake: Notify,
}

impl Link {
    /// A link without a connection.
    pub(super) fn new(node: u64, bytes_max: usize) -> Self {
        let standing = Standing { is_up: false, since: Instant::now(), trouble: String::new() };
        Self {
            node,
            bytes_max,
            queue: ArrayQueue::new(MESSAGES_MAX),
            bytes: AtomicUsize::new(0),
            is_up: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            standing: Mutex::new(standing),
            wake: Notify::new(),
        }
    }

    /// Who is at its other end.
    pub(super) fn node(&self) -> u64 {
        self.node
    }

    /// Queues a message, or drops it. Wakes nobody.
    pub(super) fn push(&self, envelope: Envelope) {
        let len = weight(&envelope);
        let fits = self.bytes.load(Ordering::Relaxed) + len <= self.bytes_max;
        if fits && self.is_up.load(Ordering::Acquire) {
            self.bytes.fetch_add(len, Ordering::Relaxed);
            match self.queue.push(envelope) {
                Ok(()) => return,
                Err(_) => self.bytes.fetch_sub(len, Ordering::Relaxed),
            };
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.failed.store(true, Ordering::Release);
    }

    /// The next message.
    pub(super) fn pop(&self) -> Option<Envelope> {
        let envelope = self.queue.pop()?;
        self.bytes.fetch_sub(weight(&envelope), Ordering::Relaxed);
        Some(envelope)
    }

    /// Wakes whoever sends.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until there may be something to send.
    pub(super) async fn awake(&self) {
        self.wake.notified().await;
    }

    /// There is a connection.
    pub(super) fn up(&self) {
        *self.standing.lock() = Standing { is_up: true, since: Instant::now(), trouble: String::new() };
        self.is_up.store(true, Ordering::Release);
    }

    /// There is none, and why. What waits is old when there is one again.
    pub(super) fn down(&self, trouble: &str) {
        self.is_up.store(false, Ordering::Release);
        let mut standing = self.standing.lock();
        if standing.is_up {
            (standing.is_up, standing.since) = (false, Instant::now());
        }
        trouble.clone_into(&mut standing.trouble);
        drop(standing);
        while self.pop().is_some() {}
        // Last: whoever hears of it finds the rest done.
        self.failed.store(true, Ordering::Release);
    }

    /// Whether messages may not have arrived since this was last asked.
    pub(super) fn take_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) && self.failed.swap(false, Ordering::AcqRel)
    }

    /// Messages dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How its connection is.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }
}

fn weight(envelope: &Envelope) -> usize {
    let more = match &envelope.body {
        Body::Raft(message) => message.entries.iter().map(|entry| entry.data.len()).sum(),
        Body::Chunk(chunk) => chunk.bytes.len(),
        _ => 0,
    };
    MESSAGE_BYTES + more
}

#[cfg(test)]
mod tests {
    use sluice_core::replica::peer::Identity;
    use sluice_protocol::ids::ClusterId;

    use super::*;

    fn message() -> Envelope {
        let from = Identity { cluster: ClusterId(1), node: 1, incarnation: 1, boot: 1, nonce: 1 };
        Envelope { from, to: 2, body: Body::Welcome { nonce: 2 } }
    }

    #[test]
    fn without_a_connection_messages_are_dropped_and_that_is_told_once() {
        let link = Link::new(2, 1 << 20);
        link.push(message());
        assert!(link.take_failed() && !link.take_failed());
        link.up();
        link.push(message());
        assert!(!link.take_failed());
        link.down("it broke");
        assert!(link.take_failed() && link.pop().is_none());
        assert_eq!((link.standing().is_up, link.standing().trouble.as_str()), (false, "it broke"));
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let link = Link::new(2, 3 * MESSAGE_BYTES);
        link.up();
        (0..4).for_each(|_| link.push(message()));
        assert_eq!(link.dropped(), 1);
        assert!(link.take_failed());
        assert_eq!(std::iter::from_fn(|| link.pop()).count(), 3);
        link.push(message());
        assert_eq!(link.dropped(), 1);
    }
}
