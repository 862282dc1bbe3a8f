//! Arguments → command → exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_bench::catch_up::CatchUpArgs;
use sluice_bench::compare::CompareCommand;
use sluice_bench::failover::FailoverArgs;
use sluice_bench::idle::IdleArgs;
use sluice_bench::load::LoadArgs;
use sluice_bench::postgres::PostgresArgs;
use sluice_bench::restart::RestartArgs;
use sluice_bench::stream::StreamArgs;

/// Load for Sluice, and the comparison with other systems.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on a server and report rates, latencies and what it cost
    Load(LoadArgs),
    /// Measure how long a node takes from its start to its first answer, with many reservations alive
    Restart(RestartArgs),
    /// Measure what a node uses while its clients are silent
    Idle(IdleArgs),
    /// Kill whoever leads a cluster under load, and measure how long nobody can buy
    Failover(FailoverArgs),
    /// Measure how nodes that lack much catch up with a cluster under load
    CatchUp(CatchUpArgs),
    /// Measure how events reach an order system, and what one costs that stands still
    Stream(StreamArgs),
    /// Measure how events are handed to PostgreSQL, and what row by row would do
    Postgres(PostgresArgs),
    /// Measure another system doing the same job, in turns with Sluice
    #[command(subcommand)]
    Compare(CompareCommand),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Load(args) => args.run(),
        Command::Restart(args) => args.run(),
        Command::Idle(args) => args.run(),
        Command::Failover(args) => args.run(),
        Command::CatchUp(args) => args.run(),
        Command::Stream(args) => args.run(),
        Command::Postgres(args) => args.run(),
        Command::Compare(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
