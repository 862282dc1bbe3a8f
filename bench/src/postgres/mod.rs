//! `sluice-bench postgres`: how fast events reach a PostgreSQL, through the hand-off and row by row.
//!
//! The rooms: [`hand_over`] runs the hand-off, [`rows`] what one would write at first: an insert for each event, in a
//! transaction of its own or in one for each batch. All take the same events from one server into one PostgreSQL that syncs
//! each commit, in turns, each into tables of its own. Deliberately not here: whether each event takes effect once; tests see
//! to that.

pub mod hand_over;
pub mod rows;

use clap::Args;
use serde::Serialize;
use sluice_outside::Postgres;

use crate::error::BenchError;
use crate::given::OwnServer;
use crate::machine::Machine;
use crate::measure::median;
use crate::server::sluice::SluiceServer;
use crate::stream::fill::{fill, sale};
use crate::stream::runtime;

/// Measure how events are handed to PostgreSQL.
#[derive(Debug, Args)]
pub struct PostgresArgs {
    /// Events, at least
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Events that are inserted each in a transaction of its own
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    single_events: u64,
    /// Rounds of each; the median is told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Events in a transaction, at most
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: u64,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    postgres_version: String,
    /// Events that there were.
    events: u64,
    batch: u64,
    /// Events a second, each round.
    hand_off: Vec<f64>,
    rows_in_batches: Vec<f64>,
    rows_alone: Vec<f64>,
    /// The medians, the hand-off's to the other's.
    ratio_to_batches: f64,
    ratio_to_alone: f64,
}

impl PostgresArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If a server cannot be reached, breaks off, or does not deliver.
    ///
    /// # Panics
    /// If PostgreSQL is not installed, and says how to install it.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let server = SluiceServer::start(&given.folder, settings)?;
        fill(&mut sale(server.address())?, server.address(), self.events)?;
        let postgres = Postgres::start();
        let runtime = runtime()?;
        let scene = Scene { servers: server.url(), database: postgres.url(), batch: self.batch as usize };
        let (mut hand_off, mut in_batches, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        let (mut events, mut version) = (0, String::new());
        for round in 0..self.rounds {
            runtime.block_on(async {
                events = scene.events().await?;
                version = scene.version().await?;
                hand_off.push(scene.hand_over(&format!("hand-off-{round}"), events).await?);
                in_batches.push(scene.rows(&format!("batches-{round}"), scene.batch, events).await?);
                alone.push(scene.rows(&format!("alone-{round}"), 1, events.min(self.single_events)).await?);
                Ok::<_, BenchError>(())
            })?;
        }
        let report = Report {
            machine: Machine::here(&given.folder),
            settings,
            postgres_version: version,
            events,
            batch: self.batch,
            ratio_to_batches: median(&hand_off) / median(&in_batches),
            ratio_to_alone: median(&hand_off) / median(&alone),
            hand_off,
            rows_in_batches: in_batches,
            rows_alone: alone,
        };
        given.tell(&report, tell);
        Ok(())
    }
}

/// Where everything is.
#[derive(Debug)]
struct Scene {
    servers: String,
    database: String,
    batch: usize,
}

/// For people.
fn tell(report: &Report<'_>) -> String {
    let rates = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:>12.0}/s")).collect::<String>();
    format!(
        "{}\n\
         \x20 {} events into PostgreSQL {}, every commit synced\n\
         \x20   the hand-off, {} a transaction{}\n\
         \x20   row by row, as many            {}\n\
         \x20   row by row, each alone         {}\n\
         \x20   ratio of the medians: {:.1} to rows in batches, {:.1} to rows alone\n",
        report.machine.line(),
        report.events,
        report.postgres_version,
        report.batch,
        rates(&report.hand_off),
        rates(&report.rows_in_batches),
        rates(&report.rows_alone),
        report.ratio_to_batches,
        report.ratio_to_alone,
    )
}
