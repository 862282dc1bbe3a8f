//! Whatever dies in whatever moment, each event takes effect once.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

#[path = "support/cutter.rs"]
mod cutter;
mod support;

use std::sync::atomic::Ordering;

use sluice_postgres::HandOff;

use self::cutter::Cutter;
use self::support::{GROUP, Shop, Witnessed, Working, sell, until};

/// Events in one transaction: few, so that there are many transactions to die in.
const BATCH: usize = 50;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn postgresql_may_be_killed_in_the_midst_of_it() {
    let mut shop = Shop::open().await;
    let working = Working::start(shop.hand_off().batch_max(BATCH));
    let client = shop.client.clone();
    let selling = tokio::spawn(async move { sell(&client, 6_000).await });
    for kill in 1..=4_usize {
        // It dies while it has something to do.
        until("more to be taken", async || shop.witnessed_if_any().await >= kill * 700).await;
        shop.postgres.kill();
        shop.postgres.restart();
    }
    shop.reserved.extend(selling.await.unwrap());
    shop.agrees().await;
    shop.each_event_once().await;
    let counts = working.stop().await;
    assert!(counts.losses >= 4, "it did not notice: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn hand_offs_may_end_without_a_word_two_at_a_time() {
    let mut shop = Shop::open().await;
    let client = shop.client.clone();
    let selling = tokio::spawn(async move { sell(&client, 6_000).await });
    for round in 1..=6_usize {
        let members = [(); 2].map(|()| Working::start(shop.hand_off().batch_max(BATCH)));
        until("more to be taken", async || shop.witnessed_if_any().await >= round * 400).await;
        for member in members {
            member.crash().await;
        }
    }
    let working = Working::start(shop.hand_off());
    shop.reserved.extend(selling.await.unwrap());
    shop.agrees().await;
    shop.each_event_once().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_commit_whose_answer_is_lost_is_found_done() {
    let mut shop = Shop::open().await;
    let cutter = Cutter::open(shop.postgres.socket(), 12);
    shop.sell(2_000).await;
    let hand_off = HandOff::new(&shop.client, cutter.url().parse().unwrap(), GROUP, Witnessed::default());
    let working = Working::start(hand_off.batch_max(BATCH));
    shop.agrees().await;
    shop.each_event_once().await;
    let counts = working.stop().await;
    assert_eq!(cutter.cuts.load(Ordering::Relaxed), 12);
    assert!(counts.repeated >= 12, "what was committed was not found: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_member_that_stands_still_in_its_transaction_is_passed_by() {
    let mut shop = Shop::open().await;
    let working = Working::start(shop.hand_off());
    shop.sell(100).await;
    shop.agrees().await;
    // As it would, it holds the rows of all lanes and does nothing.
    let idle = shop.connect().await;
    idle.batch_execute(
        "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT * FROM sluice_cursors FOR UPDATE",
    )
    .await
    .unwrap();
    shop.sell(100).await;
    shop.agrees().await;
    shop.each_event_once().await;
    working.stop().await;
}
