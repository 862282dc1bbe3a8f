//! The ops port on a free port, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_engine::config::{Config, ConfigArgs};
use sluice_engine::ops::cells::Totals;
use sluice_engine::ops::groups::GroupStats;
use sluice_engine::ops::labels::{Doubt, Queue, Role};
use sluice_engine::ops::metrics::Identity;
use sluice_engine::ops::server::{OpsError, OpsServer};
use sluice_engine::ops::stats::Stats;
use sluice_engine::ops::{Health, Metrics, fetch};
use sluice_protocol::response::At;
use sluice_protocol::{Answer, ClusterId, FaultCode, Kind, NodeId, Status};

/// Longer than any of these tests needs: it only ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Port {
    server: OpsServer,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Port {
    fn open(settings: &[(&str, &str)]) -> Self {
        let args = ConfigArgs::default().with("ops.listen", "127.0.0.1:0");
        let args = settings.iter().fold(args, |args, (key, value)| args.with(key, value));
        let config = Config::load(&args).unwrap();
        let (metrics, health) = (Metrics::new(), Health::new());
        let server = OpsServer::start(&config.ops, Arc::clone(&metrics), Arc::clone(&health)).unwrap();
        Self { server, metrics, health }
    }

    fn get(&self, path: &str) -> (u16, String) {
        fetch::get(&self.server.address().to_string(), path, PATIENCE).unwrap()
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path);
        (status, serde_json::from_str(&body).unwrap())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

#[test]
fn live_and_ready_are_two_questions() {
    let port = Port::open(&[]);
    assert_eq!((port.get("/healthz").0, port.get("/readyz").0), (200, 503));
    port.health.ready();
    assert_eq!((port.get("/healthz").0, port.get("/readyz").0), (200, 200));
    port.health.not_ready("another node leads");
    let (status, body) = port.json("/readyz");
    assert_eq!(
        (status, &body["condition"], &body["reason"]),
        (503, &"not_ready".into(), &"another node leads".into())
    );
    assert_eq!(port.get("/healthz").0, 200);
    port.health.poison("fdatasync failed");
    let (status, body) = port.json("/healthz");
    assert_eq!((status, &body["reason"]), (503, &"fdatasync failed".into()));
}

#[test]
fn consumer_groups_have_series_of_their_own() {
    let port = Port::open(&[]);
    let group = |name: &str, late| GroupStats {
        group: name.to_owned(),
        lag: 12,
        oldest_seconds: 0.5,
        late,
        ..GroupStats::default()
    };
    port.metrics.groups.set(vec![group("orders", false), group("search", true)]);
    let text = port.get("/metrics").1;
    for line in [
        "sluice_group_lag_events{group=\"orders\"} 12",
        "sluice_group_oldest_seconds{group=\"orders\"} 0.5",
        "sluice_group_late{group=\"orders\"} 0",
        "sluice_group_late{group=\"search\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found.strip_suffix(".0").unwrap_or(found) == line),
            "{line} in {text}"
        );
    }
    let stats = port.json("/stats").1;
    assert_eq!((&stats["groups"][1]["group"], &stats["groups"][1]["late"]), (&"search".into(), &true.into()));
    port.metrics.groups.set(Vec::new());
    assert!(!port.get("/metrics").1.contains("group="));
}

#[test]
fn unknown_paths_are_told_the_known_ones() {
    let port = Port::open(&[]);
    let (status, body) = port.json("/metric");
    assert_eq!(status, 404);
    assert_eq!(
        body["paths"],
        serde_json::json!(["/healthz", "/readyz", "/metrics", "/stats", "/digest", "/books"])
    );
    let mut stream = port.connect();
    stream.write_all(b"POST /stats HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

fn used_metrics(metrics: &Metrics) {
    let at = At { index: 9, time_ms: 1 };
    let answers = [Answer::reserved(at, 1, 2), Answer::reserved(at, 2, 2), Answer::sold_out(at)];
    metrics.identity.set(Identity { cluster: ClusterId(7), node: NodeId(1) }).unwrap();
    metrics.answers.count(Kind::Reserve, &answers);
    metrics.answers.add(Kind::Confirm, Status::Confirmed, 5);
    metrics.faults.of(FaultCode::IdleTimeout).increment();
    metrics.gate_doubts.of(Doubt::Suspected).add(4);
    metrics.queue_depth.of(Queue::Appends).set(3);
    metrics.role.set(Role::Leader);
    metrics.ledger_lag.set_ms(1500);
    metrics.connections_open.increment();
    metrics.connections_open.increment();
    metrics.connections_open.decrement();
    metrics.batch_items.record(1024);
    metrics.fsync_duration.record(Duration::from_micros(120));
    metrics.totals.set(Totals { index: 9, products: 1, records: 2, stock: 10, free: 7, held: 2, sold: 0 });
}

#[test]
fn metrics_say_what_was_counted() {
    let port = Port::open(&[]);
    used_metrics(&port.metrics);
    let (status, text) = port.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "sluice_answers_total{kind=\"reserve\",status=\"reserved\"} 2",
        "sluice_answers_total{kind=\"reserve\",status=\"sold_out\"} 1",
        "sluice_answers_total{kind=\"reserve\",status=\"busy\"} 0",
        "sluice_answers_total{kind=\"confirm\",status=\"confirmed\"} 5",
        "sluice_faults_total{code=\"idle_timeout\"} 1",
        "sluice_gate_doubts_total{outcome=\"suspected\"} 4",
        "sluice_queue_depth{queue=\"appends\"} 3",
        "sluice_raft_role{role=\"leader\"} 1",
        "sluice_raft_role{role=\"starting\"} 0",
        "sluice_ledger_lag_seconds 1.5",
        "sluice_connections_open 1",
        "sluice_batch_items_bucket{le=\"512.0\"} 0",
        "sluice_batch_items_bucket{le=\"1024.0\"} 1",
        "sluice_log_fsync_duration_seconds_bucket{le=\"0.000064\"} 0",
        "sluice_log_fsync_duration_seconds_bucket{le=\"0.000128\"} 1",
        "sluice_log_fsync_duration_seconds_sum 0.00012",
        "sluice_conservation_error 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
    }
}

/// What a metric's name must not end in: units that are not base units, and what the exposition appends itself.
const NOT_BASE: [&str; 12] = [
    "_ms",
    "_us",
    "_ns",
    "_millis",
    "_micros",
    "_milliseconds",
    "_minutes",
    "_kb",
    "_mb",
    "_mib",
    "_percent",
    "_total",
];

#[test]
fn the_exposition_is_well_formed_and_in_base_units() {
    let port = Port::open(&[]);
    used_metrics(&port.metrics);
    let (_, text) = port.get("/metrics");
    assert!(text.ends_with("# EOF\n"));
    let mut families: Vec<&str> = Vec::new();
    let mut kind = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, sentence) = help.split_once(' ').unwrap();
            assert!(
                name.starts_with("sluice_") && !NOT_BASE.iter().any(|unit| name.ends_with(unit)),
                "{name}"
            );
            assert!(sentence.ends_with('.') && sentence.is_ascii(), "{name}: {sentence}");
            assert!(!families.contains(&name), "{name} is declared twice");
            families.push(name);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, this) = typed.split_once(' ').unwrap();
            assert_eq!(Some(&name), families.last(), "type follows help");
            assert!(
                !name.contains("duration") || (name.ends_with("_seconds") && this == "histogram"),
                "{name}"
            );
            kind = this;
        } else {
            sample(line, families.last().unwrap(), kind);
        }
    }
    assert!(families.len() > 40, "all of them are shown: {}", families.len());
}

/// One sample: the family's name, the suffix that its type demands, labels, a number.
fn sample(line: &str, family: &str, kind: &str) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
    let allowed: &[&str] = match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    assert!(allowed.contains(&suffix), "{line} under a {kind}");
    assert!(labels.ends_with('}') && !labels.contains("product="), "{line}");
}

#[test]
fn stats_are_one_object() {
    let port = Port::open(&[]);
    used_metrics(&port.metrics);
    let (status, body) = port.get("/stats");
    let stats: Stats = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        (stats.node.node, stats.node.role.as_str(), stats.node.condition.as_str()),
        (1, "leader", "starting")
    );
    assert_eq!(stats.node.cluster, format!("{:032x}", 7));
    assert_eq!((stats.ledger.free, stats.ledger.conservation_error), (7, 1));
    assert_eq!(stats.answers["reserve"]["reserved"], 2);
    assert_eq!(stats.latency.fsync.count, 1);
    assert!((stats.latency.fsync.p50_seconds - 0.000_12).abs() < 0.000_03);
}

#[test]
fn one_connection_carries_one_request() {
    let port = Port::open(&[]);
    let mut stream = port.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let port = Port::open(&[("ops.request_timeout", "1m")]);
    let mut stream = port.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").unwrap();
    // The server closes in the middle of it, so that writing fails sooner or later.
    let sent = (0..1000).take_while(|_| stream.write_all(&[b'x'; 1024]).is_ok()).count();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "after {sent} KiB ({ended:?}): {}", String::from_utf8_lossy(&answer));
    assert_eq!(port.get("/healthz").0, 200);
}

#[test]
fn a_silent_connection_gives_its_place_back() {
    let port = Port::open(&[("ops.connections_max", "1"), ("ops.request_timeout", "100ms")]);
    let mut silent = port.connect();
    silent.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    // The only place is taken: this request waits in the backlog until the silent one's time is over.
    assert_eq!(port.get("/healthz").0, 200);
    assert_eq!(silent.read(&mut [0; 64]).unwrap_or(0), 0, "the silent connection was closed");
}

#[test]
fn a_taken_address_is_an_error_that_says_so() {
    let port = Port::open(&[]);
    let address = port.server.address().to_string();
    let config = Config::load(&ConfigArgs::default().with("ops.listen", &address)).unwrap();
    let error = OpsServer::start(&config.ops, Metrics::new(), Health::new()).unwrap_err();
    assert!(matches!(error, OpsError::Listen { .. }));
    assert!(error.to_string().contains(&address) && error.to_string().contains("--ops"), "{error}");
}

#[test]
fn the_port_is_free_again_once_the_server_is_dropped() {
    let port = Port::open(&[]);
    let address = port.server.address();
    drop(port.server);
    assert!(TcpStream::connect(address).is_err());
}
