//! Good clients: they ask for what there is, and whatever goes on around them, each answer must be the right one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use sluice_protocol::request::{IdItem, ReserveItem};
use sluice_protocol::{Kind, Status};
use zerocopy::IntoBytes;

use super::PRODUCT;
use crate::raw::{PATIENCE, Raw, frame, order, reserve};

/// One request at a time, as an application server without our client would.
const SINGLES: u64 = 4;
/// Frames of this many, two in flight.
const BATCHERS: u64 = 2;
const BATCH: u64 = 64;
/// One of so many is paid for.
const CONFIRMED_PART: u64 = 8;

/// How often a count is looked at that others raise.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Good clients at work.
pub(crate) struct Good {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Bought>>,
}

/// What they have, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bought {
    pub held: u64,
    pub sold: u64,
}

impl Good {
    /// Connects them before anybody else comes.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (1..=SINGLES + BATCHERS).map(|name| {
            let (raw, stop, answered) = (Raw::greeted(address), Arc::clone(&stop), Arc::clone(&answered));
            spawn(move || match name {
                1..=SINGLES => single(raw, name, &stop, &answered),
                _ => batcher(raw, name, &stop, &answered),
            })
        });
        Self { threads: threads.collect(), stop, answered }
    }

    /// Waits until they have had so many answers more.
    pub(crate) fn go_on(&self, more: u64) {
        let (target, since) = (self.answered.load(Ordering::Relaxed) + more, Instant::now());
        while self.answered.load(Ordering::Relaxed) < target {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a good client has broken off");
            assert!(since.elapsed() < PATIENCE, "good clients hear nothing any more");
            sleep(LOOK_EVERY);
        }
    }

    /// How many answers they have had.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends them: what they have bought. Whatever one of them has noticed fails here.
    pub(crate) fn finish(self) -> Bought {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Bought::default();
        for thread in self.threads {
            let bought = thread.join().expect("a good client noticed something");
            sum.held += bought.held;
            sum.sold += bought.sold;
        }
        sum
    }
}

fn single(mut raw: Raw, name: u64, stop: &AtomicBool, answered: &AtomicU64) -> Bought {
    let mut bought = Bought::default();
    for nth in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = u128::from(name) << 64 | u128::from(nth);
        assert_eq!(raw.reserve(order(id, PRODUCT, name, 1)), Status::Reserved, "{name}: request {nth}");
        bought.held += 1;
        if nth.is_multiple_of(CONFIRMED_PART) {
            raw.send(&frame(Kind::Confirm, 1, 7, IdItem::new(id.into()).as_bytes()));
            assert_eq!(raw.answers().1[0].status(), Some(Status::Confirmed), "{name}: payment {nth}");
            bought = Bought { held: bought.held - 1, sold: bought.sold + 1 };
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    bought
}

fn batcher(mut raw: Raw, name: u64, stop: &AtomicBool, answered: &AtomicU64) -> Bought {
    let mut bought = Bought::default();
    let batch = |nth: u64| {
        let id = |line| u128::from(name) << 64 | u128::from(nth * BATCH + line);
        let orders: Vec<ReserveItem> = (0..BATCH).map(|line| order(id(line), PRODUCT, name, 1)).collect();
        reserve(nth, &orders)
    };
    raw.send(&batch(1));
    for nth in 2.. {
        let last = stop.load(Ordering::Relaxed);
        if !last {
            raw.send(&batch(nth));
        }
        let answers = raw.answers().1;
        let told: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
        assert!(told.iter().all(|told| *told == Some(Status::Reserved)), "{name}: batch {nth}: {told:?}");
        bought.held += answers.len() as u64;
        answered.fetch_add(answers.len() as u64, Ordering::Relaxed);
        if last {
            break;
        }
    }
    bought
}
