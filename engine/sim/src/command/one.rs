//! `sluice-sim replay` and `shrink`: a single run.

use clap::Args;
use sluice_sim::campaign;
use sluice_sim::plan::{Cut, Mode};
use sluice_sim::shrink::Shrinker;
use sluice_sim::world::Outcome;

use super::{CutArgs, Shape, commit, options};

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Its seed
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    cut: CutArgs,
    /// Tells what happens, line by line
    #[arg(long)]
    events: bool,
}

/// Which run, and how much to try.
#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    /// Its seed
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Runs to try at most
    #[arg(long, default_value_t = 400)]
    tries: usize,
}

/// Makes a run again. Whether it was as it should be.
pub(crate) fn replay(args: &ReplayArgs) -> Result<bool, String> {
    args.shape.arm()?;
    let cut = args.cut.cut()?;
    let outcome = campaign::run(args.seed, args.shape.mode, args.shape.span_us(), &cut, args.events);
    for line in &outcome.lines {
        println!("{line}");
    }
    if args.events {
        tell_steps(&outcome);
    }
    println!(
        "seed {}, {}, {} voters, {:.1} s, {} events, {} entries, trace {:016x}",
        args.seed,
        outcome.plan.mode,
        outcome.plan.voters,
        outcome.simulated_us as f64 / 1e6,
        outcome.events,
        outcome.tally.committed,
        outcome.hash
    );
    if let Some(failure) = &outcome.failure {
        println!("failed at commit {}: {failure}", commit());
    }
    Ok(outcome.failure.is_none())
}

fn tell_steps(outcome: &Outcome) {
    for (number, step) in outcome.steps.iter().enumerate().filter(|(_, step)| step.at_us != u64::MAX) {
        let (at_s, for_s) = (step.at_us as f64 / 1e6, step.for_us as f64 / 1e6);
        println!("step {number} at {at_s:.3} s for {for_s:.3} s: {:?}", step.fault);
    }
}

/// Looks for the shortest run that still fails. Whether there was nothing to look for.
pub(crate) fn shrink(args: &ShrinkArgs) -> Result<bool, String> {
    args.shape.arm()?;
    let fails = |cut: &Cut| {
        let outcome = campaign::run(args.seed, args.shape.mode, args.shape.span_us(), cut, false);
        outcome.failure.map(|failure| (failure.checker, outcome.plan.mode))
    };
    let Some((checker, mode)) = fails(&Cut::default()) else {
        println!("seed {} does not fail", args.seed);
        return Ok(true);
    };
    let outcome = campaign::run(args.seed, args.shape.mode, args.shape.span_us(), &Cut::default(), false);
    let mut shrinker = Shrinker::new(outcome.steps.len(), outcome.plan.jobs, args.tries);
    let cut = shrinker.shrink(|cut| fails(cut).is_some_and(|(other, _)| other == checker));
    tell_shrunk(args, mode, &cut, shrinker.tries());
    Ok(false)
}

fn tell_shrunk(args: &ShrinkArgs, mode: Mode, cut: &Cut, tries: usize) {
    let outcome = campaign::run(args.seed, args.shape.mode, args.shape.span_us(), cut, false);
    tell_steps(&outcome);
    if let Some(failure) = &outcome.failure {
        println!("after {tries} tries, at commit {}: {failure}", commit());
    }
    println!("  sluice-sim replay {} {} --events", args.seed, options(mode, &args.shape, cut));
}
