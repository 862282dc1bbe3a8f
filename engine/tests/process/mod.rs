//! The binary as a process of its own, for tests that talk to it, stop it, or break what it stands on.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Ports that nobody else has, announced in JSON.
pub const FREE_PORTS: &[&str] = &["--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--json"];

/// A serving binary on free ports. Killed if the test fails before it was stopped.
pub struct Served {
    pub child: Child,
    pub url: String,
    pub ops: String,
}

impl Served {
    pub fn start(data: &Path) -> Self {
        Self::announced(serve(data, FREE_PORTS))
    }

    /// Waits until a binary that was started with `--json` can serve.
    pub fn announced(mut child: Child) -> Self {
        let mut line = String::new();
        // The line comes once the node can serve: no need to try until it answers.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self::said(&line, child)
    }

    /// A binary that has announced itself by this line.
    pub fn said(line: &str, mut child: Child) -> Self {
        let said: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}: {}", complaints(&mut child)));
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        Self { url: text("url"), ops: text("ops"), child }
    }

    /// The next binary that the same process has become.
    pub fn again(&mut self, line: &str) {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        (self.url, self.ops) = (text("url"), text("ops"));
    }

    /// Runs a command against it: its exit code, and the one object it prints.
    pub fn ask(&self, line: &str) -> (i32, Value) {
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
    pub fn outcome(&self, line: &str) -> (i32, String) {
        let (exit, object) = self.ask(line);
        (exit, object["outcome"].as_str().unwrap_or_else(|| panic!("{line}: {object}")).to_owned())
    }

    /// Stops a server that runs under strace, which passes no signal on, and returns what was said on standard error.
    pub fn end_what_it_watches(mut self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(children).unwrap();
        let server = Pid::from_raw(children.trim().parse().expect("it has one child")).unwrap();
        kill_process(server, Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        complaints(&mut self.child)
    }

    pub fn stop(mut self, signal: Signal) -> i32 {
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

/// Starts the binary.
pub fn serve(data: &Path, flags: &[&str]) -> Child {
    serve_by(Command::new(env!("CARGO_BIN_EXE_sluice")), data, flags)
}

/// Starts the binary by a command that takes its arguments.
pub fn serve_by(mut command: Command, data: &Path, flags: &[&str]) -> Child {
    command
        .arg("serve")
        .args(["--data", data.to_str().unwrap(), "--disk-free-min", "0"])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a binary that has ended said on standard error.
pub fn complaints(child: &mut Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Waits for the end: the exit code, and what was said on standard error.
pub fn ends(mut child: Child) -> (i32, String) {
    let code = child.wait().unwrap().code().unwrap();
    (code, complaints(&mut child))
}
