//! A disk that fails under a running server: nothing that was acknowledged is lost, nothing is acknowledged that is
//! not on disk, the process says what happened and ends, and a restart goes on.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod process;
mod raw;

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use process::{FREE_PORTS, Served, serve_by};
use raw::{Raw, order, reserve};
use sluice_client::{Client, ReservationId, Reserve, ReserveOutcome, Status, Terms, fresh_id};
use sluice_engine::ops::fetch;
use sluice_protocol::request::ReserveItem;

const PRODUCT: u64 = 7;
const STOCK: u64 = 100_000_000;
const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 3_600_000, unlimited: false };

/// What was acknowledged, and what was asked and never answered.
#[derive(Default)]
struct Told {
    reserved: Vec<ReservationId>,
    open: Vec<ReservationId>,
}

/// Reserves until the server no longer answers.
async fn sell_until_it_fails(url: &str) -> Told {
    let client = Client::builder().deadline(Duration::from_secs(2)).connect(url).await.unwrap();
    assert!(client.put_product(PRODUCT, STOCK, TERMS).await.unwrap().is_done());
    let mut told = Told::default();
    for user in 0.. {
        let ids: Vec<_> = (0..500).map(|_| fresh_id()).collect();
        let orders: Vec<_> = ids.iter().map(|id| Reserve::new(PRODUCT, user, 1).fresh_id(*id)).collect();
        for (id, outcome) in ids.iter().zip(client.reserve_many(&orders).await) {
            match outcome {
                Ok(ReserveOutcome::Reserved { .. }) => told.reserved.push(*id),
                Ok(other) => panic!("there is stock: {other:?}"),
                Err(_) => told.open.push(*id),
            }
        }
        if !told.open.is_empty() {
            return told;
        }
    }
    unreachable!("the server fails in the end")
}

/// Restarts on a sound disk and compares.
async fn check(data: &Path, told: &Told) {
    let served = Served::start(data);
    let client = Client::connect(&served.url).await.unwrap();
    for id in &told.reserved {
        let found = client.reservation(*id).await.unwrap();
        assert!(found.is_some(), "{id} was acknowledged and is lost");
    }
    let mut stands = told.reserved.len() as u64;
    for id in &told.open {
        stands += u64::from(client.reservation(*id).await.unwrap().is_some());
    }
    let product = client.product(PRODUCT).await.unwrap().unwrap();
    assert_eq!(product.held, stands, "units are held that nobody asked for");
    assert_eq!(product.free + product.held + product.sold, product.stock);
}

fn fails(child: Child, data: &Path, said_in_the_end: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut served = Served::announced(child);
    let told = runtime.block_on(sell_until_it_fails(&served.url));
    assert!(!told.reserved.is_empty(), "the disk was to fail later");
    let code = served.child.wait().unwrap().code();
    let said = process::complaints(&mut served.child);
    assert_eq!(code, Some(70), "{said}");
    for words in said_in_the_end {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    runtime.block_on(check(data, &told));
}

#[test]
fn a_log_that_cannot_grow_ends_the_process_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // Made in advance, so that the limit meets a log in use.
    assert_eq!(Served::start(&data).stop(rustix::process::Signal::TERM), 0);
    // Files may not grow beyond 20 MiB; a write beyond it fails as on a full disk.
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 20480; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_sluice"));
    fails(serve_by(limited, &data, FREE_PORTS), &data, &["stops serving"]);
}

#[test]
#[ignore = "needs strace"]
fn a_sync_that_fails_ends_the_process_and_is_never_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(Served::start(&data).stop(rustix::process::Signal::TERM), 0);
    assert!(Command::new("strace").arg("-V").output().is_ok(), "strace is needed: apt-get install strace");
    let mut injected = Command::new("strace");
    let trace = directory.path().join("trace");
    injected
        .args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=40", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_sluice"));
    fails(serve_by(injected, &data, FREE_PORTS), &data, &["stops serving"]);
    let trace = std::fs::read_to_string(&trace).unwrap();
    let after: Vec<_> = trace.lines().skip_while(|line| !line.contains("EIO")).skip(1).collect();
    assert!(after.iter().all(|line| !line.contains("fdatasync(")), "synced again after a failure: {after:?}");
}

/// A server whose every sync takes two seconds.
fn slow_disk(directory: &Path, flags: &[&str]) -> (Served, Raw) {
    let data = directory.join("data");
    assert_eq!(Served::start(&data).stop(rustix::process::Signal::TERM), 0);
    let mut injected = Command::new("strace");
    injected
        .args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=2000000", "-o"])
        .arg(directory.join("trace"))
        .arg(env!("CARGO_BIN_EXE_sluice"));
    let served = Served::announced(serve_by(injected, &data, &[FREE_PORTS, flags].concat()));
    let raw = Raw::greeted(served.url.strip_prefix("sluice://").unwrap().parse().unwrap());
    (served, raw)
}

/// Orders that only the log can answer.
fn again(ids: std::ops::Range<u128>) -> Vec<ReserveItem> {
    let again = |id| {
        let mut again = order(id, PRODUCT, 1, 1);
        again.attempt = 1;
        again
    };
    ids.map(again).collect()
}

#[test]
#[ignore = "needs strace"]
fn what_a_slow_disk_holds_up_is_told_unknown_in_time_however_long_nothing_was_asked_before() {
    let directory = tempfile::tempdir().unwrap();
    let (_served, mut raw) = slow_disk(directory.path(), &["--request-budget-default", "200ms"]);
    // The first request there is: an idle net thread has no alarm until it comes.
    assert_eq!(raw.reserve(again(1..2)[0]), Status::Unknown);
}

#[test]
#[ignore = "needs strace"]
fn one_who_pipelines_while_the_disk_is_slow_has_no_more_in_flight_than_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--connection-requests-max", "1024", "--request-budget-default", "10s"];
    let (served, mut raw) = slow_disk(directory.path(), &flags);
    for name in 0..4_u64 {
        let first = u128::from(name) * 700 + 1;
        raw.send(&reserve(name, &again(first..first + 700)));
    }
    assert_eq!(raw.answers().0, 0);
    // Two such frames are more than its share: the second was taken when the first was answered, and waits for the disk.
    let ops = served.ops.strip_prefix("http://").unwrap();
    let (_, metrics) = fetch::get(ops, "/metrics", Duration::from_secs(20)).unwrap();
    let taken = metrics.lines().find_map(|line| line.strip_prefix("sluice_frames_total ")).unwrap();
    assert!(matches!(taken, "1" | "2"), "{taken} frames were taken");
    assert_eq!((1..4).map(|_| raw.answers().0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_disk_that_is_nearly_full_admits_nothing_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let served = Served::start(&data);
    assert_eq!(served.outcome("product put 7 --stock 3").0, 0);
    assert_eq!(served.outcome("reserve 7 --user 1 --id 1f").0, 0);
    assert_eq!(served.stop(rustix::process::Signal::TERM), 0);
    // It never says that it is ready, so its ports are chosen here.
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (listen, ops) = (port(), port());
    let mut starved = Command::new(env!("CARGO_BIN_EXE_sluice"));
    starved
        .args(["serve", "--disk-free-min", "1TiB", "--listen", &listen, "--ops", &ops, "--data"])
        .arg(&data);
    let starved = Served {
        child: starved.spawn().unwrap(),
        url: format!("sluice://{listen}"),
        ops: format!("http://{ops}"),
    };
    let (_, product) = starved.ask("product show 7 --deadline 20s");
    assert_eq!(product["free"], 2, "{product}");
    let (_, status) = starved.ask("status");
    assert_eq!(status["node"]["condition"], "not_ready", "{status}");
    assert_eq!(starved.ask("show 1f").1["state"], "held");
    let (code, _) = starved.ask("reserve 7 --user 2 --deadline 300ms");
    assert_eq!(code, 3, "nothing is admitted, and nothing is claimed");
    assert_eq!(starved.ask("product show 7").1["free"], 2);
}
