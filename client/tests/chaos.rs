//! A server that loses, closes, stalls and evades at random, and the one thing that must hold regardless:
//! what callers were told is what the book says.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{AT, Act, Book, Fake, Request};
use sluice_client::{Client, Error, Reserve, ReserveOutcome};
use sluice_protocol::{Answer, FaultCode, Kind, State};
use tokio::task::JoinSet;

/// Runs with different luck.
const SEEDS: u64 = 3;
/// Callers of each run, and calls of each, one after the other.
const CALLERS: u64 = 40;
const CALLS: u64 = 5;

/// A small random generator (xorshift64*; Vigna, An experimental exploration of Marsaglia's generators, 2016).
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// One request in two meets with something.
fn mishap(luck: &mut Luck, book: &mut Book, request: &Request) -> Act {
    match luck.below(16) {
        0 => Act::Lose,
        1 => Act::Close,
        2 => request.all(Answer::unknown()),
        3 => {
            book.answer(request);
            Act::Lose
        }
        4 => {
            book.answer(request);
            Act::Close
        }
        5 => {
            book.answer(request);
            if request.kind() == Kind::Reserve { request.all(Answer::unknown()) } else { Act::Close }
        }
        6 => request.all(Answer::busy(1)),
        7 => request.all(Answer::not_leader(0)),
        8 => Act::Fault(FaultCode::ShuttingDown as u16),
        9 => {
            book.answer(request);
            Act::Write(b"this is not a frame, however long one looks at it".to_vec())
        }
        _ => request.reply(&book.answer(request)),
    }
}

async fn run(seed: u64, batches: bool) {
    let book = Arc::new(Mutex::new(Book::default()));
    let mut luck = Luck(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let server = Fake::start({
        let book = Arc::clone(&book);
        move |request| mishap(&mut luck, &mut book.lock().unwrap(), request)
    })
    .await;
    let client = Client::builder()
        .deadline(Duration::from_millis(60))
        .patience(Duration::from_millis(20))
        .resolve_budget(Duration::from_secs(2))
        .connections(3)
        .connect(&server.url())
        .await
        .unwrap();
    let mut callers = JoinSet::new();
    for user in 1..=CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let orders: Vec<Reserve> = (0..CALLS).map(|_| Reserve::new(7, user, 1)).collect();
            let mut heard = Vec::new();
            if batches {
                heard = client.reserve_many(&orders).await;
            } else {
                for order in &orders {
                    heard.push(client.reserve_with(*order).await);
                }
            }
            orders.into_iter().zip(heard).collect::<Vec<_>>()
        });
    }
    let heard: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let book = book.lock().unwrap();
    let mut accounted_for = 0;
    for (order, result) in heard {
        let state = book.state(order.reservation());
        match result {
            Ok(ReserveOutcome::Reserved { id, at, .. }) => {
                assert_eq!((id, at, state), (order.reservation(), AT, State::Held), "seed {seed}");
                accounted_for += 1;
            }
            Ok(other) => panic!("seed {seed}: the book refuses nobody, but somebody heard {other:?}"),
            Err(Error::Killed { id }) => {
                assert_eq!((id, state), (order.reservation(), State::Fenced), "seed {seed}");
            }
            Err(Error::Unresolved { id }) => {
                assert_eq!(id, order.reservation());
                accounted_for += usize::from(state == State::Held);
            }
            Err(error) => assert_eq!(state, State::None, "seed {seed}: {error}, but the id was seen"),
        }
    }
    assert_eq!(book.held(), accounted_for, "seed {seed}: units held that nobody was told of");
}

#[tokio::test]
async fn what_callers_hear_is_what_happened() {
    for seed in 1..=SEEDS {
        run(seed, false).await;
    }
}

#[tokio::test]
async fn what_batches_hear_is_what_happened() {
    for seed in 1..=SEEDS {
        run(seed, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_it_is_in_parallel() {
    for seed in 1..=SEEDS {
        run(seed + SEEDS, false).await;
    }
}
