//! One process of the real core: board, desks and replica, and what the shell keeps beside them.
//!
//! It does what the shell's threads do, in the same order, but nothing by itself: the world hands in what happens and
//! carries out what comes of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sluice_core::board::Board;
use sluice_core::desk::{Caller, ColdRead, Desk, DeskLimits, Reply as DeskReply};
use sluice_core::flight::{Answers, Flight};
use sluice_core::replica::disk::{Append, EntryKind, LogEntry, Members};
use sluice_core::replica::peer::Identity;
use sluice_core::replica::{Actions, AskCounts, Recovered, Replica, ReplicaConfig, StartError};
use sluice_core::session;
use sluice_core::stream::{StreamStep, Tail};
use sluice_core::time::Moment;
use sluice_protocol::event::EVENT_LEN;
use sluice_protocol::seat::FetchItem;
use sluice_protocol::{Kind, NodeId};

use super::consumed;
use super::event::Request;
use crate::disk::SnapshotFile;
use sluice_judges::history::{Ask, Delivery, Reply};

/// Bounds of a desk: small, so that they are met.
const LIMITS: DeskLimits = DeskLimits {
    flights_max: 128,
    requests_max: 512,
    parked_max: 64,
    budget_default_ms: 1000,
    budget_max_ms: BUDGET_MS_MAX,
};

/// How long a request is tried at most.
pub(crate) const BUDGET_MS_MAX: u32 = 3000;

/// Entry bytes that are written as one step when several wait, as in the shell.
const MERGED_BYTES_MAX: usize = 512 * 1024;

/// One flight of so many is late.
const LATE_ONE_IN: u64 = 6;

/// Keys of a board's filters at the start; they grow.
const FILTER_KEYS: usize = 64;

/// Bytes and blocks of events kept in memory: so few that older ones are asked of files.
const TAIL_BYTES_MAX: usize = 48 * EVENT_LEN;
const TAIL_BLOCKS_MAX: usize = 16;

/// See the module.
pub(crate) struct Process {
    pub(crate) board: Arc<Board>,
    pub(crate) desks: Vec<Desk>,
    pub(crate) replica: Replica,
    pub(crate) actions: Actions,
    /// The step that the disk has in hand, and those behind it.
    pub(crate) writing: Option<(u64, Append)>,
    pub(crate) waiting: VecDeque<(u64, Append)>,
    pub(crate) saving: Option<SnapshotFile>,
    /// What was made of events since the judges were told, and what the files of events do not have.
    pub(crate) made: Vec<StreamStep>,
    pub(crate) unwritten: VecDeque<StreamStep>,
    pub(crate) is_writing_events: bool,
    /// Entries that are not applied yet, and where they begin.
    log: VecDeque<LogEntry>,
    /// Entries were replaced since this was looked at.
    pub(crate) truncated: bool,
    /// The last index that the judges were told of.
    pub(crate) told: u64,
    pub(crate) members: Members,
    /// Whether it led when it was looked at last, and the terms it ever led.
    pub(crate) leads: bool,
    /// Whether requests were in doubt when it was looked at last.
    pub(crate) had_doubts: bool,
    pub(crate) terms_led: Vec<u64>,
    /// Its digests and asks when it was looked at last.
    pub(crate) compared: u64,
    pub(crate) asks: AskCounts,
    /// Frames that are not answered, and when they must be.
    pub(crate) open: BTreeMap<u64, u64>,
    /// Fetches among them.
    fetches: BTreeMap<u64, FetchItem>,
    pub(crate) turn_at_us: Option<u64>,
    pub(crate) look_at_us: Option<u64>,
    pub(crate) started_us: u64,
    pub(crate) resumed_us: u64,
    pub(crate) stopping_since_us: Option<u64>,
    pub(crate) ticks: u64,
    /// Whether it was the only member when it started: then nobody else's vote counts.
    pub(crate) was_alone: bool,
    /// Flights that have left their desk and that the replica takes in its next turn.
    late: VecDeque<Box<Flight>>,
    departed: u64,
}

/// What a process needs beside what was recovered.
pub(crate) struct Birth {
    pub(crate) identity: Identity,
    pub(crate) seed: u64,
    pub(crate) stripes: usize,
    pub(crate) snapshot_every_bytes: u64,
    pub(crate) now_us: u64,
}

impl Process {
    pub(crate) fn start(birth: &Birth, recovered: Recovered) -> Result<Self, StartError> {
        let Birth { identity, seed, stripes, snapshot_every_bytes, now_us } = *birth;
        let tail = Tail::new(TAIL_BYTES_MAX, TAIL_BLOCKS_MAX);
        let board = Arc::new(Board::with_tail(NodeId(identity.node), FILTER_KEYS, seed, tail));
        let desks = (0..stripes).map(|thread| Desk::new(thread as u16, Arc::clone(&board), LIMITS)).collect();
        let told = recovered.snapshot.index;
        let log = recovered.entries.iter().filter(|entry| entry.index > told).cloned().collect();
        let config = ReplicaConfig { identity, seed, stripes, snapshot_every_bytes };
        let replica = Replica::new(config, recovered, Arc::clone(&board))?;
        let members = replica.members().clone();
        let was_alone = members.is_alone(identity.node);
        Ok(Self {
            board,
            desks,
            replica,
            actions: Actions::default(),
            writing: None,
            waiting: VecDeque::new(),
            saving: None,
            made: Vec::new(),
            unwritten: VecDeque::new(),
            is_writing_events: false,
            log,
            truncated: false,
            told,
            members,
            leads: false,
            had_doubts: false,
            terms_led: Vec::new(),
            compared: 0,
            asks: AskCounts::default(),
            open: BTreeMap::new(),
            fetches: BTreeMap::new(),
            turn_at_us: None,
            look_at_us: None,
            started_us: now_us,
            resumed_us: now_us,
            stopping_since_us: None,
            ticks: 0,
            was_alone,
            late: VecDeque::new(),
            departed: 0,
        })
    }

    /// Takes a client's frame to its desk.
    pub(crate) fn submit(&mut self, request: &Request, now: Moment) {
        let Request { client, correlation, kind, budget_ms, ref asks, fetch } = *request;
        let caller = Caller { connection: client as u64, correlation, kind, arrived_us: 0 };
        let at = client % self.desks.len();
        let desk = &mut self.desks[at];
        self.open.insert(correlation, now.mono_ms + u64::from(desk.budget_ms(budget_ms)));
        if let Some(item) = fetch {
            // Reading files takes its time too.
            self.open.insert(correlation, now.mono_ms + u64::from(item.wait_ms() + BUDGET_MS_MAX));
            self.fetches.insert(correlation, item);
            return desk.submit(caller, session::Ask::Fetch(&item), budget_ms, now);
        }
        if !desk.has_room(asks.len()) {
            return desk.turn_away(caller, asks.len());
        }
        macro_rules! submit {
            ($variant:ident, $ask:ident) => {{
                let of = |ask: &Ask| match ask {
                    Ask::$variant(item) => *item,
                    other => unreachable!("a frame is of one kind: {other:?}"),
                };
                let items: Vec<_> = asks.iter().map(of).collect();
                desk.submit(caller, session::Ask::$ask(&items), budget_ms, now);
            }};
        }
        match asks[0] {
            Ask::Reserve(_) => submit!(Reserve, Reserve),
            Ask::Confirm(_) => submit!(Confirm, Confirm),
            Ask::Cancel(_) => submit!(Cancel, Cancel),
            Ask::Resolve(_) => submit!(Resolve, Resolve),
            Ask::Put(_) => submit!(Put, Put),
            Ask::Restock(_) => submit!(Restock, Restock),
            Ask::WriteOff(_) => submit!(WriteOff, WriteOff),
            Ask::Seal(_) => submit!(Seal, Seal),
            Ask::QueryReservation(_) => submit!(QueryReservation, Reservations),
            Ask::QueryProduct(_) => submit!(QueryProduct, Products),
            Ask::List(item) => desk.submit(caller, session::Ask::Page(&item), budget_ms, now),
            Ask::Consume(_) => consumed::submit(desk, caller, asks, budget_ms, now),
        }
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.late.is_empty() && self.replica.is_quiet()
    }

    /// Works off what has come in: flights to the replica and back, until nothing moves.
    pub(crate) fn turn(&mut self, now: Moment) {
        let mut moved = true;
        self.late.drain(..).for_each(|flight| self.replica.submit(flight));
        while moved {
            moved = false;
            for flight in self.desks.iter_mut().flat_map(Desk::departures) {
                // Now and then the replica hears of something else before it takes what a net thread has sent.
                self.departed += 1;
                match self.departed % LATE_ONE_IN {
                    0 => self.late.push_back(flight),
                    _ => self.replica.submit(flight),
                }
            }
            self.replica.drive(now, &mut self.actions);
            self.note_log();
            for flight in std::mem::take(&mut self.actions.settled) {
                moved = true;
                let thread = usize::from(flight.origin.thread);
                self.desks[thread].settle(flight);
            }
            self.made.append(&mut self.actions.stream);
            if moved || std::mem::take(&mut self.actions.applied) > 0 {
                moved = true;
                self.desks.iter_mut().for_each(|desk| desk.reconsider(now));
            }
        }
    }

    /// Follows the log as far as the judges have to hear of it.
    fn note_log(&mut self) {
        for (_, step) in &self.actions.appends {
            if let Some((index, _)) = step.reset {
                self.log.retain(|entry| entry.index > index);
            }
            if let Some(first) = step.entries.first() {
                while let Some(last) = self.log.pop_back_if(|last| last.index >= first.index) {
                    self.truncated |= last.index == first.index && last.term != first.term;
                }
                self.log.extend(step.entries.iter().cloned());
            }
        }
        self.waiting.extend(self.actions.appends.drain(..));
    }

    /// The next entry that is applied and not told of; `None` if there is none, or a snapshot stands for it.
    pub(crate) fn next_applied(&mut self) -> Option<LogEntry> {
        if self.told >= self.replica.ledger().index() {
            return None;
        }
        while self.log.front().is_some_and(|first| first.index <= self.told) {
            self.log.pop_front();
        }
        let entry = self.log.pop_front_if(|first| first.index == self.told + 1)?;
        self.told = entry.index;
        Some(entry)
    }

    /// Gives the disk its next step: those that wait and follow one another become one.
    pub(crate) fn next_write(&mut self) -> Option<(u64, Append, usize)> {
        let (mut number, mut step) = self.waiting.pop_front()?;
        let size = |step: &Append| step.entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        let (mut bytes, mut merged) = (size(&step), 1);
        while let Some((_, next)) = self.waiting.front() {
            let continues = match (step.entries.last(), next.entries.first()) {
                (Some(last), Some(first)) => first.index == last.index + 1,
                _ => true,
            };
            if !continues || next.reset.is_some() || bytes + size(next) > MERGED_BYTES_MAX {
                break;
            }
            let (next_number, next) = self.waiting.pop_front().expect("it was just looked at");
            number = next_number;
            bytes += size(&next);
            merged += 1;
            step.hard_state = next.hard_state.or(step.hard_state);
            step.entries.extend(next.entries);
            step.compact_to = step.compact_to.max(next.compact_to);
        }
        Some((number, step, merged))
    }

    /// The replies that the desks have put together, each with its frame's number and client.
    pub(crate) fn replies(&mut self) -> Vec<(usize, u64, Vec<Reply>)> {
        let (open, fetches) = (&mut self.open, &mut self.fetches);
        let replies = self.desks.iter_mut().flat_map(|desk| desk.replies().collect::<Vec<_>>());
        replies
            .map(|DeskReply { caller, answers }| {
                open.remove(&caller.correlation);
                let replies = match (fetches.remove(&caller.correlation), answers) {
                    (Some(item), Answers::Delivery(head, events)) => {
                        vec![Reply::Delivery(Box::new(Delivery { item, head, events }))]
                    }
                    (_, answers) => by_item(caller.kind, answers),
                };
                (caller.connection as usize, caller.correlation, replies)
            })
            .collect()
    }

    /// The last change of membership among the entries that are applied and not told of; 0 if there is none.
    pub(crate) fn last_change(&self) -> u64 {
        let applied = self.replica.ledger().index();
        let changes = self.log.iter().filter(|entry| entry.kind == EntryKind::Membership);
        changes
            .map(|entry| entry.index)
            .filter(|index| *index <= applied && *index > self.told)
            .max()
            .unwrap_or(0)
    }

    /// Whether a client waits for an answer.
    pub(crate) fn is_loaded(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether anything is in doubt.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.desks.iter().any(Desk::is_in_doubt)
    }

    /// Whether nobody waits but for events.
    pub(crate) fn is_settled(&self) -> bool {
        self.desks.iter().all(Desk::is_settled)
    }

    /// What desks want of the files of events, each with the desk's number.
    pub(crate) fn cold_reads(&mut self) -> Vec<(usize, ColdRead)> {
        let desks = self.desks.iter_mut().enumerate();
        desks.flat_map(|(at, desk)| desk.cold_reads().map(move |read| (at, read))).collect()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.desks.iter().all(Desk::is_idle)
    }
}

/// A frame's answers, item by item. A page answers one item.
fn by_item(kind: Kind, answers: Answers) -> Vec<Reply> {
    match answers {
        Answers::Plain(answers) => answers.into_iter().map(Reply::Plain).collect(),
        Answers::Reservations(replies) => replies.into_iter().map(Reply::Reservation).collect(),
        Answers::Products(replies) if kind == Kind::ListProducts => vec![Reply::Page(replies)],
        Answers::Products(replies) => replies.into_iter().map(Reply::Product).collect(),
        other => unreachable!("no client of a run asks for {other:?}"),
    }
}
