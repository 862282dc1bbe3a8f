//! Real processes: killed while they append, refused while another holds the directory, and out of space.
//!
//! A child is this test binary again, asked for one of the `child_` tests, which do nothing in an ordinary run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use sluice_engine::datadir::{DataDir, DataDirError};
use sluice_engine::wal::guard::{self, GuardError};
use sluice_engine::wal::{Backend, StoreError};
use wal_support::{ACKNOWLEDGED, after, close, open, same, say, workload};

const DIR_VARIABLE: &str = "SLUICE_TEST_DATA_DIR";
const BACKEND_VARIABLE: &str = "SLUICE_TEST_BACKEND";

/// Bytes in the data of an entry of the workload, at most.
const LEN_MAX: u64 = 5000;

/// How a process ends that aborts itself.
const SIGABRT: i32 = 6;

/// What it says before it ends because of an error.
const STOPPED: &str = "stopped: ";

/// The directory if this process is a child.
fn child_dir() -> Option<PathBuf> {
    env::var_os(DIR_VARIABLE).map(PathBuf::from)
}

fn child_command(test: &str) -> Vec<String> {
    let binary = env::current_exe().unwrap().to_str().unwrap().to_owned();
    vec![binary, "--exact".to_owned(), test.to_owned(), "--nocapture".to_owned()]
}

fn spawn(command: &[String], data_dir: &Path, backend: Backend) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env(DIR_VARIABLE, data_dir)
        .env(BACKEND_VARIABLE, backend.name())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// Reads lines until `enough` says so; the last acknowledged number, if any.
fn read_until(lines: &mut impl BufRead, mut enough: impl FnMut(&str) -> bool) -> Option<u64> {
    let mut last = None;
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The harness may have written something in front of the child's first line.
        if let Some((_, number)) = line.trim().rsplit_once(ACKNOWLEDGED) {
            last = Some(number.parse().unwrap());
        }
        if enough(line.trim()) {
            break;
        }
        line.clear();
    }
    last
}

#[test]
fn child_appends() {
    let Some(dir) = child_dir() else { return };
    let backend: Backend = env::var(BACKEND_VARIABLE).unwrap().parse().unwrap();
    let mut store = match backend.create(&dir).and_then(|()| open(&dir)) {
        Ok((store, _)) => store,
        Err(error) => return say(&format!("{STOPPED}{error:?}")),
    };
    for number in 0.. {
        match store.append(&workload(number, LEN_MAX)) {
            Ok(_) => say(&format!("{ACKNOWLEDGED}{number}")),
            Err(error) => {
                let again = store.append(&workload(number, LEN_MAX));
                assert!(matches!(again, Err(StoreError::Poisoned { .. })));
                return say(&format!("{STOPPED}{error:?}"));
            }
        }
    }
}

/// Says again what was acknowledged, from what it finds.
#[test]
fn child_finds() {
    let Some(dir) = child_dir() else { return };
    let (store, found) = open(&dir).unwrap();
    let steps = (0..).find(|count| same(&found, &after(*count, LEN_MAX)) || *count > 100_000);
    say(&format!("{ACKNOWLEDGED}{}", steps.unwrap() - 1));
    close(store);
}

#[test]
fn child_holds_the_directory() {
    let Some(dir) = child_dir() else { return };
    let _held = DataDir::open(&dir).unwrap();
    say("held");
    // Ends only by being killed, or when the parent has gone.
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

#[test]
fn child_panics_twice() {
    if child_dir().is_none() {
        return;
    }
    guard::install_abort_hook();
    let guarded: Result<(), GuardError> = guard::run(Duration::from_secs(60), || panic!("within the guard"));
    say(&format!("{STOPPED}{guarded:?}"));
    // The harness catches this, but the hook comes first.
    let _ = std::thread::spawn(|| panic!("anywhere else")).join();
    say("and went on");
}

#[test]
fn a_panic_ends_the_process_except_within_the_guard() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = spawn(&child_command("child_panics_twice"), dir.path(), Backend::Sled);
    let mut said = Vec::new();
    read_until(&mut lines, |line| {
        said.push(line.to_owned());
        false
    });
    assert!(said.iter().any(|line| line.contains("Panicked(\"within the guard\")")), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("went on")), "{said:?}");
    assert_eq!(child.wait().unwrap().signal(), Some(SIGABRT));
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    for (kill_after, backend) in [0, 9, 60, 150, 400].into_iter().flat_map(|n| Backend::ALL.map(|b| (n, b))) {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, mut lines) = spawn(&child_command("child_appends"), dir.path(), backend);
        let target = format!("{ACKNOWLEDGED}{kill_after}");
        read_until(&mut lines, |line| line.ends_with(&target));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = read_until(&mut lines, |_| false).unwrap_or(kill_after).max(kill_after);
        let (store, found) = open(dir.path()).unwrap();
        assert!(
            same(&found, &after(last + 1, LEN_MAX)) || same(&found, &after(last + 2, LEN_MAX)),
            "after {last}: {:?} to {:?}",
            found.first_index,
            found.entries.last().map(|e| e.index)
        );
        close(store);
    }
}

/// Runs the appending child by way of a shell script that ends in `"$@"`, until it is out of space. What it had
/// acknowledged by then, if anything.
fn until_full(
    script: &str,
    data_dir: &Path,
    backend: Backend,
) -> (Option<u64>, BufReader<ChildStdout>, Child) {
    let mut command: Vec<String> = ["bash", "-c", script, "bash"].iter().map(|s| (*s).to_owned()).collect();
    command.extend(child_command("child_appends"));
    let (child, mut lines) = spawn(&command, data_dir, backend);
    let mut stopped = String::new();
    let last = read_until(&mut lines, |line| {
        stopped = line.to_owned();
        line.contains(STOPPED)
    });
    assert!(stopped.contains("DiskFull"), "{script}: {stopped:?}");
    (last, lines, child)
}

#[test]
fn a_file_at_its_size_limit_stops_the_store_and_loses_nothing() {
    // In KiB. sled meets the first while opening, which fills a segment, and the second within its third segment. Of
    // our segments the first is as long as the first limit, so the second cannot be made; then the fourth.
    let limits = [
        (1800, Backend::Sled),
        (20_000, Backend::Sled),
        (4096, Backend::Segments),
        (20_000, Backend::Segments),
    ];
    for (limit, backend) in limits {
        let dir = tempfile::tempdir().unwrap();
        // The limit's signal must be ignored to get the error instead.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let (last, _lines, mut child) = until_full(&script, dir.path(), backend);
        assert!(child.wait().unwrap().success(), "a store that is full can be let go of");
        let (store, found) = open(dir.path()).unwrap();
        assert!(same(&found, &after(last.map_or(0, |last| last + 1), LEN_MAX)), "after {last:?}");
        close(store);
    }
}

#[test]
#[ignore = "mounts a small file system"]
fn a_full_file_system_stops_the_store_and_loses_nothing() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        // The mount is seen only in there, so what it holds must be looked at in there too, once there is room again.
        let script = format!(
            "exec unshare -rm bash -c 'mount -t tmpfs -o size=20m tmpfs \"${DIR_VARIABLE}\" && \"$@\" && \
         mount -o remount,size=200m \"${DIR_VARIABLE}\" && \"$1\" --exact child_finds --nocapture' bash \"$@\""
        );
        let probe = Command::new("unshare").args(["-rm", "true"]).status();
        assert!(
            probe.is_ok_and(|status| status.success()),
            "this test mounts a small file system: run it as root, or allow it with \
         `sysctl kernel.unprivileged_userns_clone=1`"
        );
        let (last, mut lines, mut child) = until_full(&script, dir.path(), backend);
        let found = read_until(&mut lines, |_| false);
        assert!(child.wait().unwrap().success());
        assert!(last.is_some(), "some appends fit");
        assert_eq!(found, last);
    }
}

#[test]
fn a_second_process_is_refused_and_told_who_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    let mut child = command
        .args(["--exact", "child_holds_the_directory", "--nocapture"])
        .env(DIR_VARIABLE, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut lines, |line| line.ends_with("held"));
    match DataDir::open(dir.path()) {
        Err(error @ DataDirError::Locked { .. }) => {
            let expected = format!("in use by process {}", child.id());
            assert!(error.to_string().contains(&expected), "{error}");
        }
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel's lock goes with the process; the file and the number in it stay.
    DataDir::open(dir.path()).unwrap();
    Backend::Sled.create(dir.path()).unwrap();
}
