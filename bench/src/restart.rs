//! `sluice-bench restart`: how long a node takes from its start to its first answer, with many reservations alive.
//!
//! After a clean stop everything is in a snapshot; after a kill what came since the last one is replayed from the log.
//! The files are in the page cache both times: reading them is the disk's business. Deliberately not here: whether
//! everything is still there; the tests see to that.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::line::{Line, connect};
use crate::machine::Machine;
use crate::measure::median;
use crate::server::sluice::{SluiceServer, folder};
use crate::speech::Speech;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// The load that makes the reservations: large frames, a few in flight.
const LOAD: Plan = Plan {
    pace: Pace::Closed,
    connections: 8,
    frame: 1024,
    pipeline: 1,
    warm_up: Duration::ZERO,
    measure: Duration::from_millis(100),
};

/// Measure restarts.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Reservations alive, at least
    #[arg(long, default_value_t = 1_000_000)]
    live: u64,
    /// Restarts of each kind; the median is told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    /// Reservations alive.
    live: u64,
    /// From the start of the process to the first reservation answered, seconds; the median.
    after_kill_seconds: f64,
    after_stop_seconds: f64,
    /// Every round.
    after_kill: Vec<f64>,
    after_stop: Vec<f64>,
}

impl RestartArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If the server cannot be started or reached, or breaks off.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let place = folder(&given.folder)?;
        let data = place.path().join("data");
        let mut server = SluiceServer::start_on(&data, settings)?;
        let mut speech = SluiceSpeech::new(Workload::new(Kind::Hot));
        speech.prepare(&mut connect(server.address())?)?;
        self.fill(&server, &mut speech)?;
        let (mut after_kill, mut after_stop) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            server.kill();
            server = self.start(&data, &mut speech, &mut after_kill)?;
            drop(server);
            server = self.start(&data, &mut speech, &mut after_stop)?;
        }
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            live: speech.tally().accepted,
            after_kill_seconds: median(&after_kill),
            after_stop_seconds: median(&after_stop),
            after_kill,
            after_stop,
        };
        given.tell(&report, |report| {
            format!(
                "{}\nfirst answer with {} reservations alive: {:.2} s after a kill, {:.2} s after a clean stop",
                report.machine.line(),
                report.live,
                report.after_kill_seconds,
                report.after_stop_seconds
            )
        });
        Ok(())
    }

    fn fill(&self, server: &SluiceServer, speech: &mut SluiceSpeech) -> Result<(), BenchError> {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").expect("it is a template");
        let bar = ProgressBar::new(self.live).with_style(style).with_message("reserving");
        while speech.tally().accepted < self.live {
            drive(speech, server.address(), &LOAD, None, &mut |_| {})?;
            bar.set_position(speech.tally().accepted);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn start(
        &self,
        data: &Path,
        speech: &mut SluiceSpeech,
        seconds: &mut Vec<f64>,
    ) -> Result<SluiceServer, BenchError> {
        let began = Instant::now();
        let server = SluiceServer::start_on(data, &self.server.settings)?;
        reserve_one(&server, speech)?;
        seconds.push(began.elapsed().as_secs_f64());
        Ok(server)
    }
}

/// Reserves one unit; asks again as long as the server is busy.
fn reserve_one(server: &SluiceServer, speech: &mut SluiceSpeech) -> Result<(), BenchError> {
    let accepted = speech.tally().accepted;
    let mut line = Line::open(server.address(), speech)?;
    while speech.tally().accepted == accepted {
        if line.in_flight() == 0 {
            line.ask(speech, 1, 0.0, 0.0);
        }
        line.write()?;
        line.read(speech, |_| {})?;
        std::thread::yield_now();
    }
    Ok(())
}
