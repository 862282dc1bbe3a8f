//! A cluster's troubles over real sockets: resets, stopped processes, addresses that say nothing.
//!
//! What is asserted is who saw which attempts, never how long it took: the client's own tests have a clock that
//! stands still for that.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Act, Book, Fake, Manner, Request};
use sluice_client::{Builder, Client, Error, ReadFrom, ReserveOutcome};
use sluice_protocol::{Answer, Kind, State};

/// Time enough for everything that is expected to succeed; far too much to be waited for.
const AMPLE: Duration = Duration::from_secs(30);

fn ample() -> Builder {
    Client::builder().deadline(AMPLE).resolve_budget(AMPLE).patience(AMPLE)
}

fn repeated(outcome: Result<ReserveOutcome, Error>) -> bool {
    match outcome {
        Ok(ReserveOutcome::Reserved { repeated, .. }) => repeated,
        other => panic!("reserved was expected, not {other:?}"),
    }
}

/// A node that follows node 1, or leads.
async fn node(id: u64, leader: &str, handler: impl FnMut(&Request) -> Act + Send + 'static) -> Fake {
    let leader_id = if leader.is_empty() { id } else { 1 };
    let manner =
        Manner { node: id, leader: leader_id, leader_address: leader.to_owned(), ..Manner::default() };
    Fake::start_with(manner, "127.0.0.1:0", handler).await
}

fn url(nodes: &[&Fake]) -> String {
    let addresses: Vec<String> = nodes.iter().map(|node| node.address()).collect();
    format!("sluice://{}", addresses.join(","))
}

fn lead(node: &Fake, id: u64) {
    let mut manner = node.manner.lock().unwrap();
    (manner.leader, manner.leader_address) = (id, String::new());
}

/// Answers from a book that all nodes share.
fn honest(book: &Arc<Mutex<Book>>) -> impl FnMut(&Request) -> Act + Send + 'static {
    let book = Arc::clone(book);
    move |request| request.reply(&book.lock().unwrap().answer(request))
}

#[tokio::test]
async fn a_leader_that_dies_in_the_midst_of_a_reply_is_replaced_and_the_log_decides() {
    let book = Arc::default();
    let mut answer = honest(&book);
    let first = node(1, "", move |request| match answer(request) {
        Act::Write(reply) => Act::Reset(reply[..reply.len() / 2].to_vec()),
        other => other,
    })
    .await;
    let second = node(2, &first.address(), honest(&book)).await;
    let client = ample().connect(&url(&[&second, &first])).await.unwrap();
    lead(&second, 2);
    first.manner.lock().unwrap().leader = 0;
    assert!(repeated(client.reserve(7, 1, 1).await));
    assert_eq!((first.attempts(), second.attempts()), (vec![0], vec![1]));
    assert_eq!(client.server().unwrap().to_string(), second.address());
    assert_eq!(book.lock().unwrap().held(), 1);
}

#[tokio::test]
async fn a_leader_that_is_stopped_is_left_long_before_its_reply_is_overdue() {
    let book = Arc::default();
    let first = node(1, "", honest(&book)).await;
    let second = node(2, &first.address(), honest(&book)).await;
    let client = ample().connect(&url(&[&first, &second])).await.unwrap();
    first.stopped.send_replace(true);
    lead(&second, 2);
    // With this deadline and this patience the reply would be overdue after a minute.
    assert!(!repeated(client.reserve(7, 1, 1).await));
    assert_eq!(second.attempts(), [1], "the first attempt was in doubt");
    assert_eq!(book.lock().unwrap().held(), 1);
}

#[tokio::test]
async fn an_address_that_accepts_and_says_nothing_is_passed_by() {
    let book = Arc::default();
    let silent = node(1, "", |_| Act::Lose).await;
    silent.stopped.send_replace(true);
    let leader = node(2, "", honest(&book)).await;
    let client = ample().connect(&url(&[&silent, &leader])).await.unwrap();
    assert!(!repeated(client.reserve(7, 1, 1).await));
    assert!(silent.kinds().is_empty());
}

#[tokio::test]
async fn reads_are_spread_and_go_to_the_leader_if_others_cannot() {
    let read = |request: &Request| request.reply(&[fake::reservation(Answer::found(fake::AT, State::Held))]);
    let refuse = |request: &Request| request.reply(&[fake::reservation(Answer::not_leader(1))]);
    let leader = node(1, "", read).await;
    let reader = node(2, &leader.address(), read).await;
    let older = node(3, &leader.address(), refuse).await;
    let servers = [&leader, &reader, &older];
    let client = ample().read_from(ReadFrom::Any).connect(&url(&servers)).await.unwrap();
    for _ in 0..9 {
        let found = client.reservation(sluice_client::fresh_id()).await.unwrap().unwrap();
        assert_eq!(found.state, State::Held);
    }
    let counts = servers.map(|server| server.kinds().len());
    assert_eq!(counts.iter().sum::<usize>(), 9 + counts[2], "what one refused, another one answered");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(servers.iter().all(|server| server.kinds().iter().all(|kind| *kind == Kind::QueryReservation)));
}
