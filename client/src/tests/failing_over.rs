//! Leaders die, hang, stop, and are cut off; and the calls under way.

use std::time::Duration;

use sluice_protocol::FaultCode;
use tokio::time::{Instant, sleep};

use super::cluster::{ADDRESSES, Cluster, Door, Way, reserved};
use crate::{Client, Error, ReserveOutcome};

/// How long an election takes here.
const ELECTION: Duration = Duration::from_millis(500);

/// From a leader that is open to a call that was answered.
const TENTH: Duration = Duration::from_millis(100);

type Call = tokio::task::JoinHandle<Result<ReserveOutcome, Error>>;

/// A call for a user, under way.
async fn begin(client: &Client, user: u64) -> Call {
    let client = client.clone();
    let call = tokio::spawn(async move { client.reserve(7, user, 1).await });
    sleep(Duration::from_millis(1)).await;
    call
}

/// Nobody leads for a while; then this node does. How long the call took from there.
async fn elect(cluster: &Cluster, leader: u64, call: Call) -> (Duration, bool) {
    for id in (1..=3).filter(|id| *id != 1) {
        cluster.tell(id, 0);
    }
    sleep(ELECTION).await;
    for id in (1..=3).filter(|id| *id != 1) {
        cluster.tell(id, leader);
    }
    let open = Instant::now();
    let repeated = reserved(call.await.unwrap());
    (open.elapsed(), repeated)
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_within_a_tenth_of_a_second() {
    for gone in [Door::Refuses, Door::Swallows] {
        for leader in [2, 3] {
            let cluster = Cluster::new();
            let client = cluster.connect(Client::builder()).await;
            cluster.node(1).kill().await;
            cluster.node(1).door(gone);
            let call = begin(&client, 1).await;
            let (took, repeated) = elect(&cluster, leader, call).await;
            assert!(took <= TENTH, "{gone:?}, node {leader}: {took:?}");
            assert!(!repeated);
            assert_eq!(cluster.node(leader).attempts(), [0], "it had not been sent before");
            assert_eq!(client.server().unwrap().to_string(), ADDRESSES[leader as usize - 1]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn followers_that_still_name_the_dead_hold_nobody_up() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).kill().await;
    let call = begin(&client, 1).await;
    sleep(Duration::from_millis(300)).await;
    cluster.tell(2, 2);
    let open = Instant::now();
    assert!(!reserved(call.await.unwrap()));
    assert!(open.elapsed() <= TENTH, "node 3 still names the dead: {:?}", open.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_as_the_leader_died_is_sent_again_as_a_later_attempt() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).way(Way::Mute);
    let call = begin(&client, 1).await;
    cluster.node(1).kill().await;
    let (took, repeated) = elect(&cluster, 2, call).await;
    assert!(took <= TENTH, "{took:?}");
    assert!(repeated, "the dead one had done it");
    assert_eq!((cluster.node(1).attempts(), cluster.node(2).attempts()), (vec![0], vec![1]));
    assert_eq!(cluster.book().held(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_is_left_as_soon_as_another_one_leads() {
    for connections in [1, 4] {
        let cluster = Cluster::new();
        let client = cluster.connect(Client::builder().connections(connections)).await;
        for _ in 0..connections {
            client.ping().await.unwrap();
        }
        cluster.node(1).stop();
        let mut calls = Vec::new();
        for user in 0..8 {
            calls.push(begin(&client, user).await);
        }
        let first = calls.remove(0);
        let (took, repeated) = elect(&cluster, 3, first).await;
        assert!(took <= TENTH, "{connections} connections: {took:?}");
        assert!(!repeated);
        for call in calls {
            reserved(call.await.unwrap());
        }
        assert_eq!(cluster.book().held(), 8);
        assert!(cluster.node(3).attempts().iter().all(|attempt| *attempt > 0), "each was in doubt");
        cluster.node(1).go_on();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.book().held(), 8, "the hanging one wakes up and finds nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_replies_are_cut_off_has_done_what_it_did_once() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    // Requests arrive and are carried out; nothing comes back, pongs neither.
    cluster.node(1).way(Way::Mute);
    let call = begin(&client, 1).await;
    cluster.node(1).stop();
    let (took, repeated) = elect(&cluster, 2, call).await;
    assert!(took <= TENTH, "{took:?}");
    assert!(repeated);
    assert_eq!((cluster.node(2).attempts(), cluster.book().held()), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hung_while_nobody_called_is_found_out_by_the_first_call() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).stop();
    cluster.tell(2, 2);
    cluster.tell(3, 2);
    sleep(Duration::from_secs(30)).await;
    let began = Instant::now();
    reserved(client.reserve(7, 1, 1).await);
    assert!(began.elapsed() <= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_leader_that_answers_pings_is_left_in_peace() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    let dials = cluster.dials();
    cluster.node(1).way(Way::Slow);
    let slow = begin(&client, 1).await;
    sleep(Duration::from_millis(700)).await;
    cluster.node(1).way(Way::Proper);
    let quick = begin(&client, 2).await;
    assert!(!reserved(slow.await.unwrap()) && !reserved(quick.await.unwrap()));
    assert_eq!(cluster.dials(), dials, "nobody else was asked");
    assert_eq!(cluster.node(1).attempts(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_that_nobody_replaced_keeps_its_calls() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).stop();
    let call = begin(&client, 1).await;
    sleep(Duration::from_millis(600)).await;
    assert!(cluster.dials()[1..].iter().sum::<usize>() > 5, "the others are asked who leads");
    cluster.node(1).go_on();
    assert!(!reserved(call.await.unwrap()));
    assert_eq!(cluster.node(1).attempts(), [0]);
    let dials = cluster.dials();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.dials(), dials, "and not any more once it speaks");
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_not_mistaken_for_its_successor_under_another_name() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    // The second and the third address lead to the first node, too.
    for id in [2, 3] {
        cluster.node(id).manner().node = 1;
        cluster.node(id).manner().leader = 1;
    }
    cluster.node(1).stop();
    let call = begin(&client, 1).await;
    sleep(Duration::from_millis(600)).await;
    cluster.node(1).go_on();
    assert!(!reserved(call.await.unwrap()));
    assert_eq!([1, 2, 3].map(|id| cluster.node(id).attempts().len()), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_fails_no_call() {
    for last_words in [Way::Proper, Way::Shut, Way::Busy(5), Way::Busy(300)] {
        let cluster = Cluster::new();
        let client = cluster.connect(Client::builder().connections(2)).await;
        let calls = tokio::spawn({
            let client = client.clone();
            async move {
                let mut failed = Vec::new();
                for user in 0..400 {
                    failed.extend(client.reserve(7, user, 1).await.err());
                    sleep(Duration::from_millis(10)).await;
                }
                failed
            }
        });
        for (id, successor) in [(1, 2), (2, 3), (3, 1)] {
            sleep(Duration::from_millis(200)).await;
            cluster.node(id).way(last_words);
            sleep(Duration::from_millis(30)).await;
            cluster.crown(0);
            cluster.node(id).manner().fault = Some(FaultCode::ShuttingDown as u16);
            sleep(Duration::from_millis(20)).await;
            cluster.node(id).kill().await;
            sleep(Duration::from_millis(300)).await;
            cluster.crown(successor);
            sleep(Duration::from_millis(500)).await;
            cluster.node(id).manner().fault = None;
            cluster.node(id).way(Way::Proper);
            cluster.node(id).door(Door::Open);
        }
        let failed = calls.await.unwrap();
        assert!(failed.is_empty(), "{last_words:?}: {failed:?}");
        assert_eq!(cluster.book().held(), 400, "{last_words:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_server_asked_for_does_not_bind_its_successor() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).way(Way::Busy(600));
    let patient = begin(&client, 1).await;
    cluster.node(1).kill().await;
    cluster.crown(2);
    let began = Instant::now();
    assert!(!reserved(begin(&client, 2).await.await.unwrap()));
    reserved(patient.await.unwrap());
    assert!(began.elapsed() <= TENTH, "{:?}", began.elapsed());
}
