//! Test nodes that talk to each other. Every message travels as bytes.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::prelude::MessageType;
use sluice_core::replica::TICK_MS;
use sluice_core::replica::disk::Members;
use sluice_core::replica::membership::{Change, ChangeError};
use sluice_core::replica::peer::{Body, Chunk, Envelope};
use sluice_core::session::Ask;
use sluice_core::time::Moment;
use sluice_protocol::{Answer, Kind, ProductId, Status};

use crate::common::{Disk, START_MS, TERMS, TestNode, item};

/// Whether it is a message of raft's of this type.
fn is_of(message: &Envelope, kind: MessageType) -> bool {
    matches!(&message.body, Body::Raft(raft) if raft.get_msg_type() == kind)
}

pub struct Cluster {
    pub nodes: BTreeMap<u64, TestNode>,
    /// Nobody hears these, and they hear nobody.
    pub cut: BTreeSet<u64>,
    /// Their disks finish nothing.
    pub stalled: BTreeSet<u64>,
    /// Whether a part of another snapshot, long under way, arrives just behind raft's message of a snapshot.
    pub has_strays: bool,
    /// Raft's messages of this type to this node are lost.
    pub loses: Option<(u64, MessageType)>,
    /// What was said of read rounds for others, and whether all of it is lost.
    pub rounds_said: Vec<Envelope>,
    pub loses_rounds: bool,
    /// How often the first part of a snapshot was sent, and the last one.
    pub first_parts: usize,
    pub first_part: Option<(Envelope, Chunk)>,
    pub now: Moment,
    pub members: Members,
    pub snapshot_every_bytes: u64,
}

impl Cluster {
    /// Three, of which one was killed before the others took so many reservations and snapshots. Who leads, who is behind,
    /// and that one's disk.
    pub fn with_one_behind(reservations: u128) -> (Self, u64, u64, Disk) {
        let mut cluster = Self::new(3, 400);
        cluster.put(1, 1_000);
        let leader = cluster.leader();
        let slow = if leader == 3 { 2 } else { 3 };
        let disk = cluster.kill(slow);
        for id in 1..=reservations {
            assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
        }
        (cluster, leader, slow, disk)
    }

    pub fn new(size: u64, snapshot_every_bytes: u64) -> Self {
        let voters: Vec<u64> = (1..=size).collect();
        let incarnations = voters.iter().map(|node| (*node, node + 100)).collect();
        let members = Members { voters, incarnations, ..Members::default() };
        let now = Moment { mono_ms: 1, wall_ms: START_MS };
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            stalled: BTreeSet::new(),
            has_strays: false,
            loses: None,
            rounds_said: Vec::new(),
            loses_rounds: false,
            first_parts: 0,
            first_part: None,
            now,
            members,
            snapshot_every_bytes,
        };
        for node in 1..=size {
            cluster.start(node, node + 100, Disk::default());
        }
        cluster
    }

    pub fn start(&mut self, node: u64, incarnation: u64, disk: Disk) {
        let members = match self.members.contains(node) {
            true => self.members.clone(),
            false => Members::default(),
        };
        let member = TestNode::member(node, incarnation, disk, members, self.now, self.snapshot_every_bytes);
        self.nodes.insert(node, member);
    }

    /// Ends a process; what it had not synced is lost.
    pub fn kill(&mut self, node: u64) -> Disk {
        self.nodes.remove(&node).unwrap().disk
    }

    /// Everything moves until nothing does, without time passing.
    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Everybody does what there is to do, and hears what was said meanwhile. Whether anything moved.
    pub fn step(&mut self) -> bool {
        let mut moved = false;
        for (number, node) in &mut self.nodes {
            node.now = self.now;
            node.drive();
            moved |= !self.stalled.contains(number) && node.sync();
        }
        let from: Vec<u64> = self.nodes.keys().copied().collect();
        for from in from {
            let messages = std::mem::take(&mut self.nodes.get_mut(&from).unwrap().messages);
            for message in messages {
                moved = true;
                self.carry(from, &message);
            }
        }
        moved
    }

    /// Brings a message to its receiver, as bytes, unless it is lost.
    fn carry(&mut self, from: u64, message: &Envelope) {
        let bytes: Bytes = message.encode();
        let received = Envelope::decode(bytes).unwrap();
        assert_eq!(received, *message, "what is read is what was written");
        let is_lost = self.loses.is_some_and(|(to, kind)| received.to == to && is_of(&received, kind));
        let is_of_rounds = matches!(received.body, Body::RoundAsk { .. } | Body::RoundDone { .. });
        self.rounds_said.extend(is_of_rounds.then(|| received.clone()));
        let is_lost = is_lost || (is_of_rounds && self.loses_rounds);
        let is_cut = self.cut.contains(&from) || self.cut.contains(&received.to) || is_lost;
        let stray = self.stray(&received);
        if let Some(to) = self.nodes.get_mut(&received.to).filter(|_| !is_cut) {
            to.replica.receive(received);
            stray.into_iter().for_each(|stray| to.replica.receive(stray));
        }
    }

    /// What is to arrive just behind this message.
    fn stray(&mut self, message: &Envelope) -> Option<Envelope> {
        match &message.body {
            Body::Chunk(chunk) if chunk.offset == 0 => {
                self.first_parts += 1;
                self.first_part = Some((message.clone(), chunk.clone()));
                None
            }
            _ if self.has_strays && is_of(message, MessageType::MsgSnapshot) => {
                let (mut envelope, mut chunk) = self.first_part.clone()?;
                (chunk.image.index, chunk.meta.index) = (chunk.image.index - 1, chunk.meta.index - 1);
                envelope.body = Body::Chunk(chunk);
                Some(envelope)
            }
            _ => None,
        }
    }

    pub fn pass(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now.mono_ms += TICK_MS;
            self.now.wall_ms += TICK_MS;
            self.nodes.values_mut().for_each(|node| node.replica.tick());
            self.settle();
        }
    }

    /// The one that leads with an open gate, after as many ticks as that takes.
    pub fn leader(&mut self) -> u64 {
        for _ in 0..100 {
            self.settle();
            let open = |(number, node): (&u64, &TestNode)| {
                (node.replica.is_open() && !self.cut.contains(number)).then_some(*number)
            };
            if let Some(leader) = self.nodes.iter().find_map(open) {
                return leader;
            }
            self.pass(1);
        }
        panic!("nobody leads after ten seconds");
    }

    pub fn at(&mut self, node: u64) -> &mut TestNode {
        self.nodes.get_mut(&node).unwrap()
    }

    pub fn ask(&mut self, node: u64, kind: Kind, ask: Ask<'_>) -> Answer {
        let correlation = self.at(node).send(kind, ask);
        self.settle();
        self.at(node).plain(correlation)[0]
    }

    pub fn put(&mut self, product: u64, stock: u64) {
        let leader = self.leader();
        let item = sluice_protocol::request::PutProductItem::new(ProductId(product), Some(stock), TERMS);
        assert_eq!(self.ask(leader, Kind::PutProduct, Ask::Put(&[item])).status(), Some(Status::Done));
    }

    pub fn reserve(&mut self, node: u64, id: u128) -> Answer {
        self.ask(node, Kind::Reserve, Ask::Reserve(&[item(id, 1, id as u64, 1)]))
    }

    pub fn change(&mut self, ticket: u64, change: Change) -> Result<u64, ChangeError> {
        let leader = self.leader();
        self.at(leader).replica.change_members(ticket, change);
        for _ in 0..20 {
            self.settle();
            if let Some((_, result)) = self.at(leader).changed.pop_if(|(known, _)| *known == ticket) {
                return result;
            }
            self.pass(1);
        }
        panic!("the change is not decided");
    }

    /// All that are up and not cut off hold the same.
    pub fn agree(&mut self) {
        self.pass(5);
        let states: BTreeSet<(u64, u64)> = self
            .nodes
            .iter()
            .filter(|(number, _)| !self.cut.contains(number))
            .map(|(_, node)| (node.replica.ledger().index(), node.replica.ledger().digest()))
            .collect();
        assert_eq!(states.len(), 1, "{states:?}");
    }
}
