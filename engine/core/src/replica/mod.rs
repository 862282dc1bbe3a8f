//! A replica: raft around the ledger. Inputs are method calls, outputs are [`Actions`]; the shell owns the threads.
//!
//! - [`disk`]: what it asks of the disk
//! - `log`: the log in memory, for raft
//! - `batch`: flights → entries
//! - `pending`: proposed entries and who waits for them
//! - `reads`: what is answered without the log
//! - `ready`: raft's `Ready`, duty by duty
//! - `publish`: what it writes on the board
//! - [`peer`]: what replicas say to each other
//! - `step`: what is done with what peers say
//! - `transfer`: snapshots on their way to a peer and from one
//! - [`membership`]: who votes and who learns
//! - `start`, `status`: what it starts from; its figures
//!
//! The caller's duties:
//! 1. Hand in flights, ticks and reports of the disk as they come, then call [`Replica::drive`] once for all of them.
//! 2. Carry out [`Actions`]: appends to the log store in their order, each followed by [`Replica::persisted`] when its
//!    own fdatasync has returned and not before; settled flights to their net threads.
//! 3. Save a snapshot aside, then say [`Replica::snapshot_saved`] or [`Replica::snapshot_failed`].
//! 4. After [`Actions::applied`], wake the net threads that watch.
//! 5. Carry [`Actions::messages`] to their nodes, and what arrives to [`Replica::receive`]. Both may fail.
//! 6. Answer each of [`Actions::chunk_reads`] by [`Replica::chunk_read`], and each of [`Actions::chunk_writes`] by
//!    [`Replica::chunk_stored`], or by [`Replica::image_received`] when the file is whole.
//! 7. At [`Actions::stop`], end the process.
//!
//! A broken invariant panics; the shell makes that the end of the process.

mod batch;
pub mod disk;
mod log;
pub mod membership;
pub mod peer;
mod pending;
mod publish;
mod reads;
mod ready;
mod start;
mod status;
mod step;
mod transfer;

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use raft::prelude::{Message, MessageType};
use raft::{RawNode, StateRole};
use sluice_protocol::{Answer, NodeId, ProductId};

pub use self::batch::ENTRY_BYTES_MAX;
use self::batch::Waiting;
use self::disk::{Append, HardState, Members, SnapshotMeta};
use self::log::LogCache;
use self::membership::ChangeError;
use self::peer::acquaintance::Acquaintances;
use self::peer::{Body, Chunk, Envelope, Identity};
use self::pending::Pending;
use self::publish::Publisher;
use self::reads::Reads;
use self::start::fitting;
pub use self::start::{Recovered, StartError};
pub use self::status::ReplicaStatus;
use self::step::Outbox;
pub use self::step::StopReason;
use self::transfer::Transfers;
pub use self::transfer::{CHUNK_LEN, ChunkRead};
use crate::board::Board;
use crate::desk::RETRY_AFTER_MS;
use crate::flight::{Flight, Load};
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::ledger::command::{Batch, Group};
use crate::ledger::image::Image;
use crate::ledger::settings::ADVANCE_MS_MAX;
use crate::time::Moment;

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
/// Entries proposed into one durable step while the disk has nothing to do.
const ENTRIES_PER_APPEND_MAX: usize = 8;
/// Durable steps with entries proposed here that may be under way. One is written; full entries may queue behind it.
const APPENDS_MAX: usize = 4;
/// Steps that the shell must have room for: those, and the few that are for raft's own hard state.
pub const STEPS_MAX: usize = 2 * APPENDS_MAX;
/// Of the log's growth that makes a snapshot due, the part after which one that could not be saved is tried again.
const SNAPSHOT_RETRY_PART: u64 = 16;
/// Ticks after which a leader whose disk does not answer hands the leadership over.
const STALL_TICKS: u32 = 5;
/// Ticks after which it gives up leading even if nobody takes it.
const STALL_TICKS_MAX: u32 = 2 * ELECTION_TICKS as u32;
/// How far ledger time may lag the clock before a pulse carries it forward, milliseconds.
const LAG_MS_MAX: u64 = 1_000;

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

/// What the shell is to do. The shell empties it.
#[derive(Debug, Default)]
pub struct Actions {
    /// Durable steps, in order, each with the number to report.
    pub appends: Vec<(u64, Append)>,
    /// Flights with their answers.
    pub settled: Vec<Box<Flight>>,
    /// A snapshot to save aside.
    pub snapshot: Option<(SnapshotMeta, Image)>,
    /// Entries applied: those who watch the board should look.
    pub applied: usize,
    /// Of each entry proposed, its commands and its bytes.
    pub proposed: Vec<(usize, usize)>,
    /// What to send to peers, at once.
    pub messages: Vec<Envelope>,
    /// Parts of a snapshot file to be read for a peer.
    pub chunk_reads: Vec<ChunkRead>,
    /// Parts of a snapshot file that a peer sends, to be written aside.
    pub chunk_writes: Vec<Chunk>,
    /// What became of changes of membership: the ticket, and the log index as of which it holds.
    pub changed: Vec<(u64, Result<u64, ChangeError>)>,
    /// This process must not go on, and why. Nothing is done any more.
    pub stop: Option<StopReason>,
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
    /// The membership as of what is applied.
    members: Members,
    /// Changes of membership that were proposed here, and what became of some.
    changes: Vec<membership::Proposed>,
    decided: Vec<(u64, Result<u64, ChangeError>)>,
    acquaintances: Acquaintances,
    /// Members who have not welcomed this process yet.
    strangers: Vec<u64>,
    transfers: Transfers,
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
        let raft_config = raft::Config {
            id: config.identity.node,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: snapshot.index,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: MESSAGE_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&raft_config, log, &logger)?;
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
            strangers: members.nodes().filter(|node| *node != own).collect(),
            members,
            changes: Vec::new(),
            decided: Vec::new(),
            acquaintances: Acquaintances::new(config.identity),
            transfers: Transfers::default(),
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

    /// One tick of raft's clock.
    pub fn tick(&mut self) {
        for node in self.strangers.clone() {
            self.say_hello(node);
        }
        if self.quarantine > 0 {
            self.quarantine -= 1;
        } else {
            self.node.tick();
        }
        self.draw_election_timeout();
        self.tick_transfers();
        self.leave_joint_membership();
        self.watch_disk();
    }

    /// Draws an election timeout from the seed, in place of the random one that raft draws whenever it resets its clock.
    fn draw_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        if (self.election.0, self.election.1) != (raft.term, raft.state) {
            self.election = (raft.term, raft.state, self.election.2 + 1);
        }
        let drawn = FixedState::with_seed(self.config.seed).hash_one((
            self.config.identity.node,
            raft.term,
            self.election.2,
        ));
        raft.set_randomized_election_timeout(ELECTION_TICKS + (drawn % ELECTION_TICKS as u64) as usize);
    }

    /// A leader whose disk does not answer can answer nobody: another should lead.
    fn watch_disk(&mut self) {
        let oldest = self.appends.front().map_or(0, |step| step.number);
        let is_same = oldest != 0 && oldest == self.stalled.0;
        self.stalled = (oldest, if is_same { self.stalled.1 + 1 } else { 0 });
        if self.node.raft.state != StateRole::Leader || self.members.is_alone(self.config.identity.node) {
            return;
        }
        if self.stalled.1 == STALL_TICKS {
            let raft = &self.node.raft;
            let others = self.members.voters.iter().filter(|node| **node != self.config.identity.node);
            let matched = |node: &u64| raft.prs().get(*node).map_or(0, |progress| progress.matched);
            if let Some(best) = others.copied().max_by_key(matched) {
                self.node.transfer_leader(best);
            }
        } else if self.stalled.1 >= STALL_TICKS_MAX {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
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
        while let Some((_, messages)) = self.held.pop_front_if(|(step, _)| *step <= number) {
            self.send(messages);
        }
        let persisted = self.node.raft.raft_log.persisted;
        if let Some(index) = self.installing.take_if(|index| *index <= persisted) {
            self.node.advance_apply_to(index);
        }
    }

    /// The snapshot that was asked for last is durable.
    pub fn snapshot_saved(&mut self) {
        let (meta, bytes) = self.saving.take().expect("a snapshot was asked for");
        self.snapshot_at_bytes = self.config.snapshot_every_bytes;
        // One from the leader may have come in between.
        if meta.index <= self.snapshots[0] {
            return;
        }
        self.snapshots = [meta.index, self.snapshots[0]];
        self.log_bytes -= bytes;
        // A follower that is a little behind is served from memory, not by a snapshot.
        let alone = self.members.is_alone(self.config.identity.node);
        self.node.mut_store().compact(self.snapshots[usize::from(!alone)]);
        self.node.mut_store().offer(meta);
    }

    /// The snapshot that was asked for last could not be saved: the log stays as it is. Another will be tried when
    /// the log has grown some more, since what failed just now would fail again.
    pub fn snapshot_failed(&mut self) {
        self.saving = None;
        let more = self.config.snapshot_every_bytes / SNAPSHOT_RETRY_PART;
        self.snapshot_at_bytes = self.log_bytes.saturating_add(more.max(1));
    }

    /// Asks for a snapshot now, whatever the log's size.
    pub fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// Begins to go away: shuts the gate, answers what was not proposed, finishes what was.
    pub fn stop(&mut self) {
        self.lead = Lead::Stopping;
        self.publisher.board().set_gate(None);
    }

    /// Whether this node leads and its gate is open.
    pub fn is_open(&self) -> bool {
        matches!(self.lead, Lead::Open(_))
    }

    /// Whether nothing is in flight, on disk or in memory.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
            && self.pending.is_empty()
            && self.reads.is_empty()
            && self.appends.is_empty()
            && self.saving.is_none()
    }

    /// Does all that can be done now.
    pub fn drive(&mut self, now: Moment, actions: &mut Actions) {
        if self.stop.is_some() {
            return self.hand_out(actions);
        }
        loop {
            self.follow_role(actions);
            self.start_round();
            self.answer_reads(now, actions);
            self.propose(now, actions);
            if !self.node.has_ready() {
                break;
            }
            self.handle_ready(now, actions);
        }
        self.snapshot_wanted |= self.node.store().take_snapshot_wanted();
        self.freeze_if_due(actions);
        self.hand_out(actions);
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

    /// Proposes what waits, if the disk is idle or a whole entry is full: alone, a request waits for one fsync and
    /// nothing else; under load, entries fill while the disk works.
    fn propose(&mut self, now: Moment, actions: &mut Actions) {
        if !matches!(self.lead, Lead::Open(_) | Lead::CatchingUp) {
            if !self.waiting.is_empty() {
                self.refuse_waiting(actions);
            }
            return;
        }
        let mut proposed = 0;
        while proposed < ENTRIES_PER_APPEND_MAX && !self.waiting.is_empty() {
            let idle = self.appends.is_empty();
            let full = self.waiting.bytes() >= ENTRY_BYTES_MAX && self.appends.len() < APPENDS_MAX;
            if !(idle || full) {
                break;
            }
            let (batch, flights) = self.waiting.take(self.node.raft.term, now.wall_ms);
            self.propose_batch(&batch, flights, actions);
            proposed += 1;
        }
        if proposed == 0 && self.appends.is_empty() && self.pending.is_empty() && self.wants_pulse(now) {
            let batch =
                Batch { proposer_term: self.node.raft.term, stamp_ms: now.wall_ms, groups: Vec::new() };
            self.propose_batch(&batch, Vec::new(), actions);
        }
    }

    fn propose_batch(&mut self, batch: &Batch, flights: Vec<Box<Flight>>, actions: &mut Actions) {
        let data = batch.encode();
        let sizes = (batch.groups.iter().map(Group::len).sum(), data.len());
        match self.node.propose(Vec::new(), data) {
            Ok(()) => {
                actions.proposed.push(sizes);
                let index = self.node.raft.raft_log.last_index();
                self.pending.push(index, self.node.raft.term, flights);
            }
            // Definite: raft took nothing.
            Err(_) => {
                for mut flight in flights {
                    flight.refund(0);
                    flight.answer_all(Answer::busy(RETRY_AFTER_MS));
                    actions.settled.push(flight);
                }
            }
        }
    }

    /// Whether time alone has something to do: a hold or a window has come due, or the ledger's clock lags.
    fn wants_pulse(&self, now: Moment) -> bool {
        let ledger_ms = self.ledger.now_ms();
        let due =
            self.ledger.pulse_due_ms().is_some_and(|due_ms| due_ms <= now.wall_ms && due_ms > ledger_ms);
        self.publisher.board().is_admitting()
            && (self.ledger.backlog() || due || now.wall_ms >= ledger_ms.saturating_add(LAG_MS_MAX))
    }

    /// When [`Replica::drive`] has something to do although nothing came in, milliseconds from now.
    pub fn due_in_ms(&self, now: Moment) -> u64 {
        // While a step is under way the disk's report wakes the caller; without room nothing is due.
        let free = self.appends.is_empty() && self.pending.is_empty();
        if !(matches!(self.lead, Lead::Open(_)) && free && self.publisher.board().is_admitting()) {
            return LAG_MS_MAX;
        }
        if self.ledger.backlog() {
            return 0;
        }
        let lag_due = self.ledger.now_ms().saturating_add(LAG_MS_MAX);
        let due = self.ledger.pulse_due_ms().map_or(lag_due, |due_ms| due_ms.min(lag_due));
        due.saturating_sub(now.wall_ms)
    }

    /// Whether ledger time is near enough to the clock for windows to be judged. Without room for pulses it cannot come
    /// nearer, and only reads are answered anyway.
    fn is_caught_up(&self, now: Moment) -> bool {
        let near = now.wall_ms < self.ledger.now_ms().saturating_add(ADVANCE_MS_MAX);
        near || !self.publisher.board().is_admitting()
    }

    /// Nothing of it was proposed: definitely not done.
    fn refuse_waiting(&mut self, actions: &mut Actions) {
        let answer = self.publisher.board().shut();
        for mut flight in self.waiting.drain() {
            flight.refund(0);
            flight.answer_all(answer);
            actions.settled.push(flight);
        }
    }

    fn start_round(&mut self) {
        if self.node.raft.state != StateRole::Leader || !self.node.raft.commit_to_current_term() {
            return;
        }
        if let Some(number) = self.publisher.board().rounds.start() {
            self.node.read_index(ready::round_context(
                NodeId(self.config.identity.node),
                self.node.raft.term,
                number,
            ));
        }
    }

    fn answer_reads(&mut self, now: Moment, actions: &mut Actions) {
        match self.lead {
            Lead::Open(_) => {}
            // Not yet: they wait for the gate.
            Lead::Elected | Lead::CatchingUp => return,
            Lead::No | Lead::Stopping => {
                let answer = self.publisher.board().shut();
                for mut flight in self.reads.drain() {
                    flight.answer_all(answer);
                    actions.settled.push(flight);
                }
                return;
            }
        }
        let confirmed = self.publisher.board().rounds.confirmed();
        while let Some(mut flight) = self.reads.pop(confirmed) {
            if !matches!(flight.load, Load::Suspects(_)) {
                reads::answer(&self.ledger, &mut flight);
                actions.settled.push(flight);
                continue;
            }
            reads::sift(&self.ledger, &mut flight, now.wall_ms);
            if flight.is_empty() {
                actions.settled.push(flight);
            } else {
                self.take_tokens(&mut flight);
                self.waiting.push(flight);
            }
        }
    }

    /// Buyers who may buy after all get their units set aside now, as far as there are any.
    fn take_tokens(&self, flight: &mut Flight) {
        let (Lead::Open(gate), Load::Commands(group)) = (&self.lead, &flight.load) else { return };
        let Group::Reserve(items) = group else { return };
        flight.tokened = items
            .iter()
            .map(|item| {
                let lane = gate.lane(item.product.into());
                lane.is_some_and(|lane| lane.tokens.take(0, item.quantity))
            })
            .collect();
        flight.gate = Some(Arc::clone(gate));
    }

    fn freeze_if_due(&mut self, actions: &mut Actions) {
        let due = self.snapshot_wanted || self.log_bytes >= self.snapshot_at_bytes;
        let index = self.ledger.index();
        // Of a snapshot that is being installed there is one already, of what follows it none can be needed yet.
        if !due || self.saving.is_some() || index == self.snapshots[0] || self.installing.is_some() {
            self.snapshot_wanted &= index != self.snapshots[0];
            return;
        }
        let meta = self.snapshot_meta(index);
        self.snapshot_wanted = false;
        self.saving = Some((meta.clone(), self.log_bytes));
        actions.snapshot = Some((meta, self.ledger.freeze()));
    }
}
