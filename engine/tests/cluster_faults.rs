//! Three real processes that cannot hear each other, stand still, or cannot write: what they say meanwhile is true
//! afterwards, and afterwards they agree.
//!
//! The simulator does all of this to the core, thoroughly; here it is done to threads, sockets and files. After each
//! scene every answer is audited on every node, and the simulator's judges are told all that was said and written.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sluice_client::{Client, ProductId, ReserveOutcome, Terms, UserId};
use sluice_engine::audit::Promise;
use tokio::task::spawn_local;

use self::rig::roads::Roads;
use self::rig::{Callers, ClusterRig, Load, PATIENCE, run, seed};

/// Answers before, in and after each scene.
const ANSWERS: usize = 500;

/// No snapshots but those of a stop: the judges need the whole log. `cluster_kill` has them in the midst of it.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1GiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// Changes of the roads while they flap, and how long each lasts at most, milliseconds.
const FLAPS: u64 = 25;
const FLAP_MS_MAX: u64 = 250;

/// How long everything takes between nodes that are far from each other.
const FAR: Duration = Duration::from_millis(15);

/// Kilobytes of a file, at most, on a disk that is full: the first segment of a log is there, a second has no room.
const DISK_KB: u64 = 6 * 1024;

/// What a call has of somebody who knows one node only.
const LONELY: Duration = Duration::from_secs(3);

/// How a process ends that cannot write its log.
const GAVE_UP: i32 = 70;

/// A cluster whose nodes reach each other by roads, with a crowd.
struct Scene {
    rig: ClusterRig,
    roads: Roads,
    load: Load,
}

impl Scene {
    async fn begin() -> Self {
        let roads = Roads::open(3);
        let rig = ClusterRig::judged(seed(), &FLAGS, &roads.doors).await;
        let load = rig.under_load(&PRODUCTS).await;
        rig.wait("answers", load.crowd.answers(ANSWERS)).await;
        Self { rig, roads, load }
    }

    /// Waits until another node leads, and sells.
    async fn succeeded(&self, leader: u64) {
        let other = async {
            while self.rig.cluster.leader_now().await.is_none_or(|now| now == leader) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.rig.wait("another leader", other).await;
        self.rig.wait("answers of another leader", self.load.crowd.answers(ANSWERS)).await;
    }

    /// The roads are open again, everybody is answered, all of it is true, everywhere.
    async fn end(self) {
        let Self { mut rig, roads, load } = self;
        roads.heal(rig.dice.below(2) == 0);
        rig.wait("answers", load.crowd.answers(ANSWERS)).await;
        let account = match rig.dice.below(2) {
            0 => rig.wait("everybody to be answered", load.finish()).await,
            _ => rig.cut_off(load).await,
        };
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    }
}

/// Somebody who knows one node only, and a product of which all is taken until it is told otherwise.
struct Lonely {
    client: Client,
    product: ProductId,
}

impl Lonely {
    const PRODUCT: ProductId = ProductId(77);

    /// Connected to `node`. All of the product is held.
    async fn at(rig: &ClusterRig, node: u64) -> (Self, sluice_client::ReservationId) {
        let all = rig.client().await;
        let terms =
            Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };
        assert!(all.put_product(Self::PRODUCT, 1, terms).await.unwrap().is_done());
        let Ok(ReserveOutcome::Reserved { id, .. }) = all.reserve(Self::PRODUCT, UserId(1), 1).await else {
            panic!("it was free\n{}", rig.words());
        };
        let builder = Client::builder().deadline(LONELY).resolve_budget(LONELY).connections(1);
        let client = builder.connect(&rig.url_of(node)).await.unwrap();
        let told = client.reserve(Self::PRODUCT, UserId(2), 1).await;
        assert!(matches!(told, Ok(ReserveOutcome::Insufficient { .. })), "{told:?}");
        (Self { client, product: Self::PRODUCT }, id)
    }

    /// Asks for a unit that has been free since before this was asked: a no would be old.
    async fn asks(self) {
        let told = self.client.reserve(self.product, UserId(3), 1).await;
        // That it leads no longer, or that it does not know, is the truth.
        assert!(matches!(told, Ok(ReserveOutcome::Reserved { .. }) | Err(_)), "{told:?}");
    }
}

#[test]
fn a_leader_alone_with_some_of_the_clients_says_nothing_that_is_old() {
    run(async {
        let scene = Scene::begin().await;
        let leader = scene.rig.leader().await;
        let (lonely, held) = Lonely::at(&scene.rig, leader).await;
        scene.roads.isolate(leader);
        // Half of the crowd's connections lead to it.
        let other = scene.rig.client().await;
        scene.succeeded(leader).await;
        other.cancel(held, 1).await.unwrap();
        let asking = spawn_local(lonely.asks());
        scene.rig.wait("answers", scene.load.crowd.answers(ANSWERS)).await;
        scene.roads.heal(false);
        scene.rig.wait("an answer that is not old", asking).await.unwrap();
        scene.end().await;
    });
}

#[test]
fn a_leader_that_stands_still_says_nothing_that_is_old_when_it_goes_on() {
    run(async {
        let scene = Scene::begin().await;
        let leader = scene.rig.leader().await;
        let (lonely, held) = Lonely::at(&scene.rig, leader).await;
        let still = scene.rig.cluster.node(leader).process().unwrap();
        still.pause().unwrap();
        scene.succeeded(leader).await;
        scene.rig.client().await.cancel(held, 1).await.unwrap();
        // It waits in the leader's socket.
        let asking = spawn_local(lonely.asks());
        scene.rig.wait("answers", scene.load.crowd.answers(ANSWERS)).await;
        still.resume().unwrap();
        scene.rig.wait("an answer that is not old", asking).await.unwrap();
        scene.end().await;
    });
}

#[test]
fn a_leader_that_is_not_heard_or_does_not_hear_is_followed_by_another() {
    run(async {
        let scene = Scene::begin().await;
        for _ in 0..2 {
            let leader = scene.rig.leader().await;
            scene.roads.mute(leader);
            scene.succeeded(leader).await;
            scene.roads.heal(scene.rig.dice.below(2) == 0);
            scene.rig.wait("answers", scene.load.crowd.answers(ANSWERS)).await;
            let leader = scene.rig.leader().await;
            scene.roads.deafen(leader);
            scene.succeeded(leader).await;
            scene.roads.heal(scene.rig.dice.below(2) == 0);
            scene.rig.wait("answers", scene.load.crowd.answers(ANSWERS)).await;
        }
        scene.end().await;
    });
}

#[test]
fn roads_that_open_and_close_at_random_are_survived() {
    run(async {
        let scene = Scene::begin().await;
        for _ in 0..FLAPS {
            let dice = &scene.rig.dice;
            for _ in 0..dice.below(4) {
                let from = 1 + dice.below(3);
                scene.roads.close(from, 1 + (from + dice.below(2)) % 3);
            }
            // Nothing is waited for: however it stands by then, the roads change.
            tokio::time::sleep(Duration::from_millis(dice.below(FLAP_MS_MAX))).await;
            if dice.below(2) == 0 {
                scene.roads.heal(dice.below(2) == 0);
            }
        }
        scene.roads.heal(true);
        scene.roads.delay(FAR);
        scene.rig.wait("answers from far away", scene.load.crowd.answers(ANSWERS)).await;
        scene.end().await;
    });
}

#[test]
fn a_follower_that_stands_still_costs_no_call() {
    run(async {
        let mut rig = ClusterRig::judged(seed(), &FLAGS, &[]).await;
        let callers = Callers::start(&rig).await;
        rig.wait("answers", callers.answers(ANSWERS)).await;
        for _ in 0..2 {
            let follower = 1 + rig.leader().await % 3;
            let still = rig.cluster.node(follower).process().unwrap();
            still.pause().unwrap();
            rig.wait("answers of two", callers.answers(4 * ANSWERS)).await;
            still.resume().unwrap();
            rig.caught_up().await;
        }
        let account = callers.finish(&rig).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    });
}

#[test]
fn a_node_whose_disk_is_full_ends_and_comes_back_when_there_is_room() {
    run(async {
        let mut rig = ClusterRig::judged(seed(), &FLAGS, &[]).await;
        let load = rig.under_load(&PRODUCTS).await;
        let node = 1 + rig.leader().await % 3;
        let binary = rig.launch.binary.clone();
        let limited = rig.dir.path().join("limited");
        // A write beyond the limit fails as on a full disk.
        let script = "#!/bin/bash\ntrap '' XFSZ\nulimit -f";
        fs::write(&limited, format!("{script} {DISK_KB}\nexec {} \"$@\"\n", binary.display())).unwrap();
        fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).unwrap();
        rig.stop(node).await;
        rig.cluster.node_mut(node).launch_mut().binary = limited;
        rig.start_again(node).await;
        // The more so while it leads.
        rig.transfer(node).await;
        let mut process = rig.cluster.node_mut(node).take_process().unwrap();
        while process.try_wait().unwrap().is_none() {
            rig.wait("answers", load.crowd.answers(ANSWERS)).await;
        }
        assert_eq!(process.ended(PATIENCE).await.unwrap().code(), Some(GAVE_UP), "{}", rig.words());
        rig.look_at(node);
        rig.wait("answers of the others", load.crowd.answers(ANSWERS)).await;
        rig.cluster.node_mut(node).launch_mut().binary = binary;
        rig.start_again(node).await;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    });
}

/// In builds whose disks can be made to fail.
#[cfg(feature = "failpoints")]
#[test]
fn a_node_whose_log_meets_an_error_ends_and_comes_back() {
    run(async {
        let mut rig = ClusterRig::judged(seed(), &FLAGS, &[]).await;
        for point in ["log.write", "log.sync"] {
            let load = rig.under_load(&PRODUCTS).await;
            rig.wait("answers", load.crowd.answers(ANSWERS)).await;
            let node = rig.leader().await;
            rig.stop(node).await;
            let plan = format!("{point}=error@{}", 1 + rig.dice.below(200));
            let variables = vec![(sluice_engine::failpoint::VARIABLE.to_owned(), plan)];
            rig.cluster.node_mut(node).launch_mut().variables = variables;
            rig.start_only(node);
            let process = rig.cluster.node_mut(node).take_process().unwrap();
            let status = rig.wait("the error to be met", process.ended(PATIENCE)).await.unwrap();
            assert_eq!(status.code(), Some(GAVE_UP), "{}", rig.words());
            rig.look_at(node);
            rig.cluster.node_mut(node).launch_mut().variables.clear();
            rig.start_again(node).await;
            let account = rig.wait("everybody to be answered", load.finish()).await;
            rig.audit_everywhere(&[account]).await;
        }
        rig.stop_and_compare().await;
    });
}
