//! A machine: a disk, clocks, and perhaps a process of a node.

use sluice_core::replica::StopReason;

use super::event::Event;
use super::process::Process;
use crate::clock::SimClock;
use crate::disk::{Refusal, SimDisk};
use crate::random::Random;

/// Why no process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// It was killed, or stopped; it may be started.
    Stopped,
    /// The disk was refused: it is never started again.
    Refused(Refusal),
    /// Snapshot and log did not fit, or the core panicked over them.
    Unfit,
    /// It ended itself.
    Ended(StopReason),
    /// The operator took it out of service.
    Retired,
}

/// How the disk behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Temper {
    /// Everything takes so many times as long.
    pub(crate) slow: u64,
    /// Nothing is finished before then.
    pub(crate) stalled_until_us: u64,
    /// The next write or sync fails.
    pub(crate) fails: bool,
    /// It is nearly full.
    pub(crate) is_full: bool,
    /// Snapshots cannot be saved.
    pub(crate) no_snapshots: bool,
}

/// See the module.
pub(crate) struct Host {
    pub(crate) node: u64,
    /// What the judges call its process: a copy of a node is not the node.
    pub(crate) alias: u64,
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimClock,
    pub(crate) process: Option<Process>,
    pub(crate) down: Down,
    /// Counts processes: what was ordered by an earlier one does not happen.
    pub(crate) life: u64,
    /// What came in while the process stood still.
    pub(crate) backlog: Vec<Event>,
    /// How many hold the process still.
    pub(crate) pauses: u32,
    /// How many keep it from being started.
    pub(crate) holds: u32,
    pub(crate) temper: Temper,
    /// The disk forgot what it had synced, and may rightly be turned away.
    pub(crate) is_forgetful: bool,
    /// The disk as it was opened, some times ago.
    pub(crate) copies: Vec<SimDisk>,
    pub(crate) random: Random,
}

impl Host {
    pub(crate) fn new(node: u64, disk: SimDisk, clock: SimClock, random: Random) -> Self {
        Self {
            node,
            alias: node,
            disk,
            clock,
            process: None,
            down: Down::Stopped,
            life: 0,
            backlog: Vec::new(),
            pauses: 0,
            holds: 0,
            temper: Temper::default(),
            is_forgetful: false,
            copies: Vec::new(),
            random,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    /// Whether a process can ever run here again.
    pub(crate) fn is_fit(&self) -> bool {
        self.process.is_some() || matches!(self.down, Down::Stopped | Down::Ended(StopReason::DiskFailed))
    }

    /// How long the disk takes for a step of the log from now on.
    pub(crate) fn write_us(&mut self, now_us: u64, bytes: usize) -> u64 {
        let honest_us = self.random.spread(60, 900) + bytes as u64 / 500;
        let slow_us = honest_us * self.temper.slow.max(1);
        slow_us.max(self.temper.stalled_until_us.saturating_sub(now_us))
    }
}
