//! `sluice-sim run`: a campaign, its progress, and what it came to.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use sluice_sim::campaign::{Campaign, Report};
use sluice_sim::plan::Cut;
use sluice_sim::world::Outcome;

use super::{Shape, commit, options};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    shape: Shape,
    /// How many seeds
    #[arg(long, conflicts_with = "minutes")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Goes on for so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Runs at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Goes on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Says what was found as JSON
    #[arg(long)]
    json: bool,
    /// Fails if a rare path was never taken
    #[arg(long)]
    demand_coverage: bool,
}

/// Makes the runs. Whether all were as they should be.
pub(crate) fn run(args: &RunArgs) -> Result<bool, String> {
    args.shape.arm()?;
    let start = Instant::now();
    let until = args.minutes.map(|minutes| start + Duration::from_secs_f64(minutes * 60.0));
    let seeds = args.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 200 });
    let bar = bar(args.seeds, until.is_none().then_some(seeds));
    let simulated_us = Mutex::new(0_u64);
    let progress = |outcome: &Outcome| {
        let mut sum = simulated_us.lock().expect("nobody panics while he holds it");
        *sum += outcome.simulated_us;
        bar.set_message(format!("{:.1} virtual hours", *sum as f64 / 3.6e9));
        bar.inc(1);
        if let Some(failure) = &outcome.failure {
            bar.println(format!("seed {} ({}): {failure}", outcome.plan.seed, outcome.plan.mode));
        }
        until.is_none_or(|until| Instant::now() < until)
    };
    let campaign = Campaign {
        from: args.from,
        seeds,
        mode: args.shape.mode,
        span_us: args.shape.span_us(),
        threads: args.threads,
        stops: !args.keep_going,
    };
    let report = campaign.run(&progress);
    bar.finish_and_clear();
    tell(args, &report, start.elapsed());
    let missing = report.coverage.missing();
    if args.demand_coverage && !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
    }
    Ok(report.failed.is_empty() && (!args.demand_coverage || missing.is_empty()))
}

fn bar(told: Option<u64>, seeds: Option<u64>) -> ProgressBar {
    let style = "{spinner} {pos}/{len} runs, {msg}, {elapsed_precise}";
    let open = "{spinner} {pos} runs, {msg}, {elapsed_precise}";
    let (bar, style) = match told.or(seeds) {
        Some(seeds) => (ProgressBar::new(seeds), style),
        None => (ProgressBar::new_spinner(), open),
    };
    bar.with_style(ProgressStyle::with_template(style).expect("the template is in order"))
}

fn tell(args: &RunArgs, report: &Report, took: Duration) {
    let commit = commit();
    let replay =
        |seed: u64, mode| format!("sluice-sim replay {seed} {}", options(mode, &args.shape, &Cut::default()));
    if args.json {
        let failed = report.failed.iter().map(|failed| {
            json!({
                "seed": failed.seed,
                "mode": failed.mode.to_string(),
                "checker": failed.failure.checker,
                "what": failed.failure.what,
                "at_us": failed.failure.at_us,
                "replay": replay(failed.seed, failed.mode),
            })
        });
        let coverage: Map<String, Value> =
            report.coverage.rows().into_iter().map(|(name, count)| (name, count.into())).collect();
        let told = json!({
            "commit": commit,
            "runs": report.runs,
            "hours": report.hours(),
            "events": report.events,
            "seconds": took.as_secs_f64(),
            "failed": failed.collect::<Vec<_>>(),
            "checks": report.checks,
            "coverage": coverage,
        });
        return println!("{told:#}");
    }
    print!("{}", report.coverage);
    println!("  checks: {:?}", report.checks);
    println!(
        "{} runs, {:.1} virtual hours, {} events in {:.1} s; {} failed",
        report.runs,
        report.hours(),
        report.events,
        took.as_secs_f64(),
        report.failed.len()
    );
    for failed in &report.failed {
        println!("seed {} at commit {commit}: {}", failed.seed, failed.failure);
        println!("  {}", replay(failed.seed, failed.mode));
    }
}
