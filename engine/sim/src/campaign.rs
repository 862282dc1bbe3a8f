//! Many runs: one world after the other on each core, and what all of them came to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::coverage::Coverage;
use crate::panics;
use crate::plan::{Cut, Mode, Plan};
use crate::world::{Failure, Outcome, World};
use sluice_judges::checkers::Tally;

/// Of so many runs one is made twice, to see that it is the same.
const TWICE_EVERY: u64 = 16;

/// Which runs to make.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// What kind.
    pub mode: Mode,
    /// How long each is, in virtual time; by its seed, if not told.
    pub span_us: Option<u64>,
    /// How many at a time.
    pub threads: usize,
    /// Whether the first failure is the end.
    pub stops: bool,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// Its kind.
    pub mode: Mode,
    /// What broke.
    pub failure: Failure,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Runs that were made.
    pub runs: u64,
    /// Virtual time of all of them.
    pub simulated_us: u64,
    /// Events of all of them.
    pub events: u64,
    /// What they have been through.
    pub coverage: Coverage,
    /// How often each checker looked.
    pub checks: BTreeMap<&'static str, u64>,
    /// Those that failed, by seed.
    pub failed: Vec<Failed>,
}

/// Makes one run.
pub fn run(seed: u64, mode: Mode, span_us: Option<u64>, cut: &Cut, tells: bool) -> Outcome {
    panics::remember();
    let plan = Plan::new(seed, mode, span_us, cut.clone());
    let world = catch_unwind(AssertUnwindSafe(|| World::new(plan.clone(), tells).run()));
    world.unwrap_or_else(|_| Outcome {
        failure: Some(Failure {
            checker: "simulator".to_owned(),
            what: format!("it panicked itself: {}", panics::last()),
            at_us: 0,
        }),
        hash: 0,
        events: 0,
        simulated_us: 0,
        coverage: Coverage::default(),
        tally: Tally::default(),
        steps: crate::nemesis::schedule(&plan),
        lines: Vec::new(),
        plan,
    })
}

impl Campaign {
    /// Makes all runs. `progress` hears of each as it ends, and says whether to go on.
    pub fn run(&self, progress: &(dyn Fn(&Outcome) -> bool + Sync)) -> Report {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let report = Mutex::new(Report::default());
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.seeds {
                    return;
                }
                let outcome = self.run_one(self.from + number);
                let goes_on = progress(&outcome) && !(self.stops && outcome.failure.is_some());
                stop.fetch_or(!goes_on, Ordering::Relaxed);
                report.lock().expect("nobody panics while he holds it").take(outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(work);
            }
        });
        let mut report = report.into_inner().expect("nobody panics while he holds it");
        report.failed.sort_by_key(|failed| failed.seed);
        report
    }

    fn run_one(&self, seed: u64) -> Outcome {
        let mut outcome = run(seed, self.mode, self.span_us, &Cut::default(), false);
        if outcome.failure.is_none() && seed.is_multiple_of(TWICE_EVERY) {
            let again = run(seed, self.mode, self.span_us, &Cut::default(), false);
            if again.hash != outcome.hash {
                let what = format!(
                    "the same seed was {:016x} after {} events, then {:016x} after {}",
                    outcome.hash, outcome.events, again.hash, again.events
                );
                outcome.failure = Some(Failure { checker: "determinism".to_owned(), what, at_us: 0 });
            }
        }
        outcome
    }
}

impl Report {
    fn take(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.simulated_us += outcome.simulated_us;
        self.events += outcome.events;
        self.coverage.absorb(&outcome.coverage);
        for (checker, checks) in outcome.tally.checks {
            *self.checks.entry(checker).or_default() += checks;
        }
        if let Some(failure) = outcome.failure {
            self.failed.push(Failed { seed: outcome.plan.seed, mode: outcome.plan.mode, failure });
        }
    }

    /// Virtual hours of all runs.
    pub fn hours(&self) -> f64 {
        self.simulated_us as f64 / 3.6e9
    }
}
