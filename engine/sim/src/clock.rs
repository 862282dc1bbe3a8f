//! A node's clocks, as far from true time as its nemesis puts them.
//!
//! Like the shell's: deadlines run on a clock that only ever grows; stamps are the system's clock as it was when the
//! process started, carried on by the other and steered back towards the system's by a tenth at most. So a jump of the
//! system's clock is followed slowly, but whole by the next process.

use sluice_core::time::Moment;

/// The system's clock at the start of the world, milliseconds since 1970.
pub const START_MS: u64 = 1_700_000_000_000;

/// How much faster or slower stamps may run while they follow the system's clock.
const STEER_PER_MILLE: u64 = 100;

/// See the module.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// The system's clock is so far ahead of true time, milliseconds.
    skew_ms: i64,
    /// Both run so much faster than true time, millionths.
    drift_ppm: i64,
    /// When the drift was last changed, and what the clock showed then, microseconds.
    since_us: u64,
    ran_us: u64,
    /// The process's start, and what is added to its stamps.
    started_us: u64,
    wall_at_start_ms: u64,
    offset_ms: i64,
    steered_at_ms: u64,
}

impl SimClock {
    /// A clock with a skew and a drift.
    pub fn new(skew_ms: i64, drift_ppm: i64) -> Self {
        Self {
            skew_ms,
            drift_ppm,
            since_us: 0,
            ran_us: 0,
            started_us: 0,
            wall_at_start_ms: START_MS,
            offset_ms: 0,
            steered_at_ms: 0,
        }
    }

    /// What the node's own oscillator has counted.
    fn own_us(&self, now_us: u64) -> u64 {
        let elapsed = now_us - self.since_us;
        let drifted = i128::from(elapsed) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        self.ran_us + drifted as u64
    }

    /// How long true time takes until this clock has counted so much.
    pub fn true_us(&self, own_us: u64) -> u64 {
        (i128::from(own_us) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm)) as u64
    }

    fn system_ms(&self, now_us: u64) -> u64 {
        (START_MS + self.own_us(now_us) / 1000).saturating_add_signed(self.skew_ms)
    }

    /// A process starts: it takes the system's clock as it is.
    pub fn start(&mut self, now_us: u64) {
        self.started_us = self.own_us(now_us);
        self.wall_at_start_ms = self.system_ms(now_us);
        self.offset_ms = 0;
        self.steered_at_ms = 0;
    }

    /// What the process reads.
    pub fn now(&self, now_us: u64) -> Moment {
        let mono_ms = (self.own_us(now_us) - self.started_us) / 1000;
        let wall_ms = (self.wall_at_start_ms + mono_ms).saturating_add_signed(self.offset_ms);
        // A process's clock does not begin at nothing: 0 would be a time of its own.
        Moment { mono_ms: mono_ms + 1, wall_ms }
    }

    /// The process follows the system's clock a little.
    pub fn steer(&mut self, now_us: u64) {
        let now = self.now(now_us);
        let elapsed = now.mono_ms - self.steered_at_ms;
        self.steered_at_ms = now.mono_ms;
        let most = (elapsed * STEER_PER_MILLE / 1000) as i64;
        let error = self.system_ms(now_us) as i64 - now.wall_ms as i64;
        self.offset_ms += error.clamp(-most, most);
    }

    /// Somebody sets the system's clock.
    pub fn jump(&mut self, by_ms: i64) {
        self.skew_ms += by_ms;
    }

    /// Both clocks run faster or slower from now on.
    pub fn drift(&mut self, now_us: u64, ppm: i64) {
        self.ran_us = self.own_us(now_us);
        self.since_us = now_us;
        self.drift_ppm = ppm;
    }

    /// The clock shows `wall_ms` from now on, at the system's and at the process's.
    pub fn set(&mut self, now_us: u64, wall_ms: u64) {
        self.drift(now_us, 0);
        self.skew_ms += wall_ms as i64 - self.system_ms(now_us) as i64;
        self.offset_ms += wall_ms as i64 - self.now(now_us).wall_ms as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_followed_slowly_and_whole_by_the_next_process() {
        let mut clock = SimClock::new(0, 0);
        clock.start(0);
        clock.jump(86_400_000);
        for tick in 1..=100 {
            clock.steer(tick * 100_000);
        }
        assert_eq!(clock.now(10_000_000).wall_ms, START_MS + 11_000);
        clock.start(10_000_000);
        assert_eq!(clock.now(10_000_000), Moment { mono_ms: 1, wall_ms: START_MS + 86_410_000 });
        clock.set(10_000_000, START_MS);
        assert_eq!(clock.now(11_000_000), Moment { mono_ms: 1001, wall_ms: START_MS + 1000 });
    }

    #[test]
    fn drift_makes_no_jump() {
        let mut clock = SimClock::new(5, 100_000);
        clock.start(0);
        assert_eq!(clock.now(10_000_000).mono_ms, 11_001);
        clock.drift(10_000_000, -100_000);
        assert_eq!(clock.now(10_000_000).mono_ms, 11_001);
        assert_eq!(clock.now(20_000_000).mono_ms, 20_001);
        assert_eq!(clock.true_us(9_000_000), 10_000_000);
    }
}
