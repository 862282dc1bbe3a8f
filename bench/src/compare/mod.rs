//! `sluice-bench compare`: another system doing the same job, measured in turns with Sluice, on the same machine,
//! by the same generator; and one node with a cluster ([`nodes`]).
//!
//! [`cell`]: one system under one load, once; [`benchmark`]: Redis's own generator; [`table`]: how it is told.
//!
//! Fair to the other side: Redis gets the better of two generators, no dumps, no rewriting, no TIME; Sluice always
//! syncs, logs, remembers every id, and can confirm, cancel and expire what it has reserved. Deliberately not here:
//! absolute claims. The generator shares the machine with the servers, so what counts are the ratios.

pub mod benchmark;
pub mod cell;
pub mod nodes;
pub mod table;

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;

use self::cell::{Cell, Load, Row, System};
use self::nodes::NodesArgs;
use crate::error::BenchError;
use crate::given::Given;
use crate::machine::Machine;
use crate::measure::median;
use crate::server::redis::{self, Durability};
use crate::speech::redis::WHOLE_JOB;
use crate::workload::Kind;

/// What to compare with.
#[derive(Debug, Subcommand)]
pub enum CompareCommand {
    /// Redis, with a Lua script that does the whole job of a reservation
    Redis(RedisArgs),
    /// One node and a cluster of several on this machine: what a majority costs
    Nodes(NodesArgs),
}

/// Compare with Redis.
#[derive(Debug, Args)]
pub struct RedisArgs {
    /// One short round: below a minute
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    given: Given,
}

/// How long and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Effort {
    /// Each cell is measured so often, in turns.
    pub rounds: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub measure: Duration,
}

const FULL: Effort =
    Effort { rounds: 3, warm_up: Duration::from_millis(400), measure: Duration::from_millis(1500) };
const QUICK: Effort =
    Effort { rounds: 1, warm_up: Duration::from_millis(200), measure: Duration::from_millis(700) };

/// Requests a second at which latencies are compared: both systems can do that.
const EQUAL_LOADS: [f64; 2] = [10_000.0, 20_000.0];

/// All figures, and all that is needed to make them again.
#[derive(Debug, Serialize)]
pub struct Comparison {
    machine: Machine,
    redis_version: String,
    script: &'static str,
    effort: Effort,
    /// Accepted reservations a second, Sluice ÷ Redis with appendfsync always, each at its best depth of the round: the
    /// median of the rounds.
    reserve_ratio: f64,
    /// Refusals of a sold-out product a second, the same way.
    sold_out_ratio: f64,
    /// Accepted reservations a second of 50 callers with one request in flight each.
    single_call_ratio: f64,
    /// The first again, against a Redis that keeps everything in memory only.
    reserve_ratio_memory: f64,
    /// The second again, against that Redis.
    sold_out_ratio_memory: f64,
    /// The third again, against that Redis.
    single_call_ratio_memory: f64,
    rows: Vec<Row>,
}

impl CompareCommand {
    /// Measures and reports.
    ///
    /// # Errors
    /// If a server cannot be started, or breaks off.
    pub fn run(self) -> Result<(), BenchError> {
        let args = match self {
            Self::Nodes(args) => return args.run(),
            Self::Redis(args) => args,
        };
        let comparison = args.compare()?;
        args.given.tell(&comparison, table::tell);
        Ok(())
    }
}

impl RedisArgs {
    fn compare(&self) -> Result<Comparison, BenchError> {
        let redis_version = redis::version()?;
        let effort = if self.quick { QUICK } else { FULL };
        let mut cells = peaks();
        cells.extend(equal_loads());
        let bar = ProgressBar::new((cells.len() * effort.rounds) as u64);
        let mut rows: Vec<Row> = cells.iter().map(|cell| Row::new(*cell)).collect();
        for _ in 0..effort.rounds {
            for row in &mut rows {
                bar.set_message(row.name());
                row.measure(&self.given.folder, &effort)?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        rows.iter_mut().for_each(Row::conclude);
        let ratio = |kind, durability, depth| {
            let of_round = |round| {
                let best = |system| best(&rows, round, system, kind, depth);
                best(System::Sluice) / best(System::Redis(durability))
            };
            // Within a round both had the same machine; between rounds it may have had other things to do.
            median(&(0..effort.rounds).map(of_round).collect::<Vec<_>>())
        };
        let ratios = |durability| {
            (
                ratio(Kind::Hot, durability, None),
                ratio(Kind::SoldOut, durability, None),
                ratio(Kind::Hot, durability, Some(1)),
            )
        };
        let (reserve_ratio, sold_out_ratio, single_call_ratio) = ratios(Durability::Always);
        let (reserve_ratio_memory, sold_out_ratio_memory, single_call_ratio_memory) =
            ratios(Durability::Memory);
        Ok(Comparison {
            machine: Machine::here(&self.given.folder),
            redis_version,
            script: WHOLE_JOB,
            effort,
            reserve_ratio,
            sold_out_ratio,
            single_call_ratio,
            reserve_ratio_memory,
            sold_out_ratio_memory,
            single_call_ratio_memory,
            rows,
        })
    }
}

/// Every system at every depth, accepting and refusing.
fn peaks() -> Vec<Cell> {
    const CONNECTIONS: usize = 50;
    let shared = [1, 16, 64].map(|frame| Load::Peak { connections: CONNECTIONS, frame, pipeline: 1 });
    // Frames as large as they get, enough of them to keep log and disk busy at the same time.
    let deep = [
        Load::Peak { connections: CONNECTIONS, frame: 256, pipeline: 1 },
        Load::Peak { connections: 16, frame: 1024, pipeline: 2 },
    ];
    let mut cells = Vec::new();
    for kind in [Kind::Hot, Kind::SoldOut] {
        for load in shared {
            for system in
                [System::Sluice, System::Redis(Durability::Memory), System::Redis(Durability::Always)]
            {
                cells.push(Cell { system, kind, load });
            }
        }
        cells.extend(deep.map(|load| Cell { system: System::Sluice, kind, load }));
    }
    cells
}

/// Every durable system at the same load.
fn equal_loads() -> Vec<Cell> {
    let systems = [System::Sluice, System::Redis(Durability::Always)];
    let loads = EQUAL_LOADS.map(|per_second| Load::Equal { per_second });
    let cell = |load| systems.map(|system| Cell { system, kind: Kind::Hot, load });
    loads.into_iter().flat_map(cell).collect()
}

/// The best rate of a system in a round, at one depth or at any.
fn best(rows: &[Row], round: usize, system: System, kind: Kind, depth: Option<u32>) -> f64 {
    let fits = |row: &&Row| row.cell.system == system && row.cell.kind == kind && row.cell.load.fits(depth);
    rows.iter().filter(fits).map(|row| row.rates[round]).fold(0.0, f64::max)
}
