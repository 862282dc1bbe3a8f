//! Replicas compare their states: at the same points without a word, once for each peer, late ones too.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use cluster::Cluster;
use common::TestNode;
use sluice_core::ledger::image::FORMAT;
use sluice_core::replica::peer::{Body, Envelope};
use sluice_core::replica::{DIGEST_EVERY_MS, DigestCounts, Divergence, TICK_MS};
use sluice_protocol::Status;

/// Lets ledger time cross so many minutes. Something is bought in each, since nothing is compared where nothing changed.
fn minutes(cluster: &mut Cluster, minutes: std::ops::Range<u128>) {
    for id in minutes {
        let leader = cluster.leader();
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
        cluster.pass((DIGEST_EVERY_MS / TICK_MS) as usize);
    }
}

fn three() -> Cluster {
    let mut cluster = Cluster::new(3, u64::MAX);
    cluster.put(1, 1_000);
    // The first entry of all carries ledger time from 1970: a point too.
    cluster.agree();
    cluster
}

fn counts(node: &TestNode) -> DigestCounts {
    node.replica.status().digests
}

/// What this node found.
fn found(cluster: &mut Cluster, node: u64) -> Vec<Divergence> {
    std::mem::take(&mut cluster.at(node).divergences)
}

#[test]
fn replicas_take_digests_at_the_same_points_and_compare_each_with_all_others() {
    let mut cluster = three();
    let before = counts(cluster.at(1));
    minutes(&mut cluster, 1..4);
    let points = cluster.at(1).digests.clone();
    assert!(points.len() >= 3, "{points:?}");
    for node in 1..=3 {
        assert_eq!(cluster.at(node).digests, points, "same indexes, same numbers");
        let counts = counts(cluster.at(node));
        assert_eq!(counts.taken, points.len() as u64);
        assert_eq!((counts.compared - before.compared, counts.diverged), (6, 0));
    }
}

#[test]
fn a_difference_is_told_once_by_everybody_who_sees_it() {
    let mut cluster = three();
    cluster.at(2).digest_spoils = 1;
    minutes(&mut cluster, 1..2);
    let (index, own) = *cluster.at(1).digests.last().unwrap();
    for node in [1, 3] {
        assert_eq!(found(&mut cluster, node), [Divergence { index, node: 2, own, theirs: own ^ 1 }]);
    }
    let mut others: Vec<u64> = found(&mut cluster, 2).into_iter().map(|found| found.node).collect();
    others.sort_unstable();
    assert_eq!((others, counts(cluster.at(2)).diverged), (vec![1, 3], 2));
    // The same message again is nothing new.
    let body = Body::Digest { index, digest: own ^ 1, format: FORMAT };
    let from = cluster.at(2).identity;
    cluster.at(1).replica.receive(Envelope { from, to: 1, body });
    cluster.settle();
    assert_eq!(found(&mut cluster, 1), []);
    assert!(cluster.nodes.values().all(|node| node.stop.is_none()), "nobody knows who is right");
}

#[test]
fn nothing_is_compared_where_nothing_changed_or_nobody_else_is() {
    let mut cluster = three();
    minutes(&mut cluster, 1..2);
    let before = counts(cluster.at(1));
    // What was bought is held for a minute: that it ends is a change.
    cluster.pass((3 * DIGEST_EVERY_MS / TICK_MS) as usize);
    let after = counts(cluster.at(1)).taken - before.taken;
    assert!(after <= 2, "{after} more");
    let mut alone = Cluster::new(1, u64::MAX);
    alone.put(1, 1_000);
    minutes(&mut alone, 1..3);
    assert_eq!(counts(alone.at(1)), DigestCounts::default());
}

#[test]
fn what_others_told_is_kept_for_whoever_is_late_and_a_point_is_passed_over_while_one_is_under_way() {
    let mut cluster = three();
    cluster.at(3).digests_wait = true;
    cluster.at(3).digest_spoils = 4;
    minutes(&mut cluster, 1..3);
    assert_eq!(cluster.at(1).digests.len(), cluster.at(3).digests.len() + 2);
    // Frozen a minute ago, and written over since.
    cluster.at(3).finish_digest();
    cluster.settle();
    let (index, own) = *cluster.at(3).digests.last().unwrap();
    let told = &cluster.at(1).digests;
    assert_eq!(told[told.len() - 2], (index, own), "the first, and the image is what it was");
    let mut late: Vec<u64> = found(&mut cluster, 3).into_iter().map(|found| found.node).collect();
    late.sort_unstable();
    assert_eq!(late, [1, 2]);
    assert_eq!(found(&mut cluster, 1).len(), 1);
    cluster.at(3).digest_spoils = 0;
    minutes(&mut cluster, 3..4);
    let [first, third] = [1, 3].map(|node| *cluster.at(node).digests.last().unwrap());
    assert_eq!(first, third);
}

#[test]
fn a_number_of_another_format_is_not_compared() {
    let mut cluster = three();
    cluster.at(2).digests_wait = true;
    minutes(&mut cluster, 1..2);
    let (index, own) = *cluster.at(1).digests.last().unwrap();
    let from = cluster.at(2).identity;
    let mut tell = |format: u8| {
        let body = Body::Digest { index, digest: own ^ 1, format };
        cluster.at(1).replica.receive(Envelope { from, to: 1, body });
        cluster.settle();
        found(&mut cluster, 1).len()
    };
    assert_eq!((tell(FORMAT + 1), tell(FORMAT)), (0, 1));
}

#[test]
fn numbers_for_indexes_that_are_far_away_are_not_kept_for_ever() {
    let mut cluster = three();
    let (from, last) = (cluster.at(2).identity, cluster.at(1).last_index());
    for index in last + 1..last + 10_000 {
        let body = Body::Digest { index, digest: 7, format: FORMAT };
        cluster.at(1).replica.receive(Envelope { from, to: 1, body });
    }
    minutes(&mut cluster, 1..2);
    assert_eq!(found(&mut cluster, 1), [], "the one for the next point was pushed out");
}

#[test]
fn a_snapshot_and_a_digest_may_be_frozen_at_once() {
    let mut cluster = Cluster::new(3, 400);
    cluster.put(1, 1_000);
    for node in 1..=3 {
        cluster.at(node).digests_wait = true;
    }
    minutes(&mut cluster, 1..2);
    for id in 100..150 {
        let leader = cluster.leader();
        assert_eq!(cluster.reserve(leader, id).status(), Some(Status::Reserved));
    }
    cluster.agree();
    assert!(cluster.at(1).snapshots > 3);
    for node in 1..=3 {
        cluster.at(node).finish_digest();
    }
    cluster.settle();
    let digests: Vec<_> = (1..=3).map(|node| *cluster.at(node).digests.last().unwrap()).collect();
    assert!(digests[0] == digests[1] && digests[1] == digests[2], "{digests:?}");
}
