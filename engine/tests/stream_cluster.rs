//! Events of three real servers, taken by the client's consumer while leaders are killed: whoever consumes has each
//! committed change once, in its order, and every node's own files say the same.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_engine::audit::Promise;

use self::rig::taker::{Taker, agrees_with_books, in_files};
use self::rig::{ClusterRig, run, seed};

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
