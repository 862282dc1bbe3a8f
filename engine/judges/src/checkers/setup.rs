//! What the judges are told once, and what they say in the end.

use std::collections::BTreeMap;
use std::fmt;

use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{HardState, LogEntry, Members};

/// What the judges are told once. Begin with [`Setup::new`].
#[derive(Clone, Debug)]
pub struct Setup {
    /// Every node that is there from the start.
    pub nodes: Vec<u64>,
    /// The membership of the cluster's first snapshot, which has index 0.
    pub members: Members,
    /// What the first image of the ledger says.
    pub settings: Settings,
    /// Ledgers are compared byte by byte at every index that this divides, and in the end; 0 = never. It walks all they hold.
    pub digest_every: u64,
    /// The longest that a call sent after [`super::Checkers::healed`] may wait for its answer: the budget and some grace.
    pub wait_us_max: u64,
    /// Disks keep what they said was synced, and never so many are lost that no quorum has all of it. If not, what was
    /// acknowledged may be gone; then only what a ledger and a gate must hold by themselves is demanded.
    pub honest: bool,
    /// Whether the run is small enough to search for a sequential history that explains its answers.
    pub search: bool,
}

impl Setup {
    /// An honest run of these voters.
    pub fn new(voters: &[u64]) -> Self {
        Self {
            nodes: voters.to_vec(),
            members: Members { voters: voters.to_vec(), ..Members::default() },
            settings: Settings::default(),
            digest_every: 512,
            wait_us_max: 15_000_000,
            honest: true,
            search: false,
        }
    }
}

/// What a disk holds when a process is about to recover from it.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Raft's own.
    pub hard_state: HardState,
    /// The index and term of the snapshot that the node recovers from; (0, 0) for the cluster's first one, and if there is none.
    pub snapshot: (u64, u64),
    /// The log as it is read back; entries that the snapshot holds too may be among them.
    pub log: &'a [LogEntry],
}

/// What only a sound, running member may do. What it tries and nobody believes is not told: a request for a vote by a
/// process that its peers do not let in, an answer that claims nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoke {
    /// It granted a vote, or asked for one (not a pre-vote), and a peer took it for that.
    Vote,
    /// It sent what only a leader sends, and a peer took it for that.
    Lead,
    /// It answered a client, with more than `Busy`, `NotLeader` or `Unknown`.
    Serve,
}

/// An invariant is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who holds that invariant.
    pub checker: &'static str,
    /// What happened: ids, indexes, values.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

impl std::error::Error for Violation {}

/// What a run amounted to, so that one that checked nothing is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers heard, by the name of their status.
    pub statuses: BTreeMap<String, u64>,
    /// Calls that were never answered.
    pub unanswered: u64,
    /// How often each checker looked at something that could have been wrong.
    pub checks: BTreeMap<&'static str, u64>,
    /// The highest index applied anywhere.
    pub committed: u64,
}

/// The error of a checker.
macro_rules! violation {
    ($checker:literal, $($what:tt)+) => {
        Err($crate::checkers::Violation { checker: $checker, what: format!($($what)+) })
    };
}
pub(crate) use violation;
