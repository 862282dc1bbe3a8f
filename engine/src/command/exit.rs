//! Exit codes: the one place that says what each means. `sluice --help` prints the same.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or yes.
    Done = 0,
    /// A final no: sold out, limit reached, not open, … Asking again gives the same answer until something changes.
    Refused = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No final answer: nothing was done, or it is not known; the message says which, and how to find out.
    Unavailable = 3,
    /// The data directory cannot be used; the message says why and what to do.
    DataRefused = 4,
    /// A bug, or a machine that does not work.
    Internal = 70,
}

/// The table at the end of `sluice --help`.
pub(super) const HELP: &str = "\
Exit codes:
   0  done, or yes
   1  refused: a final no (sold out, limit reached, not open, …)
   2  the command line or the configuration is wrong
   3  unavailable, or the outcome is not known; the message says which, and how to resolve it
   4  the data directory cannot be used
  70  internal error";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
