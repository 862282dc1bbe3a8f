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

use self::rig::roads::Roads;
use self::rig::scenes::{ANSWERS, PRODUCTS, Scene, Ways};
use self::rig::{Callers, ClusterRig, PATIENCE, run, seed};

/// No snapshots but those of a stop: the judges need the whole log. `cluster_kill` has them in the midst of it.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1GiB"];

/// How long everything takes between nodes that are far from each other.
const FAR: Duration = Duration::from_millis(15);

/// Kilobytes of a file, at most, on a disk that is full: the first segment of a log is there, a second has no room.
const DISK_KB: u64 = 6 * 1024;

/// How a process ends that cannot write its log.
const GAVE_UP: i32 = 70;

async fn begin() -> Scene<Roads> {
    Scene::begin(Roads::open(3)).await
}

#[test]
fn a_leader_alone_with_some_of_the_clients_says_nothing_that_is_old() {
    run(async { begin().await.leader_alone().await });
}

#[test]
fn a_leader_that_stands_still_says_nothing_that_is_old_when_it_goes_on() {
    run(async { begin().await.leader_stands_still().await });
}

#[test]
fn a_leader_that_stood_still_and_wakes_alone_says_nothing_that_is_old() {
    run(async { begin().await.leader_wakes_alone().await });
}

#[test]
fn a_leader_that_is_not_heard_or_does_not_hear_is_followed_by_another() {
    run(async { begin().await.leaders_mute_and_deaf().await });
}

#[test]
fn roads_that_open_and_close_at_random_are_survived() {
    run(async {
        let scene = begin().await;
        scene.flaps().await;
        scene.ways.heal(true);
        scene.ways.delay(FAR);
        scene.answers("answers from far away").await;
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
