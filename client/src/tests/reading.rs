//! Reads by any server.

use std::time::Duration;

use sluice_protocol::Kind;
use tokio::time::Instant;

use super::cluster::{Cluster, Door, Way, reserved};
use crate::{Builder, Client, ReadFrom, fresh_id};

fn any() -> Builder {
    Client::builder().read_from(ReadFrom::Any)
}

fn reads(cluster: &Cluster) -> [usize; 3] {
    let is_read =
        |kind: &Kind| matches!(kind, Kind::QueryReservation | Kind::QueryProduct | Kind::ListProducts);
    [1, 2, 3].map(|id| cluster.node(id).kinds().iter().filter(|kind| is_read(kind)).count())
}

fn all_read(cluster: &Cluster) {
    (1..=3).for_each(|id| cluster.node(id).way(Way::Reads));
}

#[tokio::test(start_paused = true)]
async fn reads_take_turns_and_commands_go_to_the_leader() {
    let cluster = Cluster::new();
    all_read(&cluster);
    let client = cluster.connect(any()).await;
    for user in 0..4 {
        assert!(client.product(7).await.unwrap().is_some());
        assert!(client.reservation(fresh_id()).await.unwrap().is_some());
        assert_eq!(client.list_products(0, 1).await.unwrap().len(), 1);
        assert!(!reserved(client.reserve(7, user, 1).await));
    }
    assert_eq!(reads(&cluster), [4, 4, 4]);
    assert_eq!([1, 2, 3].map(|id| cluster.node(id).attempts().len()), [4, 0, 0]);
    assert_eq!(cluster.dials(), [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_leader_reads_unless_others_are_asked_to() {
    let cluster = Cluster::new();
    all_read(&cluster);
    let client = cluster.connect(Client::builder()).await;
    for _ in 0..6 {
        assert!(client.product(7).await.unwrap().is_some());
    }
    assert_eq!((reads(&cluster), cluster.dials()), ([6, 0, 0], [1, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn servers_that_cannot_read_are_passed_over_and_left_alone_for_a_while() {
    for way in [Way::Proper, Way::Busy(5), Way::Busy(60_000), Way::Shut] {
        let cluster = Cluster::new();
        let client = cluster.connect(any()).await;
        cluster.node(2).way(way);
        cluster.node(3).way(way);
        let began = Instant::now();
        for _ in 0..100 {
            assert!(client.product(7).await.unwrap().is_some(), "{way:?}");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "{way:?}: somebody could answer at once");
        assert_eq!(reads(&cluster), [100, 1, 1], "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_end_the_leader_reads() {
    let cluster = Cluster::new();
    cluster.crown(3);
    let client = cluster.connect(any()).await;
    cluster.node(1).kill().await;
    cluster.node(2).door(Door::Swallows);
    for _ in 0..10 {
        assert!(client.product(7).await.unwrap().is_some());
    }
    assert_eq!(reads(&cluster), [0, 0, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_a_read_its_share_of_the_time_and_no_more() {
    let cluster = Cluster::new();
    all_read(&cluster);
    let client = cluster.connect(any()).await;
    for _ in 0..3 {
        client.product(7).await.unwrap();
    }
    cluster.node(2).stop();
    for _ in 0..30 {
        let began = Instant::now();
        assert!(client.product(7).await.unwrap().is_some());
        assert!(began.elapsed() <= Duration::from_millis(250), "{:?}", began.elapsed());
    }
    cluster.node(2).go_on();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = reads(&cluster);
    for _ in 0..30 {
        client.product(7).await.unwrap();
    }
    assert_eq!(reads(&cluster)[1] - before[1], 10, "it has its turn again");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_cluster_is_not_read_from() {
    let cluster = Cluster::new();
    all_read(&cluster);
    cluster.node(2).manner().cluster = 2;
    let client = cluster.connect(any()).await;
    for _ in 0..10 {
        assert!(client.product(7).await.unwrap().is_some());
    }
    assert_eq!(reads(&cluster)[1], 0);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_is_read_from_again() {
    let cluster = Cluster::new();
    all_read(&cluster);
    let client = cluster.connect(any()).await;
    for _ in 0..3 {
        client.product(7).await.unwrap();
    }
    cluster.node(3).kill().await;
    for _ in 0..30 {
        assert!(client.product(7).await.unwrap().is_some());
    }
    assert_eq!(reads(&cluster)[2], 1);
    cluster.node(3).door(Door::Open);
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..30 {
        client.product(7).await.unwrap();
    }
    assert_eq!(reads(&cluster)[2], 11);
}
