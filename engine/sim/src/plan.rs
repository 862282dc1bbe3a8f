//! What a run is: how many nodes, how long, how much load, what must hold. All of it is drawn from the seed and the mode.

use std::fmt;
use std::str::FromStr;

use sluice_core::ledger::settings::Settings;

use crate::random::Random;

/// What kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Faults that a quorum survives. Everything must hold, and settle once they are over.
    Liveness,
    /// Disks forget what they synced, one or many. Only what can hold must hold.
    Safety,
    /// Few calls on few products, so that every order of them can be tried.
    Small,
    /// Each of the others, by the seed.
    Mixed,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "liveness" => Ok(Self::Liveness),
            "safety" => Ok(Self::Safety),
            "small" => Ok(Self::Small),
            "mixed" => Ok(Self::Mixed),
            other => Err(format!("{other:?} is no mode: liveness, safety, small or mixed")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Liveness => "liveness",
            Self::Safety => "safety",
            Self::Small => "small",
            Self::Mixed => "mixed",
        })
    }
}

/// What is left out of a run, to find the shortest that still fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Only these steps of the nemesis happen.
    pub steps: Option<Vec<usize>>,
    /// Only so many jobs of the workload are begun.
    pub jobs: Option<usize>,
    /// Nobody changes the membership.
    pub no_operator: bool,
    /// The judges do not compare ledgers byte by byte: what the replicas tell each other has to do.
    pub no_digests: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Never [`Mode::Mixed`].
    pub mode: Mode,
    /// Voters at the start.
    pub voters: u64,
    /// Net threads of a node.
    pub stripes: usize,
    /// Log bytes after which a snapshot is due.
    pub snapshot_every_bytes: u64,
    /// How long faults and load go on, microseconds.
    pub span_us: u64,
    /// Intentions of clients.
    pub jobs: usize,
    /// Clients.
    pub clients: usize,
    /// Products.
    pub products: u64,
    /// Steps of the nemesis.
    pub steps: usize,
    /// What all nodes agreed on.
    pub settings: Settings,
    /// The ledger's tables are so small that they fill up for good: clients cannot be satisfied in the end.
    pub fills_up: bool,
    /// Disks may forget more than a quorum has elsewhere: what was acknowledged may be gone.
    pub honest: bool,
    /// The operator changes the membership now and then.
    pub changes: bool,
    /// What is left out.
    pub cut: Cut,
}

const SECOND_US: u64 = 1_000_000;

/// Days for which outcomes are remembered. Clocks jump by one at most.
const RETENTION_MS: u64 = 8 * 24 * 3600 * 1000;

impl Plan {
    /// What a seed means.
    pub fn new(seed: u64, mode: Mode, span_us: Option<u64>, cut: Cut) -> Self {
        let mut random = Random::new(seed).fork("plan", 0);
        let drawn = [Mode::Liveness, Mode::Safety, Mode::Small][random.weighted(&[60, 20, 20])];
        let mode = if mode == Mode::Mixed { drawn } else { mode };
        let small = mode == Mode::Small;
        let voters = if small { 3 } else { [1, 3, 5][random.weighted(&[1, 14, 5])] };
        let fills_up = random.chance(1, 10) && !small;
        let own_span_us =
            if small { random.between(4, 12) * SECOND_US } else { random.between(60, 900) * SECOND_US };
        let span_us = span_us.unwrap_or(own_span_us);
        let seconds = span_us / SECOND_US;
        let jobs = if small { random.between(6, 16) } else { random.between(300, 600) + 2 * seconds };
        Self {
            seed,
            mode,
            voters,
            stripes: random.between(1, 2) as usize,
            snapshot_every_bytes: random.spread(4 << 10, 128 << 10),
            span_us,
            jobs: jobs as usize,
            clients: if small { 3 } else { random.between(3, 16) as usize },
            products: if small { random.between(1, 2) } else { random.between(2, 6) },
            steps: if small { random.between(1, 4) } else { 4 + random.between(seconds / 20, seconds / 8) }
                as usize,
            settings: Settings {
                records_max: if fills_up { 400 } else { 1_000_000 },
                retention_ms: RETENTION_MS,
            },
            fills_up,
            honest: mode != Mode::Safety || random.chance(1, 2),
            changes: !small && random.chance(2, 3),
            cut,
        }
    }

    /// A generator for one purpose.
    pub fn random(&self, name: &str, number: u64) -> Random {
        Random::new(self.seed).fork(name, number)
    }
}
