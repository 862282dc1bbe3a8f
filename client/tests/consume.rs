//! The stream over real sockets: many events, several members, a connection that breaks in the midst.
//!
//! What is asserted is what came and what the group then knows; never how long it took.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::groups::Group;
use fake::{Act, Fake, Request, keeper, reservation};
use sluice_client::{Client, Consumed, Delivery, EventKind, Reserve, State};
use sluice_protocol::request::items;
use sluice_protocol::response::{ReservationReply, ReservationView};
use sluice_protocol::seat::FetchItem;
use sluice_protocol::{Answer, Kind};

/// Time enough for everything that is expected to succeed; far too much to be waited for.
const AMPLE: Duration = Duration::from_secs(30);

type Shared = Arc<Mutex<Group>>;

fn keeping(group: &Shared) -> impl FnMut(&Request) -> Act + Send + 'static {
    let group = Arc::clone(group);
    move |request| keeper::answer(&mut group.lock().unwrap(), request)
}

fn happened(group: &Shared, products: impl Iterator<Item = u64>) {
    let mut group = group.lock().unwrap();
    for product in products {
        group.happened(product);
    }
}

/// Whether a member fetches as of this epoch.
fn knows(server: &Fake, member: u64, epoch: u64) -> bool {
    let seen = server.seen();
    let mut fetches = seen.iter().filter(|request| request.kind() == Kind::Fetch);
    fetches.any(|request| {
        let item = items::<FetchItem>(&request.body).unwrap()[0];
        (item.seat.member(), item.epoch()) == (member, epoch)
    })
}

async fn connect(server: &Fake) -> Client {
    Client::builder().deadline(AMPLE).patience(AMPLE).connect(&server.url()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_come_once_each_to_one_of_several_members() {
    const COUNT: u64 = 30_000;
    let group = Shared::default();
    happened(&group, (0..COUNT).map(|nth| nth % 1_001));
    let server = Fake::start(keeping(&group)).await;
    let client = connect(&server).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        // All have their seats before any of them works, so that nothing moves.
        workers.push(client.consume("orders").window(500).open().await.unwrap());
    }
    // And all know of each other: what one of them took before it did may come to another as well.
    let (members, epoch) = {
        let group = group.lock().unwrap();
        (group.members.clone(), group.epoch)
    };
    assert_eq!(members.len(), 3);
    while !members.iter().all(|member| knows(&server, *member, epoch)) {
        tokio::task::yield_now().await;
    }
    let (tell, mut done) = tokio::sync::mpsc::unbounded_channel();
    for mut worker in workers {
        let tell = tell.clone();
        tokio::spawn(async move {
            while let Some(batch) = worker.next_batch(100).await {
                for consumed in batch.unwrap() {
                    let delivery: Delivery = consumed.delivery().unwrap();
                    let sequence = delivery.event().sequence;
                    if delivery.ack().is_ok() {
                        tell.send(sequence).unwrap();
                    }
                }
            }
        });
    }
    let mut came = Vec::new();
    while came.len() < COUNT as usize {
        came.push(tokio::time::timeout(AMPLE, done.recv()).await.unwrap().unwrap());
    }
    came.sort_unstable();
    assert!(came.into_iter().eq(1..=COUNT));
    while group.lock().unwrap().cursor() < COUNT {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_that_break_in_the_midst_of_anything_lose_nothing() {
    const COUNT: u64 = 6_000;
    let group = Shared::default();
    happened(&group, (0..COUNT).map(|nth| nth % 97));
    let mut answer = keeping(&group);
    let mut count = 0;
    let server = Fake::start(move |request| {
        count += 1;
        match answer(request) {
            // Done, and half told.
            Act::Write(reply) if count % 5 == 0 => Act::Reset(reply[..reply.len() / 2].to_vec()),
            act => act,
        }
    })
    .await;
    let client = connect(&server).await;
    let mut consumer = client.consume("orders").window(300).open().await.unwrap();
    for sequence in 1..=COUNT {
        let consumed = consumer.next().await.unwrap().unwrap();
        let Consumed::Event(delivery) = consumed else { panic!("{consumed:?}") };
        assert_eq!((delivery.event().sequence, delivery.event().kind), (sequence, EventKind::Reserved));
        delivery.ack().unwrap();
    }
    consumer.flush().await.unwrap();
    assert_eq!(group.lock().unwrap().cursor(), COUNT);
    assert!(server.connections() > 3, "some connections broke");
}

#[tokio::test]
async fn a_reservation_is_watched_until_it_ends_and_has_a_place_in_line() {
    let group = Shared::default();
    happened(&group, std::iter::repeat_n(7, 58));
    let order = Reserve::new(7, 1, 1);
    let mut answer = keeping(&group);
    let mut reads = 0;
    let server = Fake::start(move |request| {
        if request.kind() != Kind::QueryReservation {
            return answer(request);
        }
        reads += 1;
        let found = |state, deadline_ms| ReservationReply {
            answer: Answer::found(fake::AT, state),
            record: ReservationView { product: 7.into(), sequence: 58, deadline_ms, ..Default::default() }
                .into(),
        };
        let unknown = Answer::plain(fake::AT, sluice_protocol::Status::UnknownReservation);
        request.reply(&[match reads {
            1 => reservation(unknown),
            2 | 3 => found(State::Held, fake::AT.time_ms + 60_000),
            _ => found(State::Confirmed, 0),
        }])
    })
    .await;
    let client = connect(&server).await;
    let mut watch = client.watch(order.reservation());
    let held = watch.next().await.unwrap().unwrap();
    assert_eq!(held.state, State::Held);
    assert_eq!(client.position("orders", &held).await.unwrap(), None);
    let _consumer = client.consume("orders").open().await.unwrap();
    let place = client.position("orders", &held).await.unwrap().unwrap();
    assert_eq!((place.ahead, place.eta, place.cursor), (57, Some(Duration::from_secs(120)), 0));
    assert_eq!(watch.next().await.unwrap().unwrap().state, State::Confirmed);
    assert_eq!(watch.next().await.unwrap(), None);
}
