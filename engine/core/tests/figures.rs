//! What a replica says of itself and of the others: for people, and for the shell's measurements.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use cluster::Cluster;
use common::{Disk, item};
use sluice_core::replica::membership::Change;
use sluice_core::replica::{PeerState, PeerStatus, Role, RoundNews, Seat, TICK_MS};
use sluice_core::session::Ask;
use sluice_protocol::request::ProductItem;
use sluice_protocol::{Kind, ProductId, Status};

fn peer(cluster: &mut Cluster, of: u64, node: u64) -> PeerStatus {
    cluster.at(of).replica.peers().into_iter().find(|peer| peer.node == node).unwrap()
}

fn role(cluster: &mut Cluster, node: u64) -> Role {
    cluster.at(node).replica.status().role
}

#[test]
fn each_node_knows_what_it_is() {
    let mut cluster = Cluster::new(3, u64::MAX);
    let status = cluster.at(1).replica.status();
    assert_eq!((status.role, status.quarantine_ms), (Role::Follower, 10 * TICK_MS));
    cluster.put(1, 10);
    let leader = cluster.leader();
    let (gone, other) = if leader == 3 { (2, 1) } else { (3, 3 - leader) };
    assert_eq!([leader, gone].map(|node| role(&mut cluster, node)), [Role::Leader, Role::Follower]);
    assert_eq!(cluster.at(gone).replica.status().quarantine_ms, 0);
    cluster.start(4, 104, Disk::default());
    assert_eq!(role(&mut cluster, 4), Role::Outsider);
    cluster.change(1, Change::AddLearner { node: 4, incarnation: 104 }).unwrap();
    cluster.pass(20);
    assert_eq!(role(&mut cluster, 4), Role::Learner);
    // Nobody else's disk knows of the removal: it stays.
    cluster.stalled.insert(other);
    cluster.stalled.insert(4);
    assert!(!cluster.at(leader).replica.status().changing);
    cluster.at(leader).replica.change_members(2, Change::Remove { node: gone });
    assert!(cluster.at(leader).replica.status().changing);
    cluster.settle();
    assert!(!cluster.at(leader).replica.status().changing);
    cluster.pass(2);
    assert_eq!(role(&mut cluster, gone), Role::Removed);
    // Cut off, the one that is left asks for votes in vain.
    cluster.stalled.clear();
    cluster.cut.insert(other);
    cluster.pass(25);
    assert_eq!(role(&mut cluster, other), Role::Candidate);
}

#[test]
fn a_leader_knows_how_far_the_others_are() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 100);
    let leader = cluster.leader();
    let slow = if leader == 3 { 2 } else { 3 };
    cluster.agree();
    let last = cluster.at(leader).last_index();
    let before = peer(&mut cluster, leader, slow);
    let progress = before.progress.unwrap();
    assert_eq!((before.seat, before.is_heard()), (Seat::Voter, true));
    assert_eq!((progress.matched, progress.next, progress.state), (last, last + 1, PeerState::Replicate));
    assert_eq!((progress.entries_in_flight, progress.messages_in_flight), (0, 0));
    // Whoever does not lead knows only whom it has heard.
    let seen = peer(&mut cluster, slow, leader);
    assert!(seen.progress.is_none() && seen.is_heard());

    cluster.stalled.insert(slow);
    for id in 1..=3 {
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
    }
    let progress = peer(&mut cluster, leader, slow).progress.unwrap();
    assert_eq!((progress.matched, progress.next), (last, last + 4));
    assert_eq!((progress.entries_in_flight, progress.messages_in_flight), (3, 3));
    cluster.cut.insert(slow);
    cluster.pass(11);
    let after = peer(&mut cluster, leader, slow);
    assert!(!after.is_heard() && after.silent_ms > Some(10 * TICK_MS), "{after:?}");
}

#[test]
fn a_joint_membership_says_who_comes_and_who_goes() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    let (gone, other) = if leader == 3 { (2, 1) } else { (3, 3 - leader) };
    cluster.start(4, 104, Disk::default());
    cluster.change(1, Change::AddLearner { node: 4, incarnation: 104 }).unwrap();
    cluster.pass(20);
    assert_eq!(peer(&mut cluster, leader, 4).seat, Seat::Learner);
    cluster.at(leader).replica.change_members(2, Change::Replace { node: gone, by: 4 });
    // Its first half is applied where it was proposed as soon as a quorum of both halves has it; the second is not yet.
    let mut seats = Vec::new();
    for _ in 0..100 {
        let two = [gone, 4].map(|node| {
            cluster
                .at(leader)
                .replica
                .peers()
                .into_iter()
                .find(|peer| peer.node == node)
                .map(|peer| peer.seat)
        });
        if seats.last() != Some(&two) {
            seats.push(two);
        }
        if !cluster.step() {
            cluster.pass(1);
        }
    }
    let steps = [
        [Some(Seat::Voter), Some(Seat::Learner)],
        [Some(Seat::Outgoing), Some(Seat::Incoming)],
        [None, Some(Seat::Voter)],
    ];
    assert_eq!(seats, steps);
    assert_eq!(peer(&mut cluster, leader, other).seat, Seat::Voter);
}

#[test]
fn a_snapshot_on_its_way_is_seen_from_both_ends_and_counted() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(199);
    cluster.start(slow, slow + 100, disk);
    cluster.at(slow).loads_slowly = true;
    cluster.pass(20);
    let peer_seen = peer(&mut cluster, leader, slow);
    let progress = peer_seen.progress.unwrap();
    let (offset, len) = progress.sending.unwrap();
    assert_eq!(progress.state, PeerState::Snapshot);
    assert!(offset > 0 && offset < len, "{offset} of {len}");
    let status = cluster.at(slow).replica.status();
    assert_eq!((status.incoming_have, status.incoming_len), (offset, len));
    let counts = |cluster: &mut Cluster, node| {
        let counts = cluster.at(node).replica.status().transfers;
        (counts.sent, counts.failed, counts.received)
    };
    assert_eq!((counts(&mut cluster, leader), counts(&mut cluster, slow)), ((0, 0, 0), (0, 0, 0)));
    cluster.at(slow).finish_loading();
    cluster.pass(10);
    assert_eq!((counts(&mut cluster, leader), counts(&mut cluster, slow)), ((1, 0, 0), (0, 0, 1)));
    cluster.agree();
    assert_eq!(peer(&mut cluster, leader, slow).progress.unwrap().sending, None);
}

#[test]
fn a_transfer_that_nobody_answers_counts_as_failed() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(199);
    cluster.start(slow, slow + 100, disk);
    cluster.at(slow).loads_slowly = true;
    cluster.pass(20);
    assert!(peer(&mut cluster, leader, slow).progress.unwrap().sending.is_some());
    cluster.cut.insert(slow);
    // It was heard whenever a part was sent again, every half second.
    cluster.pass(3_400 / TICK_MS as usize);
    assert_eq!(cluster.at(leader).replica.status().transfers.failed, 0);
    cluster.pass(700 / TICK_MS as usize);
    assert_eq!(cluster.at(leader).replica.status().transfers.failed, 1);
}

#[test]
fn read_rounds_are_told_as_they_begin_and_end() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    cluster.agree();
    cluster.at(leader).rounds.clear();
    let product = [ProductItem::new(ProductId(1))];
    let ask = |cluster: &mut Cluster| cluster.at(leader).send(Kind::QueryProduct, Ask::Products(&product));
    ask(&mut cluster);
    cluster.settle();
    let told = std::mem::take(&mut cluster.at(leader).rounds);
    let number = told[0].last_started;
    assert!(number > 0);
    let start = RoundNews { first_started: number, last_started: number, ..RoundNews::default() };
    let end = RoundNews { confirmed: number, ..RoundNews::default() };
    assert_eq!(told, [start, end]);

    // Nobody answers this one, and another leads meanwhile.
    cluster.cut.insert(leader);
    ask(&mut cluster);
    cluster.settle();
    let first = cluster.at(leader).rounds.pop().unwrap();
    assert_eq!((first.first_started, first.last_started, first.confirmed), (number + 1, number + 1, 0));
    cluster.leader();
    cluster.cut.clear();
    cluster.agree();
    let over = RoundNews { abandoned: number + 1, ..RoundNews::default() };
    assert_eq!(cluster.at(leader).rounds, [over]);
}

#[test]
fn a_node_alone_starts_no_rounds() {
    let mut cluster = Cluster::new(1, u64::MAX);
    cluster.put(1, 10);
    let refused = cluster.at(1).send(Kind::Reserve, Ask::Reserve(&[item(1, 1, 1, 11)]));
    cluster.settle();
    assert_eq!(cluster.at(1).plain(refused)[0].status(), Some(Status::Insufficient));
    assert!(cluster.at(1).rounds.is_empty());
    assert!(cluster.at(1).replica.peers().is_empty());
}
