//! Whole runs: the same seed is the same run, and a handful of seeds of each kind hold.

use sluice_sim::campaign::{Campaign, run};
use sluice_sim::plan::{Cut, Mode};

/// Virtual time of a run in a test.
const SPAN_US: u64 = 20_000_000;

fn hash(seed: u64, mode: Mode) -> u64 {
    run(seed, mode, Some(SPAN_US), &Cut::default(), false).hash
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for mode in [Mode::Liveness, Mode::Safety, Mode::Small] {
        assert_eq!(hash(7, mode), hash(7, mode), "{mode}");
        assert_ne!(hash(7, mode), hash(8, mode), "{mode}");
    }
}

#[test]
fn what_is_told_does_not_change_a_run() {
    let told = run(3, Mode::Liveness, Some(SPAN_US), &Cut::default(), true);
    assert_eq!(told.hash, hash(3, Mode::Liveness));
    assert!(told.lines.len() > 100, "a run has much to tell");
}

#[test]
fn leaving_out_all_steps_leaves_a_run_without_faults() {
    let cut = Cut { steps: Some(Vec::new()), no_operator: true, ..Cut::default() };
    let outcome = run(5, Mode::Liveness, Some(SPAN_US), &cut, false);
    assert_eq!(outcome.failure, None);
    let faults: Vec<_> = outcome
        .coverage
        .rows()
        .into_iter()
        .filter(|(name, count)| name.starts_with("fault") && *count > 0)
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
}

fn campaign(mode: Mode, seeds: u64) {
    let campaign = Campaign { from: 1, seeds, mode, span_us: Some(SPAN_US), threads: 2, stops: true };
    let report = campaign.run(&|_| true);
    for failed in &report.failed {
        println!("seed {}, {}: {}", failed.seed, failed.mode, failed.failure);
    }
    assert!(report.failed.is_empty(), "see above");
    assert!(report.checks.values().sum::<u64>() > 1000, "a campaign that checks nothing proves nothing");
}

#[test]
fn a_few_runs_with_faults_that_a_quorum_survives() {
    campaign(Mode::Liveness, 12);
}

#[test]
fn a_few_runs_with_disks_that_forget() {
    campaign(Mode::Safety, 8);
}

#[test]
fn a_few_small_runs_of_which_every_order_is_tried() {
    campaign(Mode::Small, 40);
}
