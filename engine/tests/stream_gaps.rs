//! A node that was away until it needed a snapshot has not made the events of what it missed: it fetches them from the
//! others, and until then nobody is told that they are gone.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_engine::audit::Promise;

use self::rig::taker::{agrees_with_books, in_files, taken_by_another};
use self::rig::{ClusterRig, Shop, run, seed, snapshots_in};

/// Answers while the node is away, each time before it is looked whether what it needs is still there.
const ANSWERS_AWAY: usize = 5_000;

/// As small as it may be, so that the log is soon cut. Slow enough that a kill meets a gap that is half filled.
const FLAGS: [&str; 4] = ["--snapshot-every-bytes", "1MiB", "--peer-snapshot-rate", "4MiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 2] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// Waits until a node has said that it goes on from another's snapshot, after what it had said before.
async fn uses_a_snapshot(rig: &ClusterRig, node: u64, before: usize) {
    let in_use = || rig.said(node)[before..].contains("a snapshot from a peer is in use").then_some(());
    rig.until("a snapshot to be in use", in_use).await;
}

#[test]
fn what_a_node_missed_is_fetched_and_whoever_reads_there_misses_nothing() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let load = rig.under_load(&PRODUCTS).await;
        rig.wait("answers", load.crowd.answers(1_000)).await;
        let leader = rig.leader().await;
        let away = 1 + leader % 3;
        rig.kill(away);
        // It cannot have more.
        let had = rig.cluster.look(leader).unwrap().commit;
        let data = rig.cluster.node(leader).launch().data.clone();
        // The log goes back to the older of two snapshots.
        while snapshots_in(&data).into_iter().min().unwrap() <= had {
            rig.wait("answers of two nodes", load.crowd.answers(ANSWERS_AWAY)).await;
        }
        let before = rig.said(away).len();
        rig.start_again(away).await;
        uses_a_snapshot(&rig, away, before).await;
        // As soon as it can it leads, whatever it has of the stream by then; and dies in the midst of it.
        rig.transfer(away).await;
        rig.wait("answers", load.crowd.answers(1_000)).await;
        rig.kill(away);
        rig.start_again(away).await;
        rig.transfer(away).await;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        let client = rig.client().await;
        let (books, last) = rig.quiet_books(&client, &account).await;
        assert_eq!(rig.leader().await, away, "another leads");
        let taken = rig.wait("everything, from its beginning", taken_by_another(&client, "late", last)).await;
        agrees_with_books(&taken, last, &books);
        rig.caught_up().await;
        rig.stop_and_compare().await;
        // It led, so all of that came from its own files.
        assert!(rig.said(away).contains("events filled in"), "nothing was missing\n{}", Shop::words(&rig));
        for id in rig.cluster.ids() {
            assert!(
                in_files(&rig.cluster.node(id).launch().data) == taken,
                "node {id} differs\n{}",
                Shop::words(&rig)
            );
        }
    });
}
