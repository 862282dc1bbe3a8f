//! Replicas find by themselves that one of them differs, where nothing else looks: the judges compare no bytes here, and
//! no answer shows the bug. It stays on for the rest of the process, so this is one test.

use sluice_core::fault;
use sluice_sim::campaign::run;
use sluice_sim::plan::{Cut, Mode};

const SPAN_US: u64 = 180_000_000;
const SEEDS: u64 = 12;

#[test]
fn a_replica_that_differs_is_found_by_the_others_and_none_is_where_none_does() {
    let cut = Cut { steps: Some(Vec::new()), no_digests: true, ..Cut::default() };
    let failures = || {
        let runs = (1..=SEEDS).map(|seed| run(seed, Mode::Liveness, Some(SPAN_US), &cut, false));
        let failures = runs.filter_map(|outcome| outcome.failure.map(|failure| failure.checker));
        failures.collect::<Vec<String>>()
    };
    assert_eq!(failures(), Vec::<String>::new());
    assert!(fault::switch_on("state_diverges"));
    let found = failures();
    assert!(found.iter().all(|checker| checker == "digests"), "{found:?}");
    // Some clusters have one node, and in some all draw seeds of one kind.
    assert!(found.len() as u64 > SEEDS / 3, "{} of {SEEDS}", found.len());
}
