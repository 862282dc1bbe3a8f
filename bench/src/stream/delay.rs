//! How soon one event among many is delivered, under a steady load.
//!
//! The load is open loop, on a thread of its own; the consumer on another. Both read one clock: when a frame left and was
//! answered is kept by the numbers of its requests, when an event was delivered by the id of its reservation, and they are
//! put together when all is over. Deliberately not here: the client's share of a reservation's own latency, which other
//! measurements tell.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use sluice_client::{Client, ConsumeError, ReservationId, Start};
use tokio::sync::watch;

use super::take::{BATCH, delivery, over};
use super::{GROUP, StreamArgs, fill, runtime};
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::measure::Quantiles;
use crate::server::sluice::SluiceServer;
use crate::speech::sluice::SluiceSpeech;
use crate::speech::{Asked, Heard, Speech, Tally};
use crate::workload::Workload;

/// Not measured, at the beginning.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long the last events may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Delay {
    /// Reservations a second that were due.
    pub rate: f64,
    /// Events that were delivered, and those of them whose reservation was sent behind the warm-up.
    pub delivered: u64,
    /// See above.
    pub measured: u64,
    /// From a reservation's frame until its answer, and until its event is in the application's hands.
    pub sent_to_answered: Quantiles,
    /// See above.
    pub sent_to_delivered: Quantiles,
    /// 0 for an event that was there before the answer.
    pub answered_to_delivered: Quantiles,
    /// p99 from sent to delivered ÷ p99 from sent to answered.
    pub p99_ratio: f64,
}

impl StreamArgs {
    pub(super) fn delay(&self) -> Result<Delay, BenchError> {
        let OwnServer { given, settings } = &self.server;
        let server = SluiceServer::start(&given.folder, settings)?;
        let speech = fill::sale(server.address())?;
        let clock = Instant::now();
        let follower = Follower::start(server.url(), clock)?;
        let mut timed = Timed { workload: speech.workload().clone(), speech, clock, frames: Vec::new() };
        let load = self.load(&mut timed, server.address());
        let delivered = follower.finish(if load.is_ok() { last(&server)? } else { 0 });
        load?;
        timed.with(&delivered?, self.rate)
    }

    fn load(&self, timed: &mut Timed, address: SocketAddr) -> Result<(), BenchError> {
        let plan = Plan {
            pace: Pace::Open { per_second: self.rate },
            connections: 16,
            frame: 64,
            pipeline: 32,
            warm_up: WARM_UP,
            measure: Duration::from_secs_f64(self.seconds),
        };
        drive(timed, address, &plan, None, &mut |_| {}).map(drop)
    }
}

/// The last event that there is.
fn last(server: &SluiceServer) -> Result<u64, BenchError> {
    let bounds = async { Client::connect(&server.url()).await?.stream_bounds().await };
    Ok(runtime()?.block_on(bounds)?.last)
}

/// When a frame left and was answered, nanoseconds of the clock.
#[derive(Clone, Copy, Debug)]
struct Frame {
    asked: Asked,
    sent_ns: u64,
    answered_ns: Option<u64>,
}

/// Notes when frames leave and are answered.
#[derive(Debug)]
struct Timed {
    workload: Workload,
    speech: SluiceSpeech,
    clock: Instant,
    /// In the order of their tags, which rise.
    frames: Vec<Frame>,
}

impl Timed {
    /// Puts deliveries and frames together.
    fn with(&self, delivered: &[Delivered], rate: f64) -> Result<Delay, BenchError> {
        let begins = self.frames.first().map_or(0, |frame| frame.sent_ns) + WARM_UP.as_nanos() as u64;
        let mut frames = HashMap::new();
        for frame in self.frames.iter().filter(|frame| frame.sent_ns >= begins) {
            let numbers = frame.asked.tag..frame.asked.tag + u64::from(frame.asked.items);
            frames.extend(numbers.map(|number| (self.workload.wish(number).id, frame)));
        }
        let histogram = || Histogram::<u64>::new(3).expect("three digits can be kept");
        let [mut answered, mut sent, mut behind] = [histogram(), histogram(), histogram()];
        for Delivered { id, at_ns } in delivered {
            let Some(frame) = frames.get(id) else { continue };
            let Some(answered_ns) = frame.answered_ns else { continue };
            let record =
                |times: &mut Histogram<u64>, ns| times.record(ns).expect("it grows with what it is given");
            record(&mut answered, answered_ns - frame.sent_ns);
            record(&mut sent, at_ns - frame.sent_ns);
            record(&mut behind, at_ns.saturating_sub(answered_ns));
        }
        if sent.is_empty() {
            return Err(BenchError::Protocol("no event of a reservation was delivered".to_owned()));
        }
        let [sent_to_answered, sent_to_delivered, answered_to_delivered] =
            [&answered, &sent, &behind].map(Quantiles::of);
        Ok(Delay {
            rate,
            delivered: delivered.len() as u64,
            measured: sent.len(),
            p99_ratio: sent_to_delivered.p99_us / sent_to_answered.p99_us,
            sent_to_answered,
            sent_to_delivered,
            answered_to_delivered,
        })
    }
}

fn now_ns(clock: Instant) -> u64 {
    clock.elapsed().as_nanos() as u64
}

impl Speech for Timed {
    fn greet(&mut self, stream: &mut TcpStream) -> Result<(), BenchError> {
        self.speech.greet(stream)
    }

    fn ask(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        let asked = self.speech.ask(items, out);
        self.frames.push(Frame { asked, sent_ns: now_ns(self.clock), answered_ns: None });
        asked
    }

    fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<usize, BenchError> {
        let known = heard.len();
        let taken = self.speech.hear(bytes, heard)?;
        let now = now_ns(self.clock);
        for tag in heard[known..].iter().filter_map(|heard| heard.tag) {
            if let Ok(at) = self.frames.binary_search_by_key(&tag, |frame| frame.asked.tag) {
                self.frames[at].answered_ns = Some(now);
            }
        }
        Ok(taken)
    }

    fn tally(&self) -> Tally {
        self.speech.tally()
    }
}

/// An event in the application's hands.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    id: ReservationId,
    at_ns: u64,
}

/// A consumer on a thread of its own.
#[derive(Debug)]
struct Follower {
    until: watch::Sender<Option<u64>>,
    thread: JoinHandle<Result<Vec<Delivered>, BenchError>>,
}

impl Follower {
    /// Starts it, and waits until it has its seat.
    fn start(url: String, clock: Instant) -> Result<Self, BenchError> {
        let (until, told) = watch::channel(None);
        let (seated, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || runtime()?.block_on(follow(&url, clock, told, seated)));
        // Whoever drops its end without a word has failed; the thread's end says why.
        if ready.recv().is_err() {
            thread.join().expect("consuming does not panic")?;
            return Err(over());
        }
        Ok(Self { until, thread })
    }

    /// What it was delivered, once it has everything up to this sequence.
    fn finish(self, last: u64) -> Result<Vec<Delivered>, BenchError> {
        self.until.send_replace(Some(last));
        self.thread.join().expect("consuming does not panic")
    }
}

async fn follow(
    url: &str,
    clock: Instant,
    mut until: watch::Receiver<Option<u64>>,
    seated: std::sync::mpsc::Sender<()>,
) -> Result<Vec<Delivered>, BenchError> {
    let client = Client::connect(url).await?;
    let mut consumer = client.consume(GROUP).start(Start::Beginning).open().await?;
    // Whoever does not wait any more does not need to know.
    let _ = seated.send(());
    let mut all = Vec::new();
    loop {
        let last = *until.borrow_and_update();
        if last.is_some_and(|last| all.len() as u64 >= last) {
            consumer.close().await?;
            return Ok(all);
        }
        let batch = tokio::select! {
            batch = consumer.next_batch(BATCH) => batch,
            _ = until.changed() => continue,
            () = tokio::time::sleep(PATIENCE), if last.is_some() => return Err(BenchError::Undelivered(PATIENCE)),
        };
        let batch = batch.ok_or_else(over)??;
        let at_ns = now_ns(clock);
        for consumed in batch {
            let delivery = delivery(consumed)?;
            all.push(Delivered { id: delivery.event().id, at_ns });
            delivery.ack().map_err(ConsumeError::from)?;
        }
    }
}
