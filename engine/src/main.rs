//! Arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use sluice_engine::command::Cli;

fn main() -> ExitCode {
    Cli::parse().run().into()
}
