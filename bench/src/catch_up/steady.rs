//! A steady load on a thread of its own, for as long as something else takes, and what its buyers notice.
//!
//! Made of windows of a second, one right behind the other: the driver measures for a time that is known beforehand.
//! The longest time without a yes is taken over all of them, the seams included. Deliberately not here: what else
//! happens.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::measure::Quantiles;
use crate::speech::sluice::SluiceSpeech;
use crate::speech::{Asked, Heard, Speech, Tally};

/// One window.
const WINDOW: Duration = Duration::from_secs(1);

/// Longer than this the load never goes on.
const WINDOWS_MAX: usize = 600;

/// What buyers noticed.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// How long they were asked.
    pub seconds: f64,
    /// Outcomes a second.
    pub rate: f64,
    /// From due to answered.
    pub latency: Quantiles,
    /// The longest time without a yes, milliseconds.
    pub longest_gap_ms: f64,
    /// Requests that heard `Busy`, and those that heard something else which is no outcome: that this node does not lead
    /// any more.
    pub busy: u64,
    /// See above.
    pub other: u64,
    /// Requests that found no room, or no answer.
    pub lost: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Steady {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<(Seen, SluiceSpeech), BenchError>>,
}

impl Steady {
    /// Begins to ask the node at this address.
    pub fn start(address: SocketAddr, speech: SluiceSpeech, rate: f64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        Self { over, thread: std::thread::spawn(move || run(address, speech, rate, &is_over)) }
    }

    /// Ends with the window that is under way.
    ///
    /// # Errors
    /// If the node broke off.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(self) -> Result<(Seen, SluiceSpeech), BenchError> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}

fn run(
    address: SocketAddr,
    speech: SluiceSpeech,
    rate: f64,
    over: &AtomicBool,
) -> Result<(Seen, SluiceSpeech), BenchError> {
    let plan = Plan {
        pace: Pace::Open { per_second: rate },
        connections: 8,
        frame: 1024,
        pipeline: 32,
        warm_up: Duration::ZERO,
        measure: WINDOW,
    };
    let mut watched = Watched { speech, last: Instant::now(), longest: Duration::ZERO };
    let mut latency = Histogram::<u64>::new(3).expect("three digits can be kept");
    let (mut seconds, mut settled, mut busy, mut other, mut lost) = (0.0, 0, 0, 0, 0);
    for _ in 0..WINDOWS_MAX {
        let measured = drive(&mut watched, address, &plan, None, &mut |_| {})?;
        latency.add(&measured.histogram).expect("it grows with what it is given");
        seconds += measured.seconds;
        settled += measured.answers.settled();
        busy += measured.answers.busy;
        other += measured.answers.other;
        lost += measured.unsent + measured.unanswered;
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    let seen = Seen {
        seconds,
        rate: settled as f64 / seconds,
        latency: Quantiles::of(&latency),
        longest_gap_ms: watched.longest.as_secs_f64() * 1e3,
        busy,
        other,
        lost,
    };
    Ok((seen, watched.speech))
}

/// Notes how long nobody heard a yes.
#[derive(Debug)]
struct Watched {
    speech: SluiceSpeech,
    last: Instant,
    longest: Duration,
}

impl Speech for Watched {
    fn greet(&mut self, stream: &mut TcpStream) -> Result<(), BenchError> {
        self.speech.greet(stream)
    }

    fn ask(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        self.speech.ask(items, out)
    }

    fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<usize, BenchError> {
        let before = self.speech.tally().accepted;
        let taken = self.speech.hear(bytes, heard)?;
        if self.speech.tally().accepted > before {
            let now = Instant::now();
            self.longest = self.longest.max(now.duration_since(self.last));
            self.last = now;
        }
        Ok(taken)
    }

    fn tally(&self) -> Tally {
        self.speech.tally()
    }
}
