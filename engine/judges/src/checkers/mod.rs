//! The judges of a run. The world tells [`Checkers`] all that happens, in the order in which it happens; each checker
//! holds one invariant, and the first that is broken ends the run.
//!
//! - [`conservation`] 1 · [`oversell`] 2 · [`linearizability`] 3, [`search`] the same for small runs without evidence
//! - [`finality`] 4 · [`outcome`] 5 · [`existence`] 6 · [`limits`] 7 · [`stream`] 8 · [`time`] 9
//! - [`replicas`] 10 · [`gate`] 11 · [`raft`] 12 · [`quorum`] 13 · [`exclusion`] 14 · [`liveness`] 16
//! - [`groups`]: who gets which events, and what becomes of them
//! - `common`: those of them that every run has, also one that is told when it is over ([`crate::recorded`])
//! - `events`: what is told of the stream · `disks`: what each disk holds · `claim`: what an answer says of an id · `setup`: what is told once, and the verdict
//!
//! The numbers are those of the list of invariants. Some checkers believe the log, some only what clients heard, some only
//! the ledgers: a mistake that all of them share would have to be in all three. Where disks lie, what was acknowledged may be
//! gone, and only what one ledger or one gate owes is demanded ([`Setup::honest`]).

mod claim;
mod common;
pub mod conservation;
mod disks;
mod events;
pub mod exclusion;
pub mod existence;
pub mod finality;
pub mod gate;
pub mod groups;
pub mod limits;
pub mod linearizability;
pub mod liveness;
pub mod outcome;
pub mod oversell;
pub mod quorum;
pub mod raft;
pub mod replicas;
pub mod search;
mod sequential;
mod setup;
pub mod stream;
pub mod time;

use sluice_core::ledger::Ledger;
use sluice_core::replica::disk::{Append, LogEntry, Members};

pub use self::claim::Claim;
pub(crate) use self::common::Common;
use self::disks::Disks;
pub use self::events::Opened;
use self::setup::violation;
pub use self::setup::{Kept, Setup, Spoke, Tally, Violation};
use crate::history::{Call, CallId, Reply};

/// See the module.
#[derive(Debug)]
pub struct Checkers {
    setup: Setup,
    common: Common,
    disks: Disks,
    gate: gate::Gate,
    quorum: quorum::Quorum,
    exclusion: exclusion::Exclusion,
    liveness: liveness::Liveness,
    stream: stream::Stream,
    groups: groups::Groups,
}

impl Checkers {
    /// The judges of one run.
    pub fn new(setup: Setup) -> Self {
        Self {
            common: Common::new(setup.settings, setup.digest_every),
            disks: Disks::new(&setup.members),
            gate: gate::Gate::default(),
            quorum: quorum::Quorum::default(),
            exclusion: exclusion::Exclusion::default(),
            liveness: liveness::Liveness::new(setup.wait_us_max),
            stream: stream::Stream::default(),
            groups: groups::Groups::default(),
            setup,
        }
    }

    /// A client sends an item.
    pub fn sent(&mut self, call: Call) -> CallId {
        self.common.sent(call)
    }

    /// The client hears the answer. If it never does, nothing is told.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn heard(&mut self, id: CallId, at_us: u64, reply: Reply) -> Result<(), Violation> {
        let verdict = self.judge(id, at_us, &reply);
        self.common.history.heard(id, at_us, reply);
        verdict
    }

    fn judge(&mut self, id: CallId, at_us: u64, reply: &Reply) -> Result<(), Violation> {
        let call = self.common.history.get(id);
        self.liveness.heard(call, at_us)?;
        if !self.setup.honest {
            return Ok(());
        }
        self.quorum.heard(call.node, reply)?;
        self.common.answered(id, reply).into_iter().next().map_or(Ok(()), Err)
    }

    /// A node believes to lead.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn became_leader(&mut self, node: u64, term: u64) -> Result<(), Violation> {
        self.spoke(node, Spoke::Lead)?;
        if self.setup.honest { self.common.raft.became_leader(node, term, &self.disks) } else { Ok(()) }
    }

    /// The membership as of a committed entry. Told by whichever node applies it first, before it applies the next; it may
    /// be told again.
    pub fn members(&mut self, index: u64, members: &Members) {
        self.disks.members(index, members);
    }

    /// This step is now synced on the node's disk. Told in the order of the steps, before the node hears of it.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn durable(&mut self, node: u64, append: &Append) -> Result<(), Violation> {
        if self.setup.honest {
            self.common.raft.durable(node, append, &self.disks, &self.common.timeline)?;
        }
        self.disks.durable(node, append);
        self.quorum.durable(append, &self.disks);
        Ok(())
    }

    /// What the node's disk holds after a crash, or after it was wiped, rolled back or damaged: what the node will
    /// recover from, if it does. A node that lacks what it had synced must not vote, lead or serve any more.
    pub fn lost(&mut self, node: u64, kept: &Kept<'_>) {
        if let Some(what) = self.disks.recovered(node, kept)
            && self.setup.honest
        {
            self.exclusion.forgot(node, what);
        }
    }

    /// The node applied an entry: each one, in order, those of membership and the empty ones too. If it applied several at
    /// once, each is told with the ledger as it is behind the last.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(&mut self, node: u64, entry: &LogEntry, ledger: &Ledger) -> Result<(), Violation> {
        if !self.setup.honest {
            return self.applied_alone(node, entry.index, ledger);
        }
        let first = entry.index == self.common.timeline.top() + 1;
        if first {
            self.common.raft.committed(entry)?;
            if let Err(what) = self.common.timeline.push(entry) {
                return violation!("replicas", "node {node}: {what}");
            }
            self.common.replicas.committed(entry);
        }
        self.common.raft.applied(node, entry, &self.common.timeline)?;
        self.quorum.applied(node, entry, first, &self.disks)?;
        let span = self.common.replicas.applied(node, entry.index, &self.common.timeline, ledger)?;
        match span {
            Some(span) => self.common.look(node, &span, ledger),
            None => Ok(()),
        }
    }

    /// What a ledger owes by itself, whatever became of its log.
    fn applied_alone(&mut self, node: u64, index: u64, ledger: &Ledger) -> Result<(), Violation> {
        if ledger.index() != index {
            return Ok(());
        }
        self.common.time.passed(node, ledger.at())?;
        if index.is_multiple_of(WALK_EVERY) { self.common.walk(node, ledger) } else { Ok(()) }
    }

    /// The node's ledger was loaded from a snapshot of this index: its own at a start, or one that a peer sent. If entries
    /// behind it were applied at once, the ledger is further already.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn installed(&mut self, node: u64, index: u64, ledger: &Ledger) -> Result<(), Violation> {
        self.common.time.restart(node);
        if self.setup.honest {
            self.quorum.reached(node, index);
            self.common.replicas.installed(node, index, &self.common.timeline, ledger)?;
        }
        self.common.walk(node, ledger)
    }

    /// What an open gate has of a product, and what the ledger of the same node has free.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn gate(&mut self, node: u64, product: u64, tokens: u64, available: u64) -> Result<(), Violation> {
        self.gate.look(node, product, tokens, available)
    }

    /// The node's process ended, or refused to start.
    pub fn stopped(&mut self, node: u64) {
        self.exclusion.stopped(node);
    }

    /// A process of the node runs. Its ledger is told by [`Checkers::installed`], also if it is empty (index 0).
    pub fn started(&mut self, node: u64) {
        self.exclusion.started(node);
        self.common.replicas.restart(node);
        self.common.time.restart(node);
    }

    /// The node did what only a sound member may do.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn spoke(&mut self, node: u64, what: Spoke) -> Result<(), Violation> {
        self.exclusion.spoke(node, what)
    }

    /// All faults are over from now on.
    pub fn healed(&mut self, at_us: u64) {
        self.liveness.healed(at_us);
    }

    /// Faults begin again.
    pub fn broken(&mut self) {
        self.liveness.broken();
    }

    /// Nothing is in flight anywhere, clients know all they want to, and all nodes have applied all: their ledgers, and the
    /// tokens of the leader's gate, by product, of every product that is not unlimited.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, nodes: &[(u64, &Ledger)], tokens: &[(u64, u64)]) -> Result<(), Violation> {
        for (node, ledger) in nodes {
            self.common.walk(*node, ledger)?;
        }
        if !self.setup.honest {
            return Ok(());
        }
        self.common.replicas.quiet(nodes, &self.common.timeline)?;
        if let Some((_, ledger)) = nodes.first() {
            self.gate.quiet(ledger, tokens)?;
            self.common.finality.quiet(ledger, &self.common.outcome)?;
        }
        self.liveness.quiet(self.common.history.calls())
    }

    /// The run is over.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn finish(mut self) -> Result<Tally, Violation> {
        let mut searched = search::Search::default();
        if self.setup.honest {
            for verdict in self.common.added_up() {
                verdict?;
            }
            if self.setup.search {
                let Common { history, timeline, .. } = &self.common;
                searched.run(history.calls(), timeline, self.setup.settings)?;
            }
        }
        let mut tally = self.common.tally();
        tally.checks.extend([
            ("search", searched.checks),
            ("search undecided", searched.undecided),
            ("gate", self.gate.checks),
            ("quorum", self.quorum.checks),
            ("exclusion", self.exclusion.checks),
            ("liveness", self.liveness.checks),
            ("stream", self.stream.checks),
            ("groups", self.groups.checks),
        ]);
        Ok(tally)
    }
}

/// Where disks lie, the whole of a ledger is looked at every so many entries.
const WALK_EVERY: u64 = 256;
