//! The binary as a shop meets it: serve, sell by hand, stop, start again, and every exit code on the way.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A serving binary on free ports. Killed if the test fails before it was stopped.
struct Served {
    child: Child,
    url: String,
    ops: String,
}

impl Served {
    fn start(data: &Path) -> Self {
        let mut child = serve(data, &["--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--json"]);
        let mut line = String::new();
        // The line comes once the node can serve: no need to try until it answers.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}: {}", complaints(&mut child)));
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        Self { url: text("url"), ops: text("ops"), child }
    }

    /// Runs a command against it: its exit code, and the one object it prints.
    fn ask(&self, line: &str) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(line.split_whitespace())
            .arg("--json")
            .env("SLUICE_SERVER", &self.url)
            .env("SLUICE_OPS", &self.ops)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code().unwrap(),
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{line}: {text:?}")),
        )
    }

    /// The same, shortened to exit code and outcome.
    fn outcome(&self, line: &str) -> (i32, String) {
        let (exit, object) = self.ask(line);
        (exit, object["outcome"].as_str().unwrap_or_else(|| panic!("{line}: {object}")).to_owned())
    }

    fn stop(mut self, signal: Signal) -> i32 {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code().expect("a signal to stop is not what ends it")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail if it has been stopped, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path, flags: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("serve")
        .args(["--data", data.to_str().unwrap(), "--disk-free-min", "0"])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a binary that has ended said on standard error.
fn complaints(child: &mut Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn ends(mut child: Child) -> (i32, String) {
    let code = child.wait().unwrap().code().unwrap();
    (code, complaints(&mut child))
}

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
