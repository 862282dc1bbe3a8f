//! What the replica has published for the net threads: the gate of the current term, the applied index with its
//! ledger time, read rounds, and the two filters.
//!
//! The replica thread is the only writer, except for the request of a read round. The order in which it writes
//! is the promise readers rely on: after an apply, first the gate's credits, then every changed notice, then
//! [`Board::applied`]. So whoever loads `applied` = i first sees in each notice its product's state at i or
//! later: a notice whose own index is j holds at max(i, j).
//!
//! Deliberately not here: decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use sluice_protocol::response::At;
use sluice_protocol::{Answer, NodeId, ProductId, ReservationId, UserId};

use crate::fault::{self, Mutant};
use crate::gate::{Applied, AppliedCell, Filter, Filters, Gate};
use crate::stream::{Stream, Tail};

/// What clients wait while the leader's gate is shut, milliseconds.
const SHUT_RETRY_AFTER_MS: u32 = 50;

/// See the module.
#[derive(Debug)]
pub struct Board {
    node: NodeId,
    gate: ArcSwapOption<Gate>,
    leader: AtomicU64,
    admitting: AtomicBool,
    applied: AppliedCell,
    /// Read rounds.
    pub rounds: Rounds,
    /// Committed events, and who consumes them.
    pub stream: Stream,
    buyers: Filters,
    known: Filters,
    seed: u64,
}

impl Board {
    /// The board of `node`, for filters of `keys` keys each, which grow; `seed` keeps clients from choosing ids that collide.
    pub fn new(node: NodeId, keys: usize, seed: u64) -> Self {
        Self::with_tail(node, keys, seed, Tail::default())
    }

    /// The same, with another bound for the events that are kept in memory.
    pub fn with_tail(node: NodeId, keys: usize, seed: u64, tail: Tail) -> Self {
        Self {
            node,
            gate: ArcSwapOption::empty(),
            leader: AtomicU64::new(0),
            admitting: AtomicBool::new(true),
            applied: AppliedCell::new(Applied::default()),
            rounds: Rounds::default(),
            stream: Stream::new(tail),
            buyers: Filters::with_capacity(keys),
            known: Filters::with_capacity(keys),
            seed,
        }
    }

    /// Whose board it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The gate, if this node leads and its gate is open.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.load_full()
    }

    /// Opens this term's gate, or shuts it.
    pub fn set_gate(&self, gate: Option<Arc<Gate>>) {
        self.gate.store(gate);
    }

    /// Who leads, as far as this node knows; 0 = not known.
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Publishes who leads.
    pub fn set_leader(&self, leader: u64) {
        self.leader.store(leader, Ordering::Relaxed);
    }

    /// What is answered while the gate is shut: nothing was done. Another node may lead; if it is this one, its gate is
    /// about to open, or the node about to stop.
    pub fn shut(&self) -> Answer {
        match self.leader() {
            leader if leader == self.node.0 => Answer::busy(SHUT_RETRY_AFTER_MS),
            leader => Answer::not_leader(leader),
        }
    }

    /// Whether there is room on the disk for more. If not, only reads are answered.
    pub fn is_admitting(&self) -> bool {
        self.admitting.load(Ordering::Relaxed)
    }

    /// Publishes whether there is room on the disk for more. Whether that is news.
    pub fn set_admitting(&self, admitting: bool) -> bool {
        self.admitting.swap(admitting, Ordering::Relaxed) != admitting
    }

    /// The last index applied here and its ledger time. Load it BEFORE the notices it is to vouch for.
    pub fn applied(&self) -> At {
        let Applied { index, now_ms } = self.applied.read();
        At { index, time_ms: now_ms }
    }

    /// Publishes an apply. Called AFTER the notices.
    pub fn set_applied(&self, at: At) {
        self.applied.publish(Applied { index: at.index, now_ms: at.time_ms });
    }

    fn buyer_hash(&self, product: ProductId, user: UserId) -> u64 {
        Filter::hash(product.0, user.0, self.seed)
    }

    fn known_hash(&self, id: ReservationId) -> u64 {
        Filter::hash(id.0 as u64, (id.0 >> 64) as u64, self.seed)
    }

    /// Whether the user may have units of the product. False is certain, as of every index already published.
    pub fn may_have(&self, product: ProductId, user: UserId) -> bool {
        self.buyers.maybe_contains(self.buyer_hash(product, user))
    }

    /// Whether the id may have an outcome. False is certain, as of every index already published.
    pub fn may_know(&self, id: ReservationId) -> bool {
        self.known.maybe_contains(self.known_hash(id))
    }

    /// Publishes that the user has, or no longer has, units of the product. Replica thread only.
    pub fn set_buyer(&self, product: ProductId, user: UserId, has: bool) {
        let hash = self.buyer_hash(product, user);
        if has { self.buyers.insert(hash) } else { self.buyers.remove(hash) }
    }

    /// Publishes that the id has, or no longer has, an outcome. Replica thread only.
    pub fn set_known(&self, id: ReservationId, is: bool) {
        let hash = self.known_hash(id);
        match is {
            true if fault::is_on(Mutant::KnownIdForgotten) => {}
            true => self.known.insert(hash),
            false => self.known.remove(hash),
        }
    }

    /// Reads what [`Board::set_buyer`] will look at first, ahead of it. Replica thread only.
    #[inline]
    pub fn touch_buyer(&self, product: ProductId, user: UserId) -> u64 {
        self.buyers.touch(self.buyer_hash(product, user))
    }

    /// Reads what [`Board::set_known`] will look at first, ahead of it. Replica thread only.
    #[inline]
    pub fn touch_known(&self, id: ReservationId) -> u64 {
        self.known.touch(self.known_hash(id))
    }

    /// Forgets both filters, before they are filled from a loaded ledger. Replica thread only, gate shut.
    pub fn clear_filters(&self) {
        self.buyers.clear();
        self.known.clear();
    }
}

/// Read rounds: how net threads learn that this node still led after they asked (rule N).
///
/// A round that was *started* after a request arrived proves, once it is *confirmed*, that no other leader had
/// answered anything newer when the request arrived. Whoever needs one takes the number after the last one
/// started; all who wait share it.
#[derive(Debug, Default)]
pub struct Rounds {
    /// A cluster of one voter has nobody else to ask.
    needless: AtomicBool,
    started: AtomicU64,
    wanted: AtomicU64,
    confirmed: AtomicU64,
}

impl Rounds {
    /// Asks for a round that starts after this call; returns its number, 0 if none is needed. The caller wakes
    /// the replica if the number is above [`Rounds::confirmed`].
    pub fn ask(&self) -> u64 {
        if self.needless.load(Ordering::Acquire) || fault::is_on(Mutant::NoWithoutRound) {
            return 0;
        }
        // SeqCst: the caller's request must not be ordered behind a start it did not see.
        let number = self.started.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(number, Ordering::SeqCst);
        number
    }

    /// The last round confirmed. State loaded after this call is fresh for whoever waited for it.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Replica thread: the number of a round to start now, if anybody wants one that has not started.
    pub fn start(&self) -> Option<u64> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        if wanted <= self.started.load(Ordering::Relaxed) {
            return None;
        }
        self.started.store(wanted, Ordering::SeqCst);
        Some(wanted)
    }

    /// Replica thread: a leadership begins. A round that was started in an earlier one is never confirmed; who waits for
    /// it is served by the next.
    pub fn renew(&self) {
        let started = self.started.load(Ordering::Relaxed);
        if self.confirmed.load(Ordering::Relaxed) < started {
            self.wanted.fetch_max(started + 1, Ordering::SeqCst);
        }
    }

    /// Replica thread: the last round that was started.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Replica thread: a round was confirmed and this node has applied up to its index.
    pub fn confirm(&self, number: u64) {
        self.confirmed.fetch_max(number, Ordering::Release);
    }

    /// Replica thread: whether the cluster has one voter, this one.
    pub fn set_needless(&self, needless: bool) {
        self.needless.store(needless, Ordering::Release);
    }
}
