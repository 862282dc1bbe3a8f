//! A command of `sluice` that works until it is ended: in a process of its own, to be killed and started again.
//!
//! It ends with its handle, and with the thread that started it. Deliberately not here: commands that end by themselves ([`super::command`]).

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// See the module.
pub struct Worker {
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Worker {
    /// Starts `sluice …`. What it says goes to `log`.
    pub fn start(arguments: &[&str], log: &Path) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut worker = Self { arguments, log: log.to_owned(), process: None };
        worker.start_again();
        worker
    }

    pub fn start_again(&mut self) {
        let said = || OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_sluice")]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(said()).stderr(said());
        self.process = Some(command.spawn().unwrap());
    }

    /// Ends it in the midst of whatever it does. It must not have ended by itself.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        let ended = process.try_wait().unwrap();
        assert_eq!(ended, None, "{:?} ended by itself:\n{}", self.arguments, self.words());
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        let status = process.wait().unwrap();
        assert!(status.success(), "{:?} ended with {status}:\n{}", self.arguments, self.words());
    }

    /// All that it has said.
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
