//! One system under one load.
//!
//! Every measurement has a server of its own, started empty: no run inherits another's tables or files. Deliberately
//! not here: which cells there are.

use std::path::Path;

use serde::Serialize;

use super::{Effort, benchmark};
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::line::connect;
use crate::measure::{Measured, Quantiles, median};
use crate::server::redis::{Durability, RedisServer};
use crate::server::sluice::SluiceServer;
use crate::speech::redis::RedisSpeech;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Always durable.
    Sluice,
    /// With and without disk.
    Redis(Durability),
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Closed loop.
    Peak {
        /// Connections.
        connections: usize,
        /// Requests in a volley: items of a frame, commands of a pipeline.
        frame: u32,
        /// Volleys in flight on a connection.
        pipeline: usize,
    },
    /// Open loop, whatever is due in one volley.
    Equal {
        /// Requests a second.
        per_second: f64,
    },
}

/// See the module.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cell {
    /// What.
    pub system: System,
    /// What it is asked for.
    pub kind: Kind,
    /// How.
    pub load: Load,
}

/// All rounds of a cell.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    #[serde(flatten)]
    pub cell: Cell,
    /// Outcomes a second: the median of the rounds.
    pub rate: f64,
    /// Outcomes a second of each round; of Redis the better of the two generators' figures.
    pub rates: Vec<f64>,
    /// Outcomes a second of each round by redis-benchmark.
    pub redis_benchmark: Vec<f64>,
    /// Latencies of the median round.
    pub latency: Option<Quantiles>,
    /// Processor seconds that the server used for a million outcomes, in the median round.
    pub cpu_seconds_per_million: Option<f64>,
    /// How much its memory grew for each reservation, in the median round.
    pub bytes_per_reservation: Option<f64>,
    /// Answers that were no outcomes, in all rounds: there should be none.
    pub no_outcome: u64,
    #[serde(skip)]
    rounds: Vec<Measured>,
}

impl Load {
    /// Whether it is a peak load of that depth, or of any.
    pub fn fits(self, depth: Option<u32>) -> bool {
        match self {
            Self::Peak { frame, .. } => depth.is_none_or(|depth| depth == frame),
            Self::Equal { .. } => false,
        }
    }

    /// The load of that kind for so long.
    pub(super) fn plan(self, effort: &Effort) -> Plan {
        /// At an equal load nothing but the system itself may hold requests back.
        const UNHINDERED: usize = 32;
        let Effort { warm_up, measure, .. } = *effort;
        match self {
            Self::Peak { connections, frame, pipeline } => {
                Plan { pace: Pace::Closed, connections, frame, pipeline, warm_up, measure }
            }
            Self::Equal { per_second } => {
                let pace = Pace::Open { per_second };
                Plan { pace, connections: 50, frame: 1024, pipeline: UNHINDERED, warm_up, measure }
            }
        }
    }
}

impl Row {
    /// Nothing measured yet.
    pub fn new(cell: Cell) -> Self {
        Self {
            cell,
            rate: 0.0,
            rates: Vec::new(),
            redis_benchmark: Vec::new(),
            latency: None,
            cpu_seconds_per_million: None,
            bytes_per_reservation: None,
            no_outcome: 0,
            rounds: Vec::new(),
        }
    }

    /// In a few words, for the progress.
    pub fn name(&self) -> String {
        format!("{:?} {:?} {:?}", self.cell.system, self.cell.kind, self.cell.load)
    }

    /// Measures one round more; a peak of Redis also with its own generator.
    ///
    /// # Errors
    /// If a server cannot be started, or breaks off.
    pub fn measure(&mut self, folder: &Path, effort: &Effort) -> Result<(), BenchError> {
        let plan = self.cell.load.plan(effort);
        let mut better = 0.0;
        let measured = match self.cell.system {
            System::Sluice => self.measure_sluice(folder, &plan)?,
            System::Redis(durability) => {
                let measured = self.measure_redis(folder, durability, &plan)?;
                if plan.pace == Pace::Closed {
                    let requests = (measured.rate * plan.measure.as_secs_f64()) as u64;
                    better = benchmark::run(folder, durability, self.cell.kind, &plan, requests)?;
                    self.redis_benchmark.push(better);
                }
                measured
            }
        };
        self.rates.push(measured.rate.max(better));
        self.no_outcome += measured.answers.busy + measured.answers.other;
        self.rounds.push(measured);
        Ok(())
    }

    fn measure_sluice(&self, folder: &Path, plan: &Plan) -> Result<Measured, BenchError> {
        let server = SluiceServer::start(folder, &[])?;
        let mut speech = SluiceSpeech::new(Workload::new(self.cell.kind));
        speech.prepare(&mut connect(server.address())?)?;
        drive(&mut speech, server.address(), plan, Some(&server.process()), &mut |_| ())
    }

    fn measure_redis(
        &self,
        folder: &Path,
        durability: Durability,
        plan: &Plan,
    ) -> Result<Measured, BenchError> {
        let server = RedisServer::start(folder, durability)?;
        let workload = Workload::new(self.cell.kind);
        let digest = RedisSpeech::prepare(&workload, &mut connect(server.address())?)?;
        let mut speech = RedisSpeech::new(workload, &digest);
        drive(&mut speech, server.address(), plan, Some(&server.process()), &mut |_| ())
    }

    /// Takes the median of the rounds.
    ///
    /// # Panics
    /// If nothing was measured.
    pub fn conclude(&mut self) {
        self.rate = median(&self.rates);
        let key = |measured: &Measured| match self.cell.load {
            Load::Peak { .. } => measured.rate,
            Load::Equal { .. } => measured.latency.p99_us,
        };
        self.rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let middle = self.rounds.get(self.rounds.len() / 2).expect("every cell is measured");
        self.latency = Some(middle.latency);
        self.cpu_seconds_per_million = middle.cpu_seconds_per_million;
        self.bytes_per_reservation = middle.bytes_per_accepted;
    }
}
