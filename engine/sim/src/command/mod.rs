//! The command line.
//!
//! - `run`: a campaign
//! - `one`: a single run, told or made shorter
//! - `bugs`: known bugs, and how soon they are caught

mod bugs;
mod one;
mod run;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sluice_sim::plan::{Cut, Mode};

/// Simulates clusters of Sluice under faults.
#[derive(Debug, Parser)]
#[command(name = "sluice-sim", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes many runs
    Run(run::RunArgs),
    /// Makes one run again
    Replay(one::ReplayArgs),
    /// Looks for the shortest run that still fails
    Shrink(one::ShrinkArgs),
    /// Switches on each known bug and sees how soon it is caught
    Bugs(bugs::BugsArgs),
}

/// Which run, or how each run is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// liveness, safety, small or mixed
    #[arg(long, default_value = "mixed")]
    pub(crate) mode: Mode,
    /// Virtual minutes under faults; by its seed if not given
    #[arg(long)]
    pub(crate) span_minutes: Option<f64>,
    /// A known bug to switch on
    #[arg(long)]
    pub(crate) mutant: Option<String>,
}

impl Shape {
    pub(crate) fn span_us(&self) -> Option<u64> {
        self.span_minutes.map(|minutes| (minutes * 60e6) as u64)
    }

    /// Switches the bug on, for the rest of the process.
    pub(crate) fn arm(&self) -> Result<(), String> {
        match &self.mutant {
            Some(name) if !sluice_core::fault::switch_on(name) => Err(format!("there is no mutant {name:?}")),
            _ => Ok(()),
        }
    }
}

/// What is left out.
#[derive(Clone, Debug, Args)]
pub(crate) struct CutArgs {
    /// Only these steps of the nemesis, with commas between them; `none` for none at all
    #[arg(long)]
    steps: Option<String>,
    /// Only so many of the clients' jobs
    #[arg(long)]
    jobs: Option<usize>,
    /// Nobody changes the membership
    #[arg(long)]
    no_operator: bool,
    /// The judges do not compare ledgers byte by byte
    #[arg(long)]
    no_digests: bool,
}

impl CutArgs {
    pub(crate) fn cut(&self) -> Result<Cut, String> {
        let number = |text: &str| text.trim().parse().map_err(|_| format!("{text:?} is no number of a step"));
        let steps = match self.steps.as_deref() {
            None => None,
            Some("none") => Some(Vec::new()),
            Some(list) => Some(list.split(',').map(number).collect::<Result<Vec<usize>, String>>()?),
        };
        Ok(Cut { steps, jobs: self.jobs, no_operator: self.no_operator, no_digests: self.no_digests })
    }
}

/// The options that make a run the same again.
pub(crate) fn options(mode: Mode, shape: &Shape, cut: &Cut) -> String {
    let mut options = format!("--mode {mode}");
    if let Some(minutes) = shape.span_minutes {
        options += &format!(" --span-minutes {minutes}");
    }
    if let Some(mutant) = &shape.mutant {
        options += &format!(" --mutant {mutant}");
    }
    if let Some(steps) = &cut.steps {
        let list: Vec<String> = steps.iter().map(ToString::to_string).collect();
        options += &format!(" --steps {}", if list.is_empty() { "none".to_owned() } else { list.join(",") });
    }
    if let Some(jobs) = cut.jobs {
        options += &format!(" --jobs {jobs}");
    }
    if cut.no_operator {
        options += " --no-operator";
    }
    if cut.no_digests {
        options += " --no-digests";
    }
    options
}

/// The commit that was built from, as far as git knows; a seed means a run only together with it.
pub(crate) fn commit() -> String {
    let told = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = told.ok().filter(|told| told.status.success()).map(|told| told.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

impl Cli {
    pub(crate) fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Run(args) => run::run(&args),
            Command::Replay(args) => one::replay(&args),
            Command::Shrink(args) => one::shrink(&args),
            Command::Bugs(args) => bugs::bugs(&args),
        };
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(what) => {
                eprintln!("sluice-sim: {what}");
                ExitCode::from(2)
            }
        }
    }
}
