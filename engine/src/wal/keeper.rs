//! What every log on disk keeps beside its files: the fence that lags behind, the clock it lags by, and the failure after
//! which nothing more is done.
//!
//! Deliberately not here: what an append writes.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::fdatasync;
use sluice_core::fault::Mutant;

use super::fence::{Fence, Mark};
use super::{Clock, FENCE_LAG_MAX, StoreError};
use crate::failpoint::{self, Point};

/// See the module.
pub(super) struct Keeper {
    fence: Fence,
    /// What the fence should say.
    pub(super) mark: Mark,
    fence_written_at: Instant,
    clock: Clock,
    poison: Option<String>,
}

impl Keeper {
    /// Of a log that was just read, and that `mark` describes.
    pub(super) fn new(fence: Fence, mark: Mark, clock: Clock) -> Self {
        Self { fence, mark, fence_written_at: clock(), clock, poison: None }
    }

    /// Syncs the log's file, the only thing that makes a step durable. Returns how long it took.
    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<Duration, StoreError> {
        let started = (self.clock)();
        failpoint::check(Point::LogSync)
            .and_then(|()| Ok(fdatasync(file)?))
            .map_err(|e| StoreError::io(path, "syncing the log", e))?;
        Ok((self.clock)().duration_since(started))
    }

    /// Brings the fence up to the mark.
    pub(super) fn write_fence(&mut self) -> Result<(), StoreError> {
        if self.fence.mark() != self.mark && !failpoint::is_on(Mutant::FenceNeverWritten) {
            self.fence.advance(self.mark)?;
        }
        self.fence_written_at = (self.clock)();
        Ok(())
    }

    /// Brings the fence up to the mark if it has lagged for as long as it may.
    pub(super) fn write_fence_if_due(&mut self) -> Result<(), StoreError> {
        let lag = (self.clock)().duration_since(self.fence_written_at);
        if lag >= FENCE_LAG_MAX { self.write_fence() } else { Ok(()) }
    }

    /// Draws the fence back to an entry, before the log is cut behind it.
    pub(super) fn draw_back(&mut self, index: u64) -> Result<(), StoreError> {
        self.fence.draw_back(Mark { index, term: 0, entry_crc: 0, ..self.mark })
    }

    /// Whether an earlier call failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }
}

/// A log that has a keeper.
pub(super) trait Kept: Sized {
    /// Its keeper.
    fn keeper(&mut self) -> &mut Keeper;

    /// Does the work, unless earlier work failed. What fails now is the last that is done.
    fn unless_poisoned<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(cause) = &self.keeper().poison {
            return Err(StoreError::Poisoned { cause: cause.clone() });
        }
        let result = work(self);
        if let Err(error) = &result {
            self.keeper().poison = Some(error.to_string());
        }
        result
    }
}
