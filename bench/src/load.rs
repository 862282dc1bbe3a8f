//! `sluice-bench load`: load on one server, and a report.
//!
//! Deliberately not here: other systems.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::callers::{self, Callers};
use crate::chart;
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::line::connect;
use crate::machine::Machine;
use crate::measure::{Measured, Meter};
use crate::server::sluice::{SluiceServer, resolve};
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// Put load on a server.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What the buyers want
    #[arg(long, value_enum, default_value = "hot")]
    workload: Kind,
    /// Open loop: requests a second, sent when they are due, whatever the server does
    #[arg(long, default_value_t = 50_000.0)]
    rate: f64,
    /// Closed loop instead: as much as the server takes
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// Connections; 50 unless it is said, 1 for the client crate
    #[arg(long)]
    connections: Option<usize>,
    /// Requests in a frame: exactly so many in a closed loop, at most so many of those that are due in an open one
    #[arg(long, default_value_t = 64)]
    frame: u32,
    /// Frames in flight on a connection
    #[arg(long, default_value_t = 2)]
    pipeline: usize,
    /// Through the client crate: so many callers, each with one call at a time
    #[arg(long, value_name = "CALLERS", conflicts_with_all = ["rate", "closed", "frame", "pipeline"])]
    client: Option<usize>,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// A running server, as sluice://host:port; otherwise one of our own is started
    #[arg(long)]
    server: Option<String>,
    /// Draw latency by percentile, and the rate over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    own: OwnServer,
}

/// All that a figure needs to mean something.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    /// What an answer stands on.
    durability: &'static str,
    server: &'a str,
    settings: &'a [String],
    workload: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callers: Option<Callers>,
    measured: Measured,
}

/// Connections of the lean generator unless it is said.
const CONNECTIONS: usize = 50;

/// With one node, whose vote is the majority.
const DURABILITY: &str = "every answer is on disk (fdatasync) before it is given";

impl LoadArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If the server cannot be started or reached, or breaks off.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.own;
        let own = match &self.server {
            Some(_) => None,
            None => Some(SluiceServer::start(&given.folder, settings)?),
        };
        let url = match (&self.server, &own) {
            (Some(url), _) => url.clone(),
            (None, own) => own.as_ref().map(SluiceServer::url).expect("one of our own was started"),
        };
        let process = own.as_ref().map(SluiceServer::process);
        let address = resolve(&url)?;
        let workload = Workload::new(self.workload);
        let mut speech = SluiceSpeech::new(workload.clone());
        speech.prepare(&mut connect(address)?)?;
        let bar = ProgressBar::new_spinner();
        let mut watch = |meter: &Meter| show(&bar, meter);
        let (plan, callers, measured) = match self.client {
            Some(callers) => {
                let callers = self.callers(callers);
                let measured = callers::call(&url, workload, &callers, process.as_ref(), &mut watch)?;
                (None, Some(callers), measured)
            }
            None => {
                let plan = self.plan();
                let measured = drive(&mut speech, address, &plan, process.as_ref(), &mut watch)?;
                (Some(plan), None, measured)
            }
        };
        bar.finish_and_clear();
        let server = if own.is_some() { "started for this measurement" } else { &url };
        let report = Report {
            machine: Machine::here(&given.folder),
            durability: DURABILITY,
            server,
            settings,
            workload: self.workload,
            plan,
            callers,
            measured,
        };
        if let Some(file) = &self.svg {
            let picture = chart::svg(&self.title(&report.measured), &report.measured);
            fs::write(file, picture).map_err(BenchError::io("writing the picture"))?;
        }
        given.tell(&report, |Report { machine, durability, measured, .. }| {
            format!("{}\n{durability}\n{}\n{}", machine.line(), self.title(measured), describe(measured))
        });
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            pace: if self.closed { Pace::Closed } else { Pace::Open { per_second: self.rate } },
            connections: self.connections.unwrap_or(CONNECTIONS),
            frame: self.frame,
            pipeline: self.pipeline,
            warm_up: Duration::from_secs_f64(self.warm_up),
            measure: Duration::from_secs_f64(self.seconds),
        }
    }

    fn callers(&self, callers: usize) -> Callers {
        let Plan { warm_up, measure, .. } = self.plan();
        // The client crate packs calls: a connection for every caller is not what it is for.
        Callers { callers, connections: self.connections.unwrap_or(1), warm_up, measure }
    }

    fn title(&self, measured: &Measured) -> String {
        let how = match (self.client, self.closed) {
            (Some(callers), _) => format!("{callers} callers of the client crate"),
            (None, true) => format!(
                "closed loop, {} connections × {} frames of {}",
                self.plan().connections,
                self.pipeline,
                self.frame
            ),
            (None, false) => {
                format!("open loop, {} a second due, {} connections", self.rate, self.plan().connections)
            }
        };
        let workload = clap::ValueEnum::to_possible_value(&self.workload).expect("no kind is hidden");
        format!("{}, {how}: {:.0} outcomes a second", workload.get_name(), measured.rate)
    }
}

fn show(bar: &ProgressBar, meter: &Meter) {
    let (seconds, rate) = meter.progress();
    let phase = if seconds < 0.0 { "warming up" } else { "measuring" };
    bar.set_message(format!("{phase} {:.1} s  {rate}/s", seconds.abs()));
    bar.tick();
}

/// A measurement for people.
fn describe(measured: &Measured) -> String {
    let Measured { answers, latency, .. } = measured;
    let known = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
    };
    format!(
        "  outcomes  {:.0}/s over {:.1} s: {} accepted, {} refused; {} busy, {} other; {} unsent, {} unanswered\n\
         \x20 latency   p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs\n\
         \x20 server    {} CPU s per million outcomes, {} cores busy, {} bytes of memory per accepted\n",
        measured.rate,
        measured.seconds,
        answers.accepted,
        answers.refused,
        answers.busy,
        answers.other,
        measured.unsent,
        measured.unanswered,
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
        known(measured.cpu_seconds_per_million, 2),
        known(measured.cores_used, 2),
        known(measured.bytes_per_accepted, 0),
    )
}
