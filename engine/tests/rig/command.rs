//! The command line, as an operator or a script uses it.

use std::process::{Command, Stdio};

use serde_json::Value;

/// How a command ended, and what it printed with `--json`.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub json: Value,
}

impl Told {
    /// Exit code, and the outcome or the error's code.
    pub fn short(&self) -> (i32, &str) {
        let word = self.json["outcome"].as_str().or_else(|| self.json["error"].as_str());
        (self.code, word.unwrap_or_else(|| panic!("neither outcome nor error: {self:?}")))
    }

    /// Of a refusal, what it says to people.
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}"))
    }
}

/// Runs `sluice … --json`.
pub fn sluice(args: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(args).arg("--json").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&text);
    let said = || format!("{args:?}: {text:?} {}", String::from_utf8_lossy(&output.stderr));
    Told { code: output.status.code().unwrap(), json: json.unwrap_or_else(|_| panic!("{}", said())) }
}

/// Runs `sluice …`, and returns its exit code and all that it said.
pub fn sluice_says(args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}
