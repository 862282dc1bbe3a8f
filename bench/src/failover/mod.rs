//! `sluice-bench failover`: how long nobody can buy when whoever leads is killed, and whether anybody was told something
//! wrong.
//!
//! A cluster of processes under a steady load through the client crate. Each round kills the leader with SIGKILL and
//! takes two times from there: to the first reservation that a buyer asked for when it was dead and that was granted
//! ([`buyers`]), and to the first one on a connection that was open to the next leader all the time ([`probe`]), which
//! is the servers' share of it. Then the dead one is started again and catches up while few buy, and all rest for a
//! random while under the whole load. At the end every answer is held against the books. Deliberately not here: losses
//! of power, and networks that part; other tests see to those.

pub mod buyers;
pub mod probe;

use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::buyers::{Buyers, Verdict};
use self::probe::Probe;
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::machine::Machine;
use crate::server::cluster::SluiceCluster;

/// How long the others may take to go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a rest is at least, and at most: longer than a node that has just started may not vote.
const REST_MIN: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_millis(1500);

/// Measure what the death of a leader costs.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// Leaders to kill
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// Reservations a second that are due, whatever the servers do
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Decides how long the rests are
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    server: OwnServer,
}

/// One kill.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    killed: u64,
    follows: u64,
    /// From the kill to the first new reservation, milliseconds: for a buyer, and for a connection that was there.
    buyer_ms: f64,
    server_ms: f64,
    /// From the killed node's start until it follows, and from then until it has all that it missed.
    restart_ms: f64,
    caught_up_ms: f64,
}

/// A distribution, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    nodes: u8,
    rate: f64,
    seed: u64,
    kills: usize,
    buyer: Spread,
    server: Spread,
    verdict: Verdict,
    rounds: Vec<Round>,
}

impl FailoverArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If nodes cannot be started, if nobody goes on after a kill, or if an answer was wrong.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let mut cluster = SluiceCluster::start(&given.folder, usize::from(self.nodes), settings)?;
        let buyers = Buyers::start(&cluster.url(), self.rate)?;
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").expect("it is a template");
        let bar = ProgressBar::new(self.kills.into()).with_style(style);
        let (mut rounds, mut seed) = (Vec::new(), self.seed);
        for _ in 0..self.kills {
            rest(&mut seed);
            let round = kill_one(&mut cluster, &buyers)?;
            bar.set_message(format!("{:.0} ms", round.buyer_ms));
            bar.inc(1);
            rounds.push(round);
        }
        bar.finish_and_clear();
        let verdict = buyers.finish()?;
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            nodes: self.nodes,
            rate: self.rate,
            seed: self.seed,
            kills: rounds.len(),
            buyer: Spread::of(rounds.iter().map(|round| round.buyer_ms)),
            server: Spread::of(rounds.iter().map(|round| round.server_ms)),
            verdict,
            rounds,
        };
        given.tell(&report, tell);
        match report.verdict.contradicted {
            0 => Ok(()),
            wrong => Err(BenchError::Wrong { answers: wrong }),
        }
    }
}

fn kill_one(cluster: &mut SluiceCluster, buyers: &Buyers) -> Result<Round, BenchError> {
    let killed = cluster.leader()?;
    let others = cluster.ids().filter(|id| *id != killed).map(|id| cluster.address(id)).collect();
    let probe = Probe::open(cluster.address(killed), others)?;
    let began = Instant::now();
    cluster.kill(killed)?;
    let dead = Instant::now();
    let asking = probe.ask(began + PATIENCE);
    let bought = buyers.first_since(dead, PATIENCE).ok_or(BenchError::Silent(PATIENCE))?;
    let probed = asking.join().expect("probes do not panic")?.ok_or(BenchError::Silent(PATIENCE))?;
    let follows = cluster.leader()?;
    buyers.calm(true);
    let started = Instant::now();
    cluster.start_again(killed)?;
    let restart_ms = ms(started.elapsed());
    let caught_up_ms = ms(cluster.caught_up(killed)?);
    buyers.calm(false);
    let since = |then: Instant| ms(then.duration_since(began));
    let (buyer_ms, server_ms) = (since(bought), since(probed));
    Ok(Round { killed, follows, buyer_ms, server_ms, restart_ms, caught_up_ms })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Lets the cluster be for a time that the seed decides (a linear congruential generator, Knuth's MMIX).
fn rest(seed: &mut u64) {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let span = (REST_MAX - REST_MIN).as_micros() as u64;
    std::thread::sleep(REST_MIN + Duration::from_micros((*seed >> 33) % span));
}

impl Spread {
    fn of(times_ms: impl Iterator<Item = f64>) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits can be kept");
        times_ms.for_each(|ms| histogram.record((ms * 1e3) as u64).expect("it grows with what it is given"));
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// For people.
fn tell(report: &Report<'_>) -> String {
    let Report { verdict, .. } = report;
    let line = |name: &str, spread: Spread| {
        let Spread { p50_ms, p90_ms, p99_ms, max_ms } = spread;
        format!("  {name:<44}{p50_ms:>8.0}{p90_ms:>8.0}{p99_ms:>8.0}{max_ms:>8.0}\n")
    };
    format!(
        "{}\n{} leaders of {} killed, {} reservations a second due through the client crate\n\
         \x20 {:<44}{:>8}{:>8}{:>8}{:>8}\n{}{}\
         \x20 {} answers about {} ids held against the books: {} wrong; {} calls ended with nothing done, {} were not made\n{}",
        report.machine.line(),
        report.kills,
        report.nodes,
        report.rate,
        "ms from SIGKILL to the first new reservation",
        "p50",
        "p90",
        "p99",
        "max",
        line("for a buyer, through the client crate", report.buyer),
        line("for a connection that was there", report.server),
        verdict.answers,
        verdict.ids,
        verdict.contradicted,
        verdict.nothing_done,
        verdict.unsent,
        verdict.contradictions.iter().map(|line| format!("  ✗ {line}\n")).collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_fifty_the_99th_percentile_is_the_slowest() {
        let spread = Spread::of((1..=50).map(f64::from));
        let near = |a: f64, b: f64| (a - b).abs() / b < 0.002;
        assert!(near(spread.p50_ms, 25.0) && near(spread.p90_ms, 45.0), "{spread:?}");
        assert!(near(spread.p99_ms, 50.0) && near(spread.max_ms, 50.0), "{spread:?}");
    }
}
