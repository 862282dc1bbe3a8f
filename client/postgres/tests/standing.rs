//! Databases that do not fit: one that was set back, one that is another, one whose tables are others'.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use sluice_postgres::orders::Orders;
use sluice_postgres::{HandOff, HandOffError, LedgerTables, ShapeError, TableName};

use self::support::{GROUP, Shop, Working, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_database_that_was_set_back_is_refused_and_catches_up_once_the_group_is_moved() {
    let mut shop = Shop::open().await;
    let tables =
        ["witnessed", "sluice_orders", "sluice_cursors", "sluice_groups", "sluice_undone", "sluice_gaps"];
    shop.sell(100).await;
    let working = Working::start(shop.hand_off());
    shop.agrees().await;
    working.stop().await;
    let db = shop.connect().await;
    for table in tables {
        db.batch_execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await.unwrap();
    }
    shop.sell(100).await;
    let working = Working::start(shop.hand_off());
    shop.agrees().await;
    working.stop().await;
    // A backup is played back.
    for table in tables {
        let back = format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept_{table}");
        db.batch_execute(&back).await.unwrap();
    }
    let error = Working::start(shop.hand_off()).ends().await;
    let HandOffError::Behind { cursor, database, .. } = error else { panic!("{error:?}") };
    assert!(database < cursor && cursor == shop.caught_up().await, "{database} {cursor}");
    // As the error advises.
    assert!(shop.client.seek_group(GROUP, database).await.unwrap().is_done());
    let working = Working::start(shop.hand_off());
    until("the group to go on", async || shop.caught_up().await >= cursor).await;
    shop.agrees().await;
    shop.each_event_once().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn an_empty_database_is_refused_for_a_group_that_had_another_unless_that_is_meant() {
    let mut shop = Shop::open().await;
    shop.sell(100).await;
    let working = Working::start(shop.hand_off());
    shop.agrees().await;
    working.stop().await;
    let db = shop.connect().await;
    db.batch_execute("DROP TABLE witnessed, sluice_orders, sluice_cursors, sluice_groups").await.unwrap();
    let error = Working::start(shop.hand_off()).ends().await;
    assert!(matches!(error, HandOffError::Behind { database: 0, .. }), "{error:?}");
    let working = Working::start(shop.hand_off().accept_skipped());
    shop.reserved.clear();
    shop.reserve(1, 1, 1).await;
    shop.caught_up().await;
    until("the new order to be there", async || shop.orders().await.contains_key(&shop.reserved[0])).await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn what_was_passed_over_on_purpose_is_noted_as_a_gap() {
    let mut shop = Shop::open().await;
    shop.sell(40).await;
    let working = Working::start(shop.hand_off());
    let before = shop.caught_up().await;
    working.stop().await;
    shop.reserve(1, 1, 1).await;
    let last = shop.client.stream_bounds().await.unwrap().last;
    assert!(shop.client.seek_group(GROUP, last).await.unwrap().is_done());
    let error = Working::start(shop.hand_off()).ends().await;
    assert!(matches!(error, HandOffError::Behind { .. }), "{error:?}");
    let working = Working::start(shop.hand_off().accept_skipped());
    let noted = "SELECT from_sequence, to_sequence FROM sluice_gaps";
    let db = shop.connect().await;
    until("the gap", async || !db.query(noted, &[]).await.unwrap().is_empty()).await;
    working.stop().await;
    let row = db.query_one(noted, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 1 && row.get::<_, i64>(0) <= before as i64 + 1);
    assert!(row.get::<_, i64>(1) >= last as i64);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_table_of_another_shape_is_refused_with_its_column() {
    let shop = Shop::open().await;
    let db = shop.connect().await;
    db.batch_execute("CREATE TABLE sluice_orders (reservation text, product numeric(20))").await.unwrap();
    let error = Working::start(shop.hand_off()).ends().await;
    let HandOffError::Shape(ShapeError::Column { column, found, expected, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((column, found.as_str(), expected), ("reservation", "text", "uuid"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_login_without_rights_is_told_so_and_works_where_tables_were_made_for_it() {
    let mut shop = Shop::open().await;
    shop.sell(40).await;
    let table = TableName::new("orders \"of\" sluice").in_schema("shop");
    let tables = LedgerTables::in_schema("shop");
    let orders = Orders::new(table);
    let db = shop.connect().await;
    db.batch_execute("CREATE ROLE humble LOGIN; CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO humble")
        .await
        .unwrap();
    let mut humble = shop.config();
    humble.user("humble");
    let hand_off =
        || HandOff::new(&shop.client, humble.clone(), GROUP, orders.clone()).tables(tables.clone());
    let error = Working::start(hand_off()).ends().await;
    assert!(matches!(error, HandOffError::Shape(ShapeError::Postgres { .. })), "{error:?}");
    db.batch_execute(&format!("{} {}", tables.sql(), orders.sql())).await.unwrap();
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO humble";
    db.batch_execute(grant).await.unwrap();
    let working = Working::start(hand_off());
    shop.caught_up().await;
    let count = format!("SELECT count(*) FROM {}", orders.table());
    assert_eq!(db.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 40);
    working.stop().await;
    let mut stranger = shop.config();
    stranger.user("nobody");
    let hand_off = HandOff::new(&shop.client, stranger, GROUP, orders.clone());
    let error = Working::start(hand_off).ends().await;
    assert!(matches!(error, HandOffError::Refused(_)), "{error:?}");
}
