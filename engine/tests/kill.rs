//! The real binary, killed at random under load; then every answer it ever gave is checked.
//!
//! What the other tests show of the parts, these show of the whole: whatever was said before SIGKILL is true after it.
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use serde_json::Value;
use sluice_engine::audit::Promise;
use sluice_engine::child::{Launch, ServerProcess};

use self::rig::{PATIENCE, Rig, run, seed, snapshots_in};

/// Times the server is killed.
const CYCLES: u64 = 50;

/// Answers before a kill, at most.
const ANSWERS_MAX: u64 = 20_000;

/// Answers in a cycle that rides through the kill, after it.
const ANSWERS_AFTER: usize = 500;

/// As small as it may be, so that kills meet snapshots and truncations.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// What is sold in each cycle: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 200, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 30, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

#[test]
fn what_was_answered_before_a_kill_is_true_after_it() {
    run(async {
        let mut rig = Rig::start(seed(), &FLAGS).await;
        let mut accounts = Vec::new();
        let mut refusals = 0;
        for cycle in 0..CYCLES {
            let load = rig.under_load(&PRODUCTS).await;
            load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize).await;
            rig.kill();
            rig.start_again();
            let account = if cycle % 2 == 0 {
                load.crowd.answers(ANSWERS_AFTER).await;
                load.finish().await
            } else {
                rig.cut_off(load).await
            };
            refusals += rig.audit(&account).await.refusals;
            accounts.push(account);
        }
        let snapshots = snapshots_in(&rig.launch.data);
        assert!(snapshots.iter().any(|index| *index > 0), "kills met no snapshot: {snapshots:?}");
        let mut answers = 0;
        for account in &accounts {
            answers += rig.audit(account).await.answers;
        }
        eprintln!("{CYCLES} kills, {answers} answers, {refusals} refusals checked by their figures");
        assert!(refusals > 0, "no refusal was checked");
    });
}

#[test]
fn a_stop_under_load_keeps_everything_and_exits_with_0() {
    run(async {
        let mut rig = Rig::start(seed(), &FLAGS).await;
        for _ in 0..3 {
            let load = rig.under_load(&PRODUCTS).await;
            load.crowd.answers(ANSWERS_AFTER).await;
            let status = rig.server.take().unwrap().terminate(PATIENCE).unwrap();
            assert_eq!(status.code(), Some(0), "{}", rig.words());
            rig.start_again();
            rig.ready().await;
            load.crowd.answers(ANSWERS_AFTER).await;
            let account = load.finish().await;
            rig.audit(&account).await;
        }
    });
}

#[test]
fn a_second_process_on_the_data_of_a_busy_one_is_refused_and_does_no_harm() {
    run(async {
        let rig = Rig::start(seed(), &FLAGS).await;
        let load = rig.under_load(&PRODUCTS).await;
        load.crowd.answers(ANSWERS_AFTER).await;
        let log = rig.dir.path().join("second");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let second = Launch { log: log.clone(), listen, ..rig.launch.clone() };
        let status = ServerProcess::start(&second).unwrap().wait(PATIENCE).unwrap();
        let words = std::fs::read_to_string(log).unwrap();
        assert_eq!(status.code(), Some(4), "{words}");
        assert!(words.contains("in use"), "{words}");
        load.crowd.answers(ANSWERS_AFTER).await;
        let account = load.finish().await;
        rig.audit(&account).await;
    });
}

#[test]
fn two_demos_at_once_sell_exactly_what_they_have() {
    let sizes = [["--units", "1", "--buyers", "10"], ["--units", "300", "--buyers", "5000"]];
    let demo = |size: [&str; 4]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .arg("demo")
            .args(size)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for (size, demo) in sizes.map(|size| (size, demo(size))) {
        let output = demo.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{size:?}: {text:?} {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
        assert_eq!(report["sold"], report["units"]);
        assert_eq!(report["units"].to_string(), size[1]);
    }
}
