//! Events of a real server, taken by the client's consumer while the server is killed and started again: whoever consumes
//! has each committed change once, in its order, and the same as anybody else who looks.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_engine::audit::Promise;

use self::rig::taker::{Taker, agrees_with_books, in_files, last_sequence, taken_by_another};
use self::rig::{Rig, run, seed, snapshots_in};

/// Times the server is killed.
const CYCLES: u64 = 20;

/// Answers before a kill, at most.
const ANSWERS_MAX: u64 = 20_000;

/// As small as it may be, so that kills meet snapshots, and what is read again is older than the log.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 200, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 30, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

#[test]
fn a_consumer_has_each_committed_change_whatever_happens_to_the_server() {
    run(async {
        let mut rig = Rig::start(seed(), &FLAGS).await;
        let taker = Taker::start(rig.client().await.consume("orders")).await;
        let load = rig.under_load(&PRODUCTS).await;
        for _ in 0..CYCLES {
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            rig.kill();
            rig.start_again();
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit(&account).await;
        let snapshots = snapshots_in(&rig.launch.data);
        assert!(
            snapshots.iter().any(|index| *index > 0),
            "kills met no snapshot: {snapshots:?} {}",
            rig.words()
        );

        let client = rig.client().await;
        // Holds that expire meanwhile are events too: the books are read when there are no more of them.
        let (books, last) = rig.quiet_books(&client, &account).await;
        rig.wait("the consumer to have everything", taker.has_upto(last)).await;
        assert_eq!(taker.gaps(), []);
        let repeated = taker.repeated();
        let taken = taker.stop().await;
        let group = client.group("orders").await.unwrap().unwrap();
        assert_eq!((group.cursor, group.members), (last, 0), "what was taken is not acknowledged");
        agrees_with_books(&taken, last, &books);
        let other = rig.wait("another consumer", taken_by_another(&client, "others", last)).await;
        assert!(taken == other, "two consumers differ");
        assert_eq!(last_sequence(&client).await, last);
        rig.server.take().unwrap().terminate(rig::PATIENCE).unwrap();
        assert!(taken == in_files(&rig.launch.data), "the files differ");
        eprintln!("{last} events, {repeated} of them delivered again, {CYCLES} kills");
    });
}
