//! Events that are kept no more are noted, and told; never passed over in silence.
//!
//! In builds with fail points alone: there so little may be kept that a test can have more.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::time::Duration;

use sluice_client::{Client, GroupTerms, Terms};
use sluice_engine::testing::Server;
use sluice_outside::Postgres;
use sluice_postgres::books::{Missing, snapshot};
use sluice_postgres::{HandOff, LedgerTables, TableName, tokio_postgres};

use self::support::{GROUP, Witnessed, Working, sell, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql; and --features sluice-engine/failpoints"]
async fn what_is_kept_no_more_is_noted_and_told() {
    let server = Server::start_with(|config| config.with("stream.retain_bytes", "64KiB"));
    let postgres = Postgres::start();
    let client = Client::connect(&server.url()).await.unwrap();
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 100, unlimited: true };
    for product in (1..=support::PRODUCTS).chain([support::FLEETING]) {
        assert!(client.put_product(product, 0, terms).await.unwrap().is_done());
    }
    let lagging = GroupTerms { backlog_max: 500, ..GroupTerms::default() };
    let hand_off =
        || HandOff::new(&client, postgres.url().parse().unwrap(), GROUP, Witnessed::default()).terms(lagging);
    // The group is there, and stands at the beginning.
    let first = Working::start(hand_off());
    until("the group", async || client.group(GROUP).await.unwrap().is_some_and(|group| group.cursor > 0))
        .await;
    let counts = first.stop().await;
    assert_eq!(counts.gaps, 0);
    let kept = async || client.stream_bounds().await.unwrap().first;
    while kept().await <= 100 {
        sell(&client, 2_000).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = Working::start(hand_off());
    let last = async || client.stream_bounds().await.unwrap().last;
    let cursor = async || client.group(GROUP).await.unwrap().unwrap().cursor;
    until("it to catch up", async || cursor().await == last().await).await;
    let counts = second.stop().await;
    assert_eq!(counts.gaps, 1, "{counts:?}");
    let (mut db, connection) = postgres
        .url()
        .parse::<tokio_postgres::Config>()
        .unwrap()
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let table = TableName::new("sluice_orders");
    let books = snapshot(&mut db, &LedgerTables::default(), &table, GROUP).await.unwrap();
    let [Missing { from, to }] = books.gaps[..] else { panic!("{:?}", books.gaps) };
    assert!(from > 1 && from <= to && to >= 100, "{from} to {to}");
}
