//! Replicas that talk to each other: elections, replication, a leader that is lost with requests in flight, snapshots
//! for whoever fell behind, members that come and go, and processes that must not take part.
//!
//! Every message travels as bytes. Nothing is random here but what raft draws from the seed; the simulator does the rest.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use cluster::Cluster;
use common::{Disk, TestNode, item};
use raft::prelude::{Message, MessageType};
use sluice_core::replica::membership::{Change, ChangeError};
use sluice_core::replica::peer::{Body, Envelope, Hello, Refusal};
use sluice_core::replica::{STEPS_MAX, StopReason, TICK_MS};
use sluice_core::session::Ask;
use sluice_protocol::request::IdItem;
use sluice_protocol::{Kind, ReservationId, Status};

#[test]
fn three_replicas_take_a_reservation_and_survive_the_loss_of_their_leader() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 3);
    let first = cluster.leader();
    assert_eq!(cluster.reserve(first, 1).status(), Some(Status::Reserved));
    cluster.agree();
    let follower = if first == 1 { 2 } else { 1 };
    assert_eq!(cluster.reserve(follower, 2).status(), Some(Status::NotLeader));

    // In flight when the leader dies: on no majority, so it may or may not happen; told to nobody.
    let disk = cluster.kill(first);
    let second = cluster.leader();
    assert_ne!(first, second);
    assert_eq!(cluster.reserve(second, 3).status(), Some(Status::Reserved));
    cluster.start(first, first + 100, disk);
    cluster.agree();
    assert_eq!(cluster.at(first).free(1), 1);
}

#[test]
fn what_a_deposed_leader_had_in_flight_is_definitely_dropped() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 1);
    let old = cluster.leader();
    cluster.cut.insert(old);
    let lost = cluster.at(old).send(Kind::Reserve, Ask::Reserve(&[item(7, 1, 7, 1)]));
    cluster.settle();
    assert!(cluster.at(old).reply(lost).is_none(), "no majority has it");
    let new = cluster.leader();
    assert_eq!(cluster.reserve(new, 8).status(), Some(Status::Reserved));
    // A refusal would rest on a reservation that is gone: the old leader may not give it.
    let refused = cluster.at(old).send(Kind::Reserve, Ask::Reserve(&[item(9, 1, 9, 1)]));
    cluster.settle();
    assert!(cluster.at(old).reply(refused).is_none(), "no round confirms that it leads");
    cluster.cut.clear();
    cluster.agree();
    assert_eq!(cluster.at(old).plain(lost)[0].status(), Some(Status::NotLeader));
    assert_eq!(cluster.reserve(new, 10).status(), Some(Status::Insufficient));
}

#[test]
fn whoever_waits_at_a_deposed_leader_that_stays_cut_off_is_told_that_nobody_knows() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 2);
    let old = cluster.leader();
    cluster.cut.insert(old);
    let lost = cluster.at(old).send(Kind::Reserve, Ask::Reserve(&[item(7, 1, 7, 1)]));
    let new = cluster.leader();
    assert_eq!(cluster.reserve(new, 8).status(), Some(Status::Reserved));
    cluster.pass(40);
    assert_eq!(cluster.at(old).plain(lost)[0].status(), Some(Status::Unknown));
    // Somebody else leads, so it can be asked there; and nobody is told twice.
    assert_eq!(cluster.reserve(new, 7).status(), Some(Status::Reserved));
    cluster.cut.clear();
    cluster.agree();
    assert!(cluster.at(old).reply(lost).is_none());
}

#[test]
fn whoever_fell_behind_is_sent_a_snapshot() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(199);
    assert!(cluster.at(leader).snapshots > 3);
    cluster.start(slow, slow + 100, disk);
    cluster.pass(20);
    cluster.agree();
    let disk = cluster.kill(slow);
    assert!(disk.log_base > 0, "it went on from a snapshot");
    cluster.start(slow, slow + 100, disk);
    assert_eq!(cluster.reserve(leader, 200).status(), Some(Status::Reserved));
    cluster.pass(20);
    cluster.agree();
    assert_eq!(cluster.at(slow).free(1), 800);
}

#[test]
fn members_come_learn_vote_and_go_for_good() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    cluster.leader();
    cluster.start(4, 104, Disk::default());
    assert_eq!(cluster.change(1, Change::Promote { node: 4 }), Err(ChangeError::Unknown));
    cluster.change(2, Change::AddLearner { node: 4, incarnation: 104 }).unwrap();
    cluster.pass(20);
    cluster.agree();
    assert_eq!(cluster.at(4).replica.members().learners, [4]);
    let leader = cluster.leader();
    let gone = if leader == 3 { 2 } else { 3 };
    assert_eq!(cluster.change(3, Change::Remove { node: leader }), Err(ChangeError::Leads));
    cluster.change(4, Change::Replace { node: gone, by: 4 }).unwrap();
    cluster.pass(20);
    assert!(cluster.at(leader).replica.members().voters.contains(&4));
    assert_eq!(cluster.at(leader).replica.members().removed, [gone]);
    assert!(matches!(
        cluster.at(gone).stop,
        Some(StopReason::Removed | StopReason::Refused { refusal: Refusal::Removed, .. })
    ));
    let disk = cluster.kill(gone);
    cluster.agree();
    assert_eq!(
        cluster.change(5, Change::AddLearner { node: gone, incarnation: 9 }),
        Err(ChangeError::Removed)
    );
    // It comes back all the same, and is told to go.
    cluster.start(gone, gone + 100, disk);
    cluster.pass(20);
    assert!(cluster.at(gone).stop.is_some());
    // The new voter counts: with it, and without another, there is a majority.
    let other = (1..=3).find(|node| *node != gone && *node != leader).unwrap();
    cluster.kill(gone);
    cluster.kill(other);
    assert_eq!(cluster.reserve(leader, 1).status(), Some(Status::Reserved));
}

#[test]
fn no_change_leaves_too_few_who_answer_and_nobody_who_is_down_is_to_lead() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    let [well, down] = [1, 2, 3].into_iter().filter(|node| *node != leader).collect::<Vec<_>>()[..] else {
        unreachable!("there are three nodes")
    };
    cluster.kill(down);
    cluster.pass(20);
    assert_eq!(cluster.change(1, Change::Remove { node: well }), Err(ChangeError::NoQuorum));
    let transferred = cluster.at(leader).replica.transfer_leadership(down);
    assert_eq!(transferred, Err(ChangeError::Silent));
    assert_eq!(cluster.reserve(leader, 1).status(), Some(Status::Reserved), "nothing is held up");
    cluster.change(2, Change::Remove { node: down }).unwrap();
    assert_eq!(cluster.reserve(leader, 2).status(), Some(Status::Reserved));
}

#[test]
fn whoever_does_not_answer_does_not_become_a_voter() {
    let mut cluster = Cluster::new(1, u64::MAX);
    cluster.put(1, 10);
    cluster.change(1, Change::AddLearner { node: 2, incarnation: 102 }).unwrap();
    assert_eq!(
        cluster.change(2, Change::Promote { node: 2 }),
        Err(ChangeError::Silent),
        "it was never there"
    );
    cluster.start(2, 102, Disk::default());
    cluster.pass(20);
    cluster.agree();
    let disk = cluster.kill(2);
    // Nothing is committed meanwhile: it is no entry behind.
    cluster.pass(20);
    assert_eq!(cluster.change(3, Change::Promote { node: 2 }), Err(ChangeError::Silent), "it is down");
    assert_eq!(cluster.reserve(1, 1).status(), Some(Status::Reserved));
    cluster.start(2, 102, disk);
    cluster.pass(20);
    cluster.change(4, Change::Promote { node: 2 }).unwrap();
    assert_eq!(cluster.at(1).replica.members().voters, [1, 2]);
}

#[test]
fn the_leadership_is_handed_over_and_a_stalled_disk_hands_it_over() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let first = cluster.leader();
    let to = if first == 1 { 2 } else { 1 };
    cluster.at(first).replica.transfer_leadership(to).unwrap();
    cluster.pass(2);
    assert_eq!(cluster.leader(), to);
    // From now on the leader's disk finishes nothing.
    let leader = cluster.at(to);
    leader.drive();
    let resolve = [IdItem::new(ReservationId(77))];
    leader.send(Kind::Resolve, Ask::Resolve(&resolve));
    for _ in 0..40 {
        cluster.now.mono_ms += TICK_MS;
        cluster.now.wall_ms += TICK_MS;
        cluster.nodes.values_mut().for_each(|node| node.replica.tick());
        let stalled = std::mem::take(&mut cluster.at(to).ordered);
        cluster.at(to).drive();
        let mut ordered = stalled;
        ordered.append(&mut cluster.at(to).ordered);
        cluster.at(to).ordered.clear();
        let messages = std::mem::take(&mut cluster.at(to).messages);
        let (others, held): (Vec<u64>, _) = ([1, 2, 3].into_iter().filter(|n| *n != to).collect(), ordered);
        for message in messages {
            cluster.at(message.to).replica.receive(message);
        }
        for other in others {
            cluster.at(other).now = cluster.now;
            cluster.at(other).drive();
            cluster.at(other).sync();
            cluster.at(other).drive();
            for message in std::mem::take(&mut cluster.at(other).messages) {
                cluster.at(message.to).replica.receive(message);
            }
        }
        cluster.at(to).ordered = held;
    }
    let leads = |node: &TestNode| node.replica.is_open();
    assert!(cluster.nodes.iter().any(|(number, node)| *number != to && leads(node)), "another leads");
}

#[test]
fn processes_that_must_not_take_part_are_told_so() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    let victim = if leader == 3 { 2 } else { 3 };
    cluster.reserve(leader, 1);
    cluster.agree();
    let sound = cluster.kill(victim);
    // Wiped: another data directory under the same id.
    cluster.start(victim, 999, Disk::default());
    cluster.pass(3);
    let stop = cluster.at(victim).stop;
    assert!(matches!(stop, Some(StopReason::Refused { refusal: Refusal::OtherIncarnation, .. })), "{stop:?}");
    // Rolled back: it booted once more, and lacks what it had acknowledged.
    cluster.kill(victim);
    let mut older = sound.clone();
    older.entries.truncate(1);
    cluster.start(victim, victim + 100, older);
    cluster.pass(3);
    let stop = cluster.at(victim).stop;
    assert!(matches!(stop, Some(StopReason::Refused { refusal: Refusal::LostState, .. })), "{stop:?}");
    // Cloned: the second process on a copy is the one that goes, whichever that is.
    cluster.kill(victim);
    cluster.start(victim, victim + 100, sound.clone());
    cluster.pass(3);
    assert_eq!(cluster.at(victim).stop, None);
    let first = cluster.nodes.remove(&victim).unwrap();
    let copy = Disk { boots: sound.boots - 1, ..sound };
    cluster.start(victim, victim + 100, copy);
    cluster.pass(3);
    let stop = cluster.at(victim).stop;
    assert!(matches!(stop, Some(StopReason::Refused { refusal: Refusal::Superseded, .. })), "{stop:?}");
    cluster.nodes.insert(victim, first);
    cluster.agree();
}

#[test]
fn a_follower_whose_disk_stalls_orders_no_more_steps_than_there_is_room_for() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 1_000);
    let leader = cluster.leader();
    let slow = if leader == 3 { 2 } else { 3 };
    cluster.stalled.insert(slow);
    for id in 1..100 {
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
    }
    let ordered = cluster.at(slow).ordered.len();
    assert!(ordered <= STEPS_MAX, "{ordered} steps are under way");
    let replica = &cluster.at(slow).replica;
    assert!(replica.owes_nothing() && !replica.is_quiet(), "it may stop all the same");
    cluster.stalled.clear();
    cluster.agree();
    assert_eq!(cluster.at(slow).free(1), 901);
}

#[test]
fn a_part_of_an_old_snapshot_does_not_displace_the_one_that_raft_has_accepted() {
    let (mut cluster, _, slow, disk) = Cluster::with_one_behind(99);
    cluster.has_strays = true;
    cluster.start(slow, slow + 100, disk);
    cluster.pass(20);
    cluster.agree();
    assert!(cluster.kill(slow).log_base > 0, "it went on from a snapshot");
}

#[test]
fn nobody_campaigns_on_a_snapshot_that_is_not_durable_yet() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(99);
    cluster.stalled.insert(slow);
    cluster.start(slow, slow + 100, disk);
    cluster.pass(20);
    assert!(cluster.at(slow).ordered.iter().any(|(_, step)| step.reset.is_some()), "a snapshot is in use");
    cluster.cut.insert(leader);
    cluster.pass(40);
    cluster.stalled.clear();
    cluster.leader();
    cluster.cut.clear();
    cluster.pass(20);
    cluster.agree();
}

#[test]
fn the_only_voter_goes_on_leading_while_its_disk_stalls() {
    let mut cluster = Cluster::new(1, u64::MAX);
    cluster.put(1, 10);
    cluster.start(2, 102, Disk::default());
    cluster.change(1, Change::AddLearner { node: 2, incarnation: 102 }).unwrap();
    cluster.pass(20);
    cluster.agree();
    cluster.stalled.insert(1);
    let held = cluster.at(1).send(Kind::Reserve, Ask::Reserve(&[item(7, 1, 7, 1)]));
    cluster.pass(60);
    assert!(cluster.at(1).reply(held).is_none());
    assert!(!cluster.at(1).replica.owes_nothing(), "somebody waits");
    cluster.stalled.clear();
    cluster.settle();
    assert_eq!(cluster.at(1).plain(held)[0].status(), Some(Status::Reserved));
    cluster.agree();
}

#[test]
fn a_node_alone_ticks_slowly_until_somebody_joins_it() {
    let mut cluster = Cluster::new(1, u64::MAX);
    cluster.put(1, 10);
    assert_eq!(cluster.at(1).replica.tick_ms(), 100);
    cluster.start(2, 102, Disk::default());
    assert_eq!(cluster.at(2).replica.tick_ms(), TICK_MS, "it waits to hear who it is with");
    cluster.change(1, Change::AddLearner { node: 2, incarnation: 102 }).unwrap();
    assert_eq!(cluster.at(1).replica.tick_ms(), TICK_MS);
    cluster.change(2, Change::Remove { node: 2 }).unwrap();
    assert_eq!(cluster.at(1).replica.tick_ms(), 100);
}

#[test]
fn a_new_node_that_dies_before_it_stores_a_term_has_lost_nothing() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    cluster.start(4, 104, Disk::default());
    cluster.at(4).loads_slowly = true;
    cluster.change(1, Change::AddLearner { node: 4, incarnation: 104 }).unwrap();
    cluster.pass(20);
    assert!(cluster.first_parts > 0, "it has asked for a snapshot");
    // It asks again in a later term, which its disk has not stored yet.
    let other = if leader == 1 { 2 } else { 1 };
    cluster.at(leader).replica.transfer_leadership(other).unwrap();
    cluster.pass(3);
    assert_eq!(cluster.leader(), other);
    cluster.stalled.insert(4);
    cluster.at(other).replica.transfer_leadership(leader).unwrap();
    cluster.pass(3);
    assert_eq!(cluster.leader(), leader);
    let disk = cluster.kill(4);
    assert!(disk.hard_state.term < cluster.at(leader).replica.status().term);
    // Then a part of the snapshot is what it hears first.
    cluster.stalled.clear();
    cluster.start(4, 104, disk);
    cluster.loses = Some((4, MessageType::MsgHeartbeat));
    cluster.pass(15);
    cluster.loses = None;
    cluster.pass(30);
    assert_eq!(cluster.at(4).stop, None);
    cluster.agree();
    assert_eq!(cluster.at(4).replica.members().learners, [4]);
}

#[test]
fn what_a_later_term_has_cut_off_is_answered_at_once_and_keeps_no_leader_shut() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 100);
    let old = cluster.leader();
    cluster.cut.insert(old);
    let send = |id: u64, cluster: &mut Cluster| {
        let sent = cluster.at(old).send(Kind::Reserve, Ask::Reserve(&[item(id.into(), 1, id, 1)]));
        cluster.settle();
        sent
    };
    // One entry each, more than what comes in their place.
    let lost: Vec<u64> = (1..=20).map(|id| send(id, &mut cluster)).collect();
    let new = cluster.leader();
    cluster.cut.clear();
    cluster.pass(3);
    cluster.at(new).replica.transfer_leadership(old).unwrap();
    // Nobody led for long: ledger time has to catch up before the gate opens.
    cluster.now.wall_ms += 600_000;
    assert_eq!(cluster.leader(), old);
    for lost in lost {
        assert_eq!(cluster.at(old).plain(lost)[0].status(), Some(Status::NotLeader));
    }
    assert_eq!(cluster.reserve(old, 21).status(), Some(Status::Reserved));
    assert_eq!(cluster.at(old).free(1), 99);
}

#[test]
fn a_late_report_of_a_part_does_not_undo_that_the_snapshot_is_whole() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(99);
    cluster.at(leader).snapshots_fail = true;
    cluster.loses = Some((slow, MessageType::MsgSnapshot));
    cluster.start(slow, slow + 100, disk);
    cluster.pass(4);
    // Its last part came twice: the second found no file to complete.
    let (_, chunk) = cluster.first_part.clone().unwrap();
    cluster.at(slow).replica.chunk_stored(chunk.image, 0);
    cluster.loses = None;
    cluster.pass(30);
    cluster.agree();
    assert!(cluster.kill(slow).log_base > 0, "it went on from a snapshot");
}

#[test]
fn a_snapshot_that_takes_long_to_load_is_waited_for() {
    let (mut cluster, leader, slow, disk) = Cluster::with_one_behind(99);
    cluster.at(leader).snapshots_fail = true;
    cluster.start(slow, slow + 100, disk);
    cluster.at(slow).loads_slowly = true;
    cluster.pass(200);
    assert_eq!(cluster.first_parts, 1, "nothing was sent again from its start");
    cluster.at(slow).finish_loading();
    cluster.pass(10);
    cluster.agree();
    assert!(cluster.kill(slow).log_base > 0, "it went on from a snapshot");
}

#[test]
fn a_snapshot_that_the_log_has_overtaken_is_not_kept() {
    let mut cluster = Cluster::new(3, 400);
    let leader = cluster.leader();
    let (slow, other) = if leader == 3 { (2, 1) } else { (3, 3 - leader) };
    // Its log reaches back to the beginning.
    cluster.at(other).snapshots_fail = true;
    cluster.put(1, 1_000);
    let disk = cluster.kill(slow);
    for id in 1..100 {
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
    }
    cluster.loses = Some((slow, MessageType::MsgSnapshot));
    cluster.start(slow, slow + 100, disk);
    cluster.pass(4);
    assert_ne!(cluster.at(slow).replica.status().incoming, 0);
    cluster.at(leader).replica.transfer_leadership(other).unwrap();
    cluster.pass(5);
    cluster.agree();
    assert_eq!(cluster.at(slow).replica.status().incoming, 0);
    assert_eq!(cluster.kill(slow).log_base, 0, "it went on by the log");
}

#[test]
fn a_hello_says_what_the_disk_held_at_the_start() {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 10);
    let leader = cluster.leader();
    let victim = if leader == 3 { 2 } else { 3 };
    cluster.kill(victim);
    // Its disk has forgotten everything, its vote too. Whoever leads tells it the term before it has said hello.
    cluster.start(victim, victim + 100, Disk { boots: 1, ..Disk::default() });
    let identity = cluster.at(leader).identity;
    let own = cluster.at(victim).identity;
    let mut heartbeat = Message::default();
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    (heartbeat.from, heartbeat.to) = (leader, victim);
    heartbeat.term = cluster.at(leader).replica.status().term;
    for body in [
        Body::Hello(Hello { term: heartbeat.term, last_index: 1 }),
        Body::Raft(Box::new(heartbeat.clone())),
        Body::WhoAreYou { nonce: own.nonce },
    ] {
        cluster.at(victim).replica.receive(Envelope { from: identity, to: victim, body });
        cluster.at(victim).drive();
    }
    assert_eq!(cluster.at(victim).replica.status().term, heartbeat.term);
    let messages = &cluster.at(victim).messages;
    let hello = messages.iter().find_map(|message| match message.body {
        Body::Hello(hello) => Some(hello),
        _ => None,
    });
    assert_eq!(hello, Some(Hello { term: 0, last_index: 0 }));
}
