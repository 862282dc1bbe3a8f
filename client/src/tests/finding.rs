//! Whom the client asks, in which order, and how often.

use std::time::Duration;

use sluice_protocol::NodeId;
use tokio::time::{Instant, sleep};

use super::cluster::{ADDRESSES, Cluster, Door, Way, reserved};
use crate::{Client, Error, Trouble};

/// What a user would call at once.
const TENTH: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn a_welcome_that_names_the_leader_is_followed_at_once() {
    let cluster = Cluster::new();
    cluster.crown(3);
    let began = Instant::now();
    let client = cluster.connect(Client::builder()).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!(cluster.dials(), [1, 0, 1]);
    assert_eq!(cluster.node(3).attempts(), [0], "nobody else was asked for units");
    assert_eq!(client.server().unwrap().to_string(), ADDRESSES[2]);
}

#[tokio::test(start_paused = true)]
async fn who_knows_no_leader_is_passed_over() {
    let cluster = Cluster::new();
    cluster.tell(1, 0);
    cluster.tell(2, 0);
    cluster.tell(3, 3);
    let began = Instant::now();
    let client = cluster.connect(Client::builder()).await;
    assert!(began.elapsed() <= TENTH, "{:?}", began.elapsed());
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert_eq!(cluster.dials(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_named_leader_that_is_gone_costs_no_long_pause() {
    for door in [Door::Refuses, Door::Swallows] {
        let cluster = Cluster::new();
        cluster.tell(1, 2);
        cluster.tell(3, 3);
        cluster.node(2).door(door);
        let began = Instant::now();
        let _client = cluster.connect(Client::builder()).await;
        assert!(began.elapsed() <= TENTH, "{door:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_name_each_other_send_nobody_in_circles() {
    let cluster = Cluster::new();
    cluster.tell(1, 2);
    cluster.tell(2, 1);
    cluster.tell(3, 0);
    let began = Instant::now();
    let connecting = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.connect(Client::builder()).await }
    });
    sleep(Duration::from_secs(1)).await;
    let dials = cluster.dials_between(began, Instant::now());
    assert!((20..=100).contains(&dials), "{dials} dials in a second");
    let crowned = Instant::now();
    cluster.tell(3, 3);
    connecting.await.unwrap();
    assert!(crowned.elapsed() <= TENTH, "{:?}", crowned.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_holds_nobody_up() {
    for leader in [2, 3] {
        for silent in [Door::Swallows, Door::Open] {
            let cluster = Cluster::new();
            cluster.crown(leader);
            cluster.node(1).door(silent);
            cluster.node(1).stop();
            let began = Instant::now();
            let _client = cluster.connect(Client::builder()).await;
            assert!(began.elapsed() <= TENTH, "{silent:?}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_awaited_if_it_is_the_only_one() {
    let cluster = Cluster::new();
    cluster.node(1).stop();
    let builder = Client::builder();
    let connecting = tokio::spawn(builder.connect_over(cluster.clone(), "sluice://a"));
    sleep(Duration::from_millis(900)).await;
    assert_eq!(cluster.dials(), [1, 0, 0]);
    cluster.node(1).go_on();
    connecting.await.unwrap().unwrap();
    assert_eq!(cluster.dials(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn while_nobody_leads_the_nodes_are_asked_often_and_not_too_often() {
    for connections in [1, 16] {
        let cluster = Cluster::new();
        let client = cluster.connect(Client::builder().connections(connections)).await;
        for _ in 0..connections {
            client.ping().await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        cluster.node(1).kill().await;
        cluster.crown(0);
        let calls: Vec<_> = (0..100)
            .map(|user| {
                let client = client.clone();
                tokio::spawn(async move { client.reserve(7, user, 1).await })
            })
            .collect();
        sleep(Duration::from_millis(100)).await;
        let from = Instant::now();
        sleep(Duration::from_millis(600)).await;
        let dials = cluster.dials_between(from, Instant::now());
        assert!((12..=60).contains(&dials), "{connections} connections, {dials} dials in 600 ms");
        cluster.crown(2);
        sleep(TENTH).await;
        assert_eq!(cluster.book().held(), 100, "all calls have reached the new leader");
        for call in calls {
            assert!(!reserved(call.await.unwrap()), "none of them was sent to anybody else before");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_it_is_tried_ever_more_slowly_up_to_a_tenth_of_a_second() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    for id in 1..=3 {
        cluster.node(id).kill().await;
    }
    let call =
        tokio::spawn(async move { client.with_deadline(Duration::from_secs(5)).reserve(7, 1, 1).await });
    sleep(Duration::from_secs(1)).await;
    let from = Instant::now();
    sleep(Duration::from_secs(1)).await;
    let dials = cluster.dials_between(from, Instant::now());
    assert!((3 * 10..=3 * 16).contains(&dials), "{dials} dials in a second");
    for id in 1..=3 {
        cluster.node(id).door(Door::Open);
    }
    let opened = Instant::now();
    assert!(!reserved(call.await.unwrap()));
    assert!(opened.elapsed() <= TENTH, "{:?}", opened.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_does_not_lead_yet_is_not_hammered() {
    for way in [Way::Shut, Way::OnlyReads] {
        for connections in [1, 2, 16] {
            let cluster = Cluster::new();
            cluster.node(1).way(way);
            let builder = Client::builder().connections(connections).deadline(Duration::from_secs(5));
            let client = cluster.connect(builder).await;
            let calls: Vec<_> = (0..50)
                .map(|user| {
                    let client = client.clone();
                    tokio::spawn(async move { client.reserve(7, user, 1).await })
                })
                .collect();
            let from = Instant::now();
            // Reads beside them, all the time: so a connection is of use for a moment.
            let readers: Vec<_> = (0..20)
                .map(|_| {
                    let client = client.with_deadline(Duration::from_millis(10));
                    tokio::spawn(async move {
                        loop {
                            let _ = client.product(7).await;
                            sleep(Duration::from_millis(1)).await;
                        }
                    })
                })
                .collect();
            sleep(Duration::from_millis(500)).await;
            readers.iter().for_each(|reader| reader.abort());
            let what = format!("{way:?}, {connections} connections");
            let dials = cluster.dials_between(from, Instant::now());
            assert!((5..=60).contains(&dials), "{what}: {dials} dials in half a second");
            cluster.node(1).way(Way::Proper);
            sleep(2 * TENTH).await;
            assert_eq!(cluster.book().held(), 50, "{what}");
            for call in calls {
                reserved(call.await.unwrap());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_nobody_calls() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder().connections(4)).await;
    let dials = cluster.dials();
    cluster.node(1).kill().await;
    cluster.crown(0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.dials(), dials);
    assert!(client.reserve(7, 1, 1).await.is_err());
    sleep(Duration::from_secs(1)).await;
    let dials = cluster.dials();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.dials(), dials, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_cluster_is_never_used_and_others_are() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.node(1).kill().await;
    cluster.node(2).manner().cluster = 2;
    cluster.tell(2, 2);
    cluster.tell(3, 3);
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert!(cluster.node(2).kinds().is_empty());
    assert_eq!(cluster.node(3).attempts(), [0]);
}

#[tokio::test(start_paused = true)]
async fn another_cluster_everywhere_is_told_at_once_with_addresses_and_ids() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    for id in 1..=3 {
        cluster.node(id).manner().cluster = 2;
    }
    cluster.node(1).hang_up().await;
    let began = Instant::now();
    let error = client.reserve(7, 1, 1).await.unwrap_err();
    assert!(began.elapsed() <= TENTH, "{:?}", began.elapsed());
    assert!(!error.is_retryable(), "{error}");
    let Error::NoServer { tried } = error else { panic!("{error}") };
    let foreign = Trouble::OtherCluster { expected: 1.into(), got: 2.into() };
    assert!(tried.iter().all(|tried| tried.trouble == foreign), "{tried:?}");
    let mut addresses: Vec<_> = tried.into_iter().map(|tried| tried.address).collect();
    addresses.sort();
    assert_eq!(addresses, ADDRESSES);
    assert_eq!([1, 2, 3].map(|id| cluster.node(id).kinds().len()), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_server_of_another_cluster_is_told_as_itself() {
    let cluster = Cluster::new();
    let client = Client::builder().connect_over(cluster.clone(), "sluice://a").await.unwrap();
    cluster.node(1).manner().cluster = 2;
    cluster.node(1).hang_up().await;
    let expected =
        Error::OtherCluster { address: ADDRESSES[0].to_owned(), expected: 1.into(), got: 2.into() };
    assert_eq!(client.product(7).await, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_steps_down_and_knows_its_successor_is_left_for_it() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    cluster.crown(3);
    assert!(!reserved(client.reserve(7, 1, 1).await));
    cluster.crown(1);
    assert!(!reserved(client.reserve(7, 2, 1).await));
    sleep(Duration::from_secs(1)).await;
    let dials = cluster.dials();
    let began = Instant::now();
    cluster.crown(3);
    assert!(!reserved(client.reserve(7, 3, 1).await));
    assert!(began.elapsed() <= Duration::from_millis(10), "only the call's own pause: {:?}", began.elapsed());
    let [a, b, c] = cluster.dials();
    assert_eq!([a - dials[0], b - dials[1], c - dials[2]], [0, 0, 1], "it knows where node 3 is");
    assert_eq!(cluster.node(1).attempts(), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_each_server_is_told() {
    let cluster = Cluster::new();
    let client = cluster.connect(Client::builder()).await;
    assert!(client.troubles().is_empty());
    cluster.node(1).kill().await;
    cluster.crown(0);
    let error = client.reserve(7, 1, 1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(client.server(), None);
    let Error::NoServer { mut tried } = error else { panic!("{error}") };
    assert_eq!(tried.len(), 3);
    tried.sort_by(|one, other| one.address.cmp(&other.address));
    assert!(matches!(&tried[0].trouble, Trouble::Io(why) if why.contains("refused")), "{tried:?}");
    assert_eq!(tried[1].trouble, Trouble::NotLeading { node: NodeId(2), leader: None });
    assert_eq!(tried[2].trouble, Trouble::NotLeading { node: NodeId(3), leader: None });
    cluster.crown(2);
    assert!(!reserved(client.reserve(7, 1, 1).await));
    assert!(client.troubles().is_empty());
}
