//! The judges of a run that is over: of real processes, of which nobody sees more than what clients sent and heard, and what
//! is on the nodes' disks in the end.
//!
//! An answer is judged at the index that it names, and what was heard before something was sent is known from the order of
//! the record. So the whole log comes first, then every call in that order; no checker asks how long an entry had been
//! applied when it was told. As nothing goes on meanwhile, each checker is heard out: one that finds something does not keep
//! the others from looking.
//!
//! - `stitch`: the committed log, out of the logs that were found
//!
//! Deliberately not here: what cannot be known from outside. How many disks held an entry when it was applied (`quorum`),
//! what a gate had (`gate`), who spoke that should not have (`exclusion`); and whoever walked away is owed no answer
//! (`liveness`).

mod stitch;

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{EntryKind, HardState, LogEntry};
use sluice_protocol::ProductId;
use sluice_protocol::response::At;

use self::stitch::stitch;
use crate::checkers::{Common, Tally, Violation};
use crate::history::{Call, CallId, Reply};

/// What a client did. Calls are numbered in the order in which they were sent.
#[derive(Clone, Debug)]
pub enum Event {
    /// It sent an item. Recorded before the server can have it.
    Sent(Call),
    /// It heard the answer. Recorded after the server gave it.
    Heard(CallId, u64, Reply),
}

/// A node's log, as it was when the node did not run.
#[derive(Clone, Debug)]
pub struct FoundLog {
    /// Whose.
    pub node: u64,
    /// Raft's own.
    pub hard_state: HardState,
    /// The index of the newest snapshot beside it.
    pub applied: u64,
    /// The newest snapshot beside it in which nothing is: nobody had sold or asked for anything by then.
    pub void: Option<At>,
    /// What it holds, without a gap.
    pub entries: Vec<LogEntry>,
    /// Whether the node stopped cleanly, and did not run again.
    pub last: bool,
}

/// A snapshot's image of a ledger.
#[derive(Clone, Debug)]
pub struct Image {
    /// Whose.
    pub node: u64,
    /// The last index in it.
    pub index: u64,
    /// Its bytes.
    pub sections: Vec<Vec<u8>>,
}

impl Image {
    /// Index and time, if nothing is in it.
    pub fn void(&self) -> Option<At> {
        let sections = self.sections.iter().map(Vec::as_slice);
        let ledger = Ledger::from_sections(sections, 0, SEED).ok()?;
        let is_void = ledger.totals().records == 0 && ledger.products_from(ProductId(0)).next().is_none();
        is_void.then(|| ledger.at())
    }
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients did, in one order.
    pub events: Vec<Event>,
    /// Logs, in the order in which they were found: of each node the last one, and any from before.
    pub logs: Vec<FoundLog>,
    /// The snapshots that were there in the end.
    pub images: Vec<Image>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was judged.
    pub tally: Tally,
    /// The first that each checker found, in the order in which they did.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Checkers that had nothing to look at.
    pub fn idle(&self) -> Vec<&'static str> {
        let idle = self.tally.checks.iter().filter(|(_, checks)| **checks == 0);
        idle.map(|(checker, _)| *checker).collect()
    }

    fn found(&mut self, violation: Violation) {
        if self.violations.iter().all(|known| known.checker != violation.checker) {
            self.violations.push(violation);
        }
    }

    fn take(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.found(violation);
        }
    }
}

/// The node that the committed log is replayed on, which is nobody's.
const NOBODY: u64 = 0;

/// Hash seeds of the ledgers here. Whatever depends on one is not the same twice.
const SEED: u64 = 5;

impl Evidence {
    /// The committed log, from index 1 on.
    ///
    /// # Errors
    /// A sentence, if a part of it is missing.
    pub fn committed(&self) -> Result<Vec<LogEntry>, String> {
        stitch(&self.logs)
    }

    /// Judges the run.
    ///
    /// # Errors
    /// A sentence, if the evidence is not enough to judge by: a part of the log is missing, or every image.
    pub fn judge(&self) -> Result<Verdict, String> {
        let (mut ledgers, mut refused) = (Vec::new(), Vec::new());
        for image in &self.images {
            let sections = image.sections.iter().map(Vec::as_slice);
            match Ledger::from_sections(sections, 0, SEED + image.node) {
                Ok(ledger) => ledgers.push((image.node, ledger)),
                Err(error) => refused.push((image, error)),
            }
        }
        let settings = ledgers.first().map(|(_, ledger)| ledger.settings()).ok_or("there is no image")?;
        let committed = self.committed()?;
        let mut trial = Trial::new(settings);
        trial.logs_found(&self.logs);
        let replayed = trial.replay(&committed, settings, &ledgers);
        trial.logs_are_the_committed(&self.logs);
        for (Image { node, index, .. }, error) in refused {
            let what = format!("node {node} has a snapshot of index {index} that cannot be loaded: {error}");
            trial.verdict.found(Violation { checker: "replicas", what });
        }
        trial.images(&ledgers);
        trial.ends(&self.logs, &committed, ledgers);
        trial.calls(&self.events);
        Ok(trial.verdict(&replayed))
    }
}

/// A run being judged.
struct Trial {
    common: Common,
    verdict: Verdict,
}

impl Trial {
    fn new(settings: Settings) -> Self {
        // Digests are taken where there are images, and in the end.
        let common = Common::new(settings, u64::MAX);
        Self { common, verdict: Verdict { tally: Tally::default(), violations: Vec::new() } }
    }

    /// Logs against each other, while nothing is known to be committed.
    fn logs_found(&mut self, logs: &[FoundLog]) {
        for log in logs {
            let Common { raft, timeline, .. } = &mut self.common;
            self.verdict.take(raft.found(log.node, log.hard_state, &log.entries, timeline));
        }
    }

    /// The log on the model and on a ledger, entry by entry. The ledger.
    fn replay(&mut self, committed: &[LogEntry], settings: Settings, images: &[(u64, Ledger)]) -> Ledger {
        let mut ledger = Ledger::new(settings, SEED);
        let shown: BTreeSet<u64> = images.iter().map(|(_, image)| image.index()).collect();
        for entry in committed {
            let Common { timeline, replicas, .. } = &mut self.common;
            let pushed = timeline.push(entry).and_then(|()| apply(&mut ledger, entry));
            if let Err(what) = pushed {
                self.verdict.found(Violation { checker: "replicas", what });
                break;
            }
            replicas.committed(entry);
            match replicas.applied(NOBODY, entry.index, timeline, &ledger) {
                Ok(Some(span)) => {
                    let looked = self.common.look(NOBODY, &span, &ledger);
                    self.verdict.take(looked);
                }
                Ok(None) => {}
                Err(violation) => self.verdict.found(violation),
            }
            if shown.contains(&entry.index) {
                self.verdict.take(self.common.replicas.digest(NOBODY, &ledger));
            }
        }
        ledger
    }

    /// What a node knew to be committed is what is committed, and in the end it has no other.
    fn logs_are_the_committed(&mut self, logs: &[FoundLog]) {
        let Common { raft, timeline, .. } = &mut self.common;
        for log in logs {
            let known = if log.last { timeline.top() } else { log.hard_state.commit.max(log.applied) };
            for entry in log.entries.iter().filter(|entry| entry.index <= known) {
                self.verdict.take(raft.applied(log.node, entry, timeline));
            }
        }
    }

    fn images(&mut self, images: &[(u64, Ledger)]) {
        for (node, ledger) in images {
            let index = ledger.index();
            let Common { replicas, timeline, .. } = &mut self.common;
            self.verdict.take(replicas.installed(*node, index, timeline, ledger));
            if index > 0 {
                self.verdict.take(replicas.digest(*node, ledger));
            }
            self.verdict.take(self.common.walk(*node, ledger));
        }
    }

    /// Each node's newest image and what its own log has behind it make what the whole log makes. What it had not heard of
    /// when it stopped is added.
    fn ends(&mut self, logs: &[FoundLog], committed: &[LogEntry], images: Vec<(u64, Ledger)>) {
        let mut newest: BTreeMap<u64, Ledger> = BTreeMap::new();
        for (node, ledger) in images {
            let known = newest.get(&node).map_or(0, Ledger::index);
            if ledger.index() >= known {
                newest.insert(node, ledger);
            }
        }
        for (node, ledger) in &mut newest {
            let own = logs.iter().filter(|log| log.last && log.node == *node).flat_map(|log| &log.entries);
            for entry in own.chain(committed) {
                if entry.index == ledger.index() + 1
                    && entry.index <= committed.len() as u64
                    && let Err(what) = apply(ledger, entry)
                {
                    self.verdict.found(Violation { checker: "replicas", what });
                }
            }
        }
        let nodes: Vec<(u64, &Ledger)> = newest.iter().map(|(node, ledger)| (*node, ledger)).collect();
        let Common { replicas, timeline, .. } = &mut self.common;
        self.verdict.take(replicas.quiet(&nodes, timeline));
    }

    fn calls(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Sent(call) => drop(self.common.sent(call.clone())),
                Event::Heard(id, at_us, reply) => {
                    for violation in self.common.answered(*id, reply) {
                        self.verdict.found(violation);
                    }
                    self.common.history.heard(*id, *at_us, reply.clone());
                }
            }
        }
    }

    fn verdict(mut self, replayed: &Ledger) -> Verdict {
        let Common { finality, outcome, .. } = &mut self.common;
        self.verdict.take(finality.quiet(replayed, outcome));
        for verdict in self.common.added_up() {
            self.verdict.take(verdict);
        }
        self.verdict.tally = self.common.tally();
        self.verdict
    }
}

fn apply(ledger: &mut Ledger, entry: &LogEntry) -> Result<(), String> {
    let data: &[u8] = if entry.kind == EntryKind::Membership { &[] } else { &entry.data };
    let applied = ledger.apply(entry.index, entry.term, data, &mut Ignore);
    applied.map(drop).map_err(|error| format!("entry {} cannot be applied: {error}", entry.index))
}
