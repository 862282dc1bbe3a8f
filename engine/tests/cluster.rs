//! Three real processes that are one cluster.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::path::Path;
use std::time::{Duration, Instant};

use sluice_client::{Client, ProductId, Terms, UserId};
use sluice_engine::child::cluster::{ClusterLaunch, LocalCluster};

const PATIENCE: Duration = Duration::from_secs(20);

fn launch(dir: &Path) -> ClusterLaunch {
    ClusterLaunch {
        binary: env!("CARGO_BIN_EXE_sluice").into(),
        dir: dir.to_owned(),
        nodes: 3,
        flags: ["--disk-free-min", "0"].map(str::to_owned).to_vec(),
        variables: Vec::new(),
        patience: PATIENCE,
    }
}

#[tokio::test]
async fn another_node_sells_on_when_the_leader_is_killed() {
    let dir = tempfile::Builder::new().disable_cleanup(true).prefix("clu").tempdir().unwrap();
    let mut cluster = LocalCluster::start(&launch(dir.path())).await.unwrap();
    let client = Client::builder().deadline(PATIENCE).connect(&cluster.url()).await.unwrap();
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };
    assert!(client.put_product(ProductId(1), 100, terms).await.unwrap().is_done());
    for turn in 0..10 {
        let leader = cluster.leader().await.unwrap();
        cluster.kill(leader).unwrap();
        let start = Instant::now();
        let killed = std::time::SystemTime::now();
        let told = client.reserve(ProductId(1), UserId(turn), 1).await.unwrap();
        assert!(told.is_reserved(), "{told:?}");
        eprintln!(
            "{leader} {:?} killed {:?} now {:?}",
            start.elapsed(),
            killed,
            std::time::SystemTime::now()
        );
        cluster.start_again(leader).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let product = client.product(ProductId(1)).await.unwrap().unwrap();
    assert_eq!((product.held, product.free), (10, 90));
    for id in cluster.ids() {
        eprintln!("{}", std::fs::read_to_string(&cluster.node(id).launch().log).unwrap());
    }
}
