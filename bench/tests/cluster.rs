//! The measurements of clusters, on real processes, small: they end, report what they promise, and no answer is wrong.
//!
//! Relies on the server's binary being built beside this package's, as `cargo test --workspace` does. Deliberately not
//! here: how fast anything is.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::process::Command;

use serde_json::Value;

fn report(arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-bench"));
    let output = command.args(arguments).args(["--json", "--", "--disk-free-min", "0"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "sluice-bench {arguments:?}\n{out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"))
}

#[test]
fn another_leads_after_each_kill_and_no_answer_is_wrong() {
    let report = report(&["failover", "--kills", "2", "--rate", "500"]);
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert_ne!(round["killed"], round["follows"], "{round}");
        assert!(round["buyer_ms"].as_f64() > Some(0.0) && round["server_ms"].as_f64() > Some(0.0), "{round}");
    }
    let verdict = &report["verdict"];
    assert_eq!(verdict["contradicted"], 0, "{verdict}");
    assert!(verdict["answers"].as_u64() > Some(0) && verdict["answers"] == verdict["ids"], "{verdict}");
    assert!(report["buyer"]["p50_ms"].as_f64() <= report["buyer"]["max_ms"].as_f64(), "{report}");
    assert!(report["buyer"]["p50_ms"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn one_node_and_three_are_asked_the_same() {
    let report = report(&["compare", "nodes", "--quick"]);
    let rows = report["rows"].as_array().unwrap();
    let nodes: Vec<_> = rows.iter().map(|row| row["nodes"].as_u64().unwrap()).collect();
    assert_eq!(nodes, [1, 3, 1, 3, 1, 3]);
    for row in rows {
        assert!(row["rate"].as_f64() > Some(0.0), "{row}");
        assert!(row["leader"]["threads_us_per_outcome"]["replica"].is_number(), "{row}");
        assert_eq!(row["follower"].is_null(), row["nodes"] == 1, "{row}");
    }
    assert!(report["reserve_ratio"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn nodes_catch_up_by_log_and_by_snapshot() {
    let report = report(&["catch-up", "--log-bytes", "20000000", "--live", "500000", "--rate", "1000"]);
    for way in ["behind", "newcomer"] {
        for time in ["before", "meanwhile"] {
            let seen = &report[way][time];
            assert!(
                seen["rate"].as_f64() > Some(0.0) && seen["longest_gap_ms"].as_f64() > Some(0.0),
                "{seen}"
            );
        }
    }
    assert!(report["behind"]["log_bytes"].as_u64() >= Some(20_000_000), "{report}");
    assert!(report["newcomer"]["snapshot_bytes"].as_u64() > Some(0), "{report}");
}
