//! The thread that writes events, and the handle by which they come in.
//!
//! The replica hands over blocks and never waits: how much may be under way, whoever hands them over decides by
//! [`Events::queued_bytes`]. What waits is written by one call. The snapshot thread asks for all events that its snapshot
//! contains to be durable, and waits for that.
//!
//! Deliberately not here: the files ([`super::store`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use sluice_core::stream::{Block, Tail};
use sluice_protocol::event::EventRecord;

use super::kept::Index;
use super::{Missing, Store, StreamError};
use crate::ops::metrics::Metrics;

/// Bytes that are written at a time when so many wait.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// How often it is looked for what may be dropped.
const RETAIN_EVERY: Duration = Duration::from_secs(60);

/// How soon it is looked again if a segment was full meanwhile.
const RETAIN_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Order {
    Write(Arc<Block>),
    Reset(u64),
    Sync(u64, SyncSender<()>),
    Fill(Vec<EventRecord>, SyncSender<()>),
    GiveUp(u64),
    Stop,
}

/// What the thread and its handles share.
#[derive(Debug)]
struct State {
    index: Arc<Index>,
    queued_bytes: AtomicU64,
    floor: AtomicU64,
    ledger_ms: AtomicU64,
}

/// The thread, as the others see it.
#[derive(Clone, Debug)]
pub struct Events {
    orders: Sender<Order>,
    state: Arc<State>,
}

/// The thread's own side.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    orders: Receiver<Order>,
    state: Arc<State>,
}

/// Both sides.
pub fn queue(store: Store) -> (Events, Writer) {
    let (orders, incoming) = channel();
    let state = Arc::new(State {
        index: store.index(),
        queued_bytes: AtomicU64::new(0),
        floor: AtomicU64::new(0),
        ledger_ms: AtomicU64::new(0),
    });
    (Events { orders, state: Arc::clone(&state) }, Writer { store, orders: incoming, state })
}

impl Events {
    /// Hands over the events that follow the last. Never waits.
    pub fn push(&self, block: Arc<Block>) {
        self.state.queued_bytes.fetch_add(block.bytes() as u64, Ordering::Relaxed);
        self.order(Order::Write(block));
    }

    /// Bytes that were handed over and are not written.
    pub fn queued_bytes(&self) -> u64 {
        self.state.queued_bytes.load(Ordering::Relaxed)
    }

    /// The last sequence that is written, so that it can be read from files.
    pub fn written(&self) -> u64 {
        self.state.index.last()
    }

    /// The ledger was replaced by one that has made events up to `upto`. Those that were not handed over before are missing
    /// here.
    pub fn reset(&self, upto: u64) {
        self.order(Order::Reset(upto));
    }

    /// Waits until all events up to this sequence are durable, as far as they were made here. They must have been handed
    /// over.
    pub fn sync_upto(&self, sequence: u64) {
        let (done, is_done) = sync_channel(1);
        self.order(Order::Sync(sequence, done));
        // A thread that fails ends the process, and with it this one.
        while is_done.recv().is_err() {
            std::thread::park();
        }
    }

    /// The sequences that are missing here, oldest first.
    pub fn missing(&self) -> Vec<Missing> {
        self.state.index.kept().missing()
    }

    /// Keeps events that were missing, and waits until they are durable. Only one thread fills, from what is missing.
    pub fn fill(&self, events: Vec<EventRecord>) {
        let (done, is_done) = sync_channel(1);
        self.order(Order::Fill(events, done));
        // As above.
        while is_done.recv().is_err() {
            std::thread::park();
        }
    }

    /// What is missing up to this sequence, and before everything that is here, counts as dropped.
    pub fn give_up(&self, upto: u64) {
        self.order(Order::GiveUp(upto));
    }

    /// Tells below which sequence nobody needs anything, and ledger time: what may be dropped follows from both.
    pub fn survey(&self, floor: u64, ledger_ms: u64) {
        self.state.floor.store(floor, Ordering::Relaxed);
        self.state.ledger_ms.store(ledger_ms, Ordering::Relaxed);
    }

    /// Ends the thread once it has written what was handed over before. All of it is durable then.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the thread that writes events ends last, or with the process");
    }
}

impl Writer {
    /// Writes until it is stopped.
    ///
    /// # Errors
    /// [`StreamError`]; the caller ends the process, and keeps this until then: others may be handing over events.
    pub fn run(&mut self, metrics: &Metrics, tail: &Tail) -> Result<(), StreamError> {
        self.tell(metrics, tail);
        let (mut retained, mut has_rolled) = (Instant::now(), true);
        loop {
            let order = match self.orders.recv_timeout(RETAIN_EVERY) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
            };
            let goes_on = order.map_or(Ok(true), |order| self.carry_out(order))?;
            has_rolled |= self.tell(metrics, tail);
            if !goes_on {
                return Ok(());
            }
            if retained.elapsed() >= if has_rolled { RETAIN_PAUSE } else { RETAIN_EVERY } {
                (retained, has_rolled) = (Instant::now(), false);
                let (floor, ledger_ms) = (&self.state.floor, &self.state.ledger_ms);
                self.store.retain(floor.load(Ordering::Relaxed), ledger_ms.load(Ordering::Relaxed));
                self.tell(metrics, tail);
            }
        }
    }

    /// Carries out an order, and, behind a block, those that wait. Whether more will come.
    fn carry_out(&mut self, order: Order) -> Result<bool, StreamError> {
        let mut next = Some(order);
        while let Some(order) = next.take() {
            match order {
                Order::Write(block) => next = self.write(block)?,
                Order::Reset(upto) => self.store.reset(upto)?,
                Order::Sync(sequence, done) => {
                    assert!(
                        self.store.last() >= sequence,
                        "what a snapshot contains was handed over before it"
                    );
                    self.store.sync()?;
                    // Whoever asked may have gone with the process.
                    let _ = done.send(());
                }
                Order::Fill(events, done) => {
                    self.store.fill(&events)?;
                    let _ = done.send(());
                }
                Order::GiveUp(upto) => self.store.give_up(upto)?,
                Order::Stop => {
                    self.store.sync()?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes a block and those that wait behind it. Returns the order that came then.
    fn write(&mut self, block: Arc<Block>) -> Result<Option<Order>, StreamError> {
        let mut bytes = block.bytes();
        let mut blocks = vec![block];
        let mut next = None;
        while bytes < WRITE_BYTES_MAX {
            match self.orders.try_recv() {
                Ok(Order::Write(block)) => {
                    bytes += block.bytes();
                    blocks.push(block);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let events: Vec<_> = blocks.iter().map(|block| block.events()).collect();
        self.store.append(&events)?;
        self.state.queued_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        Ok(next)
    }

    /// Tells what was done. Whether a segment was begun.
    fn tell(&mut self, metrics: &Metrics, tail: &Tail) -> bool {
        let work = self.store.take_work();
        metrics.event_writes.add(work.writes);
        metrics.event_bytes.add(work.bytes);
        work.syncs.iter().for_each(|span| metrics.event_fsync_duration.record(*span));
        let figures = self.store.figures();
        tail.written(figures.last);
        tail.keep_from(figures.dropped + 1);
        metrics.event_first.set(figures.first);
        metrics.event_last.set(figures.last);
        metrics.event_disk_bytes.set(figures.bytes);
        metrics.events_missing.set(figures.missing);
        work.segments > 0
    }
}
