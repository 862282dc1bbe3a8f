//! What every measurement is given, and the one way in which it tells what it found.
//!
//! Deliberately not here: what is measured.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// What every measurement is given.
#[derive(Debug, Args)]
pub struct Given {
    /// Where servers that are started for this keep their data
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What every measurement of a server of its own is given.
#[derive(Debug, Args)]
pub struct OwnServer {
    /// What every other is given, too.
    #[command(flatten)]
    pub given: Given,
    /// Flags for a server that is started for this, behind `--`
    #[arg(last = true)]
    pub settings: Vec<String>,
}

impl Given {
    /// Reports, on standard output: as JSON if that was asked for, else in lines for people.
    ///
    /// # Panics
    /// If a report cannot be written as JSON, which would be its own bug.
    pub fn tell<R: Serialize>(&self, report: &R, lines: impl FnOnce(&R) -> String) {
        if self.json {
            println!("{}", serde_json::to_string(report).expect("a report can be written as JSON"));
        } else {
            println!("{}", lines(report).trim_end());
        }
    }
}
