//! Books of three real servers while a sale goes on and leaders are killed: asked for the same event, all tell the same.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::process::Command;

use serde_json::Value;
use sluice_engine::audit::Promise;

use self::rig::{ClusterRig, run, seed};

/// Times that the nodes are compared, and between them a leader is killed.
const ROUNDS: u64 = 4;

/// Answers before a comparison, at most.
const ANSWERS_MAX: u64 = 4_000;

/// As small as it may be, so that books begin with snapshots.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// Where a node's ops port is now, by what it said when it began to serve.
fn ops(rig: &ClusterRig, id: u64) -> String {
    let said = rig.said(id);
    let (_, behind) = said.rsplit_once("ops=http://").expect("it serves");
    behind.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect()
}

/// What `sluice digest` says of all nodes, the leader first.
async fn digest(rig: &ClusterRig) -> Value {
    let leader = rig.leader().await;
    let mut ids: Vec<u64> = rig.cluster.ids().collect();
    ids.sort_by_key(|id| *id != leader);
    let ports = ids.into_iter().flat_map(|id| ["--ops".to_owned(), ops(rig, id)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["digest", "--json", "--wait", "30s"]).args(ports).env_remove("SLUICE_OPS");
    let asked = tokio::task::spawn_blocking(move || command.output().unwrap());
    serde_json::from_slice(&rig.wait("the digest", asked).await.unwrap().stdout).unwrap()
}

#[test]
fn three_nodes_have_the_same_books_as_of_any_event_while_leaders_are_killed() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let load = rig.under_load(&PRODUCTS).await;
        let mut last = 0;
        for round in 0..ROUNDS {
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            if round > 0 {
                let leader = rig.leader().await;
                rig.kill(leader);
                rig.start_again(leader).await;
            }
            rig.caught_up().await;
            let told = digest(&rig).await;
            assert_eq!(told["ok"], true, "{told}");
            assert_eq!(told["agree"].as_array().unwrap().len(), 3, "{told}");
            let sequence = told["sequence"].as_u64().unwrap();
            assert!(sequence > last, "the sale stands still");
            let units = |name: &str| told["totals"][name].as_u64().unwrap();
            assert_eq!(units("stock"), units("free") + units("held") + units("sold"), "{told}");
            last = sequence;
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit(&account).await;
    });
}
