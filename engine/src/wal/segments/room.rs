//! The thread that makes room: it fills the next segment with zeros before it is needed, and removes those for which a
//! snapshot stands. Both take long, and the log must not wait for either.
//!
//! Deliberately not here: which segments.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::super::StoreError;
use super::file::{self, Segment};

#[derive(Debug)]
enum Order {
    Make(u64),
    Remove(Vec<u64>),
}

/// The thread, as its store sees it.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    /// Few: one segment is on order at a time, and segments are removed after snapshots.
    orders: Option<Sender<Order>>,
    made: Receiver<Result<Segment, StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl Room {
    /// Starts the thread for a log.
    pub(super) fn new(dir: &Path, salt: u64) -> Result<Self, StoreError> {
        let (orders, incoming) = channel();
        let (outgoing, made) = channel();
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

    /// The segment of this number, which was ordered; waits for it. If the disk was full then, there may be room now.
    pub(super) fn take(&self, number: u64) -> Result<Segment, StoreError> {
        match self.receive() {
            Err(StoreError::DiskFull { .. }) => {
                self.order(number)?;
                self.receive()
            }
            made => made,
        }
    }

    fn receive(&self) -> Result<Segment, StoreError> {
        self.made.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    fn send(&self, order: Order) -> Result<(), StoreError> {
        let orders = self.orders.as_ref().expect("orders end with the room");
        orders.send(order).map_err(|_| self.gone())
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

fn work(dir: &Path, salt: u64, orders: &Receiver<Order>, made: &Sender<Result<Segment, StoreError>>) {
    let mut superfluous = VecDeque::new();
    while let Ok(order) = orders.recv() {
        match order {
            Order::Make(number) => {
                if made.send(file::make(dir, number, salt)).is_err() {
                    return;
                }
            }
            Order::Remove(numbers) => {
                superfluous.extend(numbers);
                remove(dir, &mut superfluous);
            }
        }
    }
}

/// Removes segments, oldest first: one that cannot be removed keeps those behind it, so that their numbers never have a
/// gap. It costs room and nothing else, and is tried again with the next.
fn remove(dir: &Path, numbers: &mut VecDeque<u64>) {
    while let Some(number) = numbers.front() {
        if let Err(error) = file::remove(dir, *number) {
            tracing::warn!(%error, "an old part of the log stays");
            return;
        }
        numbers.pop_front();
    }
}
