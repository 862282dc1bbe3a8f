//! `sluice-sim bugs`: each known bug is switched on, and must be caught.
//!
//! A bug stays on for the rest of a process, so each has a process of its own: this same program, told to run with it.

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::Value;
use sluice_core::fault::MUTANTS;

use super::Shape;

/// Bugs that no simulated run can show, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("report_before_write", "the shell's"),
    ("fence_never_written", "the shell's"),
    ("leftovers_opened", "the shell's"),
    ("settings_unchecked", "the shell's"),
    ("fence_not_checked", "the shell's"),
    ("identity_first", "the shell's"),
    ("directory_not_synced", "the shell's"),
    ("index_before_notices", "shows only between two threads"),
    ("term_unchecked", "no proposal is ever forwarded: the check is a second line"),
    (
        "round_before_applied",
        "a gate opens behind all earlier terms, and its own term's entries are answered once applied",
    ),
    (
        "tokens_across_terms",
        "a gate opens behind all entries of earlier terms, whose flights have come back by then",
    ),
];

/// Which bugs.
#[derive(Debug, Args)]
pub(crate) struct BugsArgs {
    #[command(flatten)]
    shape: Shape,
    /// How long each is looked for, seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
}

/// Looks for each bug. Whether all were caught, and nothing where there is none.
pub(crate) fn bugs(args: &BugsArgs) -> Result<bool, String> {
    let wanted = |name: &str| match &args.shape.mutant {
        Some(only) => only == name,
        None => OUT_OF_REACH.iter().all(|(other, _)| *other != name),
    };
    let names: Vec<&str> = MUTANTS.iter().map(|(_, name, _)| *name).filter(|name| wanted(name)).collect();
    if names.is_empty() {
        return Err(format!("there is no mutant {:?}", args.shape.mutant));
    }
    let (mut times, mut runs_max, mut missed) = (Vec::new(), 1, Vec::new());
    for name in names {
        let start = Instant::now();
        let told = look(args, Some(name), None)?;
        let seconds = start.elapsed().as_secs_f64();
        let runs = told["runs"].as_u64().unwrap_or(0);
        match told["failed"].get(0) {
            Some(failed) => {
                println!(
                    "{name:<24} {seconds:>7.1} s {runs:>5} runs  seed {} {}: {}",
                    failed["seed"],
                    failed["mode"].as_str().unwrap_or_default(),
                    failed["checker"].as_str().unwrap_or_default()
                );
                times.push(seconds);
                runs_max = runs_max.max(runs);
            }
            None => {
                println!("{name:<24} {seconds:>7.1} s {runs:>5} runs  NOT CAUGHT");
                missed.push(name);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    if let Some(median) = times.get(times.len() / 2) {
        println!(
            "caught {} of {}; half of them within {median:.1} s",
            times.len(),
            times.len() + missed.len()
        );
    }
    let sound = look(args, None, Some(runs_max))?;
    let failed = sound["failed"].as_array().map_or(0, Vec::len);
    println!("without a bug, the same {} seeds: {failed} failed", sound["runs"]);
    for (name, why) in OUT_OF_REACH {
        println!("{name:<24} not looked for: {why}");
    }
    if !missed.is_empty() {
        println!("not caught: {}", missed.join(", "));
    }
    Ok(missed.is_empty() && failed == 0)
}

/// Runs with a bug, or without, until the first failure.
fn look(args: &BugsArgs, mutant: Option<&str>, seeds: Option<u64>) -> Result<Value, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program is not known: {error}"))?;
    let mut command = Command::new(own);
    command.args(["run", "--json", "--mode", &args.shape.mode.to_string()]);
    command.args(["--from", &args.from.to_string()]);
    if let Some(minutes) = args.shape.span_minutes {
        command.args(["--span-minutes", &minutes.to_string()]);
    }
    match seeds {
        Some(seeds) => command.args(["--seeds", &seeds.to_string()]),
        None => command.args(["--minutes", &(args.seconds as f64 / 60.0).to_string()]),
    };
    if let Some(mutant) = mutant {
        command.args(["--mutant", mutant]);
    }
    let told = command.stderr(Stdio::null()).output();
    let told = told.map_err(|error| format!("cannot run: {error}"))?;
    serde_json::from_slice(&told.stdout).map_err(|error| format!("the run told no JSON: {error}"))
}
