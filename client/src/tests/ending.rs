//! Deadlines are kept, and nothing contradicts the book, whatever the servers do.

use std::time::Duration;

use sluice_protocol::State;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Door, Way};
use crate::{Client, Error, ReadFrom, Reserve, ReserveOutcome, fresh_id};

const DEADLINE: Duration = Duration::from_millis(800);
const RESOLVE: Duration = Duration::from_millis(1_200);

/// What becomes of all nodes while a call is under way, or before it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    Gone,
    Hanging,
    Leaderless,
    Foreign,
    Mute,
    Shut,
    Busy,
    Slow,
}

const FATES: [Fate; 9] = [
    Fate::Killed,
    Fate::Gone,
    Fate::Hanging,
    Fate::Leaderless,
    Fate::Foreign,
    Fate::Mute,
    Fate::Shut,
    Fate::Busy,
    Fate::Slow,
];

impl Fate {
    async fn strike(self, cluster: &Cluster) {
        for id in 1..=3 {
            let node = cluster.node(id);
            match self {
                Self::Killed => node.kill().await,
                Self::Gone => {
                    node.kill().await;
                    node.door(Door::Swallows);
                }
                Self::Hanging => node.stop(),
                Self::Leaderless => cluster.tell(id, 0),
                Self::Foreign => {
                    node.manner().cluster = 2;
                    node.hang_up().await;
                }
                Self::Mute => node.way(Way::Mute),
                Self::Shut => node.way(Way::Shut),
                Self::Busy => node.way(Way::Busy(10)),
                Self::Slow => node.way(Way::Slow),
            }
        }
    }
}

async fn connect(cluster: &std::sync::Arc<Cluster>, read_from: ReadFrom) -> Client {
    let builder = Client::builder().deadline(DEADLINE).resolve_budget(RESOLVE).read_from(read_from);
    cluster.connect(builder).await
}

/// No result contradicts the book.
fn check(cluster: &Cluster, order: &Reserve, result: &Result<ReserveOutcome, Error>, what: &str) {
    let state = cluster.book().state(order.reservation());
    match result {
        Ok(outcome) => {
            assert!(outcome.is_reserved() && state == State::Held, "{what}: {outcome:?}, {state:?}");
        }
        Err(Error::Killed { .. }) => assert_eq!(state, State::Fenced, "{what}"),
        Err(Error::Unresolved { id }) => assert_eq!(*id, order.reservation(), "{what}"),
        Err(error) => assert_eq!(state, State::None, "{what}: {error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_its_deadline_and_its_resolve_budget() {
    for fate in FATES {
        for before_ms in [0, 1, 100, 700] {
            let cluster = Cluster::new();
            let client = connect(&cluster, ReadFrom::Leader).await;
            let what = format!("{fate:?} after {before_ms} ms");
            if before_ms == 0 {
                fate.strike(&cluster).await;
            } else {
                // So that calls are still under way then.
                cluster.node(1).way(Way::Slow);
            }
            let began = Instant::now();
            let order = Reserve::new(7, 1, 1);
            let call = tokio::spawn({
                let client = client.clone();
                async move { (client.reserve_with(order).await, began.elapsed()) }
            });
            let orders = [Reserve::new(7, 2, 1), Reserve::new(7, 3, 1)];
            let row = tokio::spawn({
                let client = client.clone();
                async move { (client.reserve_many(&orders).await, began.elapsed()) }
            });
            sleep(Duration::from_millis(before_ms)).await;
            if before_ms > 0 {
                fate.strike(&cluster).await;
            }
            let (result, took) = call.await.unwrap();
            assert!(took <= DEADLINE + RESOLVE, "{what}: {took:?}");
            check(&cluster, &order, &result, &what);
            let (results, took) = row.await.unwrap();
            assert!(took <= DEADLINE + RESOLVE, "{what}: {took:?}");
            orders.iter().zip(&results).for_each(|(order, result)| check(&cluster, order, result, &what));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_resolving_ends_at_its_deadline() {
    for fate in FATES {
        for read_from in [ReadFrom::Leader, ReadFrom::Any] {
            let cluster = Cluster::new();
            let client = connect(&cluster, read_from).await;
            client.product(7).await.unwrap();
            fate.strike(&cluster).await;
            let began = Instant::now();
            let _ = client.product(7).await;
            assert!(began.elapsed() <= DEADLINE, "{fate:?}: {:?}", began.elapsed());
            let began = Instant::now();
            let _ = client.confirm(fresh_id()).await;
            assert!(began.elapsed() <= DEADLINE, "{fate:?}: {:?}", began.elapsed());
            let began = Instant::now();
            let _ = client.cancel_many(&[fresh_id(), fresh_id()], 1).await;
            assert!(began.elapsed() <= DEADLINE, "{fate:?}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_ends_at_its_deadline_and_tells_what_was_tried() {
    for fate in [Fate::Killed, Fate::Gone, Fate::Hanging, Fate::Leaderless] {
        let cluster = Cluster::new();
        fate.strike(&cluster).await;
        let began = Instant::now();
        let error = cluster.try_connect(Client::builder().connect_deadline(3 * DEADLINE)).await.unwrap_err();
        assert!(began.elapsed() <= 3 * DEADLINE, "{fate:?}: {:?}", began.elapsed());
        let Error::NoServer { tried } = error else { panic!("{fate:?}: {error}") };
        assert_eq!(tried.len(), 3, "{fate:?}: {tried:?}");
    }
}
