//! What is sold by a real server is in the tables of a real PostgreSQL: each reservation one order, in its state.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use sluice_client::{EventKind, GroupTerms, Reserve, ReserveOutcome, Start, Terms};
use sluice_postgres::HandOff;
use sluice_postgres::orders::{OrderState, Orders};

use self::support::{FLEETING, GROUP, Shop, Working, sell, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn each_reservation_is_one_order_and_each_event_takes_effect_once() {
    let mut shop = Shop::open().await;
    shop.sell(2_000).await;
    let working = Working::start(shop.hand_off());
    shop.sell(2_000).await;
    shop.agrees().await;
    shop.each_event_once().await;
    let counts = working.stop().await;
    assert_eq!(counts.events, shop.caught_up().await);
    assert_eq!((counts.repeated, counts.losses, counts.gaps, counts.parked), (0, 0, 0, 0));
    // It has left, so nobody has to miss it.
    assert_eq!(shop.client.group(GROUP).await.unwrap().unwrap().members, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn events_that_are_delivered_again_have_no_second_effect() {
    let mut shop = Shop::open().await;
    shop.sell(500).await;
    let working = Working::start(shop.hand_off());
    shop.agrees().await;
    working.stop().await;
    let last = shop.caught_up().await;
    assert!(shop.client.seek_group(GROUP, 0).await.unwrap().is_done());
    let working = Working::start(shop.hand_off().batch_max(100));
    until("everything to be acknowledged again", async || shop.caught_up().await >= last).await;
    let counts = working.stop().await;
    assert!(counts.repeated >= last, "{counts:?}");
    shop.each_event_once().await;
    shop.agrees().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn members_share_the_work_and_no_event_is_done_by_two() {
    let mut shop = Shop::open().await;
    let members: Vec<Working> = (0..3).map(|_| Working::start(shop.hand_off().batch_max(64))).collect();
    shop.sell(6_000).await;
    shop.agrees().await;
    shop.each_event_once().await;
    let mut counts = Vec::new();
    for member in members {
        counts.push(member.stop().await.events);
    }
    assert_eq!(counts.iter().sum::<u64>(), shop.caught_up().await);
    assert!(counts.iter().all(|events| *events > 0), "one had nothing to do: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn what_is_confirmed_after_its_time_is_sold() {
    let mut shop = Shop::open().await;
    let working = Working::start(shop.hand_off());
    let id = shop.reserve(FLEETING, 1, 1).await;
    shop.caught_up().await;
    until("it to expire there", async || {
        shop.orders().await.get(&id).is_some_and(|order| order.state == OrderState::Expired)
    })
    .await;
    assert!(shop.client.confirm(id).await.unwrap().is_confirmed());
    shop.agrees().await;
    let order = shop.orders().await[&id];
    assert_eq!(order.state, OrderState::Sold);
    assert!(order.deadline_ms.is_some() && order.reserved_ms.is_some(), "what the first event told is kept");
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_group_that_begins_late_has_the_orders_that_it_hears_of() {
    let mut shop = Shop::open().await;
    let early = shop.reserve(1, 7, 2).await;
    let working = Working::start(shop.hand_off().start(Start::End));
    until("the group to be there", async || shop.client.group(GROUP).await.unwrap().is_some()).await;
    assert!(shop.client.confirm(early).await.unwrap().is_confirmed());
    shop.reserve(2, 8, 1).await;
    shop.agrees().await;
    let order = shop.orders().await[&early];
    assert_eq!((order.state, order.reserved_ms, order.deadline_ms), (OrderState::Sold, None, None));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_group_may_want_only_some_kinds_of_events() {
    let mut shop = Shop::open().await;
    let terms = GroupTerms { kinds: EventKind::Confirmed.bit(), ..GroupTerms::default() };
    let working = Working::start(shop.hand_off().terms(terms));
    shop.sell(200).await;
    shop.caught_up().await;
    let orders = shop.orders().await;
    assert_eq!(orders.len(), 50);
    assert!(orders.values().all(|order| order.state == OrderState::Sold));
    working.stop().await;
    // What it had no interest in is behind it, and not missing.
    let working = Working::start(shop.hand_off());
    sell(&shop.client, 8).await;
    shop.caught_up().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn the_largest_ids_survive_and_people_read_the_same_digits() {
    let mut shop = Shop::open().await;
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 604_800_000, unlimited: true };
    let product = u64::MAX - 1;
    let outcome = shop.client.put_product(product, 0, terms).await.unwrap();
    assert!(outcome.is_done(), "{outcome:?}");
    let order = Reserve::new(product, u64::MAX - 1, 1_000).id((u128::MAX - 1).into());
    let outcome = shop.client.reserve_with(order).await.unwrap();
    let ReserveOutcome::Reserved { id, .. } = outcome else { panic!("{outcome:?}") };
    shop.reserved.push(id);
    let working = Working::start(shop.hand_off());
    shop.agrees().await;
    let text = "SELECT replace(reservation::text, '-', ''), product::text, user_id::text FROM sluice_orders";
    let row = shop.connect().await.query_one(text, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), id.to_string());
    assert_eq!(row.get::<_, String>(1), product.to_string());
    assert_eq!(row.get::<_, String>(2), (u64::MAX - 1).to_string());
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn nothing_is_lost_of_one_event_alone() {
    // One event at a time: whoever waited for a batch would never hand it over.
    let mut shop = Shop::open().await;
    let working = Working::start(HandOff::new(&shop.client, shop.config(), GROUP, Orders::default()));
    shop.caught_up().await;
    for user in 0..20 {
        let id = shop.reserve(3, user, 1).await;
        until("the order to be there", async || shop.orders().await.contains_key(&id)).await;
    }
    working.stop().await;
}
