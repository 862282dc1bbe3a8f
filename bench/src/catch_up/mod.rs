//! `sluice-bench catch-up`: a node that lacks much gets it, while the others sell on.
//!
//! Two ways: the log, to a node that was away while a lot of it was written ([`behind`]), and a snapshot, to a node
//! that is new when the log no longer reaches back ([`newcomer`]). Both under the same steady load ([`steady`]), which
//! shows what the others' buyers notice of it: the longest time without an answer, and how much less is answered.
//! Deliberately not here: whether the node then has everything; the tests of clusters see to that.

pub mod behind;
pub mod newcomer;
pub mod steady;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::behind::Behind;
use self::newcomer::Newcomer;
use self::steady::Seen;
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::machine::Machine;
use crate::server::cluster::SluiceCluster;
use crate::speech::Speech as _;
use crate::speech::sluice::SluiceSpeech;

/// The load that makes reservations and log: large frames, a few in flight.
const LOAD: Plan = Plan {
    pace: Pace::Closed,
    connections: 8,
    frame: 1024,
    pipeline: 2,
    warm_up: Duration::ZERO,
    measure: Duration::from_millis(250),
};

/// Stretches of that load of which nothing comes, one after the other, before it is given up. The log's files are made
/// ahead, so that most stretches do not show in them.
const STRETCHES_IN_VAIN_MAX: u32 = 240;

/// Nodes of the cluster.
const NODES: usize = 3;

/// How long the load is looked at before anything happens, so that there is something to compare with.
const BEFORE: Duration = Duration::from_secs(3);

/// Measure how nodes catch up.
#[derive(Debug, Args)]
pub struct CatchUpArgs {
    /// Bytes of log that a node lacks which was away
    #[arg(long, default_value_t = 1 << 30)]
    log_bytes: u64,
    /// Reservations alive: in the snapshot that a new node gets, and on each node
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    live: u64,
    /// Reservations a second that are due meanwhile
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    rate: f64,
    live: u64,
    behind: Behind,
    newcomer: Newcomer,
}

impl CatchUpArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If nodes cannot be started, break off, or do not catch up.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let behind = self.behind()?;
        let newcomer = self.newcomer()?;
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            rate: self.rate,
            live: self.live,
            behind,
            newcomer,
        };
        given.tell(&report, tell);
        Ok(())
    }

    /// A cluster whose nodes take a snapshot whenever the log has grown by so much.
    fn cluster(&self, snapshot_every: &str) -> Result<SluiceCluster, BenchError> {
        let OwnServer { given, settings } = &self.server;
        let every = ["--snapshot-every-bytes", snapshot_every].map(str::to_owned);
        let settings: Vec<String> = every.into_iter().chain(settings.iter().cloned()).collect();
        SluiceCluster::start(&given.folder, NODES, &settings)
    }

    /// Makes reservations until so many are alive.
    fn fill(&self, cluster: &SluiceCluster, speech: &mut SluiceSpeech) -> Result<(), BenchError> {
        let so_far = |speech: &SluiceSpeech| speech.tally().accepted;
        load(cluster, speech, self.live, "reserving", so_far)
    }
}

/// Puts load on whoever leads until so much is done.
fn load(
    cluster: &SluiceCluster,
    speech: &mut SluiceSpeech,
    wanted: u64,
    what: &'static str,
    done: impl Fn(&SluiceSpeech) -> u64,
) -> Result<(), BenchError> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").expect("it is a template");
    let bar = ProgressBar::new(wanted).with_style(style).with_message(what);
    let (mut before, mut in_vain) = (0, 0);
    while before < wanted {
        drive(speech, cluster.address(cluster.leader()?), &LOAD, None, &mut |_| {})?;
        let now = done(speech);
        in_vain = if now > before { 0 } else { in_vain + 1 };
        if in_vain > STRETCHES_IN_VAIN_MAX {
            return Err(BenchError::Protocol(format!("{what}: nothing comes of it any more, at {now}")));
        }
        before = now;
        bar.set_position(now);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Bytes of all files in a folder and those below it. What goes meanwhile does not count.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_in(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

/// For people.
fn tell(report: &Report<'_>) -> String {
    let Report { behind, newcomer, .. } = report;
    let mib = |bytes: u64| bytes >> 20;
    let seen = |name: &str, seen: &Seen| {
        format!(
            "    {name:<10} {:>9.0}/s   p99 {:>7.1} ms   longest wait {:>7.1} ms   longest without a yes {:>7.1} ms   \
             busy {}, other {}, lost {}\n",
            seen.rate,
            seen.latency.p99_us / 1e3,
            seen.latency.max_us / 1e3,
            seen.longest_gap_ms,
            seen.busy,
            seen.other,
            seen.lost
        )
    };
    format!(
        "{}\n{} reservations a second due, {} alive\n\
         \x20 a node that lacks {} MiB of log: {:.2} s until it follows, {:.2} s more until it has everything\n{}{}\
         \x20 a new node, by snapshot: {} MiB in {:.2} s ({:.0} MiB/s); {:.2} s from its start until it has everything\n{}{}",
        report.machine.line(),
        report.rate,
        report.live,
        mib(behind.log_bytes),
        behind.restart_seconds,
        behind.catch_up_seconds,
        seen("before", &behind.before),
        seen("meanwhile", &behind.meanwhile),
        mib(newcomer.snapshot_bytes),
        newcomer.transfer_seconds,
        newcomer.snapshot_bytes as f64 / newcomer.transfer_seconds / f64::from(1 << 20),
        newcomer.start_to_complete_seconds,
        seen("before", &newcomer.before),
        seen("meanwhile", &newcomer.meanwhile),
    )
}
