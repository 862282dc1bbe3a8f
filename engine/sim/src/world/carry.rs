//! Messages between nodes, requests of clients, and replies to them, on their way.

use bytes::Bytes;
use raft::prelude::Message;
use sluice_core::replica::TICK_MS;
use sluice_core::replica::peer::{Body, Envelope};

use super::event::{Event, Input, Request};
use super::{World, process};
use crate::coverage::Path;
use crate::net::{Carried, End};
use sluice_judges::checkers::Spoke;
use sluice_judges::history::Reply;

/// How long it takes a transport to notice that nobody listens.
const NOTICE_US: u64 = 2000;
/// Ticks of an election timeout, in which a node that has just started neither votes nor campaigns.
const QUARANTINE_TICKS: u64 = 10;

impl World {
    fn count(&mut self, carried: &Carried) {
        for (happened, path) in [
            (carried.lost, Path::MessageLost),
            (carried.copy_us.is_some(), Path::MessageTwice),
            (carried.strayed && carried.at_us.is_some(), Path::MessageStrayed),
        ] {
            if happened {
                self.coverage.hit(path);
            }
        }
    }

    /// Sends a message of a process to whatever runs as its receiver.
    pub(super) fn send(&mut self, from: usize, envelope: &Envelope) {
        let bytes = envelope.encode();
        let now_us = self.now_us();
        self.note_speech(from, &envelope.body);
        let receivers: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].node == envelope.to && *host != from)
            .collect();
        for host in receivers {
            if self.hosts[host].process.is_none() {
                if self.random.chance(1, 16) {
                    self.order(from, NOTICE_US, Input::Unreachable(envelope.to));
                }
                continue;
            }
            let carried = self.net.send(End::Host(from), End::Host(host), bytes.len(), now_us);
            self.count(&carried);
            for at_us in carried.at_us.into_iter().chain(carried.copy_us) {
                self.schedule.at(at_us, Event::Peer { host, bytes: bytes.clone() });
            }
        }
    }

    /// Tells the judges what only a sound member may say.
    fn note_speech(&mut self, from: usize, body: &Body) {
        use raft::prelude::MessageType::{
            MsgAppend, MsgHeartbeat, MsgRequestVote, MsgRequestVoteResponse, MsgSnapshot,
        };
        let Body::Raft(message) = body else { return };
        self.check_speech(from, message);
        let spoke = match message.get_msg_type() {
            MsgRequestVote => Spoke::Vote,
            MsgRequestVoteResponse if !message.reject => Spoke::Vote,
            MsgAppend | MsgHeartbeat | MsgSnapshot => Spoke::Lead,
            _ => return,
        };
        let host = &self.hosts[from];
        // Whoever knows of another disk under its id does not even look at what this one says.
        if self.members.1.incarnation(host.node).is_some_and(|known| known != host.disk.incarnation) {
            return;
        }
        let judged = self.judges.spoke(host.alias, spoke);
        self.heed(judged);
    }

    /// What a node promises must be synced, and one that has just started promises nothing.
    fn check_speech(&mut self, from: usize, message: &Message) {
        use raft::prelude::MessageType::{
            MsgAppendResponse, MsgRequestPreVote, MsgRequestPreVoteResponse, MsgRequestVote,
            MsgRequestVoteResponse,
        };
        let host = &self.hosts[from];
        let Some(process) = &host.process else { return };
        let (hard_state, last) = host.disk.synced();
        let kind = message.get_msg_type();
        let vote = match kind {
            MsgRequestVote => Some(host.node),
            MsgRequestVoteResponse if !message.reject => Some(message.to),
            _ => None,
        };
        let votes = vote.is_some()
            || kind == MsgRequestPreVote
            || (kind == MsgRequestPreVoteResponse && !message.reject);
        let (node, term, index) = (host.node, message.term, message.index);
        let mut wrong = None;
        if votes && process.ticks < QUARANTINE_TICKS && !process.was_alone {
            wrong =
                Some(("quarantine", format!("node {node} votes {} ticks after its start", process.ticks)));
        }
        let is_kept = |vote| hard_state.term > term || (hard_state.term == term && hard_state.vote == vote);
        if let Some(vote) = vote.filter(|vote| !is_kept(*vote)) {
            let what = format!("node {node} votes for {vote} in term {term}; its disk knows {hard_state:?}");
            wrong = Some(("promise", what));
        }
        if kind == MsgAppendResponse && !message.reject && index > last {
            let what = format!("node {node} acknowledges entry {index}; its disk ends at {last}");
            wrong = Some(("promise", what));
        }
        if let Some((checker, what)) = wrong.filter(|_| self.plan.honest) {
            self.fail(checker, what);
        }
    }

    /// A message arrives at a host.
    pub(super) fn arrive(&mut self, host: usize, bytes: Bytes) {
        let now_us = self.now_us();
        if self.hosts[host].is_paused() && self.hosts[host].process.is_some() {
            self.hosts[host].backlog.push(Event::Peer { host, bytes });
            return;
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        self.trace.event(now_us, 2, host as u64);
        self.trace.bytes(&bytes);
        match Envelope::decode(bytes) {
            Ok(envelope) => {
                if let Body::Raft(message) = &envelope.body {
                    let votes = message.get_msg_type() == raft::prelude::MessageType::MsgRequestVote;
                    if votes && now_us < process.started_us + QUARANTINE_TICKS * TICK_MS * 1000 {
                        self.coverage.hit(Path::Quarantine);
                    }
                }
                self.guard(host, |process| process.replica.receive(envelope));
                self.turn_soon(host);
            }
            Err(error) => self.fail("wire", format!("a message that nobody damaged is refused: {error}")),
        }
    }

    /// Nodes that can be connected to.
    pub(super) fn running(&self) -> Vec<u64> {
        self.hosts.iter().filter(|host| host.process.is_some()).map(|host| host.node).collect()
    }

    /// A job's time has come.
    pub(super) fn job(&mut self, job: usize) {
        let sending = match self.steer(|workload, steer| workload.due(job, steer)) {
            Ok(Some(sending)) => sending,
            Ok(None) => return,
            Err(delay_us) => return self.schedule.after(delay_us, Event::Job(job)),
        };
        let now_us = self.now_us();
        let Request { client, correlation, ref asks, .. } = sending.request;
        let node = sending.node;
        self.trace.event(now_us, 5, correlation);
        self.trace.say(now_us, || format!("client {client} asks node {node} #{correlation}: {asks:?}"));
        self.schedule.after(sending.patience_us, Event::GiveUp { correlation });
        let running = |host: &usize| {
            let host = &self.hosts[*host];
            host.node == node && host.process.is_some()
        };
        let hosts: Vec<usize> = (0..self.hosts.len()).filter(running).collect();
        let host = *self.random.pick(&hosts);
        let bytes = 32 + 40 * sending.request.asks.len();
        let carried = self.net.send(End::Client(client), End::Host(host), bytes, now_us);
        self.count(&carried);
        if let Some(at_us) = carried.at_us {
            self.schedule.at(at_us, Event::Request { host, request: Box::new(sending.request) });
        }
    }

    /// A client's frame arrives at a host.
    pub(super) fn request(&mut self, host: usize, request: Request) {
        let now_us = self.now_us();
        if self.hosts[host].is_paused() && self.hosts[host].process.is_some() {
            self.hosts[host].backlog.push(Event::Request { host, request: Box::new(request) });
            return;
        }
        if self.hosts[host].process.is_none() {
            return;
        }
        self.trace.event(now_us, 3, request.correlation);
        let now = self.hosts[host].clock.now(now_us);
        self.guard(host, |process| process.submit(&request, now));
        self.turn_soon(host);
    }

    /// Sends what a process's desks have put together.
    pub(super) fn send_replies(&mut self, host: usize, replies: Vec<(usize, u64, Vec<Reply>)>) {
        let now_us = self.now_us();
        for (client, correlation, replies) in replies {
            // To say that somebody else leads is no service.
            if !replies.iter().all(Reply::claims_nothing) {
                let judged = self.judges.spoke(self.hosts[host].alias, Spoke::Serve);
                self.heed(judged);
            }
            let node = self.hosts[host].node;
            self.trace.say(now_us, || format!("node {node} answers #{correlation}: {}", told(&replies)));
            self.judge_deliveries(host, &replies);
            self.take_replies(&replies);
            let carried = self.net.send(End::Host(host), End::Client(client), 48 * replies.len(), now_us);
            self.count(&carried);
            if let Some(at_us) = carried.at_us {
                self.schedule.at(at_us, Event::Replies { correlation, replies });
            }
        }
    }

    /// Answers are part of what a run is.
    fn take_replies(&mut self, replies: &[Reply]) {
        for answer in replies.iter().flat_map(Reply::answers) {
            let at = answer.at();
            self.trace.take(u64::from(answer.status_byte()) << 56 ^ at.index << 20 ^ at.time_ms);
        }
    }

    /// Whether anybody waits for a node.
    pub(super) fn is_loaded(&self, host: usize) -> bool {
        self.hosts[host].process.as_ref().is_some_and(process::Process::is_loaded)
    }
}

fn told(replies: &[Reply]) -> String {
    let answers: Vec<String> = replies
        .iter()
        .map(|reply| match reply {
            Reply::Plain(answer) => format!("{answer:?}"),
            other => format!("{other:?}"),
        })
        .collect();
    answers.join(", ")
}
