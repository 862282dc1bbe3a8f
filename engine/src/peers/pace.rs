//! How fast parts of snapshots may go: so many bytes a second, all peers together, in bursts of a few parts.

use std::time::Instant;

/// Parts that may go at once after a rest.
const BURST: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    burst: u64,
    /// Bytes that may go now.
    allowed: u64,
    at: Instant,
}

impl Pace {
    /// `rate` bytes a second, in parts of `part` bytes.
    pub(crate) fn new(rate: u64, part: u64) -> Self {
        let burst = BURST * part;
        Self { rate, burst, allowed: burst, at: Instant::now() }
    }

    /// Whether `bytes` may go at `now`. If so, they have.
    pub(crate) fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let earned = now.duration_since(self.at).as_micros() * u128::from(self.rate) / 1_000_000;
        if earned > 0 {
            self.allowed = self.burst.min(self.allowed + u64::try_from(earned).unwrap_or(self.burst));
            self.at = now;
        }
        let goes = self.allowed >= bytes;
        self.allowed -= if goes { bytes } else { 0 };
        goes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_goes_than_is_allowed() {
        let mut pace = Pace::new(1_000_000, 1000);
        let start = pace.at;
        let sent = |pace: &mut Pace, at| (0..).take_while(|_| pace.take(1000, at)).count();
        assert_eq!(sent(&mut pace, start), 4);
        assert_eq!(sent(&mut pace, start + Duration::from_millis(2)), 2);
        assert_eq!(sent(&mut pace, start + Duration::from_secs(60)), 4);
        let in_a_second = (1..=1000).map(|ms| sent(&mut pace, start + Duration::from_millis(60_000 + ms)));
        assert_eq!(in_a_second.sum::<usize>(), 1000);
    }
}
