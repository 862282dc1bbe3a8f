//! Consumers against nodes that keep a group: leaders that go, replies that are lost, members that come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use sluice_protocol::Kind;
use sluice_protocol::request::items;
use sluice_protocol::seat::{AckItem, FetchItem};
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, Way};
use super::fake::groups::Group;
use crate::{Client, Consume, ConsumeError, Consumed, Consumer, Delivery, Error, Fenced, GroupTerms, Start};

/// Longer than anything takes that is expected to come.
const LONG: Duration = Duration::from_secs(60);

async fn connect(cluster: &Arc<Cluster>) -> Client {
    cluster.connect(Client::builder()).await
}

fn consume(client: &Client) -> Consume {
    client.consume("orders").start(Start::Beginning)
}

fn happened(cluster: &Cluster, products: impl IntoIterator<Item = u64>) {
    let mut group = cluster.group();
    for product in products {
        group.happened(product);
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    let consumed = timeout(LONG, consumer.next()).await.expect("something comes");
    consumed.expect("it is open").expect("no error").delivery().expect("an event")
}

async fn nothing(consumer: &mut Consumer) {
    let come = timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(come.is_err(), "{come:?}");
}

/// Takes and acknowledges events until this many have come. Their sequences.
async fn work(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut done = Vec::new();
    while done.len() < count {
        let delivery = next(consumer).await;
        done.push(delivery.event().sequence);
        delivery.ack().unwrap();
    }
    done
}

#[tokio::test(start_paused = true)]
async fn a_group_is_made_where_it_is_to_begin_and_stays_where_it_is() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1, 2, 3]);
    let terms = GroupTerms { attempts_max: 9, ..GroupTerms::default() };
    let mut consumer = client.consume("orders").start(Start::After(1)).terms(terms).open().await.unwrap();
    assert_eq!(work(&mut consumer, 2).await, [2, 3]);
    consumer.flush().await.unwrap();
    consumer.close().await.unwrap();
    assert!(cluster.group().members.is_empty(), "it has left");
    happened(&cluster, [1]);
    let mut consumer = consume(&client).terms(GroupTerms::default()).open().await.unwrap();
    assert_eq!(work(&mut consumer, 1).await, [4], "it goes on where it stood");
    assert_eq!(cluster.group().terms, terms);
    let _changed = consume(&client).terms(GroupTerms::default()).change_terms().open().await.unwrap();
    assert_eq!(cluster.group().terms, GroupTerms::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_reaches_the_server_in_few_words() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, (1..=3_000).map(|nth| nth % 97));
    let mut consumer = consume(&client).open().await.unwrap();
    assert!(work(&mut consumer, 3_000).await.into_iter().eq(1..=3_000));
    consumer.flush().await.unwrap();
    assert_eq!(cluster.group().cursor(), 3_000);
    let acks = cluster.group().acks.len();
    assert!(acks < 100, "{acks} items for 3,000 events");
}

#[tokio::test(start_paused = true)]
async fn batches_are_what_is_there_and_are_acknowledged_up_to_a_place() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=500);
    let mut consumer = consume(&client).open().await.unwrap();
    let mut upto = 0;
    while upto < 500 {
        let batch = consumer.next_batch(200).await.unwrap().unwrap();
        assert!(!batch.is_empty() && batch.len() <= 200);
        for consumed in batch {
            upto = consumed.delivery().unwrap().defer().sequence;
        }
        consumer.ack_through(upto).unwrap();
    }
    consumer.flush().await.unwrap();
    assert_eq!(cluster.group().cursor(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_a_stream() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1]);
    let mut consumer = Box::pin(consume(&client).open().await.unwrap());
    let consumed = std::future::poll_fn(|context| consumer.as_mut().poll_next(context)).await;
    assert!(matches!(consumed, Some(Ok(Consumed::Event(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_failed_delivery_comes_again_after_its_time_and_in_its_order() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1, 1, 1]);
    let mut consumer = consume(&client).open().await.unwrap();
    next(&mut consumer).await.nak(4).unwrap();
    nothing(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!((again.event().sequence, again.attempts()), (1, 1));
    again.nak_after(Duration::from_millis(400), 4).unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((again.event().sequence, again.attempts()), (1, 2));
    again.ack().unwrap();
    assert_eq!(work(&mut consumer, 2).await, [2, 3]);
    assert_eq!(cluster.group().naks, [(1, 4, false), (1, 4, false)]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_told_kept_and_delivered_again_when_somebody_says_so() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1, 1]);
    let mut consumer = consume(&client).open().await.unwrap();
    next(&mut consumer).await.park(77).unwrap();
    let parked = consumer.next().await.unwrap().unwrap();
    assert!(matches!(parked, Consumed::Parked { event, attempts: 1 } if event.sequence == 1));
    assert_eq!(work(&mut consumer, 1).await, [2]);
    consumer.flush().await.unwrap();
    assert_eq!(cluster.group().cursor(), 2, "the group has passed it");
    let letters = client.dead_letters("orders", 0).await.unwrap().unwrap();
    assert_eq!((letters.len(), letters[0].sequence, letters[0].cause), (1, 1, 77));
    assert!(client.redrive("orders", 1).await.unwrap().is_done());
    let again = next(&mut consumer).await;
    assert!(again.is_redriven());
    again.ack().unwrap();
    consumer.flush().await.unwrap();
    assert_eq!(client.dead_letters("orders", 0).await.unwrap(), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_comes_again_at_once_and_counts_only_if_the_thread_panics() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1]);
    let mut consumer = consume(&client).open().await.unwrap();
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!(again.attempts(), 0);
    assert!(cluster.group().naks.is_empty());
    let panicked = tokio::spawn(async move {
        let _handled = again;
        panic!("the handler has a mistake");
    });
    assert!(panicked.await.is_err());
    assert_eq!(next(&mut consumer).await.attempts(), 1);
    assert_eq!(cluster.group().naks, [(1, crate::consume::CAUSE_PANICKED, false)]);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_a_delivery_for_too_long_has_failed() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1]);
    let mut consumer = consume(&client).redeliver_after(Duration::from_secs(2)).open().await.unwrap();
    let kept = next(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!((again.event().sequence, again.attempts()), (1, 1));
    assert_eq!(kept.ack(), Err(Fenced));
    again.ack().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_gives_signs_of_life_however_long_the_application_works() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=5_000);
    let terms = GroupTerms { session_ms: 900, ..GroupTerms::default() };
    let mut consumer = consume(&client).terms(terms).window(1).open().await.unwrap();
    let kept = next(&mut consumer).await;
    // What is fetched ahead is fetched by then.
    sleep(Duration::from_secs(1)).await;
    let before = fetches(&cluster).len();
    sleep(Duration::from_secs(9)).await;
    let since = fetches(&cluster).split_off(before);
    assert!((29..=32).contains(&since.len()), "{} signs in 9 s, of a session of 0.9 s", since.len());
    assert!(since.iter().all(|fetch| fetch.epoch() == 0), "nothing is fetched that has no place");
    kept.ack().unwrap();
    assert_eq!(work(&mut consumer, 3).await, [2, 3, 4]);
}

fn fetches(cluster: &Cluster) -> Vec<FetchItem> {
    let seen = cluster.node(1).seen();
    let fetches = seen.iter().filter(|request| request.kind() == Kind::Fetch);
    fetches.map(|request| items::<FetchItem>(&request.body).unwrap()[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn another_leader_goes_on_where_the_last_one_was() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=2_000);
    let mut consumer = consume(&client).open().await.unwrap();
    let mut done = work(&mut consumer, 300).await;
    cluster.node(1).kill().await;
    cluster.crown(2);
    done.extend(work(&mut consumer, 1_000).await);
    cluster.crown(3);
    done.extend(work(&mut consumer, 700).await);
    assert!(done.into_iter().eq(1..=2_000), "each once, in its order");
    consumer.flush().await.unwrap();
    let group = cluster.group().clone();
    assert_eq!((group.cursor(), group.members.len()), (2_000, 1));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_whose_replies_are_lost_are_made_again() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=10);
    let mut consumer = consume(&client).open().await.unwrap();
    work(&mut consumer, 10).await;
    cluster.node(1).way(Way::Mute);
    assert_eq!(consumer.flush().await, Err(ConsumeError::Call(Error::Unanswered)));
    assert_eq!(cluster.group().cursor(), 10, "they had counted");
    cluster.node(1).way(Way::Proper);
    consumer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lanes_that_move_are_fenced_and_those_that_stay_come_once() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=200);
    let mut first = consume(&client).open().await.unwrap();
    let mut held: HashMap<u64, Delivery> = HashMap::new();
    for _ in 0..100 {
        let delivery = next(&mut first).await;
        held.insert(delivery.event().sequence, delivery);
    }
    let mut second = consume(&client).open().await.unwrap();
    // What the second gets, the first must not be able to acknowledge.
    let mut moved = Vec::new();
    while let Ok(consumed) = timeout(Duration::from_secs(1), second.next()).await {
        let delivery = consumed.unwrap().unwrap().delivery().unwrap();
        moved.push(delivery.event().sequence);
        delivery.ack().unwrap();
    }
    let mut kept = Vec::new();
    while let Ok(consumed) = timeout(Duration::from_secs(1), first.next()).await {
        let delivery = consumed.unwrap().unwrap().delivery().unwrap();
        kept.push(delivery.event().sequence);
        assert!(!held.contains_key(kept.last().unwrap()), "{kept:?} comes twice");
        delivery.ack().unwrap();
    }
    for (sequence, delivery) in held {
        let is_moved = moved.contains(&sequence);
        assert_eq!(delivery.ack(), if is_moved { Err(Fenced) } else { Ok(()) }, "{sequence}");
        if !is_moved {
            kept.push(sequence);
        }
    }
    kept.extend(moved);
    kept.sort_unstable();
    assert!(kept.into_iter().eq(1..=200), "each went to one of them");
    first.flush().await.unwrap();
    second.flush().await.unwrap();
    assert_eq!(cluster.group().cursor(), 200);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_are_lost_with_their_lanes_are_told_to_who_waits_for_them() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=100);
    let mut consumer = consume(&client).ack_every(LONG).open().await.unwrap();
    work(&mut consumer, 100).await;
    cluster.group().join(4);
    assert_eq!(consumer.flush().await, Err(ConsumeError::Fenced(Fenced)));
    consumer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_seat_that_was_lost_is_taken_again() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=50);
    let mut consumer = consume(&client).open().await.unwrap();
    work(&mut consumer, 20).await;
    consumer.flush().await.unwrap();
    let member = cluster.group().members[0];
    cluster.group().leave(member);
    happened(&cluster, 1..=50);
    assert_eq!(work(&mut consumer, 80).await.last(), Some(&100));
    assert_eq!(cluster.group().members, [member], "under its old number");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_kept_no_more_are_told() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=9);
    cluster.group().first = 6;
    let mut consumer = consume(&client).open().await.unwrap();
    let told = consumer.next().await.unwrap().unwrap();
    assert!(matches!(told, Consumed::Gap { from: 1, to: 5 }), "{told:?}");
    assert_eq!(work(&mut consumer, 4).await, [6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_removed_ends_its_consumers() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1]);
    let mut consumer = consume(&client).open().await.unwrap();
    let held = next(&mut consumer).await;
    assert!(client.remove_group("orders").await.unwrap().is_done());
    let unknown = ConsumeError::UnknownGroup { name: "orders".to_owned() };
    assert_eq!(consumer.next().await.unwrap().unwrap_err(), unknown);
    assert!(consumer.next().await.is_none());
    assert_eq!(held.ack(), Err(Fenced));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_a_session_has_passed_and_the_consumer_goes_on_behind_it() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    let mut consumer = consume(&client).open().await.unwrap();
    for sequence in 1..=2 {
        (1..=3).for_each(|id| cluster.node(id).way(Way::Mute));
        let told = consumer.next().await.unwrap().unwrap_err();
        assert!(matches!(told, ConsumeError::Call(_)) && told.is_passing(), "{told:?}");
        nothing(&mut consumer).await;
        (1..=3).for_each(|id| cluster.node(id).way(Way::Proper));
        happened(&cluster, [1]);
        assert_eq!(work(&mut consumer, 1).await, [sequence]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_dropped_tells_what_is_done_and_leaves() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, [1, 2]);
    let mut consumer = consume(&client).open().await.unwrap();
    work(&mut consumer, 1).await;
    let held = next(&mut consumer).await;
    drop(consumer);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(held.ack(), Err(Fenced));
    let group: Group = cluster.group().clone();
    assert_eq!((group.cursor(), group.members.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn settings_and_terms_that_are_not_allowed_are_named() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    let terms = GroupTerms { session_ms: 3, ..GroupTerms::default() };
    let refused = consume(&client).terms(terms).open().await.unwrap_err();
    assert!(matches!(refused, ConsumeError::Refused(invalid) if invalid.value == 3), "{refused:?}");
    for wrong in [client.consume("Orders"), consume(&client).window(0)] {
        let refused = wrong.open().await.unwrap_err();
        assert!(matches!(refused, ConsumeError::Call(Error::Setting { .. })), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keepers_see_groups_members_and_the_stream() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    assert_eq!((client.groups().await.unwrap(), client.group("orders").await.unwrap()), (Vec::new(), None));
    assert_eq!(client.members("orders").await.unwrap(), None);
    assert_eq!(client.dead_letters("orders", 0).await.unwrap(), None);
    assert!(!client.redrive("orders", 1).await.unwrap().is_done());
    happened(&cluster, [1]);
    cluster.group().now_ms = 5_000;
    happened(&cluster, [1, 1]);
    let bounds = client.stream_bounds().await.unwrap();
    assert_eq!((bounds.first, bounds.last), (1, 3));
    assert_eq!(client.sequence_at(2_000).await.unwrap(), 2);
    let mut consumer = client.consume("orders").start(Start::At(2_000)).open().await.unwrap();
    assert_eq!(work(&mut consumer, 1).await, [2]);
    let members = client.members("orders").await.unwrap().unwrap();
    assert_eq!((members.len(), members[0].lanes), (1, u64::MAX));
    assert_eq!(client.groups().await.unwrap(), [client.group("orders").await.unwrap().unwrap()]);
    assert!(client.seek_group("orders", 0).await.unwrap().is_done());
    assert!(
        client.drop_dead("orders", 1).await.unwrap() != crate::LetterOutcome::Done { at: super::fake::AT }
    );
    assert!(!client.remove_group("others").await.unwrap().is_done());
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_half_a_window_is_told_before_its_time() {
    let cluster = Cluster::new();
    let client = connect(&cluster).await;
    happened(&cluster, 1..=40);
    let mut consumer = consume(&client).window(20).ack_every(LONG).open().await.unwrap();
    let held: Vec<Delivery> = {
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(next(&mut consumer).await);
        }
        held
    };
    sleep(Duration::from_millis(100)).await;
    let told = |cluster: &Cluster| {
        let seen = cluster.node(1).seen();
        let acks = seen.iter().filter(|request| request.kind() == Kind::Ack);
        acks.flat_map(|request| items::<AckItem>(&request.body).unwrap().to_vec())
            .map(|item| item.upto())
            .max()
    };
    assert_eq!(told(&cluster), None);
    held.into_iter().take(10).for_each(|delivery| delivery.ack().unwrap());
    sleep(Duration::from_millis(100)).await;
    assert!(told(&cluster).is_some());
}
