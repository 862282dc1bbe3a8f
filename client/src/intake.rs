//! The calls that a connection has been given and has not written: in its queue, and sorted by kind in its lanes.
//!
//! They survive any number of connections, up to their own deadline. Deliberately not here: writing them.

use sluice_protocol::limits::ITEMS_MAX;
use tokio::sync::mpsc;

use crate::call::{Call, Lost};
use crate::lanes::Lanes;

/// Calls that may wait in the queue before further callers wait for room.
const QUEUE_MAX: usize = 4 * ITEMS_MAX;

/// Calls that are taken out of the queue ahead of writing them: enough to fill a few frames of each kind.
const LANES_MAX: usize = 4 * ITEMS_MAX;

/// Calls on their way to a socket.
pub(crate) struct Intake {
    queue: mpsc::Receiver<Call>,
    pub(crate) lanes: Lanes,
    /// Where calls stand for a moment between queue and lanes; kept for its memory.
    taken: Vec<Call>,
}

impl Intake {
    pub(crate) fn new() -> (mpsc::Sender<Call>, Self) {
        let (callers, queue) = mpsc::channel(QUEUE_MAX);
        (callers, Self { queue, lanes: Lanes::default(), taken: Vec::new() })
    }

    /// Whether anybody waits for an answer.
    pub(crate) fn is_wanted(&mut self) -> bool {
        self.take_waiting();
        self.lanes.purge();
        !self.lanes.is_empty()
    }

    /// Waits until somebody calls. `false`: nobody can any more.
    pub(crate) async fn first(&mut self) -> bool {
        match self.queue.recv().await {
            Some(call) => self.lanes.push(call),
            None => return false,
        }
        true
    }

    /// Whether more calls may be taken out of the queue.
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Waits for more calls, and takes them. `false`: nobody can call any more.
    pub(crate) async fn more(&mut self) -> bool {
        let room = self.room();
        self.queue.recv_many(&mut self.taken, room).await > 0
    }

    /// Moves what waits in the queue into the lanes, as far as they want.
    pub(crate) fn take_waiting(&mut self) {
        self.taken.drain(..).for_each(|call| self.lanes.push(call));
        while self.lanes.len() < LANES_MAX {
            let Ok(call) = self.queue.try_recv() else { return };
            self.lanes.push(call);
        }
    }

    /// Ends every waiting call in the same way.
    pub(crate) fn fail_all(&mut self, lost: Lost) {
        self.take_waiting();
        self.lanes.fail_all(lost);
    }

    fn room(&self) -> usize {
        LANES_MAX.saturating_sub(self.lanes.len())
    }
}
