//! Three real processes in network namespaces, whose cables fail: what they say meanwhile is true afterwards, and
//! afterwards they agree.
//!
//! The scenes of `cluster_faults`, with the system's own network in the place of a proxy: packets are lost, TCP repeats
//! them, gives up in its own time, and clients can be cut off as nodes can. Deliberately not here: nodes that are far from
//! each other.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::time::Duration;

use sluice_client::{ProductId, Terms};
use sluice_engine::child::cluster::Door;
use sluice_engine::peers::operator::Cluster;

use self::rig::ClusterRig;
use self::rig::apart::{Own, apart};
use self::rig::cables::{Cables, HUB};
use self::rig::scenes::{Scene, Ways, knows_only};

/// Entries that a leader commits whom no client hears, before it is heard again.
const COMMITTED: u64 = 2;

/// What a call has whose answer is lost.
const SHORT: Duration = Duration::from_millis(500);

/// Nobody else wants them.
const PRODUCTS: [ProductId; 2] = [ProductId(78), ProductId(79)];
const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };

impl Ways for Cables {
    fn doors(&self) -> &[Door] {
        &self.doors
    }

    async fn cluster(&self, seed: u64) -> ClusterRig {
        let flags = ["--snapshot-every-bytes", "1MiB", "--insecure-plaintext"];
        ClusterRig::start_by(self.binary.clone(), seed, &flags, self.doors()).await
    }

    fn close(&self, from: u64, to: u64) {
        self.close(from, to);
    }

    /// What waited always arrives: the system repeats it, unless it has given up.
    fn heal(&self, _loses_what_waited: bool) {
        self.heal();
    }
}

async fn begin() -> Scene<Cables> {
    Scene::begin(Cables::lay(3)).await
}

#[test]
#[ignore = "makes network namespaces"]
fn a_leader_alone_with_some_of_the_clients_says_nothing_that_is_old() {
    let test = a_leader_alone_with_some_of_the_clients_says_nothing_that_is_old;
    apart(Own::Network, test, async { begin().await.leader_alone().await });
}

#[test]
#[ignore = "makes network namespaces"]
fn a_leader_that_stands_still_says_nothing_that_is_old_when_it_goes_on() {
    let test = a_leader_that_stands_still_says_nothing_that_is_old_when_it_goes_on;
    apart(Own::Network, test, async { begin().await.leader_stands_still().await });
}

#[test]
#[ignore = "makes network namespaces"]
fn a_leader_that_stood_still_and_wakes_alone_says_nothing_that_is_old() {
    let test = a_leader_that_stood_still_and_wakes_alone_says_nothing_that_is_old;
    apart(Own::Network, test, async { begin().await.leader_wakes_alone().await });
}

#[test]
#[ignore = "makes network namespaces"]
fn a_leader_that_is_not_heard_or_does_not_hear_is_followed_by_another() {
    let test = a_leader_that_is_not_heard_or_does_not_hear_is_followed_by_another;
    apart(Own::Network, test, async { begin().await.leaders_mute_and_deaf().await });
}

#[test]
#[ignore = "makes network namespaces"]
fn roads_that_open_and_close_at_random_are_survived() {
    let test = roads_that_open_and_close_at_random_are_survived;
    apart(Own::Network, test, async {
        let scene = begin().await;
        scene.flaps().await;
        scene.end().await;
    });
}

#[test]
#[ignore = "makes network namespaces"]
fn a_leader_whose_cable_is_pulled_out_says_nothing_that_is_old_when_it_is_back() {
    let test = a_leader_whose_cable_is_pulled_out_says_nothing_that_is_old_when_it_is_back;
    apart(Own::Network, test, async {
        let scene = begin().await;
        let unplug = |scene: &Scene<Cables>, leader| scene.ways.unplug(leader);
        scene.leader_is_asked(unplug, |scene, _| scene.ways.heal()).await;
        scene.end().await;
    });
}

#[test]
#[ignore = "makes network namespaces"]
fn what_a_leader_does_whose_answers_are_lost_is_done() {
    let test = what_a_leader_does_whose_answers_are_lost_is_done;
    apart(Own::Network, test, async {
        let scene = begin().await;
        let leader = scene.rig.leader().await;
        let follower = 1 + leader % 3;
        let client = knows_only(&scene.rig, leader).await;
        assert!(client.put_product(PRODUCTS[0], 1, TERMS).await.unwrap().is_done());
        scene.ways.close(leader, HUB);
        let told = client.with_deadline(SHORT).put_product(PRODUCTS[1], 1, TERMS).await;
        assert!(told.is_err(), "{told:?} got through");
        let before = scene.rig.seen_by(follower, "a follower", |_| true).await.commit;
        let goes_on = |seen: &Cluster| seen.commit >= before + COMMITTED;
        scene.rig.seen_by(follower, "the leader to go on", goes_on).await;
        assert_eq!(scene.rig.seen_by(follower, "a follower", |_| true).await.leader, leader);
        scene.heals().await;
        assert!(client.product(PRODUCTS[1]).await.unwrap().is_some(), "{}", scene.rig.words());
        scene.end().await;
    });
}
