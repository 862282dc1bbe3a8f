//! The thread that makes room: it fills the next segment with zeros before it is needed, and removes those for which a
//! snapshot stands. Both take long, and the log must not wait for either.
//!
//! Deliberately not here: which segments.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::super::StoreError;
use super::file::{self, Segment};

/// One segment is made at a time, and what is to be removed comes with the orders.
const ORDERS_MAX: usize = 64;

enum Order {
    Make(u64),
    Remove(Vec<u64>),
}

/// The thread, as its store sees it.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    orders: Option<SyncSender<Order>>,
    made: Receiver<Result<Segment, StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Make(number) => write!(f, "Make({number})"),
            Self::Remove(numbers) => write!(f, "Remove({numbers:?})"),
        }
    }
}

impl Room {
    /// Starts the thread for a log.
    pub(super) fn new(dir: &Path, salt: u64) -> Result<Self, StoreError> {
        let (orders, incoming) = sync_channel(ORDERS_MAX);
        // One segment waits here, and the failure that ended the thread.
        let (outgoing, made) = sync_channel(2);
        let of = dir.to_path_buf();
        let thread = Builder::new()
            .name("wal-room".to_owned())
            .spawn(move || work(&of, salt, &incoming, &outgoing))
            .map_err(|e| StoreError::io(dir, "starting the thread that makes room", e))?;
        Ok(Self { dir: dir.to_path_buf(), orders: Some(orders), made, thread: Some(thread) })
    }

    /// Has the segment of this number made.
    pub(super) fn order(&self, number: u64) -> Result<(), StoreError> {
        self.send(Order::Make(number))
    }

    /// Has segments removed, oldest first.
    pub(super) fn remove(&self, numbers: Vec<u64>) -> Result<(), StoreError> {
        self.send(Order::Remove(numbers))
    }

    /// The segment that was ordered; waits for it.
    pub(super) fn take(&self) -> Result<Segment, StoreError> {
        self.made.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    fn send(&self, order: Order) -> Result<(), StoreError> {
        let orders = self.orders.as_ref().expect("orders end with the room");
        // The thread ends only by a failure, and leaves that behind.
        orders.send(order).or_else(|_| self.take().map(drop).and(Err(self.gone())))
    }

    fn gone(&self) -> StoreError {
        StoreError::io(&self.dir, "making room for the log", io::Error::other("its thread is gone"))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Nothing is written into the directory once its store is gone.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _: Result<(), _> = thread.join();
        }
    }
}

fn work(dir: &Path, salt: u64, orders: &Receiver<Order>, made: &SyncSender<Result<Segment, StoreError>>) {
    while let Ok(order) = orders.recv() {
        let done = match order {
            Order::Make(number) => file::make(dir, number, salt).map(Some),
            Order::Remove(numbers) => file::remove(dir, numbers.into_iter()).map(|()| None),
        };
        match done {
            Ok(None) => {}
            Ok(Some(segment)) => {
                if made.send(Ok(segment)).is_err() {
                    return;
                }
            }
            Err(error) => {
                // Told when room is needed; a store that is gone needs none.
                let _: Result<(), _> = made.send(Err(error));
                return;
            }
        }
    }
}
