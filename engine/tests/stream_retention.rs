//! What a group loses that is farther behind than its terms keep events for it, and that it hears exactly what; and that
//! nobody else loses anything.
//!
//! In builds with fail points alone: there so little may be kept that a test can have more. Another seed each time;
//! SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_client::{Client, GroupTerms};
use sluice_engine::audit::Promise;

use self::rig::taker::{Taker, agrees_with_books};
use self::rig::{PATIENCE, Rig, run, seed};

/// Bytes of events that are kept, if nobody needs more: some eight hundred events.
const FLAGS: [&str; 2] = ["--stream-retain-bytes", "64KiB"];

/// Events that are kept for the group that lags.
const BACKLOG: u64 = 500;

/// Answers before anybody takes anything.
const ANSWERS: usize = 20_000;

const PRODUCTS: [Promise; 2] = [
    Promise { stock: 1_000, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

async fn first_kept(client: &Client) -> u64 {
    client.stream_bounds().await.unwrap().first
}

#[test]
fn a_group_hears_exactly_what_it_has_lost_and_others_lose_nothing() {
    run(async {
        let mut rig = Rig::start(seed(), &FLAGS).await;
        let client = rig.client().await;
        let lagging = GroupTerms { backlog_max: BACKLOG, ..GroupTerms::default() };
        let consume = |name: &str, terms| client.consume(name).terms(terms);
        consume("lagging", lagging).open().await.unwrap().close().await.unwrap();
        consume("durable", GroupTerms::default()).open().await.unwrap().close().await.unwrap();

        let load = rig.under_load(&PRODUCTS).await;
        rig.wait("answers", load.crowd.answers(ANSWERS)).await;
        // One of them may be so far behind; the other has not taken anything, so that everything is kept.
        assert_eq!(first_kept(&client).await, 1);
        let durable = Taker::start(consume("durable", GroupTerms::default())).await;
        let dropped = async {
            while first_kept(&client).await == 1 {
                rig.wait("answers", load.crowd.answers(1)).await;
            }
        };
        rig.wait("events to be dropped", dropped).await;
        rig.kill();
        rig.start_again();
        rig.wait("answers", load.crowd.answers(ANSWERS / 10)).await;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        let (books, last) = rig.quiet_books(&client, &account).await;
        rig.wait("the durable group to have everything", durable.has_upto(last)).await;
        assert_eq!(durable.gaps(), []);
        let all = durable.stop().await;
        agrees_with_books(&all, last, &books);

        let first = first_kept(&client).await;
        assert!(1 < first && first <= last - BACKLOG + 1, "{first} of {last}");
        let late = Taker::start(consume("lagging", lagging)).await;
        rig.wait("the lagging group to have what is kept", late.has_upto(last)).await;
        assert_eq!(late.gaps(), [(1, first - 1)]);
        let rest = late.stop().await;
        assert!(rest.iter().eq(all.range(first..)), "what is kept differs");
        rig.server.take().unwrap().terminate(PATIENCE).unwrap();
        eprintln!("{last} events, the first {} of them dropped", first - 1);
    });
}
