//! The only reader of time.
//!
//! Deadlines run on the boot clock, which counts on while a machine sleeps and never jumps. Stamps are the system's
//! clock as it was at start, carried on by the boot clock and steered back towards the system's clock by at most
//! `STEER_PER_MILLE`: if somebody sets the clock a day ahead, the holds of a sale do not end; they run a
//! little faster. A restart takes the system's clock as it is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sluice_core::time::Moment;

/// How much faster or slower than the boot clock stamps may run while they follow the system's clock.
const STEER_PER_MILLE: u64 = 100;

/// See the module. Shared by all threads; one of them steers.
#[derive(Debug)]
pub struct Clock {
    boot_us_at_start: u64,
    wall_ms_at_start: u64,
    /// What has been added to stamps since, milliseconds.
    offset_ms: AtomicI64,
    steered_at_ms: AtomicU64,
}

impl Clock {
    /// A clock that starts at the system's.
    pub fn start() -> Self {
        Self {
            boot_us_at_start: boot_us(),
            wall_ms_at_start: system_ms(),
            offset_ms: AtomicI64::new(0),
            steered_at_ms: AtomicU64::new(0),
        }
    }

    /// Microseconds since the start.
    pub fn mono_us(&self) -> u64 {
        boot_us().saturating_sub(self.boot_us_at_start)
    }

    /// Both clocks now.
    pub fn now(&self) -> Moment {
        let mono_ms = self.mono_us() / 1000;
        let wall = self.wall_ms_at_start + mono_ms;
        Moment { mono_ms, wall_ms: wall.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed)) }
    }

    /// Follows the system's clock a little. One thread calls this, a few times a second. Returns how far stamps still
    /// are from the system's clock, milliseconds: positive if they lag it.
    pub fn steer(&self) -> i64 {
        let now = self.now();
        let elapsed = now.mono_ms - self.steered_at_ms.swap(now.mono_ms, Ordering::Relaxed);
        let error = system_ms() as i64 - now.wall_ms as i64;
        let step = correction(error, elapsed);
        self.offset_ms.fetch_add(step, Ordering::Relaxed);
        error - step
    }
}

/// How much of `error` may be made up for after `elapsed_ms`.
fn correction(error: i64, elapsed_ms: u64) -> i64 {
    let most = (elapsed_ms * STEER_PER_MILLE / 1000) as i64;
    error.clamp(-most, most)
}

fn boot_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_system_clock_is_followed_slowly_in_both_directions() {
        let day = 24 * 3600 * 1000;
        assert_eq!(correction(day, 1000), 100);
        assert_eq!(correction(-day, 1000), -100);
        assert_eq!(correction(7, 1000), 7);
        assert_eq!(correction(-7, 1000), -7);
        assert_eq!(correction(day, 0), 0);
    }

    #[test]
    fn stamps_never_fall_while_nobody_steers() {
        let clock = Clock::start();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now.mono_ms >= last.mono_ms && now.wall_ms >= last.wall_ms);
            last = now;
        }
    }
}
