//! The binary as a shop meets it: serve, sell by hand, stop, start again, and every exit code on the way.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use rustix::process::Signal;

mod process;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use process::{FREE_PORTS, Served, ends, serve, serve_by};
use sluice_engine::wal::Backend;

#[test]
fn a_first_sale_by_hand() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(&data.path().join("data"));
    let rows = [
        ("product put 7 --stock 3 --per-user-limit 2 --hold 10m", 0, "done"),
        ("product put 7 --stock 3 --per-user-limit 2 --hold 10m", 0, "unchanged"),
        ("product put 7 --stock 4", 1, "stock_differs"),
        ("product put 8 --keep-stock --per-user-limit 1", 1, "unknown_product"),
        ("product put 7 --stock 3 --hold 8d", 1, "invalid"),
        ("reserve 7 --user 42 --quantity 2 --id 1f", 0, "reserved"),
        ("reserve 7 --user 42 --quantity 2 --id 1f", 0, "reserved"),
        ("reserve 7 --user 42 --quantity 1 --id 1f", 1, "id_conflict"),
        ("reserve 7 --user 42", 1, "limit_reached"),
        ("reserve 7 --user 43 --quantity 2", 1, "insufficient"),
        ("reserve 8 --user 43", 1, "unknown_product"),
        ("resolve 1f", 0, "held"),
        ("confirm 1f", 0, "confirmed"),
        ("confirm 1f", 0, "confirmed"),
        ("confirm 2f", 1, "unknown_reservation"),
        ("cancel 1f", 1, "already_confirmed"),
        ("cancel 2f --reason 3", 0, "fenced"),
        ("reserve 7 --user 43 --id 2f", 1, "fenced"),
        ("resolve 3f", 0, "never"),
        ("product restock 7 5 --id aa", 0, "done"),
        ("product restock 7 5 --id aa", 0, "done"),
        ("product write-off 7 100", 1, "insufficient"),
        ("product write-off 7 6", 0, "done"),
        ("product seal 7", 0, "sealed"),
        ("product seal 7", 0, "unchanged"),
        ("product restock 7 1", 1, "sealed"),
        ("reserve 7 --user 44", 1, "sold_out"),
        ("product put 9 --unlimited --opens +1h", 0, "done"),
        ("reserve 9 --user 44", 1, "not_open"),
        ("product put 9 --keep-stock --opens never", 0, "done"),
        ("reserve 9 --user 44 --quantity 5", 0, "reserved"),
        ("show 1f", 0, "reservation"),
        ("show 4f", 1, "unknown_reservation"),
    ];
    for (line, exit, outcome) in rows {
        assert_eq!(served.outcome(line), (exit, outcome.to_owned()), "{line}");
    }
    let (_, product) = served.ask("product show 7");
    assert_eq!(
        (&product["stock"], &product["free"], &product["sold"]),
        (&2.into(), &0.into(), &2.into()),
        "{product}"
    );
    let (_, list) = served.ask("product list --from 8 --limit 5");
    assert_eq!(list["products"].as_array().unwrap().len(), 1);
    assert_eq!((&list["products"][0]["product"], &list["products"][0]["held"]), (&9.into(), &5.into()));
    let (exit, status) = served.ask("status");
    assert_eq!(
        (exit, &status["node"]["condition"], &status["ledger"]["conservation_error"]),
        (0, &"ready".into(), &0.into())
    );
    assert_eq!(served.stop(Signal::TERM), 0);
}

#[test]
fn what_was_sold_is_still_sold_after_a_stop_and_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    let served = Served::start(&data);
    assert_eq!(served.outcome("product put 7 --stock 3").0, 0);
    assert_eq!(served.outcome("reserve 7 --user 1 --id 1f").0, 0);
    assert_eq!(served.stop(Signal::INT), 0);
    let served = Served::start(&data);
    assert_eq!(served.outcome("confirm 1f"), (0, "confirmed".to_owned()));
    drop(served);
    let served = Served::start(&data);
    assert_eq!(served.ask("show 1f").1["state"], "confirmed");
    assert_eq!(served.ask("product show 7").1["sold"], 1);
}

#[test]
fn a_data_directory_in_use_is_4_and_a_port_in_use_is_2() {
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(&data.path().join("one"));
    let free = ["--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0"];
    let (code, said) = ends(serve(&data.path().join("one"), &free));
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("in use"), "{said}");

    let taken = served.url.strip_prefix("sluice://").unwrap();
    let (code, said) = ends(serve(&data.path().join("two"), &["--listen", taken, "--ops", "127.0.0.1:0"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--listen"), "{said}");

    let (code, said) = ends(serve(&data.path().join("two"), &["--listen", "0.0.0.0:0"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--insecure-plaintext"), "{said}");
}

/// Fail points are for tests: a build for users neither reads their variables nor holds their names. The same test,
/// built with the feature, finds all of it.
#[test]
fn a_build_for_users_has_no_fail_points() {
    let is_for_tests = cfg!(feature = "failpoints");
    let binary = std::fs::read(env!("CARGO_BIN_EXE_sluice")).unwrap();
    for name in
        ["SLUICE_FAILPOINTS", "SLUICE_MUTANTS", "snapshot.renamed", "create.identity_rename", "token_kept"]
    {
        let holds = binary.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert_eq!(holds, is_for_tests, "{name}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env("SLUICE_FAILPOINTS", "create.done=kill").env("SLUICE_MUTANTS", "token_kept");
    let mut child = serve_by(command, &directory.path().join("data"), FREE_PORTS);
    if is_for_tests {
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    } else {
        assert_eq!(Served::announced(child).stop(Signal::TERM), 0);
    }
}

#[test]
fn a_newest_snapshot_that_rots_after_a_restart_is_replaced_by_the_older_one_and_the_log() {
    // In sled each entry is let go of by itself, so one too many is missed; a segment goes when all of it may.
    for backend in Backend::ALL {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let served =
            Served::announced(serve(&data, &[FREE_PORTS, &["--log-backend", backend.name()]].concat()));
        assert_eq!(served.outcome("product put 7 --stock 3").0, 0);
        assert_eq!(served.outcome("reserve 7 --user 1 --id 1f").0, 0);
        assert_eq!(served.stop(Signal::TERM), 0);
        let served = Served::start(&data);
        assert_eq!(served.outcome("reserve 7 --user 2 --id 2f").0, 0);
        drop(served);
        let newest = std::fs::read_dir(data.join("snapshots"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .max()
            .unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&newest, bytes).unwrap();
        let served = Served::start(&data);
        assert_eq!(served.ask("show 1f").1["state"], "held");
        assert_eq!(served.ask("show 2f").1["state"], "held");
        assert_eq!(served.ask("product show 7").1["free"], 1);
    }
}
