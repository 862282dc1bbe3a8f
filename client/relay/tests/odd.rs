//! What a relay does with a stream, a group or servers that are not as they should be: it says so, and stops or waits, and
//! never publishes anything wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use sluice_client::{Consumed, EventKind, GroupOutcome, GroupTerms, LetterOutcome, Start};
use sluice_outside::Nats as NatsServer;
use sluice_relay::nats::{Nats, Target};
use sluice_relay::{Destination, GROUP_DEFAULT, Message, Relay, RelayError};
use support::{Running, Shop, destination, has_upto, header, is_copy, jetstream, messages, stream, until};

fn config(subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    Config { name: "SLUICE".to_owned(), subjects, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn a_stream_that_is_not_fit_is_refused_and_left_as_it_is() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let jetstream = jetstream(&nats).await;
    let rows = [
        (config(&["shop.>"]), "its subjects are \"shop.>\" instead of \"sluice.>\""),
        (config(&["sluice.>", "shop.>"]), "its subjects are"),
        (Config { retention: RetentionPolicy::WorkQueue, ..config(&["sluice.>"]) }, "retention"),
        (Config { no_ack: true, ..config(&["sluice.>"]) }, "does not acknowledge"),
    ];
    for (config, words) in rows {
        let made = jetstream.create_stream(config).await.unwrap().cached_info().config.clone();
        let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
        let error = relay.ended().await;
        assert!(error.to_string().contains(words), "{error}");
        let left = stream(&nats).await.get_info().await.unwrap();
        assert_eq!((left.config, left.state.messages), (made, 0));
        jetstream.delete_stream("SLUICE").await.unwrap();
    }
    // It has the subjects of another.
    jetstream
        .create_stream(Config { name: "OTHER".to_owned(), ..config(&["sluice.reserved.*"]) })
        .await
        .unwrap();
    let error = Running::start(Relay::new(shop.client.clone(), destination(&nats))).ended().await;
    assert!(error.to_string().contains("cannot be made"), "{error}");
    assert_eq!(shop.cursor(GROUP_DEFAULT).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn a_stream_of_another_source_or_of_a_later_time_is_refused() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    shop.sell(50).await;
    has_upto(&nats, shop.last().await).await;
    relay.stop().await;
    let count = messages(&stream(&nats).await).await.len();

    let other = Nats::new(Target::parse(&nats.url()).unwrap(), "another-shop").unwrap();
    let error = Running::start(Relay::new(shop.client.clone(), other).group("others")).ended().await;
    assert!(error.to_string().contains("some of shop"), "{error}");

    // A shop of the same name that has sold less.
    let newer = Shop::open().await;
    let error = Running::start(Relay::new(newer.client.clone(), destination(&nats))).ended().await;
    assert!(matches!(error, RelayError::Ahead { .. }), "{error}");
    assert_eq!(messages(&stream(&nats).await).await.len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn whoever_is_not_let_in_is_told_so_without_his_password() {
    let shop = Shop::open().await;
    let nats = NatsServer::start_with("authorization { user: shop, password: s3cret }");
    let at = nats.address();
    let as_user = |user: &str| {
        let target = Target::parse(&format!("nats://{user}@{at}")).unwrap();
        Relay::new(shop.client.clone(), Nats::new(target, "shop").unwrap())
    };
    let error = Running::start(as_user("shop:wr0ng")).ended().await;
    assert!(error.to_string().contains("does not let this user in"), "{error}");
    assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
    let relay = Running::start(as_user("shop:s3cret"));
    until("everything to be stored", async || shop.cursor(GROUP_DEFAULT).await == shop.last().await).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn a_group_that_wants_only_some_events_is_refused() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let terms = GroupTerms { kinds: EventKind::Confirmed.bit(), ..GroupTerms::default() };
    let made = shop.client.put_group("sales", Start::Beginning, &terms).await.unwrap();
    assert!(matches!(made, GroupOutcome::Done { .. }));
    let relay = Relay::new(shop.client.clone(), destination(&nats)).group("sales");
    assert!(matches!(Running::start(relay).ended().await, RelayError::Filtered { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn nothing_overtakes_a_dead_letter_until_it_is_delivered_again() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    shop.sell(30).await;
    let parked = 40;
    let mut consumer = shop.client.consume(GROUP_DEFAULT).open().await.unwrap();
    loop {
        match consumer.next().await.unwrap().unwrap() {
            Consumed::Event(delivery) if delivery.event().sequence == parked => delivery.park(1).unwrap(),
            Consumed::Event(delivery) => {
                delivery.defer();
            }
            Consumed::Parked { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    consumer.close().await.unwrap();
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    until("the hole to be told", async || relay.told("event 40 does not come")).await;
    assert_eq!(messages(&stream(&nats).await).await.len(), 39);
    let redriven = shop.client.redrive(GROUP_DEFAULT, parked).await.unwrap();
    assert!(matches!(redriven, LetterOutcome::Done { .. }), "{redriven:?}");
    has_upto(&nats, shop.last().await).await;
    relay.stop().await;
    let group = shop.client.group(GROUP_DEFAULT).await.unwrap().unwrap();
    assert_eq!((group.dead, group.cursor), (0, shop.last().await));
    is_copy(&messages(&stream(&nats).await).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn what_the_servers_keep_no_more_is_a_message_in_its_place() {
    let nats = NatsServer::start();
    let mut one = destination(&nats);
    assert_eq!(one.resume().await.unwrap(), None);
    one.publish(&Message::Gap { from: 1, to: 41 }).await.unwrap();
    assert_eq!((one.outstanding(), one.stored().await.unwrap(), one.outstanding()), (1, 41, 0));
    let mut another = destination(&nats);
    assert_eq!(another.resume().await.unwrap(), Some(41));
    let messages = messages(&stream(&nats).await).await;
    assert_eq!(messages[0].subject.as_str(), "sluice.gap");
    assert_eq!(header(&messages[0], "Nats-Msg-Id"), Some("shop-gap-41"));
    assert_eq!(messages[0].payload, r#"{"gap":{"from":1,"to":41}}"#);
    // The first has not looked since: what it sends comes behind something that it does not know of.
    another.publish(&Message::Gap { from: 42, to: 50 }).await.unwrap();
    assert_eq!(another.stored().await.unwrap(), 50);
    one.publish(&Message::Gap { from: 42, to: 43 }).await.unwrap();
    let refused = one.stored().await.unwrap_err();
    assert!(refused.to_string().contains("another message came between"), "{refused}");
    assert_eq!(one.resume().await.unwrap(), Some(50));
}
