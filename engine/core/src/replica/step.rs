//! What is done with what peers say, and what is said to them outside raft.

use raft::StateRole;
use raft::prelude::{Message, MessageType};
use thiserror::Error;

use super::Replica;
use super::peer::acquaintance::Verdict;
use super::peer::{self, Body, Chunk, Envelope, Identity, Refusal};
use super::transfer::ChunkRead;
use crate::fault::{self, Mutant};

/// Why a process must end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StopReason {
    /// A peer says that it must not take part.
    #[error("node {by} refuses this node: {refusal}")]
    Refused {
        /// Who says so.
        by: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The leader knows of entries that this node acknowledged and does not have.
    #[error(
        "this node has lost log entries that it had acknowledged: join with an empty data directory under a new id"
    )]
    LostLog,
    /// Enough others know of its removal to go on without it.
    #[error("this node was removed from the cluster")]
    Removed,
    /// A write or a sync of the log failed: what is on the disk is not known.
    #[error("the log could not be written")]
    DiskFailed,
}

/// What is to be handed out with the next actions.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) messages: Vec<Envelope>,
    pub(super) reads: Vec<ChunkRead>,
    pub(super) writes: Vec<Chunk>,
}

impl Replica {
    /// Takes a message from a peer.
    pub fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, to, body } = envelope;
        if self.stop.is_some() || to != self.config.identity.node {
            return;
        }
        match body {
            Body::Hello(hello) => {
                let verdict = self.acquaintances.greet(&from, hello, &self.members, self.removals.known());
                self.respond(&from, verdict);
            }
            Body::Welcome { nonce } if nonce == self.config.identity.nonce => {
                self.strangers.retain(|node| *node != from.node);
            }
            Body::WhoAreYou { nonce } if nonce == self.config.identity.nonce => self.say_hello(from.node),
            Body::Refused { nonce, refusal, quorum } if nonce == self.config.identity.nonce => {
                self.refused(&from, refusal, quorum);
            }
            Body::Welcome { .. } | Body::WhoAreYou { .. } | Body::Refused { .. } => {}
            Body::RoundDone { nonce, .. } if nonce != self.config.identity.nonce => {}
            Body::Raft(_)
            | Body::Chunk(_)
            | Body::ChunkAck { .. }
            | Body::Digest { .. }
            | Body::RoundAsk { .. }
            | Body::RoundDone { .. } => {
                match self.acquaintances.judge(&from, &self.members, self.removals.known()) {
                    Verdict::Pass => self.take(&from, body),
                    verdict => self.respond(&from, verdict),
                }
            }
        }
    }

    fn take(&mut self, sender: &Identity, body: Body) {
        let from = sender.node;
        self.acquaintances.heard(from);
        match body {
            Body::Raft(message) => self.step_raft(from, *message),
            Body::Chunk(chunk) => self.chunk_came(from, chunk),
            Body::ChunkAck { image, have } => self.chunk_acknowledged(from, image, have),
            Body::Digest { index, digest, format } => self.digest_came(from, index, digest, format),
            Body::RoundAsk { name } => self.round_asked(sender, name),
            Body::RoundDone { name, index, .. } => self.round_done(name, index),
            _ => unreachable!("the rest was looked at before"),
        }
    }

    fn respond(&mut self, from: &Identity, verdict: Verdict) {
        let nonce = from.nonce;
        match verdict {
            Verdict::Pass => self.say(from.node, Body::Welcome { nonce }),
            Verdict::Ask => self.say(from.node, Body::WhoAreYou { nonce }),
            Verdict::Refuse(refusal) => {
                let quorum = self.removals.quorum(from.node, &self.members);
                self.say(from.node, Body::Refused { nonce, refusal, quorum });
            }
            Verdict::Ignore => {}
        }
    }

    /// A peer says that this process must not take part.
    fn refused(&mut self, from: &Identity, refusal: Refusal, quorum: u64) {
        let is_of_ours = from.cluster == self.config.identity.cluster;
        // A stranger of another cluster may be wrong about where it is. Only a node that is nowhere yet believes it.
        let is_believed = match refusal {
            Refusal::OtherCluster => self.members.is_empty(),
            _ => is_of_ours && !self.removals.known().contains(&from.node),
        };
        if is_believed && refusal == Refusal::Removed {
            if self.removals.refused_by(from.node, quorum) {
                self.stop = Some(StopReason::Removed);
            }
        } else if is_believed {
            self.stop = Some(StopReason::Refused { by: from.node, refusal });
        }
    }

    pub(super) fn say(&mut self, to: u64, body: Body) {
        self.outbox.messages.push(Envelope { from: self.config.identity, to, body });
    }

    pub(super) fn say_hello(&mut self, to: u64) {
        self.say(to, Body::Hello(self.recovered));
    }

    fn step_raft(&mut self, from: u64, mut message: Message) {
        let kind = message.get_msg_type();
        if message.from != from || message.to != self.config.identity.node || !peer::travels(kind) {
            return;
        }
        use MessageType::{
            MsgAppend, MsgAppendResponse, MsgHeartbeat, MsgRequestPreVote, MsgRequestPreVoteResponse,
            MsgRequestVote, MsgSnapshot, MsgTimeoutNow,
        };
        match kind {
            // Just started: it may have promised its patience to a leader and forgotten.
            MsgRequestVote | MsgRequestPreVote | MsgTimeoutNow
                if self.quarantine > 0 && !fault::is_on(Mutant::QuarantineSkipped) =>
            {
                return;
            }
            MsgTimeoutNow if !self.may_campaign() => return,
            // Without members it cannot know who voted for what it is sent: only a snapshot says so.
            MsgAppend if self.members.is_empty() => return self.ask_for_snapshot(&message),
            MsgSnapshot => {
                let wanted = message.get_snapshot().get_metadata();
                let Some(meta) = self.transfers.loaded(wanted.index, wanted.term) else { return };
                let conf = meta.members.to_conf_state();
                *message.mut_snapshot().mut_metadata().mut_conf_state() = conf;
            }
            MsgHeartbeat if self.has_lost(&message) => {
                self.stop = Some(StopReason::LostLog);
                return;
            }
            _ => {}
        }
        // The term of a pre-vote is one that nobody is in yet; a node that asks for its first snapshot only repeats the
        // leader's, and has nothing on its disk.
        let is_told =
            !matches!(kind, MsgRequestPreVote | MsgRequestPreVoteResponse) && message.request_snapshot == 0;
        if is_told {
            self.acquaintances.heard_in(from, message.term);
        }
        self.removals.heard();
        let (reject, was_append) = (message.reject, kind == MsgAppendResponse);
        // An error says that the message is of no use: from a node that is no member, for instance.
        let _ = self.node.step(message);
        if was_append && !reject && self.node.raft.state == StateRole::Leader {
            let committed = self.node.raft.raft_log.committed;
            if let Some(progress) = self.node.raft.prs().get(from) {
                self.acquaintances.acknowledged(from, progress.matched.min(committed));
            }
        }
        if matches!(kind, MsgAppend | MsgHeartbeat | MsgSnapshot) {
            self.silent_ticks = 0;
        }
        self.draw_election_timeout();
    }

    /// A leader tells a follower of no commit beyond what that follower acknowledged.
    fn has_lost(&self, heartbeat: &Message) -> bool {
        let raft = &self.node.raft;
        let is_beyond = heartbeat.commit > raft.raft_log.last_index();
        heartbeat.term >= raft.term && is_beyond && !fault::is_on(Mutant::LostStateAccepted)
    }

    /// Answers an append as a follower that needs a snapshot first.
    fn ask_for_snapshot(&mut self, append: &Message) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppendResponse);
        (message.from, message.to, message.term) = (append.to, append.from, append.term);
        (message.index, message.reject, message.request_snapshot) = (append.index, true, 1);
        self.say(append.from, Body::Raft(Box::new(message)));
    }

    /// The transport knows that messages to `node` do not arrive.
    pub fn unreachable(&mut self, node: u64) {
        self.node.report_unreachable(node);
    }

    /// A write or a sync of the log failed. Nothing is ever said again.
    pub fn disk_failed(&mut self) {
        if !fault::is_on(Mutant::DiskFailureIgnored) {
            self.stop = Some(StopReason::DiskFailed);
        }
    }
}
