//! A replica: raft around the ledger. Inputs are method calls, outputs are [`Actions`]; the shell owns the threads.
//!
//! - `actions`: what it asks of the shell; [`disk`]: of the disk
//! - `log`: the log in memory, for raft
//! - `batch`: flights → entries
//! - `pending`: proposed entries and who waits for them
//! - `propose`: when what waits becomes entries
//! - `reads`: what is answered without the log; `asks`: the same where this node does not lead
//! - `consumers`: members of consumer groups that were silent for too long
//! - `ready`: raft's `Ready`, duty by duty
//! - `publish`: what it writes on the board
//! - `tick`: what time brings
//! - [`peer`]: what replicas say to each other
//! - `step`: what is done with what peers say
//! - `snapshot`: its own snapshots; `transfer`: those on their way to a peer and from one
//! - `digest`: whether replicas are the same
//! - [`membership`]: who votes and who learns; `removal`: when whoever was removed may go
//! - `start`: what it starts from; `status`, `progress`: its figures, and those of the others
//!
//! The caller's duties:
//! 1. Hand in flights, ticks and reports of the disk as they come, then call [`Replica::drive`] once for all of them. A tick
//!    is due every [`Replica::tick_ms`].
//! 2. Carry out [`Actions`]: appends to the log store in their order, each followed by [`Replica::persisted`] when its
//!    own fdatasync has returned and not before; settled flights to their net threads.
//! 3. Save a snapshot aside, then say [`Replica::snapshot_saved`] or [`Replica::snapshot_failed`].
//! 4. After [`Actions::applied`], wake the net threads that watch.
//! 5. Carry [`Actions::messages`] to their nodes, and what arrives to [`Replica::receive`]. Both may fail.
//! 6. Answer each of [`Actions::chunk_reads`] by [`Replica::chunk_read`], and each of [`Actions::chunk_writes`] by
//!    [`Replica::chunk_stored`], or by [`Replica::image_received`] when the file is whole.
//! 7. Make a number of [`Actions::digest`] aside, [`crate::ledger::Image::digest`], and tell it by [`Replica::digest_taken`].
//! 8. Carry out [`Actions::stream`] on the files of events: see [`crate::stream`].
//! 9. At [`Actions::stop`], end the process.
//!
//! A broken invariant panics; the shell makes that the end of the process.

mod actions;
mod asks;
mod batch;
mod consumers;
mod digest;
pub mod disk;
mod log;
pub mod membership;
pub mod peer;
mod pending;
mod progress;
mod propose;
mod publish;
mod reads;
mod ready;
mod removal;
mod snapshot;
mod start;
mod status;
mod step;
mod tick;
mod transfer;

use std::collections::VecDeque;
use std::sync::Arc;

use raft::prelude::{Message, MessageType};
use raft::{RawNode, StateRole};
use sluice_protocol::event::EventRecord;
use sluice_protocol::{Answer, ProductId};

pub use self::actions::{Actions, RoundNews};
pub use self::asks::AskCounts;
use self::asks::Asks;
pub use self::batch::ENTRY_BYTES_MAX;
use self::batch::Waiting;
use self::digest::Digests;
pub use self::digest::{DIGEST_EVERY_MS, DigestCounts, Divergence};
use self::disk::{HardState, Members, SnapshotMeta};
use self::log::LogCache;
use self::membership::ChangeError;
use self::peer::acquaintance::Acquaintances;
use self::peer::{Body, Hello, Identity};
use self::pending::Pending;
pub use self::progress::{PeerProgress, PeerState, PeerStatus, Seat};
use self::publish::Publisher;
use self::reads::Reads;
use self::removal::Removals;
use self::start::fitting;
pub use self::start::{Recovered, StartError};
pub use self::status::{ReplicaStatus, Role};
use self::step::Outbox;
pub use self::step::StopReason;
use self::transfer::Transfers;
pub use self::transfer::{CHUNK_LEN, ChunkRead, TransferCounts};
use crate::board::Board;
use crate::flight::{Flight, Load};
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::time::Moment;

/// Milliseconds between two ticks of raft's clock, in a cluster. A leader that died is followed by another after one to two
/// election timeouts, so this decides how long nobody is served; a heartbeat has to arrive, and be noticed, well within
/// one.
pub const TICK_MS: u64 = 30;
/// The same for a node that is alone: nobody's silence has to be noticed, and an idle one should sleep.
const TICK_ALONE_MS: u64 = 100;

/// Ticks of raft's clock without a leader before an election.
const ELECTION_TICKS: usize = 10;
/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Entry bytes in one message to a peer.
const MESSAGE_BYTES_MAX: u64 = 256 * 1024;
/// Messages to a peer that may be unanswered.
const MESSAGES_IN_FLIGHT_MAX: usize = 256;
/// Entry bytes that may be proposed and not committed. Beyond it proposals are dropped: `Busy`.
const UNCOMMITTED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Durable steps with entries proposed here that may be under way. One is written; full entries may queue behind it.
const APPENDS_MAX: usize = 4;
/// Steps that the shell must have room for: those, and the few that are for raft's own hard state.
pub const STEPS_MAX: usize = 2 * APPENDS_MAX;
/// How many ticks of a cluster take so long, at least.
const fn ticks(ms: u64) -> u32 {
    ms.div_ceil(TICK_MS) as u32
}

/// What a replica is told once.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaConfig {
    /// Who this process is.
    pub identity: Identity,
    /// Decides the election timeouts. Nodes of one cluster should differ in it.
    pub seed: u64,
    /// Net threads, each with its stripe of every gate.
    pub stripes: usize,
    /// Log bytes applied since the last snapshot that make the next one due.
    pub snapshot_every_bytes: u64,
}

/// A durable step under way.
#[derive(Debug)]
struct Step {
    /// As the shell knows it.
    number: u64,
    /// Raft's number of the last ready it covers.
    ready: u64,
    /// The term in it.
    term: u64,
}

/// Where this node stands.
#[derive(Debug)]
enum Lead {
    /// Somebody else leads, or nobody.
    No,
    /// Elected; the no-op of this term is not applied here yet, so nothing may be answered.
    Elected,
    /// Leading, but ledger time lags the clock too far to judge windows: pulses first.
    CatchingUp,
    /// Open for requests.
    Open(Arc<Gate>),
    /// Going away: what is in flight is finished, nothing new begins.
    Stopping,
}

impl Lead {
    fn gate(&self) -> Option<&Gate> {
        match self {
            Self::Open(gate) => Some(gate),
            _ => None,
        }
    }
}

/// See the module.
pub struct Replica {
    config: ReplicaConfig,
    node: RawNode<LogCache>,
    ledger: Ledger,
    publisher: Publisher,
    lead: Lead,
    waiting: Waiting,
    pending: Pending,
    reads: Reads,
    asks: Asks,
    /// Durable steps under way.
    appends: VecDeque<Step>,
    /// The term on disk.
    durable_term: u64,
    last_append: u64,
    /// The commit index changed without anything that must be durable: it rides on the next step.
    hard_state: HardState,
    /// The last two durable snapshots, newest first. The log is kept from the older one on.
    snapshots: [u64; 2],
    /// Log bytes applied behind the newest of them.
    log_bytes: u64,
    /// A snapshot that is being saved, and the log bytes it contains.
    saving: Option<(SnapshotMeta, u64)>,
    /// Log bytes from which on the next one is due.
    snapshot_at_bytes: u64,
    snapshot_wanted: bool,
    /// A ready that wrote nothing, while no durable step was under way: raft may count it as persisted.
    idle_ready: Option<u64>,
    /// The term this node leads in, or led in last.
    lead_term: u64,
    /// Ticks since it led last.
    deposed_ticks: u32,
    /// The membership as of what is applied.
    members: Members,
    /// Changes of membership that were proposed here, and what became of some.
    changes: Vec<membership::Proposed>,
    decided: Vec<(u64, Result<u64, ChangeError>)>,
    acquaintances: Acquaintances,
    removals: Removals,
    /// Raft's number of the last ready.
    last_ready: u64,
    /// Ticks since a leader was heard.
    silent_ticks: usize,
    /// What the disk held at the start. What has been heard since proves nothing about what was forgotten.
    recovered: Hello,
    /// Members who have not welcomed this process yet.
    strangers: Vec<u64>,
    transfers: Transfers,
    digests: Digests,
    outbox: Outbox,
    /// Messages that must not leave before a durable step is done, and that step's number.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Read rounds that are confirmed but for an index that is not applied yet.
    rounds_due: Vec<(u64, u64)>,
    /// A snapshot from a peer that is in use, and not yet durably the log's beginning.
    installing: Option<u64>,
    /// Ticks in which this node neither votes nor campaigns, because it has just started.
    quarantine: usize,
    /// The oldest durable step under way at the last tick, and for how many ticks it has been.
    stalled: (u64, u32),
    /// What the election timeout was last drawn for: term, role, and how often these have changed.
    election: (u64, StateRole, u64),
    stop: Option<StopReason>,
    /// Kept between entries for their capacity.
    answers: Vec<Answer>,
    credits: Vec<(ProductId, i64)>,
    /// Of entries applied and not published yet.
    events: Vec<EventRecord>,
    /// When members of consumer groups are looked at next, monotonic milliseconds.
    next_roll_call_ms: u64,
}

/// How raft behaves here.
fn raft_config(node: u64, applied: u64) -> raft::Config {
    raft::Config {
        id: node,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: MESSAGE_BYTES_MAX,
        max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: MESSAGE_BYTES_MAX,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    }
}

impl Replica {
    /// A replica that continues from what was recovered. A voter without peers campaigns at once.
    ///
    /// # Errors
    /// [`StartError`] if snapshot and log do not fit together or an entry cannot be read.
    pub fn new(config: ReplicaConfig, recovered: Recovered, board: Arc<Board>) -> Result<Self, StartError> {
        let Recovered { snapshot, older_snapshot, mut ledger, hard_state, entries, log_base } = recovered;
        let entries = fitting(&snapshot, entries, log_base)?;
        let alone = snapshot.members.is_alone(config.identity.node);
        let log = LogCache::new(&snapshot, hard_state, entries);
        let raft_config = raft_config(config.identity.node, snapshot.index);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&raft_config, log, &logger)?;
        let recovered = Hello { term: hard_state.term, last_index: node.raft.raft_log.last_index() };
        let publisher = Publisher::new(board, config.stripes, &mut ledger);
        publisher.board().rounds.set_needless(alone);
        if alone {
            node.campaign()?;
        }
        let members = snapshot.members.clone();
        let own = config.identity.node;
        let mut replica = Self {
            config,
            node,
            ledger,
            publisher,
            lead: Lead::No,
            waiting: Waiting::default(),
            pending: Pending::default(),
            reads: Reads::default(),
            asks: Asks::default(),
            appends: VecDeque::new(),
            durable_term: hard_state.term,
            last_append: 0,
            hard_state,
            snapshots: [snapshot.index, older_snapshot],
            log_bytes: 0,
            saving: None,
            snapshot_at_bytes: config.snapshot_every_bytes,
            snapshot_wanted: false,
            idle_ready: None,
            lead_term: 0,
            deposed_ticks: 0,
            strangers: members.nodes().filter(|node| *node != own).collect(),
            removals: Removals::new(&members),
            last_ready: 0,
            silent_ticks: 0,
            members,
            changes: Vec::new(),
            decided: Vec::new(),
            acquaintances: Acquaintances::new(config.identity),
            recovered,
            transfers: Transfers::default(),
            digests: Digests::new(),
            outbox: Outbox::default(),
            held: VecDeque::new(),
            rounds_due: Vec::new(),
            installing: None,
            quarantine: if alone { 0 } else { ELECTION_TICKS },
            stalled: (0, 0),
            election: (0, StateRole::Follower, 0),
            stop: None,
            answers: Vec::new(),
            credits: Vec::new(),
            events: Vec::new(),
            next_roll_call_ms: 0,
        };
        replica.draw_election_timeout();
        Ok(replica)
    }

    /// Takes a flight from a net thread. Its answer comes in some later [`Actions::settled`].
    pub fn submit(&mut self, flight: Box<Flight>) {
        match &flight.load {
            Load::Commands(_) => self.waiting.push(flight),
            _ => {
                let round = self.publisher.board().rounds.ask();
                self.reads.push(round, flight);
            }
        }
    }

    /// The durable step of this number, and all before it, are on disk.
    ///
    /// # Panics
    /// If the number was never given out.
    pub fn persisted(&mut self, number: u64) {
        let mut ready = None;
        while let Some(step) = self.appends.pop_front_if(|step| step.number <= number) {
            (ready, self.durable_term) = (Some(step.ready), step.term);
        }
        let ready = ready.expect("only what was asked for is reported");
        self.node.on_persist_ready(ready);
        self.removals.persisted(number);
        while let Some((_, messages)) = self.held.pop_front_if(|(step, _)| *step <= number) {
            self.send(messages);
        }
        let persisted = self.node.raft.raft_log.persisted;
        if let Some(index) = self.installing.take_if(|index| *index <= persisted) {
            self.node.advance_apply_to(index);
        }
    }

    /// Begins to go away: shuts the gate, answers what was not proposed, finishes what was, and lets another lead.
    pub fn stop(&mut self) {
        self.lead = Lead::Stopping;
        self.publisher.board().set_gate(None);
        self.hand_over();
    }

    /// Whether this node leads and its gate is open.
    pub fn is_open(&self) -> bool {
        matches!(self.lead, Lead::Open(_))
    }

    /// Milliseconds until the next tick is due, from the last one on.
    pub fn tick_ms(&self) -> u64 {
        if self.members.is_alone(self.config.identity.node) { TICK_ALONE_MS } else { TICK_MS }
    }

    /// Whether nothing is in flight, on disk or in memory.
    pub fn is_quiet(&self) -> bool {
        self.owes_nothing() && self.appends.is_empty()
    }

    /// Whether nobody waits for this replica, and no snapshot is being saved. Durable steps may be under way: under load a
    /// follower's always are, and what comes of them is only a longer log.
    pub fn owes_nothing(&self) -> bool {
        self.waiting.is_empty()
            && self.pending.is_empty()
            && self.reads.is_empty()
            && self.asks.is_empty()
            && self.saving.is_none()
    }

    /// Does all that can be done now.
    pub fn drive(&mut self, now: Moment, actions: &mut Actions) {
        if self.stop.is_some() {
            return self.hand_out(actions);
        }
        loop {
            self.follow_role(actions);
            self.start_round(actions);
            self.answer_reads(now, actions);
            self.call_the_roll(now, actions);
            self.give_up_proposed(actions);
            self.propose(now, actions);
            if !self.node.has_ready() || self.is_backed_up() {
                break;
            }
            self.handle_ready(now, actions);
        }
        self.keep_membership(actions);
        self.snapshot_wanted |= self.node.store().take_snapshot_wanted();
        self.freeze_if_due(actions);
        self.hand_out(actions);
    }

    /// Whether the disk has no room for another step. A leader never gets so far: it proposes less. What it does not say
    /// meanwhile, a follower could not say before the disk is done anyway.
    fn is_backed_up(&self) -> bool {
        self.node.raft.state != StateRole::Leader && self.appends.len() >= STEPS_MAX
    }

    /// Hands out what is for peers, and what they need.
    fn hand_out(&mut self, actions: &mut Actions) {
        actions.stop = self.stop;
        if self.stop.is_none() {
            actions.messages.append(&mut self.outbox.messages);
            actions.chunk_reads.append(&mut self.outbox.reads);
            actions.chunk_writes.append(&mut self.outbox.writes);
        }
        actions.changed.append(&mut self.decided);
        if actions.divergence.is_none() {
            actions.divergence = self.digests.pop();
        }
    }

    /// Sends raft's messages. One that carries a snapshot waits until that has arrived.
    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            match message.get_msg_type() {
                MessageType::MsgSnapshot => self.begin_sending(message),
                kind if peer::travels(kind) => self.say(message.to, Body::Raft(Box::new(message))),
                // What others lead to is asked of them by clients, not by this node.
                _ => {}
            }
        }
    }
}
