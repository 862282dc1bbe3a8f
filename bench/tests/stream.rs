//! The measurement of the stream, on real processes, small: it ends, everything that was made is delivered, and it reports
//! what it promises.
//!
//! Relies on the server's binary being built beside this package's, as `cargo test --workspace` does. Deliberately not
//! here: how fast anything is; Redis, which may not be installed.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::process::Command;

use serde_json::Value;

/// Numbers as small as they may be while something is still measured.
const SMALL: [&str; 13] = [
    "stream",
    "--json",
    "--events",
    "5000",
    "--rounds",
    "1",
    "--disk-events",
    "5000",
    "--rate",
    "1000",
    "--seconds",
    "1",
    "--behind=5000",
];

/// One that is above zero, and a number.
fn is_figure(value: &Value) -> bool {
    value.as_f64().is_some_and(|figure| figure.is_finite() && figure > 0.0)
}

#[test]
fn everything_is_delivered_and_each_figure_has_its_baseline() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-bench"));
    let output = command.args(SMALL).args(["--", "--disk-free-min", "0"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out:?}"));

    let memory = report["memory"].as_array().unwrap();
    assert_eq!(memory.len(), 1);
    for taken in memory.iter().chain([&report["disk"]]) {
        assert!(taken["events"].as_u64() >= Some(5000) && is_figure(&taken["rate"]), "{taken}");
    }
    for figure in ["memory_rate", "reserved_rate", "memory_ratio", "disk_ratio"] {
        assert!(is_figure(&report[figure]), "{figure} in {report}");
    }
    let has_redis = !report["redis_version"].is_null();
    assert_eq!(report["redis"].as_array().unwrap().len(), usize::from(has_redis), "{report}");
    assert_eq!(is_figure(&report["redis_rate"]), has_redis, "{report}");

    let delay = &report["delay"];
    let p50 = |times: &str| delay[times]["p50_us"].as_f64().unwrap();
    assert!(delay["measured"].as_u64() >= Some(900) && is_figure(&delay["p99_ratio"]), "{delay}");
    // A process and a disk lie between: less than a microsecond is a clock that was read wrongly.
    assert!(p50("sent_to_answered") > 1.0 && p50("sent_to_delivered") > 1.0, "{delay}");

    let behind = &report["behind"];
    assert!(behind["events"].as_u64() >= Some(5000) && is_figure(&behind["ratio"]), "{behind}");
    for rounds in ["with", "without"] {
        assert_eq!(behind[rounds].as_array().unwrap().len(), 1, "{behind}");
    }
}
