//! What shares a frame, what bounds it, and what a dropped call leaves behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{AT, Act, Fake, Manner, Request};
use sluice_client::{Builder, Client, Error, Product, Reserve, ReserveOutcome, fresh_id};
use sluice_protocol::request::ListItem;
use sluice_protocol::response::{ProductReply, ProductView, ReservationReply, ReservationView};
use sluice_protocol::{Answer, Kind, ProductId, State, Status, UserId};
use tokio::task::JoinSet;

const AMPLE: Duration = Duration::from_secs(30);

fn ample() -> Builder {
    Client::builder().deadline(AMPLE).resolve_budget(AMPLE).patience(AMPLE)
}

/// Reserves everything; the user's number is the sequence.
fn user_as_sequence(request: &Request) -> Act {
    let answers: Vec<Answer> =
        request.reserves().iter().map(|item| Answer::reserved(AT, item.user().0, 5_000)).collect();
    request.reply(&answers)
}

/// Calls for users 1 to `calls` at once; checks that each hears its own answer.
async fn herd(client: &Client, calls: u64) {
    let mut herd = JoinSet::new();
    for user in 1..=calls {
        let client = client.clone();
        herd.spawn(async move { (user, client.reserve(7, user, 1).await) });
    }
    while let Some(call) = herd.join_next().await {
        let (user, outcome) = call.unwrap();
        match outcome {
            Ok(ReserveOutcome::Reserved { sequence, repeated: false, .. }) => assert_eq!(sequence, user),
            other => panic!("user {user}: {other:?}"),
        }
    }
}

fn counts(server: &Fake) -> Vec<u16> {
    server.seen().iter().map(|request| request.header.count).collect()
}

#[tokio::test]
async fn a_thousand_calls_at_once_arrive_in_few_frames() {
    let server = Fake::start(user_as_sequence).await;
    let client = ample().connect(&server.url()).await.unwrap();
    herd(&client, 1_000).await;
    let counts = counts(&server);
    assert_eq!(counts.iter().map(|count| u64::from(*count)).sum::<u64>(), 1_000);
    assert!(counts.len() <= 4, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_when_callers_run_in_parallel() {
    let server = Fake::start(user_as_sequence).await;
    let client = ample().connect(&server.url()).await.unwrap();
    herd(&client, 5_000).await;
    let counts = counts(&server);
    assert_eq!(counts.iter().map(|count| u64::from(*count)).sum::<u64>(), 5_000);
    assert!(counts.len() <= 2_500, "{} frames for 5000 calls", counts.len());
}

#[tokio::test]
async fn the_servers_limits_bound_frames() {
    let manner = Manner { items_max: 10, frames_in_flight_max: 2, ..Manner::default() };
    // Nobody is answered before the second frame is there: so there are two in flight, and never three.
    let mut first: Option<Request> = None;
    let server = Fake::start_with(manner, "127.0.0.1:0", move |request| match first.take() {
        None => {
            first = Some(request.clone());
            Act::Lose
        }
        Some(first) => Act::Both(vec![user_as_sequence(request), user_as_sequence(&first)]),
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    herd(&client, 200).await;
    assert_eq!(counts(&server), [10; 20]);
}

#[tokio::test]
async fn replies_in_reverse_order_reach_their_callers() {
    let manner = Manner { items_max: 1, ..Manner::default() };
    let mut kept = Vec::new();
    let server = Fake::start_with(manner, "127.0.0.1:0", move |request| {
        kept.push(user_as_sequence(request));
        if kept.len() < 50 {
            return Act::Lose;
        }
        kept.reverse();
        Act::Both(std::mem::take(&mut kept))
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    herd(&client, 100).await;
}

#[tokio::test]
async fn more_callers_than_the_queue_holds_wait_their_turn() {
    let manner = Manner { items_max: 64, frames_in_flight_max: 1, ..Manner::default() };
    let server = Fake::start_with(manner, "127.0.0.1:0", user_as_sequence).await;
    let client = ample().connect(&server.url()).await.unwrap();
    herd(&client, 20_000).await;
    assert!(counts(&server).iter().all(|count| *count <= 64));
}

#[tokio::test]
async fn connections_take_turns() {
    let server = Fake::start(user_as_sequence).await;
    let client = ample().connections(4).connect(&server.url()).await.unwrap();
    for user in 1..=8 {
        let outcome = client.reserve(7, user, 1).await.unwrap();
        assert!(outcome.is_reserved());
    }
    let mut frames_of = [0; 4];
    server.seen().iter().for_each(|request| frames_of[request.connection] += 1);
    assert_eq!(frames_of, [2; 4]);
}

#[tokio::test]
async fn a_call_dropped_in_the_queue_is_never_sent() {
    let manner = Manner { frames_in_flight_max: 1, ..Manner::default() };
    let server = Fake::start_with(manner, "127.0.0.1:0", |_| Act::Lose).await;
    let client = ample().connect(&server.url()).await.unwrap();
    // The only frame that may be in flight is never answered, so whatever is called now stays in the queue.
    let stuck = tokio::spawn({
        let client = client.clone();
        async move { client.reserve(7, 1, 1).await }
    });
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let queued = tokio::spawn({
        let client = client.clone();
        async move { client.reserve(7, 2, 1).await }
    });
    tokio::task::yield_now().await;
    queued.abort();
    let error = client.with_deadline(Duration::from_millis(50)).reserve(7, 3, 1).await.unwrap_err();
    assert_eq!(error, Error::Deadline, "it was never sent, and is known not to have been");
    stuck.abort();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_call_dropped_in_flight_costs_its_neighbours_nothing() {
    let kept: Arc<Mutex<Vec<Request>>> = Arc::default();
    let server = Fake::start({
        let kept = Arc::clone(&kept);
        move |request| {
            let mut kept = kept.lock().unwrap();
            kept.push(request.clone());
            if kept.len() == 1 { Act::Lose } else { Act::Both(kept.iter().map(user_as_sequence).collect()) }
        }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    let spawn = |user: u64| {
        let client = client.clone();
        tokio::spawn(async move { client.reserve(7, user, 1).await })
    };
    let (dropped, neighbour) = (spawn(1), spawn(2));
    while kept.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let last = spawn(3).await.unwrap().unwrap();
    assert!(matches!(last, ReserveOutcome::Reserved { sequence: 3, .. }));
    assert!(matches!(neighbour.await.unwrap(), Ok(ReserveOutcome::Reserved { sequence: 2, .. })));
}

#[tokio::test]
async fn a_batch_travels_in_whole_frames() {
    let server = Fake::start(user_as_sequence).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let orders: Vec<Reserve> = (1..=2_500_u64).map(|user| Reserve::new(7, user, 1)).collect();
    let outcomes = client.reserve_many(&orders).await;
    assert_eq!(counts(&server), [1024, 1024, 452]);
    for (outcome, order) in outcomes.iter().zip(&orders) {
        match outcome {
            Ok(ReserveOutcome::Reserved { id, sequence, .. }) => {
                assert_eq!((*id, *sequence), (order.reservation(), order.user().0));
            }
            other => panic!("{order:?}: {other:?}"),
        }
    }
    assert!(client.reserve_many(&[]).await.is_empty());
}

#[tokio::test]
async fn only_what_a_batch_left_open_is_sent_again() {
    let server = Fake::start(|request| {
        let answers: Vec<Answer> = request
            .reserves()
            .iter()
            .map(|item| match (item.user().0 % 3, item.attempt) {
                (0, 0) => Answer::busy(0),
                (1, _) => Answer::sold_out(AT),
                _ => Answer::reserved(AT, item.user().0, 5_000),
            })
            .collect();
        request.reply(&answers)
    })
    .await;
    let manner_of = |order: &Reserve| order.user().0 % 3;
    let client = ample().connect(&server.url()).await.unwrap();
    let orders: Vec<Reserve> = (0..300_u64).map(|user| Reserve::new(7, user, 1)).collect();
    let outcomes = client.reserve_many(&orders).await;
    assert_eq!(counts(&server), [300, 100]);
    assert_eq!(server.attempts()[300..], [1; 100]);
    for (outcome, order) in outcomes.iter().zip(&orders) {
        let outcome = outcome.as_ref().unwrap();
        assert_eq!(outcome.is_reserved(), manner_of(order) != 1, "{order:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_batch_keeps_to_smaller_limits() {
    let seven_items = Manner { items_max: 7, ..Manner::default() };
    // A reserve is 40 bytes.
    let seven_reserves = Manner { body_max: 319, ..Manner::default() };
    for manner in [seven_items, seven_reserves] {
        let server = Fake::start_with(manner, "127.0.0.1:0", user_as_sequence).await;
        let client = ample().connect(&server.url()).await.unwrap();
        let orders: Vec<Reserve> = (1..=20_u64).map(|user| Reserve::new(7, user, 1)).collect();
        let outcomes = client.reserve_many(&orders).await;
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().is_reserved()));
        assert_eq!(counts(&server), [7, 7, 6]);
    }
}

#[tokio::test]
async fn confirmations_travel_in_rows_too() {
    let server = Fake::start(|request| request.all(Answer::confirmed(AT, 1))).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let ids: Vec<_> = (0..20).map(|_| fresh_id()).collect();
    let outcomes = client.confirm_many(&ids).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().is_confirmed()));
    assert_eq!(counts(&server), [20]);
    assert_eq!(server.seen()[0].ids()[19].id(), ids[19]);
}

#[tokio::test]
async fn what_a_batch_has_in_doubt_is_resolved_together() {
    let mut book = fake::Book::default();
    let server = Fake::start(move |request| {
        let reserve = request.kind() == Kind::Reserve;
        if reserve && request.reserves()[0].user() == UserId(0) {
            return request.all(Answer::unknown());
        }
        let answers = book.answer(request);
        if reserve { request.all(Answer::unknown()) } else { request.reply(&answers) }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    // The first frame is dropped by the server, the second taken.
    let orders: Vec<Reserve> = (0..2_000_u64).map(|user| Reserve::new(7, user, 1)).collect();
    let outcomes = client.reserve_many(&orders).await;
    for (outcome, order) in outcomes[..1024].iter().zip(&orders) {
        assert_eq!(*outcome, Err(Error::Killed { id: order.reservation() }));
    }
    assert!(outcomes[1024..].iter().all(|outcome| outcome.as_ref().unwrap().is_reserved()));
    assert_eq!(server.kinds(), [Kind::Reserve, Kind::Reserve, Kind::Resolve, Kind::Resolve]);
    let cancelled = client.cancel_many(&orders.iter().map(Reserve::reservation).collect::<Vec<_>>(), 4).await;
    assert!(cancelled.iter().all(|outcome| outcome.as_ref().unwrap().is_released()));
    assert_eq!(server.seen().last().unwrap().ids()[0].reason(), 4);
}

fn product(id: u64) -> ProductView {
    ProductView {
        product: ProductId(id),
        stock: 10,
        free: 5,
        held: 3,
        sold: 2,
        terms: sluice_client::Terms {
            opens_ms: 0,
            closes_ms: 0,
            per_user_limit: 1,
            hold_ms: 9,
            unlimited: false,
        },
        sealed: true,
        earliest_return_ms: 77,
    }
}

#[tokio::test]
async fn pages_are_turned_until_the_end() {
    // Products 3, 6, 9, … 30, and the highest id there is; at most four in a page, whatever is asked for.
    let ids: Vec<u64> = (1..=10).map(|nth| nth * 3).chain([u64::MAX]).collect();
    let served = ids.clone();
    let server = Fake::start(move |request| {
        let list: &ListItem = &sluice_protocol::request::items(&request.body).unwrap()[0];
        let page = served.iter().filter(|id| **id >= list.from().0).take(4);
        let reply = |id: &u64| ProductReply { answer: Answer::done(AT, 0), record: product(*id).into() };
        let replies: Vec<ProductReply> = page.map(reply).collect();
        let body: Vec<u8> =
            replies.iter().flat_map(|reply| zerocopy::IntoBytes::as_bytes(reply).to_vec()).collect();
        Act::Write(fake::frame(Kind::ListProductsReply, 1, replies.len(), request.header.correlation, &body))
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    let products = client.products().all().await.unwrap();
    assert_eq!(products.iter().map(|product| product.product.0).collect::<Vec<_>>(), ids);
    assert!(matches!(client.list_products(0, 0).await, Err(Error::Setting { setting: "limit", .. })));
}

#[tokio::test]
async fn reads_return_what_the_server_has_or_nothing() {
    let id = fresh_id();
    let view = ReservationView { id, quantity: 2, deadline_ms: 5, ..ReservationView::default() };
    let server = Fake::start(move |request| match request.kind() {
        Kind::QueryProduct => {
            request.reply(&[ProductReply { answer: Answer::done(AT, 0), record: product(7).into() }])
        }
        _ if request.ids()[0].id() == id => {
            request.reply(&[ReservationReply { answer: Answer::found(AT, State::Held), record: view.into() }])
        }
        _ => {
            let answer = Answer::plain(AT, Status::UnknownReservation);
            request.reply(&[ReservationReply { answer, record: ReservationView::default().into() }])
        }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    let Product { stock, free, held, sold, sealed, at, .. } = client.product(7).await.unwrap().unwrap();
    assert_eq!((stock, free, held, sold, sealed, at), (10, 5, 3, 2, true, AT));
    let found = client.reservation(id).await.unwrap().unwrap();
    assert_eq!((found.state, found.quantity, found.deadline_ms), (State::Held, 2, 5));
    assert_eq!(client.reservation(fresh_id()).await, Ok(None));
    assert!(client.ping().await.unwrap() < AMPLE);
}
