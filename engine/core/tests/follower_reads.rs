//! Reads on nodes that do not lead: as fresh as the leader's, one ask for many, lost ones repeated, late ones ignored.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use cluster::Cluster;
use common::{Disk, item};
use sluice_core::flight::Answers;
use sluice_core::replica::membership::Change;
use sluice_core::replica::peer::{Body, Envelope};
use sluice_core::session::Ask;
use sluice_protocol::request::{IdItem, ListItem, ProductItem};
use sluice_protocol::response::ProductView;
use sluice_protocol::{Kind, ProductId, ReservationId, State, Status};

/// Three nodes and a product of a hundred units. Who leads, and another.
fn three() -> (Cluster, u64, u64) {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 100);
    let leader = cluster.leader();
    cluster.agree();
    cluster.rounds_said.clear();
    (cluster, leader, if leader == 3 { 2 } else { 3 })
}

/// Sends a read of the product, without waiting.
fn send(cluster: &mut Cluster, node: u64) -> u64 {
    cluster.at(node).send(Kind::QueryProduct, Ask::Products(&[ProductItem::new(ProductId(1))]))
}

/// The free units that were read, or why none were; `None` if there is no answer yet.
fn heard(cluster: &mut Cluster, node: u64, read: u64) -> Option<Result<u64, Status>> {
    match cluster.at(node).reply(read)? {
        Answers::Products(replies) => {
            let status = replies[0].answer.status().unwrap();
            Some(if status == Status::Done {
                Ok(ProductView::from(replies[0].record).free)
            } else {
                Err(status)
            })
        }
        other => panic!("expected a product, not {other:?}"),
    }
}

fn free(cluster: &mut Cluster, node: u64) -> Option<Result<u64, Status>> {
    let read = send(cluster, node);
    cluster.settle();
    heard(cluster, node, read)
}

/// Asks for rounds that were said.
fn asks(cluster: &Cluster) -> usize {
    cluster.rounds_said.iter().filter(|said| matches!(said.body, Body::RoundAsk { .. })).count()
}

#[test]
fn every_member_answers_what_was_committed_before_it_was_asked() {
    let (mut cluster, leader, follower) = three();
    cluster.start(4, 104, Disk::default());
    cluster.change(1, Change::AddLearner { node: 4, incarnation: 104 }).unwrap();
    cluster.pass(20);
    for id in 1..=20 {
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
        for node in [follower, 4, leader] {
            assert_eq!(free(&mut cluster, node), Some(Ok(100 - id as u64)), "node {node}");
        }
    }
    // Of the other kinds too.
    let read = [IdItem::new(ReservationId(20))];
    let sent = cluster.at(follower).send(Kind::QueryReservation, Ask::Reservations(&read));
    cluster.settle();
    match cluster.at(follower).reply(sent) {
        Some(Answers::Reservations(replies)) => assert_eq!(replies[0].answer.state(), State::Held),
        other => panic!("{other:?}"),
    }
    let page = ListItem::new(ProductId(0), 10);
    let sent = cluster.at(follower).send(Kind::ListProducts, Ask::Page(&page));
    cluster.settle();
    match cluster.at(follower).reply(sent) {
        Some(Answers::Products(replies)) => assert_eq!(replies.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.at(4).replica.status().asks.answered, 20);
    assert_eq!(cluster.reserve(follower, 99).status(), Some(Status::NotLeader));
}

#[test]
fn reads_that_wait_together_share_one_ask_and_later_ones_share_the_next() {
    let (mut cluster, _, follower) = three();
    let first: Vec<u64> = (0..10).map(|_| send(&mut cluster, follower)).collect();
    cluster.at(follower).drive();
    // The first ask has left.
    let later: Vec<u64> = (0..10).map(|_| send(&mut cluster, follower)).collect();
    cluster.settle();
    assert_eq!(asks(&cluster), 2);
    for read in first.into_iter().chain(later) {
        assert_eq!(heard(&mut cluster, follower, read), Some(Ok(100)));
    }
    assert!(cluster.at(follower).replica.is_quiet());
}

#[test]
fn a_read_waits_until_the_index_of_its_round_is_applied() {
    let (mut cluster, leader, follower) = three();
    cluster.stalled.insert(follower);
    assert_eq!(cluster.reserve(leader, 1).status(), Some(Status::Reserved));
    let read = send(&mut cluster, follower);
    cluster.settle();
    assert_eq!(asks(&cluster), 1);
    assert!(
        matches!(cluster.rounds_said.last().unwrap().body, Body::RoundDone { .. }),
        "the leader has answered"
    );
    assert_eq!((heard(&mut cluster, follower, read), cluster.at(follower).free(1)), (None, 100));
    cluster.stalled.clear();
    cluster.settle();
    assert_eq!(heard(&mut cluster, follower, read), Some(Ok(99)));
}

#[test]
fn an_ask_that_is_lost_is_repeated_under_another_name_and_the_late_answer_to_the_first_is_ignored() {
    let (mut cluster, leader, follower) = three();
    cluster.loses_rounds = true;
    let read = send(&mut cluster, follower);
    cluster.settle();
    assert_eq!(heard(&mut cluster, follower, read), None);
    let done = cluster.rounds_said.iter().find(|said| matches!(said.body, Body::RoundAsk { .. })).cloned();
    let Body::RoundAsk { name: first } = done.unwrap().body else { unreachable!() };
    // The tenth tick gives it up.
    cluster.pass(10);
    let Body::RoundAsk { name } = cluster.rounds_said.last().unwrap().body else { panic!("asked again") };
    assert!(name > first);
    let (from, own) = (cluster.at(leader).identity, cluster.at(follower).identity);
    let tell = |cluster: &mut Cluster, nonce: u64, name: u64| {
        let body = Body::RoundDone { nonce, name, index: 1 };
        cluster.at(follower).replica.receive(Envelope { from, to: follower, body });
        cluster.at(follower).drive();
        heard(cluster, follower, read)
    };
    assert_eq!(tell(&mut cluster, own.nonce, first), None, "not the one that is waited for");
    assert_eq!(tell(&mut cluster, own.nonce + 1, name), None, "said to an earlier process");
    assert_eq!(tell(&mut cluster, own.nonce, name), Some(Ok(100)));
    assert_eq!(cluster.at(follower).replica.status().asks.repeated, 1);
}

#[test]
fn a_node_that_is_cut_off_answers_nothing_and_gives_up() {
    let (mut cluster, _, follower) = three();
    cluster.cut.insert(follower);
    let read = send(&mut cluster, follower);
    cluster.pass(20);
    // It knows of no leader any more.
    assert_eq!(heard(&mut cluster, follower, read), None);
    assert_eq!(free(&mut cluster, follower), Some(Err(Status::NotLeader)));
    cluster.pass(60);
    assert_eq!(heard(&mut cluster, follower, read), Some(Err(Status::NotLeader)));
    assert!(cluster.at(follower).replica.is_quiet());
    cluster.cut.clear();
    cluster.leader();
    cluster.pass(5);
    assert_eq!(free(&mut cluster, follower), Some(Ok(100)));
}

#[test]
fn a_leader_that_does_not_answer_makes_a_read_busy() {
    let (mut cluster, _, follower) = three();
    cluster.loses_rounds = true;
    let read = send(&mut cluster, follower);
    cluster.pass(80);
    assert_eq!(heard(&mut cluster, follower, read), Some(Err(Status::Busy)));
    assert!(cluster.at(follower).replica.is_quiet());
}

#[test]
fn the_next_leader_is_asked_when_the_leadership_changes() {
    let (mut cluster, old, follower) = three();
    let new = (1..=3).find(|node| *node != old && *node != follower).unwrap();
    cluster.loses_rounds = true;
    let read = send(&mut cluster, follower);
    cluster.settle();
    cluster.at(old).replica.transfer_leadership(new).unwrap();
    cluster.pass(2);
    assert_eq!(cluster.leader(), new);
    assert_eq!(cluster.reserve(new, 1).status(), Some(Status::Reserved));
    assert_eq!(cluster.at(follower).replica.status().asks.redirected, 1);
    cluster.loses_rounds = false;
    cluster.pass(12);
    assert_eq!(heard(&mut cluster, follower, read), Some(Ok(99)));
}

#[test]
fn reads_of_a_leader_that_is_deposed_are_answered_with_the_next_ones_rounds_and_those_of_the_next_by_itself()
{
    let (mut cluster, old, new) = three();
    cluster.cut.insert(old);
    let (of_old, of_new) = (send(&mut cluster, old), send(&mut cluster, new));
    cluster.at(new).drive();
    let refused = cluster.at(old).send(Kind::Reserve, Ask::Reserve(&[item(9, 1, 9, 200)]));
    cluster.settle();
    let leader = cluster.leader();
    assert_eq!(cluster.reserve(leader, 8).status(), Some(Status::Reserved));
    assert_eq!(heard(&mut cluster, old, of_old), None);
    assert_eq!(heard(&mut cluster, new, of_new), Some(Ok(100)), "whichever leads now, it was asked first");
    cluster.cut.clear();
    cluster.pass(12);
    assert_eq!(heard(&mut cluster, old, of_old), Some(Ok(99)));
    assert_eq!(cluster.at(old).plain(refused)[0].status(), Some(Status::NotLeader));
}

#[test]
fn a_round_that_was_under_way_when_the_ask_arrived_does_not_serve_it() {
    let (mut cluster, leader, follower) = three();
    // A round of the leader's own is under way: nobody has heard of it yet.
    let own = send(&mut cluster, leader);
    cluster.at(leader).drive();
    let started = cluster.at(leader).rounds.last().unwrap().last_started;
    let held = std::mem::take(&mut cluster.at(leader).messages);
    let read = send(&mut cluster, follower);
    cluster.at(follower).drive();
    let ask = std::mem::take(&mut cluster.at(follower).messages);
    ask.into_iter().for_each(|ask| cluster.at(leader).replica.receive(ask));
    cluster.at(leader).drive();
    assert_eq!(cluster.at(leader).rounds.last().unwrap().last_started, started + 1, "another one begins");
    cluster.at(leader).messages.splice(0..0, held);
    cluster.settle();
    assert_eq!(heard(&mut cluster, leader, own), Some(Ok(100)));
    assert_eq!(heard(&mut cluster, follower, read), Some(Ok(100)));
    assert_eq!(cluster.at(leader).replica.status().asks.served, 1);
}

#[test]
fn a_suspect_that_reaches_a_node_which_leads_no_more_is_sent_away() {
    let (mut cluster, leader, follower) = three();
    assert_eq!(cluster.reserve(leader, 7).status(), Some(Status::Reserved));
    // The id is known, so the ledger is to tell. The net thread has sent it, and the replica has not taken it.
    let again = [item(7, 1, 7, 1)];
    let sent = cluster.at(leader).send(Kind::Reserve, Ask::Reserve(&again));
    let away: Vec<_> = cluster.at(leader).desk.departures().collect();
    assert_eq!(away.len(), 1);
    cluster.at(leader).replica.transfer_leadership(follower).unwrap();
    cluster.pass(20);
    assert_eq!(cluster.leader(), follower);
    away.into_iter().for_each(|flight| cluster.at(leader).replica.submit(flight));
    cluster.settle();
    let heard = cluster.at(leader).plain(sent);
    assert_eq!(heard[0].status(), Some(Status::NotLeader));
}
