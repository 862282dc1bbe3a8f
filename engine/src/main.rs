//! Arguments → command → exit code.

use std::process::ExitCode;

use clap::Parser;
use sluice_engine::command::Cli;
use sluice_engine::wal::guard;

fn main() -> ExitCode {
    guard::install_abort_hook();
    Cli::parse().run().into()
}
