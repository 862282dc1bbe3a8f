//! A disk that fails under a running server: nothing that was acknowledged is lost, nothing is acknowledged that is
//! not on disk, the process says what happened and ends, and a restart goes on.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod process;
mod raw;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process::{FREE_PORTS, Served, serve, serve_by};
use raw::{Raw, order, reserve};
use rustix::process::Signal;
use sluice_client::{Client, ReservationId, Reserve, ReserveOutcome, Status, Terms, fresh_id};
use sluice_engine::ops::fetch;
use sluice_engine::wal::Backend;
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
    let builder = Client::builder().deadline(Duration::from_secs(2));
    // Whoever could be asked has gone.
    let client = builder.resolve_budget(Duration::from_millis(1)).connect(url).await.unwrap();
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
    compare(&client, told).await;
}

/// What was acknowledged is there, and units are held for that and for nothing that nobody asked for.
async fn compare(client: &Client, told: &Told) {
    let lost = told.reserved.len() - there(client, &told.reserved).await;
    assert_eq!(lost, 0, "of {} that were acknowledged", told.reserved.len());
    let stands = (told.reserved.len() + there(client, &told.open).await) as u64;
    let product = client.product(PRODUCT).await.unwrap().unwrap();
    assert_eq!(product.held, stands, "units are held that nobody asked for");
    assert_eq!(product.free + product.held + product.sold, product.stock);
}

/// How many of these there are.
async fn there(client: &Client, ids: &[ReservationId]) -> usize {
    let mut found = 0;
    for ids in ids.chunks(1000) {
        let mut reads = tokio::task::JoinSet::new();
        for id in ids.iter().copied() {
            let client = client.clone();
            reads.spawn(async move { client.reservation(id).await.unwrap().is_some() });
        }
        found += reads.join_all().await.into_iter().filter(|there| *there).count();
    }
    found
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
    assert_eq!(Served::start(&data).stop(Signal::TERM), 0);
    // Files may not grow beyond 20 MiB; a write beyond it fails as on a full disk.
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 20480; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_sluice"));
    fails(serve_by(limited, &data, FREE_PORTS), &data, &["stops serving"]);
}

/// The binary under strace, which lets one kind of call on some files fail. What it wrote down is in `trace`.
fn injected(trace: &Path, files: &[PathBuf], calls: &str, fault: &str) -> Command {
    assert!(Command::new("strace").arg("-V").output().is_ok(), "strace is needed: apt-get install strace");
    let mut command = Command::new("strace");
    // Listed by name, because strace takes a path that does not exist yet.
    for file in files {
        command.arg("-P").arg(file);
    }
    command.args([
        "-f",
        "-qq",
        "-y",
        "-e",
        &format!("trace={calls}"),
        "-e",
        &format!("inject={fault}"),
        "-o",
    ]);
    command.arg(trace).arg(env!("CARGO_BIN_EXE_sluice"));
    command
}

/// The calls that were made after the first that failed.
fn after_the_fault(trace: &Path) -> Vec<String> {
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut lines = trace.lines().skip_while(|line| !line.contains("(INJECTED)"));
    assert!(lines.next().is_some(), "nothing failed");
    lines.map(str::to_owned).collect()
}

/// The file of each kind of log into which a short run writes.
const LOGS: [(Backend, &str); 2] =
    [(Backend::Sled, "wal/db"), (Backend::Segments, "segments/0000000000000001.segment")];

/// A fault of the log or its fence ends the process, and what failed is never tried again.
fn ends_it(backend: Backend, file: &str, fault: &str) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let made = Served::announced(serve(&data, &[FREE_PORTS, &["--log-backend", backend.name()]].concat()));
    assert_eq!(made.stop(Signal::TERM), 0);
    let trace = directory.path().join("trace");
    let calls = "pwrite64,fdatasync,fsync,sync_file_range";
    let command = injected(&trace, &[data.join(file)], calls, fault);
    fails(serve_by(command, &data, FREE_PORTS), &data, &["stops serving"]);
    let after = after_the_fault(&trace);
    // Of two writes under way at the same time the second may be seen after the first has failed.
    let again: Vec<_> = after.iter().filter(|line| line.contains("sync(")).collect();
    assert!(again.is_empty(), "{file}, {fault}: synced again after a failure: {again:?}");
}

#[test]
#[ignore = "needs strace"]
fn a_sync_that_fails_ends_the_process_and_is_never_tried_again() {
    for (backend, log) in LOGS {
        ends_it(backend, log, "fdatasync:error=EIO:when=40");
        ends_it(backend, "wal.fence", "fdatasync:error=EIO:when=3");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_write_that_fails_ends_the_process_and_nothing_is_synced_after_it() {
    for (backend, log) in LOGS {
        for error in ["EIO", "ENOSPC"] {
            ends_it(backend, log, &format!("pwrite64:error={error}:when=60"));
            ends_it(backend, "wal.fence", &format!("pwrite64:error={error}:when=3"));
        }
    }
}

/// Sells `frames` frames of 500.
async fn sell(client: &Client, frames: usize, told: &mut Told) {
    for user in 0..frames as u64 {
        let orders: Vec<_> = (0..500).map(|_| Reserve::new(PRODUCT, user, 1)).collect();
        for (order, outcome) in orders.iter().zip(client.reserve_many(&orders).await) {
            assert!(outcome.unwrap().is_reserved());
            told.reserved.push(order.reservation());
        }
    }
}

/// A snapshot that cannot be written costs nothing but the log's length: the node serves on, and the next one is another
/// file.
#[test]
#[ignore = "needs strace"]
fn a_snapshot_that_cannot_be_saved_is_given_up_and_nothing_else() {
    for fault in [
        "fsync:error=EIO:when=1",
        "write:error=EIO:when=1",
        "write:error=ENOSPC:when=1",
        "rename:error=EIO:when=1",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        assert_eq!(Served::start(&data).stop(Signal::TERM), 0);
        let trace = directory.path().join("trace");
        let file = |index: u64| data.join(format!("snapshots/snapshot-{index:016x}.sluice.tmp"));
        let files: Vec<_> = (3..3000).map(file).collect();
        let command = injected(&trace, &files, "fsync,fdatasync,write,rename,openat", fault);
        let flags = [FREE_PORTS, &["--snapshot-every-bytes", "1MiB"]].concat();
        let served = Served::announced(serve_by(command, &data, &flags));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut told = Told::default();
        runtime.block_on(async {
            let client = Client::connect(&served.url).await.unwrap();
            assert!(client.put_product(PRODUCT, STOCK, TERMS).await.unwrap().is_done());
            sell(&client, 60, &mut told).await;
        });
        // strace passes no signal on, but ends with what it watches.
        let said = served.end_what_it_watches();
        assert!(said.contains("a snapshot could not be saved"), "{fault}: {said}");
        let failed = std::fs::read_to_string(&trace).unwrap();
        let failed = failed.lines().find(|line| line.contains("(INJECTED)")).unwrap().to_owned();
        let name = failed.split("snapshot-").nth(1).unwrap().split('.').next().unwrap().to_owned();
        let again = after_the_fault(&trace);
        let again: Vec<_> = again.iter().filter(|line| line.contains(&name)).collect();
        assert!(again.is_empty(), "{fault}: the same file is used again: {again:?}");
        runtime.block_on(check(&data, &told));
    }
}

/// A server whose every sync takes two seconds.
fn slow_disk(directory: &Path, flags: &[&str]) -> (Served, Raw) {
    let data = directory.join("data");
    assert_eq!(Served::start(&data).stop(Signal::TERM), 0);
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
    assert_eq!(served.stop(Signal::TERM), 0);
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

/// Runs a script in a namespace with a small file system of its own at `directory`; `"$@"` is the server, whose data is
/// there. `ballast` in it can be deleted to make room.
fn on_a_small_disk(directory: &Path, script: &str, flags: &[&str]) -> Child {
    let probe = Command::new("unshare").args(["-rm", "true"]).status();
    assert!(
        probe.is_ok_and(|status| status.success()),
        "this test mounts a small file system: run it as root, or allow it with \
         `sysctl kernel.unprivileged_userns_clone=1`"
    );
    let mount = "mount -t tmpfs -o size=48m tmpfs \"$DIR\" && head -c 20M /dev/zero > \"$DIR/ballast\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "bash", "-c", &format!("{mount} && {script}"), "bash"]).env("DIR", directory);
    command
        .arg(env!("CARGO_BIN_EXE_sluice"))
        .arg("serve")
        .arg("--data")
        .arg(directory.join("data"))
        .args(FREE_PORTS);
    command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
#[ignore = "mounts a small file system"]
fn a_disk_that_fills_up_stops_admission_early_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--disk-free-min", "12MiB", "--snapshot-every-bytes", "64MiB"];
    let mut served = Served::announced(on_a_small_disk(directory.path(), "exec \"$@\"", &flags));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut told = sell_until_it_fails(&served.url).await;
        assert!(!told.reserved.is_empty(), "there was room");
        if let Some(status) = served.child.try_wait().unwrap() {
            panic!("it stops by {status}: {}", process::complaints(&mut served.child));
        }
        // Nothing is admitted, and everything can be read.
        let client = Client::builder().deadline(Duration::from_secs(60)).connect(&served.url).await.unwrap();
        compare(&client, &told).await;
        let full = client.with_deadline(Duration::from_millis(300)).reserve(PRODUCT, 1, 1).await;
        assert!(full.is_err(), "nothing is admitted: {full:?}");
        let ballast = format!("/proc/{}/root{}/ballast", served.child.id(), directory.path().display());
        std::fs::remove_file(ballast).unwrap();
        match client.reserve(PRODUCT, 1, 1).await.unwrap() {
            ReserveOutcome::Reserved { id, .. } => told.reserved.push(id),
            other => panic!("there is room again: {other:?}"),
        }
        compare(&client, &told).await;
    });
    assert_eq!(served.stop(Signal::TERM), 0);
}

#[test]
#[ignore = "mounts a small file system"]
fn a_disk_that_is_full_ends_the_process_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let script = "{ \"$@\"; echo \"ended with $?\"; rm \"$DIR/ballast\"; exec \"$@\"; }";
    // No margin: the log itself meets the end of the disk.
    let mut child = on_a_small_disk(directory.path(), script, &["--disk-free-min", "0"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut served = Served::said(&lines.next().unwrap(), child);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(sell_until_it_fails(&served.url));
    assert!(!told.reserved.is_empty(), "there was room");
    assert_eq!(lines.next().unwrap(), "ended with 70");
    served.again(&lines.next().unwrap());
    runtime.block_on(async { compare(&Client::connect(&served.url).await.unwrap(), &told).await });
    assert_eq!(served.stop(Signal::TERM), 0);
}
