//! Three real processes of which one after the other is stopped and started again, or hands over the leadership, as
//! operators do it: no caller is to notice.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use self::rig::{Callers, ClusterRig, run, seed};

/// Answers before and after each step.
const ANSWERS: usize = 300;

/// How often each node is stopped.
const ROUNDS: u64 = 2;

/// Leaderships handed over.
const TRANSFERS: u64 = 12;

const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

#[test]
fn a_rolling_restart_fails_no_call() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let callers = Callers::start(&rig).await;
        for _ in 0..ROUNDS {
            for id in rig.cluster.ids() {
                rig.wait("answers", callers.answers(ANSWERS)).await;
                let status = rig.cluster.stop(id).await.unwrap().unwrap();
                assert_eq!(status.code(), Some(0), "node {id}\n{}", rig.words());
                rig.wait("answers of two nodes", callers.answers(ANSWERS)).await;
                rig.start_again(id).await;
                rig.caught_up().await;
            }
        }
        let account = callers.finish(&rig).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    });
}

#[test]
fn a_leadership_that_is_handed_over_fails_no_call() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let callers = Callers::start(&rig).await;
        for turn in 0..TRANSFERS {
            let leader = rig.leader().await;
            let to = 1 + (leader + rig.dice.below(2)) % 3;
            rig.transfer(to).await;
            rig.wait("answers", callers.answers(ANSWERS)).await;
            if turn % 4 == 0 {
                rig.transfer(leader).await;
            }
        }
        let account = callers.finish(&rig).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    });
}
