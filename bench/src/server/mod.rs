//! Servers of our own: started for a measurement on a free port and an empty directory, and gone after it.
//!
//! Deliberately not here: what is asked of them.

pub mod cluster;
pub mod redis;
pub mod sluice;

use std::io::Read;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// A child that does not outlive its owner.
#[derive(Debug)]
struct Owned(Child);

impl Owned {
    /// Its last words, once it has ended.
    fn last_words(&mut self) -> String {
        // Whoever cannot be killed has ended.
        let _ = self.0.kill();
        let mut said = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // Words that cannot be read are no words.
            let _ = stderr.read_to_string(&mut said);
        }
        said.trim().to_owned()
    }
}

impl Drop for Owned {
    /// Asks it to stop and waits for it: a server that still tidies up would disturb the next measurement.
    fn drop(&mut self) {
        // One that cannot be signalled or waited for has ended.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
