//! `sluice-bench compare nodes`: what a majority costs. One process and a cluster of them on the same machine, in turns,
//! under the same load.
//!
//! Each measurement has a cluster of its own, started empty. The load goes to the leader, packed, as much as it takes;
//! so the latencies of these rows tell how full the queues are. Those of the rows at an equal load are latencies. What
//! each thread used is read from the system before and behind the time measured. Deliberately not here: failures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::cell::Load;
use super::{Effort, FULL, QUICK};
use crate::driver::drive;
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::line::connect;
use crate::machine::Machine;
use crate::measure::{Measured, Quantiles, median};
use crate::process::Process;
use crate::server::cluster::SluiceCluster;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// Compare one node with a cluster.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// One short round
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    server: OwnServer,
}

/// As many frames in flight as keep log and disk busy at the same time.
const PEAK: Load = Load::Peak { connections: 16, frame: 1024, pipeline: 2 };

/// What any of them can do.
const EQUAL: Load = Load::Equal { per_second: 20_000.0 };

/// All figures.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    effort: Effort,
    /// Accepted reservations a second, cluster ÷ one node: the median of the rounds.
    reserve_ratio: f64,
    /// Refusals of a sold-out product a second, the same way.
    sold_out_ratio: f64,
    rows: Vec<Row>,
}

/// A load on so many nodes.
#[derive(Debug, Serialize)]
struct Row {
    nodes: u8,
    kind: Kind,
    load: Load,
    /// Outcomes a second: the median of the rounds, and each.
    rate: f64,
    rates: Vec<f64>,
    /// Of the median round.
    latency: Option<Quantiles>,
    /// Processor time of the median round.
    leader: Option<Used>,
    /// The followers' mean.
    follower: Option<Used>,
    /// Answers that were no outcomes, in all rounds: there should be none.
    no_outcome: u64,
    #[serde(skip)]
    rounds: Vec<Round>,
}

/// What a node used.
#[derive(Clone, Debug, Default, Serialize)]
struct Used {
    /// Processor microseconds for each outcome.
    us_per_outcome: f64,
    /// The same, by the threads' names.
    threads_us_per_outcome: BTreeMap<String, f64>,
}

#[derive(Clone, Debug)]
struct Round {
    measured: Measured,
    leader: Used,
    follower: Option<Used>,
}

impl NodesArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If nodes cannot be started, or break off.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let effort = if self.quick { QUICK } else { FULL };
        let mut rows = Vec::new();
        for (kind, load) in [(Kind::Hot, PEAK), (Kind::SoldOut, PEAK), (Kind::Hot, EQUAL)] {
            rows.extend([1, self.nodes].map(|nodes| Row::new(nodes, kind, load)));
        }
        let bar = ProgressBar::new((rows.len() * effort.rounds) as u64);
        for _ in 0..effort.rounds {
            for row in &mut rows {
                bar.set_message(format!("{} × {:?} {:?}", row.nodes, row.kind, row.load));
                row.measure(&given.folder, settings, &effort)?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        rows.iter_mut().for_each(Row::conclude);
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            effort,
            reserve_ratio: ratio(&rows[0], &rows[1]),
            sold_out_ratio: ratio(&rows[2], &rows[3]),
            rows,
        };
        given.tell(&report, tell);
        Ok(())
    }
}

/// Within a round both had the same machine; between rounds it may have had other things to do.
fn ratio(one: &Row, cluster: &Row) -> f64 {
    let of_round = |(cluster, one): (&f64, &f64)| cluster / one;
    median(&cluster.rates.iter().zip(&one.rates).map(of_round).collect::<Vec<_>>())
}

impl Row {
    fn new(nodes: u8, kind: Kind, load: Load) -> Self {
        Self {
            nodes,
            kind,
            load,
            rate: 0.0,
            rates: Vec::new(),
            latency: None,
            leader: None,
            follower: None,
            no_outcome: 0,
            rounds: Vec::new(),
        }
    }

    fn measure(&mut self, folder: &Path, settings: &[String], effort: &Effort) -> Result<(), BenchError> {
        let cluster = SluiceCluster::start(folder, usize::from(self.nodes), settings)?;
        let leader = cluster.leader()?;
        let address = cluster.address(leader);
        let mut speech = SluiceSpeech::new(Workload::new(self.kind));
        speech.prepare(&mut connect(address)?)?;
        let Effort { warm_up, measure, .. } = *effort;
        let brief = Effort { warm_up: Duration::ZERO, measure: warm_up, ..*effort };
        drive(&mut speech, address, &self.load.plan(&brief), None, &mut |_| ())?;
        let meters: Vec<Meter> =
            cluster.ids().filter_map(|id| Some(Meter::new(id, cluster.process(id)?))).collect();
        let plan = self.load.plan(&Effort { warm_up: Duration::ZERO, measure, ..*effort });
        let measured = drive(&mut speech, address, &plan, None, &mut |_| ())?;
        let used = |meter: &Meter| meter.used(&measured);
        let (own, others): (Vec<_>, Vec<_>) = meters.iter().partition(|meter| meter.node == leader);
        let leader = own.first().map(|meter| used(meter)).unwrap_or_default();
        let follower = mean(&others.into_iter().map(used).collect::<Vec<_>>());
        self.rates.push(measured.rate);
        self.no_outcome += measured.answers.busy + measured.answers.other;
        self.rounds.push(Round { measured, leader, follower });
        Ok(())
    }

    fn conclude(&mut self) {
        self.rate = median(&self.rates);
        let key = |round: &Round| match self.load {
            Load::Peak { .. } => round.measured.rate,
            Load::Equal { .. } => round.measured.latency.p99_us,
        };
        self.rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let Round { measured, leader, follower } = self.rounds[self.rounds.len() / 2].clone();
        (self.latency, self.leader, self.follower) = (Some(measured.latency), Some(leader), follower);
    }
}

/// What a process had used when the measurement began.
#[derive(Debug)]
struct Meter {
    node: u64,
    process: Process,
    before: BTreeMap<String, f64>,
}

impl Meter {
    fn new(node: u64, process: Process) -> Self {
        Self { node, process, before: process.threads() }
    }

    fn used(&self, measured: &Measured) -> Used {
        let outcomes = measured.answers.settled().max(1) as f64;
        let now = self.process.threads().into_iter();
        let threads = now.map(|(name, seconds)| {
            let before = self.before.get(&name).copied().unwrap_or(0.0);
            (name, (seconds - before) * 1e6 / outcomes)
        });
        let threads_us_per_outcome: BTreeMap<String, f64> = threads.collect();
        Used { us_per_outcome: threads_us_per_outcome.values().sum(), threads_us_per_outcome }
    }
}

fn mean(all: &[Used]) -> Option<Used> {
    let parts = all.len() as f64;
    let mut sum = Used::default();
    for used in all {
        sum.us_per_outcome += used.us_per_outcome / parts;
        for (name, us) in &used.threads_us_per_outcome {
            *sum.threads_us_per_outcome.entry(name.clone()).or_default() += us / parts;
        }
    }
    (!all.is_empty()).then_some(sum)
}

/// For people.
fn tell(report: &Report<'_>) -> String {
    const PER_MS: f64 = 1e3;
    let mut out = format!(
        "{}\nEvery yes is on disk (fdatasync) on a majority. Medians of {} rounds, in turns; generator and nodes share \
         the cores.\n\n{:<28} {:>6} {:>12} {:>9} {:>9}   CPU µs for each outcome\n",
        report.machine.line(),
        report.effort.rounds,
        "load",
        "nodes",
        "outcomes/s",
        "p50 ms",
        "p99 ms",
    );
    for row in &report.rows {
        let what = match (row.kind, row.load) {
            (Kind::SoldOut, _) => "sold out, 16 × 2 × 1024".to_owned(),
            (_, Load::Peak { .. }) => "accepted, 16 × 2 × 1024".to_owned(),
            (_, Load::Equal { per_second }) => format!("accepted, {per_second} due a second"),
        };
        let ms = |us: Option<f64>| us.map_or_else(String::new, |us| format!("{:.2}", us / PER_MS));
        let _ = writeln!(
            out,
            "{what:<28} {:>6} {:>12.0} {:>9} {:>9}   leader {}",
            row.nodes,
            row.rate,
            ms(row.latency.map(|latency| latency.p50_us)),
            ms(row.latency.map(|latency| latency.p99_us)),
            row.leader.as_ref().map_or_else(String::new, describe),
        );
        if let Some(follower) = &row.follower {
            let _ = writeln!(out, "{:<69} follower {}", "", describe(follower));
        }
    }
    let _ = writeln!(
        out,
        "\ncluster ÷ one node: accepted {:.2}, sold out {:.2}",
        report.reserve_ratio, report.sold_out_ratio
    );
    let no_outcome: u64 = report.rows.iter().map(|row| row.no_outcome).sum();
    if no_outcome > 0 {
        let _ =
            writeln!(out, "{no_outcome} answers were no outcomes (busy or unknown); they are not counted.");
    }
    out
}

/// Threads by what they used; those that used next to nothing are left out.
fn describe(used: &Used) -> String {
    let mut threads: Vec<_> = used.threads_us_per_outcome.iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(a.1));
    let shown = threads.iter().filter(|(_, us)| **us * 100.0 >= used.us_per_outcome);
    let shown: Vec<String> = shown.map(|(name, us)| format!("{name} {us:.3}")).collect();
    format!("{:.2} ({})", used.us_per_outcome, shown.join(", "))
}
