//! `sluice-sim`: runs of the simulator from the command line.
//!
//! `run` makes many, `replay` one that is told line by line, `shrink` looks for the shortest that still fails, `bugs`
//! switches on each known bug and sees how soon it is caught. Progress goes to standard error, what was found to standard
//! output. The exit code is 1 if something failed, 2 if the command line made no sense.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    command::Cli::parse().run()
}
