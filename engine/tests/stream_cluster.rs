//! Events of three real servers, taken by the client's consumer while leaders are killed: whoever consumes has each
//! committed change once, in its order, and every node's own files say the same.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_engine::audit::Promise;

use self::rig::taker::{Taker, agrees_with_books, in_files};
use self::rig::{ClusterRig, run, seed, snapshots_in};

/// Leaders that are killed.
const CYCLES: u64 = 12;

/// Answers before a kill, at most.
const ANSWERS_MAX: u64 = 6_000;

/// As small as it may be, so that kills meet snapshots.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

#[test]
fn a_consumer_has_each_committed_change_whichever_node_leads() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let taker = Taker::start(rig.client().await.consume("orders")).await;
        let load = rig.under_load(&PRODUCTS).await;
        for _ in 0..CYCLES {
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            let leader = rig.leader().await;
            rig.kill(leader);
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers of two nodes", answers).await;
            rig.start_again(leader).await;
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit(&account).await;

        let client = rig.client().await;
        let (books, last) = rig.quiet_books(&client, &account).await;
        rig.wait("the consumer to have everything", taker.has_upto(last)).await;
        assert_eq!(taker.gaps(), []);
        let repeated = taker.repeated();
        let taken = taker.stop().await;
        let group = client.group("orders").await.unwrap().unwrap();
        assert_eq!((group.cursor, group.members), (last, 0), "what was taken is not acknowledged");
        agrees_with_books(&taken, last, &books);
        rig.caught_up().await;
        let mut whole = 0;
        rig.stop_and_compare().await;
        for id in rig.cluster.ids() {
            let files = in_files(&rig.cluster.node(id).launch().data);
            // Who was away until it needed a snapshot never had what was before.
            assert!(files.iter().all(|(sequence, event)| taken[sequence] == *event), "node {id} differs");
            assert_eq!(files.last_key_value().map(|(last, _)| *last), Some(last), "node {id}");
            whole += u64::from(files.len() == taken.len());
        }
        assert!(whole > 0, "no node has all events");
        eprintln!("{last} events, {repeated} delivered again, {CYCLES} kills; {whole} nodes have all");
    });
}

#[test]
fn a_leader_that_never_had_some_events_skips_none_of_them() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let load = rig.under_load(&PRODUCTS).await;
        let away = rig.cluster.ids().find(|id| *id != 1).unwrap();
        rig.kill(away);
        let had = rig.seen_by(1, "a commit index", |_| true).await.commit;
        let data = rig.cluster.node(1).launch().data.clone();
        // The log goes back to the older of two snapshots.
        while snapshots_in(&data).into_iter().min().unwrap() <= had {
            let answers = load.crowd.answers(ANSWERS_MAX as usize);
            rig.wait("answers of two nodes", answers).await;
        }
        let before = rig.said(away).len();
        rig.start_again(away).await;
        let missing = || rig.said(away)[before..].contains("events are missing on this node").then_some(());
        rig.until("a node that misses events", missing).await;
        rig.caught_up().await;
        rig.transfer(away).await;

        let taker = Taker::start(rig.client().await.consume("orders")).await;
        let answers = load.crowd.answers(ANSWERS_MAX as usize);
        rig.wait("answers of a leader that misses events", answers).await;
        // It may have had the events from others meanwhile, or say that it is busy: but not that nobody has them.
        assert_eq!((taker.gaps(), taker.is_dense()), (Vec::new(), true), "{}", rig.words());
        rig.transfer(1).await;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        let client = rig.client().await;
        let (books, last) = rig.quiet_books(&client, &account).await;
        rig.wait("the consumer to have everything", taker.has_upto(last)).await;
        assert_eq!(taker.gaps(), Vec::new());
        agrees_with_books(&taker.stop().await, last, &books);
        eprintln!("{last} events");
    });
}
