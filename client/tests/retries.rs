//! Every way in which a call can be repeated, and every way in which it can end.
//!
//! What is asserted is what the server saw (ids, attempt numbers, kinds of frames) and what the caller heard;
//! never how long it took.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{AT, Act, Book, Fake, Manner};
use sluice_client::{
    Builder, Client, ConfirmOutcome, Error, Reserve, ReserveOutcome, Resolution, StockOutcome, Terms,
    fresh_id,
};
use sluice_protocol::{Answer, FaultCode, Kind, State, Status};

const TERMS: Terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 1_000, unlimited: false };

/// Time enough for everything that is expected to succeed.
const AMPLE: Duration = Duration::from_secs(30);

/// Time to waste where a deadline is expected to pass.
const BRIEF: Duration = Duration::from_millis(150);

fn ample() -> Builder {
    Client::builder().deadline(AMPLE).resolve_budget(AMPLE).patience(AMPLE)
}

/// Deadlines pass soon, stalled connections are given up soon, resolving has time.
fn hasty() -> Builder {
    Client::builder().deadline(BRIEF).resolve_budget(AMPLE).patience(BRIEF)
}

fn reserved(outcome: Result<ReserveOutcome, Error>) -> bool {
    match outcome {
        Ok(ReserveOutcome::Reserved { repeated, .. }) => repeated,
        other => panic!("reserved was expected, not {other:?}"),
    }
}

/// Plays these answers to successive frames, the last one for ever.
fn play(answers: Vec<Answer>) -> impl FnMut(&fake::Request) -> Act + Send + 'static {
    let mut next = 0;
    move |request| {
        let answer = answers[next.min(answers.len() - 1)];
        next += 1;
        request.all(answer)
    }
}

#[tokio::test]
async fn busy_full_and_not_leader_are_repeated_under_the_same_id_with_rising_attempts() {
    let done = Answer::reserved(AT, 1, 5_000);
    let server =
        Fake::start(play(vec![Answer::busy(1), Answer::full(AT, 1), Answer::not_leader(0), done])).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let id = fresh_id();
    assert!(!reserved(client.reserve_with(Reserve::new(7, 1, 2).fresh_id(id)).await));
    assert_eq!(server.attempts(), [0, 1, 2, 3]);
    assert!(server.seen().iter().all(|request| request.reserves()[0].id() == id));
}

#[tokio::test]
async fn what_claims_nothing_until_the_deadline_ends_in_nothing() {
    let rows = [
        (Answer::busy(60_000), Error::Busy { retry_after_ms: 60_000 }),
        (Answer::full(AT, 60_000), Error::Full { retry_after_ms: 60_000 }),
        (Answer::not_leader(0), Error::NotLeader),
    ];
    for (answer, error) in rows {
        let server = Fake::start(play(vec![answer])).await;
        let client = hasty().patience(AMPLE).connect(&server.url()).await.unwrap();
        assert_eq!(client.reserve(7, 1, 1).await, Err(error.clone()));
        assert!(error.is_retryable());
        assert!(!server.kinds().contains(&Kind::Resolve), "there is nothing to resolve after {error}");
    }
}

#[tokio::test]
async fn a_place_in_line_is_told_at_once_and_the_same_id_may_come_back_for_its_turn() {
    let server = Fake::start(play(vec![Answer::queueing(58, 120_000), Answer::reserved(AT, 1, 5_000)])).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let id = fresh_id();
    let order = Reserve::new(7, 1, 2).fresh_id(id);
    let told = ReserveOutcome::Queueing { id, place: 58, eta: Some(Duration::from_secs(120)) };
    assert_eq!(client.reserve_with(order).await, Ok(told));
    assert!(!reserved(client.reserve_with(order.id(id)).await));
    assert_eq!(server.attempts(), [0, 1]);
}

#[tokio::test]
async fn a_connection_that_closes_on_a_request_is_made_anew_and_the_log_decides() {
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        if request.connection == 0 { Act::Close } else { request.reply(&answers) }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(reserved(client.reserve(7, 1, 1).await), "the first attempt had taken the units");
    assert_eq!(server.attempts(), [0, 1]);
}

#[tokio::test]
async fn a_malformed_reply_closes_the_connection_and_the_request_is_repeated() {
    let server = Fake::start(move |request| match request.connection {
        0 => Act::Write(vec![0xEE; 64]),
        1 => request.reply(&[Answer::busy(0); 2]),
        _ => request.all(Answer::reserved(AT, 1, 5_000)),
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!(server.attempts(), [0, 1, 2]);
}

#[tokio::test]
async fn a_fault_that_passes_is_sat_out() {
    let server = Fake::start(move |request| match request.connection {
        0 => Act::Fault(FaultCode::ShuttingDown as u16),
        _ => request.all(Answer::reserved(AT, 1, 5_000)),
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(!reserved(client.reserve(7, 1, 1).await));
}

#[tokio::test]
async fn a_lost_reply_is_resolved_and_what_was_taken_is_told() {
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        if request.kind() == Kind::Reserve { Act::Lose } else { request.reply(&answers) }
    })
    .await;
    let client = hasty().patience(AMPLE).connect(&server.url()).await.unwrap();
    assert!(reserved(client.reserve(7, 1, 1).await));
    assert_eq!(server.kinds(), [Kind::Reserve, Kind::Resolve]);
}

#[tokio::test]
async fn a_lost_request_is_resolved_and_killed() {
    let mut book = Book::default();
    let server = Fake::start(move |request| match request.kind() {
        Kind::Reserve => Act::Lose,
        _ => request.reply(&book.answer(request)),
    })
    .await;
    let client = hasty().connect(&server.url()).await.unwrap();
    let id = fresh_id();
    let error = client.reserve_with(Reserve::new(7, 1, 1).fresh_id(id)).await.unwrap_err();
    assert_eq!(error, Error::Killed { id });
    assert!(error.is_retryable());
}

#[tokio::test]
async fn unknown_is_resolved_at_once() {
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        if request.kind() == Kind::Reserve { request.all(Answer::unknown()) } else { request.reply(&answers) }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(reserved(client.reserve(7, 1, 1).await));
    assert_eq!(server.kinds(), [Kind::Reserve, Kind::Resolve]);
}

#[tokio::test]
async fn a_status_of_a_later_version_is_resolved_too() {
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        if request.kind() != Kind::Reserve {
            return request.reply(&answers);
        }
        let mut answer = [0_u8; 48];
        answer[0] = 200;
        request.reply(&[answer])
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(reserved(client.reserve(7, 1, 1).await));
}

#[tokio::test]
async fn a_connection_that_stalls_is_replaced_and_the_question_goes_on_the_new_one() {
    let book = Arc::new(Mutex::new(Book::default()));
    let server = Fake::start({
        let book = Arc::clone(&book);
        move |request| {
            let answers = book.lock().unwrap().answer(request);
            if request.connection == 0 { Act::Lose } else { request.reply(&answers) }
        }
    })
    .await;
    let client = hasty().connect(&server.url()).await.unwrap();
    assert!(reserved(client.reserve(7, 1, 1).await));
    let mut resolves = server.seen().into_iter().filter(|request| request.kind() == Kind::Resolve);
    assert_eq!(resolves.next_back().unwrap().connection, 1);
    assert_eq!(book.lock().unwrap().held(), 1);
}

#[tokio::test]
async fn nobody_knowing_is_said_with_the_id_and_can_be_asked_later() {
    let deaf = Arc::new(Mutex::new(true));
    let server = Fake::start({
        let deaf = Arc::clone(&deaf);
        let mut book = Book::default();
        move |request| {
            let answers = book.answer(request);
            if *deaf.lock().unwrap() { Act::Lose } else { request.reply(&answers) }
        }
    })
    .await;
    let client = hasty().resolve_budget(BRIEF).connect(&server.url()).await.unwrap();
    let error = client.reserve(7, 1, 1).await.unwrap_err();
    let id = error.unresolved().expect("the id is told");
    assert!(!error.is_retryable(), "a new id could take twice");
    *deaf.lock().unwrap() = false;
    assert!(matches!(client.with_deadline(AMPLE).resolve(id).await, Ok(Resolution::Held { .. })));
}

#[tokio::test]
async fn an_id_of_the_callers_is_no_first_attempt_unless_it_says_so() {
    let server = Fake::start(play(vec![Answer::already(AT, State::Held, 3, 5_000)])).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let id = fresh_id();
    let held = client.reserve_with(Reserve::new(7, 1, 1).id(id)).await.unwrap();
    let expected = ReserveOutcome::Reserved { id, sequence: 3, deadline_ms: 5_000, repeated: true, at: AT };
    assert_eq!(held, expected);
    assert!(reserved(client.reserve_with(Reserve::new(7, 1, 1).fresh_id(id)).await));
    assert_eq!(server.attempts(), [1, 0]);
}

#[tokio::test]
async fn an_id_that_holds_something_else_is_never_taken_for_ones_own() {
    let id = fresh_id();
    let mut lost_once = false;
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        match request.kind() {
            Kind::Reserve if request.reserves()[0].user().0 == 2 && !lost_once => {
                lost_once = true;
                request.all(Answer::unknown())
            }
            _ => request.reply(&answers),
        }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(!reserved(client.reserve_with(Reserve::new(7, 1, 1).id(id)).await));
    let outcome = client.reserve_with(Reserve::new(7, 2, 1).id(id)).await;
    assert_eq!(outcome, Ok(ReserveOutcome::IdConflict { at: AT }));
    assert_eq!(server.kinds(), [Kind::Reserve, Kind::Reserve, Kind::Resolve, Kind::Reserve]);
}

#[tokio::test]
async fn changes_of_stock_are_resolved_like_reservations() {
    let server = Fake::start(|request| match request.kind() {
        Kind::Restock => request.all(Answer::unknown()),
        _ => request.all(Answer::already(AT, State::Applied, 4, 0)),
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    match client.restock(7, 5).await {
        Ok(StockOutcome::Done { sequence: 4, repeated: true, .. }) => {}
        other => panic!("done was expected, not {other:?}"),
    }
    assert_eq!(server.seen()[0].stocks()[0].quantity(), 5);
}

#[tokio::test]
async fn what_does_no_harm_is_simply_repeated() {
    let mut book = Book::default();
    let server = Fake::start(move |request| {
        let answers = book.answer(request);
        match request.kind() {
            Kind::Confirm if request.connection == 0 => Act::Close,
            _ => request.reply(&answers),
        }
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    let Ok(ReserveOutcome::Reserved { id, .. }) = client.reserve(7, 1, 1).await else {
        panic!("not reserved")
    };
    let confirmed = client.confirm(id).await.unwrap();
    assert!(matches!(confirmed, ConfirmOutcome::Confirmed { repeated: true, .. }), "{confirmed:?}");
    assert_eq!(server.kinds(), [Kind::Reserve, Kind::Confirm, Kind::Confirm]);
}

#[tokio::test]
async fn without_a_reply_each_call_says_what_may_be_repeated() {
    let server = Fake::start(|_| Act::Lose).await;
    let client = hasty().connect(&server.url()).await.unwrap();
    let id = fresh_id();
    assert_eq!(client.confirm(id).await, Err(Error::Unresolved { id }));
    assert_eq!(client.cancel(id, 3).await, Err(Error::Unresolved { id }));
    assert_eq!(client.resolve(id).await, Err(Error::Unresolved { id }));
    assert_eq!(client.product(7).await, Err(Error::Unanswered));
    assert_eq!(client.put_product(7, 1, TERMS).await, Err(Error::Unanswered));
    assert_eq!(client.seal(7).await, Err(Error::Unanswered));
}

#[tokio::test]
async fn calls_that_were_not_sent_survive_an_outage_as_first_attempts() {
    let server = Fake::start(play(vec![Answer::busy(0)])).await;
    let client = ample().connect(&server.url()).await.unwrap();
    let address = server.address();
    drop(server);
    // The client notices the end only when it next looks, so that this one may be lost with the connection.
    let _ = client.with_deadline(BRIEF).ping().await;
    let calls: Vec<_> = (0..10)
        .map(|user| {
            tokio::spawn({
                let client = client.clone();
                async move { client.reserve(7, user, 1).await }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let reserved_now = play(vec![Answer::reserved(AT, 1, 5_000)]);
    let server = Fake::start_with(Manner::default(), &address, reserved_now).await;
    for call in calls {
        assert!(!reserved(call.await.unwrap()));
    }
    assert_eq!(server.attempts(), [0; 10]);
}

#[tokio::test]
async fn with_nobody_there_nothing_was_done() {
    let server = Fake::start(|_| Act::Lose).await;
    let client = hasty().resolve_budget(BRIEF).connect(&server.url()).await.unwrap();
    let url = server.url();
    drop(server);
    let _ = client.ping().await;
    let error = client.reserve(7, 1, 1).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
    let error = Client::builder().connect_deadline(BRIEF).connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_closed_while_idle_is_connected_to_again_by_the_next_call() {
    let server = Fake::start(|request| match request.kind() {
        Kind::Seal => {
            Act::Both(vec![request.all(Answer::done(AT, 1)), Act::Fault(FaultCode::IdleTimeout as u16)])
        }
        _ => request.all(Answer::reserved(AT, 1, 5_000)),
    })
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    assert!(client.seal(7).await.unwrap().is_sealed());
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!(server.seen().last().unwrap().connection, 1);
}

#[tokio::test]
async fn another_server_is_tried_when_one_does_not_lead() {
    let follower = Fake::start(play(vec![Answer::not_leader(2)])).await;
    let leader = Fake::start(play(vec![Answer::reserved(AT, 1, 5_000)])).await;
    let url = format!("{},{}", follower.url(), leader.address());
    let client = ample().connect(&url).await.unwrap();
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!((follower.attempts(), leader.attempts()), (vec![0], vec![1]));
}

#[tokio::test]
async fn a_welcome_that_names_the_leader_is_followed() {
    let leader = Fake::start(play(vec![Answer::reserved(AT, 1, 5_000)])).await;
    let manner = Manner::naming(leader.address());
    let follower = Fake::start_with(manner, "127.0.0.1:0", |_| Act::Lose).await;
    let client = ample().connect(&follower.url()).await.unwrap();
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!((follower.kinds().len(), leader.attempts()), (0, vec![0]));
}

#[tokio::test]
async fn a_leader_that_is_gone_does_not_keep_the_client_from_whoever_named_it() {
    let gone = Fake::start(|_| Act::Lose).await;
    let manner = Manner::naming(gone.address());
    drop(gone);
    let reserve = play(vec![Answer::reserved(AT, 1, 5_000)]);
    let server = Fake::start_with(manner, "127.0.0.1:0", reserve).await;
    let client = tokio::spawn({
        let url = server.url();
        async move { ample().connect(&url).await }
    });
    while server.connections() < 3 {
        tokio::task::yield_now().await;
    }
    *server.manner.lock().unwrap() = Manner::default();
    assert!(!reserved(client.await.unwrap().unwrap().reserve(7, 1, 1).await));
    assert_eq!(server.attempts(), [0], "nothing was asked of it before it led");
}

#[tokio::test]
async fn a_server_of_another_version_is_told_at_once() {
    let manner = Manner { fault: Some(FaultCode::NoCommonVersion as u16), ..Manner::default() };
    let server = Fake::start_with(manner, "127.0.0.1:0", |_| Act::Lose).await;
    let error = Client::connect(&server.url()).await.unwrap_err();
    assert!(matches!(error, Error::Fault { code: 32, .. }), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(server.connections(), 1, "trying again cannot help");
}

#[tokio::test]
async fn settings_out_of_range_are_named() {
    let named = |error: Error| match error {
        Error::Setting { setting, .. } => setting,
        other => panic!("{other}"),
    };
    let url = "sluice://localhost";
    let rows = [
        (Client::builder().name("n".repeat(65)), "name"),
        (Client::builder().credentials(vec![0; 4097]), "credentials"),
        (Client::builder().connections(0), "connections"),
        (Client::builder().deadline(Duration::ZERO), "deadline"),
        (Client::builder().resolve_budget(Duration::from_secs(61)), "resolve_budget"),
        (Client::builder().patience(Duration::ZERO), "patience"),
    ];
    for (builder, setting) in rows {
        assert_eq!(named(builder.connect(url).await.unwrap_err()), setting);
    }
    assert!(matches!(Client::connect("localhost").await, Err(Error::Url(_))));
}

#[tokio::test]
async fn a_final_refusal_is_an_outcome_and_is_not_repeated() {
    let server = Fake::start(play(vec![
        Answer::insufficient(AT, 1, 2, 3),
        Answer::already_refused(AT, Status::SoldOut),
    ]))
    .await;
    let client = ample().connect(&server.url()).await.unwrap();
    let first = client.reserve(7, 1, 5).await;
    let expected = ReserveOutcome::Insufficient { free: 1, held: 2, earliest_return_ms: 3, at: AT };
    assert_eq!(first, Ok(expected));
    let second = client.reserve(7, 1, 5).await;
    assert_eq!(second, Ok(ReserveOutcome::RefusedEarlier { with: Status::SoldOut, at: AT }));
    assert_eq!(server.attempts(), [0, 0]);
}
