//! Nodes are killed, stopped, cut off, crowned and deposed at random while many call, and what callers heard is
//! compared with the book in the end.

use std::sync::Arc;
use std::time::Duration;

use sluice_protocol::State;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cluster::{Cluster, Door, Way};
use crate::ids::scramble;
use crate::{Client, Error, ReadFrom, Reserve, ReserveOutcome};

const SEEDS: u64 = 25;
const CALLERS: u64 = 20;
const CALLS: usize = 40;

/// Numbers that depend on the seed alone.
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        scramble(scramble(self.0)) % bound
    }
}

async fn strike(cluster: &Cluster, luck: &mut Luck) {
    let node = cluster.node(1 + luck.below(3));
    match luck.below(10) {
        0 => node.kill().await,
        1 => node.stop(),
        2 => node.way(Way::Mute),
        3 => node.way(Way::Shut),
        4 => node.way(Way::Slow),
        5 => node.hang_up().await,
        6 => {
            node.door(Door::Swallows);
            node.hang_up().await;
        }
        7 => cluster.tell(1 + luck.below(3), luck.below(4)),
        8 => cluster.crown(0),
        _ => cluster.crown(1 + luck.below(3)),
    }
}

fn heal(cluster: &Cluster) {
    for id in 1..=3 {
        let node = cluster.node(id);
        node.door(Door::Open);
        node.way(Way::Reads);
        node.go_on();
    }
    cluster.crown(1);
}

type Heard = Vec<(Reserve, Result<ReserveOutcome, Error>)>;

async fn caller(client: Client, user: u64) -> Heard {
    let mut heard = Vec::new();
    while heard.len() < CALLS {
        let orders = [Reserve::new(7, user, 1), Reserve::new(7, user, 1)];
        if user.is_multiple_of(2) {
            heard.extend(orders.into_iter().zip(client.reserve_many(&orders).await));
        } else {
            heard.push((orders[0], client.reserve_with(orders[0]).await));
        }
        let _ = client.product(7).await;
        sleep(Duration::from_millis(50)).await;
    }
    heard
}

async fn storm(seed: u64) -> (usize, usize) {
    let cluster = Cluster::new();
    let mut luck = Luck(scramble(seed));
    let builder =
        Client::builder().connections(2).read_from(ReadFrom::Any).resolve_budget(Duration::from_millis(300));
    let client = cluster.connect(builder.deadline(Duration::from_millis(200))).await;
    let mut callers = JoinSet::new();
    for user in 0..CALLERS {
        callers.spawn(caller(client.clone(), user));
    }
    let weather = tokio::spawn({
        let cluster = Arc::clone(&cluster);
        async move {
            loop {
                sleep(Duration::from_millis(10 + luck.below(200))).await;
                if luck.below(5) == 0 { heal(&cluster) } else { strike(&cluster, &mut luck).await }
            }
        }
    });
    let heard: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    weather.abort();
    heal(&cluster);
    // What hung is looked at by the nodes now, long after its callers went.
    sleep(Duration::from_secs(10)).await;
    judge(seed, &cluster, &heard)
}

/// How many were reserved, and how many ended without an outcome.
fn judge(seed: u64, cluster: &Cluster, heard: &Heard) -> (usize, usize) {
    let book = cluster.book();
    let (mut reserved, mut unresolved, mut other) = (0, 0, 0);
    for (order, result) in heard {
        let state = book.state(order.reservation());
        match result {
            Ok(ReserveOutcome::Reserved { id, .. }) => {
                assert_eq!((*id, state), (order.reservation(), State::Held), "seed {seed}");
                reserved += 1;
            }
            Ok(outcome) => panic!("seed {seed}: the book refuses nobody, but somebody heard {outcome:?}"),
            Err(Error::Unresolved { .. }) => unresolved += usize::from(state == State::Held),
            Err(Error::Killed { .. }) => assert_eq!(state, State::Fenced, "seed {seed}"),
            Err(error) => {
                assert_eq!(state, State::None, "seed {seed}: {error}");
                other += 1;
            }
        }
    }
    assert_eq!(book.held(), reserved + unresolved, "seed {seed}: units held that nobody was told of");
    (reserved, unresolved + other)
}

#[tokio::test(start_paused = true)]
async fn what_callers_hear_is_what_happened() {
    let (mut reserved, mut failed) = (0, 0);
    for seed in 1..=SEEDS {
        let (more_reserved, more_failed) = storm(seed).await;
        (reserved, failed) = (reserved + more_reserved, failed + more_failed);
    }
    assert!(
        reserved > failed && failed > 0,
        "{reserved} reserved, {failed} failed: no storm, or nothing else"
    );
}
