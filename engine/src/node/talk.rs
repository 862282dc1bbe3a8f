//! What the replica thread does for peers and operators: carries what they say to the replica, and what it says to them.
//!
//! Deliberately not here: files of snapshots, which another thread reads and writes.

use std::collections::VecDeque;
use std::time::Instant;

use sluice_core::replica::{Actions, CHUNK_LEN, ChunkRead, Replica, RoundNews};

use super::operators::Operators;
use super::shared::Shared;
use super::view;
use crate::peers::{Pace, Peers};

/// Messages taken before the replica is driven: however many come, what they lead to must not wait for all of them.
const MESSAGES_PER_TURN: usize = 4096;

/// See the module.
pub(super) struct Talk<'a> {
    shared: &'a Shared,
    /// None on a node that is alone, and has no port for peers.
    peers: Option<Peers>,
    operators: Operators,
    /// Parts of snapshots that peers need and that may not go yet, one for each peer.
    reads: VecDeque<ChunkRead>,
    pace: Pace,
    /// Read rounds under way, and when they were started.
    rounds: VecDeque<(u64, Instant)>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(shared: &'a Shared, peers: Option<Peers>, pace: Pace) -> Self {
        Self {
            shared,
            peers,
            operators: Operators::default(),
            reads: VecDeque::new(),
            pace,
            rounds: VecDeque::new(),
        }
    }

    /// Hands what was said to the replica. Whether there was anything.
    pub(super) fn listen(&mut self, replica: &mut Replica) -> bool {
        let (Some(post), Some(peers)) = (&self.shared.post, &mut self.peers) else { return false };
        peers.introduce();
        let mut any = false;
        for node in peers.failed() {
            replica.unreachable(node);
        }
        for arrived in std::iter::from_fn(|| post.take()).take(MESSAGES_PER_TURN) {
            any = true;
            replica.receive(arrived.envelope);
        }
        while let Some(call) = post.take_call() {
            any = true;
            self.operators.take(call, replica, peers, post);
        }
        any
    }

    /// Sends what the replica says.
    pub(super) fn speak(&mut self, actions: &mut Actions, replica: &Replica) {
        match &mut self.peers {
            Some(peers) => {
                actions.messages.drain(..).for_each(|envelope| peers.send(envelope));
                peers.flush();
            }
            None => actions.messages.clear(),
        }
        if let Some(post) = &self.shared.post {
            for (ticket, result) in actions.changed.drain(..) {
                self.operators.decided(ticket, result, replica, post);
            }
        }
        for read in actions.chunk_reads.drain(..) {
            self.reads.retain(|waiting| waiting.to != read.to);
            self.reads.push_back(read);
        }
        self.time_rounds(std::mem::take(&mut actions.rounds));
    }

    /// The next part of a snapshot that may go now.
    pub(super) fn next_read(&mut self) -> Option<ChunkRead> {
        self.reads.front()?;
        if self.pace.take(CHUNK_LEN as u64, Instant::now()) { self.reads.pop_front() } else { None }
    }

    /// Whether a part of a snapshot waits until it may go.
    pub(super) fn is_paced(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Measures how long read rounds take.
    fn time_rounds(&mut self, news: RoundNews) {
        let metrics = &self.shared.metrics;
        if news.last_started > 0 {
            self.rounds.push_back((news.last_started, Instant::now()));
        }
        while let Some((_, since)) = self.rounds.pop_front_if(|(number, _)| *number <= news.confirmed) {
            metrics.read_round_duration.record(since.elapsed());
        }
        while self.rounds.pop_front_if(|(number, _)| *number <= news.abandoned).is_some() {
            metrics.read_rounds_abandoned.increment();
        }
    }

    /// Shows who the members are, and lets go of those who have gone.
    pub(super) fn survey(&mut self, replica: &Replica) {
        if let Some(own) = self.shared.metrics.identity.get() {
            let (peers, post) = (self.peers.as_ref(), self.shared.post.as_deref());
            self.shared.metrics.members.set(view::cluster(replica, *own, peers, post));
        }
        if let Some(peers) = &mut self.peers {
            peers.forget(&replica.members().removed);
        }
    }
}
