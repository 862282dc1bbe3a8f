//! `sluice-bench stream`: how fast events reach an order system, how soon, and what one that stands still costs.
//!
//! The rooms: [`fill`] makes events, by reservations; [`take`] is an order system that takes them all, through the client
//! crate; [`handover`] has it take them from memory and from disk, and [`redis`] has another take as many from a stream of
//! Redis; [`delay`] is about one event among many, [`behind`] about a group that nobody reads for. Each measures against
//! something named in the same run. Deliberately not here: whether every event comes once and in order; other tests see
//! to that.

pub mod behind;
pub mod delay;
pub mod fill;
pub mod handover;
pub mod redis;
pub mod take;

use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;

use self::behind::Behind;
use self::delay::Delay;
use self::take::Taken;
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::machine::Machine;
use crate::measure::{Quantiles, median};

/// Events that a round from memory may have: those that are made beyond what was asked for must find room there too.
const MEMORY_EVENTS_MAX: u64 = 500_000;

/// The name of the group.
const GROUP: &str = "orders";

/// Measure the stream of events.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Events of a round from memory, at least, and of a round with Redis
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=MEMORY_EVENTS_MAX))]
    events: u64,
    /// Rounds of what is made in rounds; the median is told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Events that are taken from disk, at least
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    disk_events: u64,
    /// Reservations a second that are due while it is measured how soon each is delivered
    #[arg(long, default_value_t = 50_000.0)]
    rate: f64,
    /// Seconds of that, and of each measurement of a sale
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many events the group lacks that nobody reads for, at least
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    behind: u64,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    /// One consumer takes what is in the server's memory: every round.
    memory: Vec<Taken>,
    /// Redis's version, and one consumer of a stream there; none if Redis is not installed.
    redis_version: Option<String>,
    redis: Vec<Taken>,
    /// One consumer takes what is in files alone.
    disk: Taken,
    /// Events a second, the medians.
    memory_rate: f64,
    redis_rate: Option<f64>,
    /// Reservations a second while these events were made.
    reserved_rate: f64,
    /// To Redis if it is installed, to reservations otherwise.
    memory_ratio: f64,
    disk_ratio: f64,
    delay: Delay,
    behind: Behind,
}

impl StreamArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If a server cannot be started or reached, breaks off, or does not deliver.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let (mut memory, mut reserved, mut redis) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (taken, rate) = self.memory_round()?;
            memory.push(taken);
            reserved.push(rate);
            redis.extend(self.redis_round()?);
        }
        let disk = self.disk()?;
        let delay = self.delay()?;
        let behind = self.behind()?;
        let (memory_rate, reserved_rate) = (middle(&memory), median(&reserved));
        let redis_rate = (!redis.is_empty()).then(|| middle(&redis));
        let baseline = redis_rate.unwrap_or(reserved_rate);
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            redis_version: redis_rate.and_then(|_| crate::server::redis::version().ok()),
            memory_rate,
            redis_rate,
            reserved_rate,
            memory_ratio: memory_rate / baseline,
            disk_ratio: disk.rate / baseline,
            memory,
            redis,
            disk,
            delay,
            behind,
        };
        given.tell(&report, tell);
        Ok(())
    }
}

/// Events a second, the median.
fn middle(rounds: &[Taken]) -> f64 {
    median(&rounds.iter().map(|taken| taken.rate).collect::<Vec<_>>())
}

/// The client and the consumer on the thread that waits for them.
pub(crate) fn runtime() -> Result<Runtime, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(BenchError::io("starting a runtime"))
}

/// For people.
fn tell(report: &Report<'_>) -> String {
    let Report { memory, redis, disk, delay, behind, .. } = report;
    let known = |figure: Option<f64>| figure.map_or_else(|| "unknown".to_owned(), |us| format!("{us:.2}"));
    let taken = |name: &str, taken: &Taken| {
        format!(
            "    {name:<28}{:>12.0}/s of {:>9} events   CPU µs an event: server {}, consumer {}\n",
            taken.rate,
            taken.events,
            known(taken.server_us),
            known(taken.consumer_us)
        )
    };
    let rounds = |name: &str, all: &[Taken]| all.iter().map(|round| taken(name, round)).collect::<String>();
    let against = match &report.redis_version {
        Some(version) => format!("XREADGROUP and XACK of Redis {version}, in memory"),
        None => "reservations a second (Redis is not installed)".to_owned(),
    };
    let line = |name: &str, times: &Quantiles| {
        format!(
            "    {name:<28}p50 {:>8.2} ms   p99 {:>8.2} ms   max {:>8.2} ms\n",
            times.p50_us / 1e3,
            times.p99_us / 1e3,
            times.max_us / 1e3
        )
    };
    let rates = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:>12.0}/s")).collect::<String>();
    format!(
        "{}\n\
         \x20 one consumer takes everything; {:.0} reservations a second made it\n{}{}{}\
         \x20   ratio to {against}: memory {:.2}, disk {:.2}\n\
         \x20 {} events while {:.0} reservations a second were due, {} of them measured\n{}{}{}\
         \x20   ratio of the p99 from sent to delivered to that from sent to answered: {:.2}\n\
         \x20 a group that nobody reads for, {} events behind\n\
         \x20   reserved without it        {}\n\
         \x20   reserved with it           {}\n\
         \x20   ratio of the medians: {:.3}\n",
        report.machine.line(),
        report.reserved_rate,
        rounds("Sluice, from memory", memory),
        taken("Sluice, from disk", disk),
        rounds("Redis, from memory", redis),
        report.memory_ratio,
        report.disk_ratio,
        delay.delivered,
        delay.rate,
        delay.measured,
        line("sent to answered", &delay.sent_to_answered),
        line("sent to delivered", &delay.sent_to_delivered),
        line("answered to delivered", &delay.answered_to_delivered),
        delay.p99_ratio,
        behind.events,
        rates(&behind.without),
        rates(&behind.with),
        behind.ratio,
    )
}
