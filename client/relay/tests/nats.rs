//! Relays between real servers: whatever happens to either side, the stream of JetStream is a copy of the events.
//!
//! Streams know messages by their ids for a tenth of a second only, so that this is not what keeps them from being stored
//! twice. Deliberately not here: processes that are killed or stopped (the server's package has those).
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use sluice_client::GroupOutcome;
use sluice_outside::Nats as NatsServer;
use sluice_relay::{GROUP_DEFAULT, Payload, Relay};
use support::{Running, Shop, destination, has_upto, is_copy, messages, stream, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn each_event_is_in_the_stream_once_and_acknowledged() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    shop.sell(2_000).await;
    let last = shop.last().await;
    has_upto(&nats, last).await;
    let tally = relay.stop().await;
    assert_eq!((tally.events, tally.known, tally.gaps, tally.restarts, tally.stored), (last, 0, 0, 0, last));
    assert_eq!(shop.cursor(GROUP_DEFAULT).await, last);
    is_copy(&messages(&stream(&nats).await).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn the_bytes_of_an_event_are_those_of_the_wire() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats).payload(Payload::Binary)));
    shop.sell(10).await;
    has_upto(&nats, shop.last().await).await;
    relay.stop().await;
    let messages = messages(&stream(&nats).await).await;
    for (message, event) in messages.iter().zip(shop.events().await) {
        let record: &sluice_protocol::event::EventRecord =
            zerocopy::FromBytes::ref_from_bytes(&message.payload).unwrap();
        assert_eq!(record.view(), Some(event));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn a_broker_that_is_killed_again_and_again_misses_nothing() {
    let (shop, mut nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    for round in 0..6 {
        let before = shop.last().await;
        tokio::join!(shop.sell(1_500), async {
            // In the midst of this sale.
            until("some of it", async || shop.last().await > before + 300).await;
            nats.kill();
            if round % 2 == 0 {
                until("more of it", async || shop.last().await > before + 600).await;
            }
            nats.restart();
        });
    }
    has_upto(&nats, shop.last().await).await;
    let tally = relay.stop().await;
    assert!(tally.restarts >= 3, "{tally}");
    is_copy(&messages(&stream(&nats).await).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn relays_that_end_in_the_midst_repeat_nothing_however_late_the_next_begins() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    for _ in 0..5 {
        let before = shop.last().await;
        let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
        tokio::join!(shop.sell(1_000), has_upto(&nats, before + 200));
        relay.abort().await;
        // As if nothing had ever been acknowledged.
        assert!(matches!(shop.client.seek_group(GROUP_DEFAULT, 0).await.unwrap(), GroupOutcome::Done { .. }));
    }
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    until("everything to be acknowledged", async || shop.cursor(GROUP_DEFAULT).await == shop.last().await)
        .await;
    relay.stop().await;
    is_copy(&messages(&stream(&nats).await).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn of_two_relays_one_waits_until_the_other_ends() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let first = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    until("the first to begin", async || first.told("publishing")).await;
    let second = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    until("the second to wait", async || second.told("another relay of the group is at work")).await;
    shop.sell(500).await;
    has_upto(&nats, shop.last().await).await;
    assert!(!second.told("publishing"));
    assert_eq!(first.stop().await.restarts, 0);
    shop.sell(500).await;
    has_upto(&nats, shop.last().await).await;
    assert!(second.told("publishing"));
    second.stop().await;
    is_copy(&messages(&stream(&nats).await).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn relays_that_know_nothing_of_each_other_make_one_copy_together() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relays = ["one", "two", "three"]
        .map(|group| Running::start(Relay::new(shop.client.clone(), destination(&nats)).group(group)));
    let jetstream = support::jetstream(&nats).await;
    for _ in 0..4 {
        tokio::join!(shop.sell(500), async {
            // So that places in the stream are not what one who was not asked would think.
            for _ in 0..20 {
                let sent = jetstream.publish("sluice.by-hand", "hello".into()).await;
                // Before there is a stream nobody takes it.
                let _ = sent.unwrap().await;
            }
        });
        has_upto(&nats, shop.last().await).await;
    }
    let mut restarts = 0;
    for relay in relays {
        restarts += relay.stop().await.restarts;
    }
    assert!(restarts > 0, "they never met");
    let mut messages = messages(&stream(&nats).await).await;
    messages.retain(|message| message.subject.as_str() != "sluice.by-hand");
    is_copy(&messages, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn a_stream_that_lost_its_end_gets_it_again() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    shop.sell(300).await;
    has_upto(&nats, shop.last().await).await;
    relay.stop().await;
    let stream = stream(&nats).await;
    let last = stream.get_info().await.unwrap().state.last_sequence;
    for place in last - 99..=last {
        assert!(stream.delete_message(place).await.unwrap());
    }
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    shop.sell(100).await;
    has_upto(&nats, shop.last().await).await;
    assert!(relay.told("moved it back"), "{:?}", relay.notes);
    relay.stop().await;
    is_copy(&messages(&stream).await, &shop.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
async fn what_somebody_publishes_by_hand_is_passed_over() {
    let (shop, nats) = (Shop::open().await, NatsServer::start());
    let relay = Running::start(Relay::new(shop.client.clone(), destination(&nats)));
    let jetstream = support::jetstream(&nats).await;
    for _ in 0..3 {
        shop.sell(100).await;
        has_upto(&nats, shop.last().await).await;
        jetstream.publish("sluice.by-hand", "hello".into()).await.unwrap().await.unwrap();
    }
    shop.sell(100).await;
    has_upto(&nats, shop.last().await).await;
    let tally = relay.stop().await;
    assert_eq!(tally.restarts, 3);
    let mut messages = messages(&stream(&nats).await).await;
    messages.retain(|message| message.subject.as_str() != "sluice.by-hand");
    is_copy(&messages, &shop.events().await);
}
