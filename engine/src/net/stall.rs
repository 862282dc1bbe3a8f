//! Since when a client owes its server the taking of replies.
//!
//! A few bytes now and then are no sign that replies are read: what counts is that all were taken, or a good deal of them.
//! Deliberately not here: how long is too long.

use tokio::time::Instant;

/// Bytes of replies that a client must take within the time of a frame, if it does not take all.
const TAKEN_BYTES_MIN: usize = 64 * 1024;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
    /// What was taken since.
    taken: usize,
}

impl Stall {
    /// So many bytes were just taken, and so many wait.
    pub(super) fn wrote(self, bytes: usize, waiting: usize, now: Instant) -> Self {
        let taken = self.taken + bytes;
        match self.since {
            _ if waiting == 0 => Self::default(),
            Some(_) if taken < TAKEN_BYTES_MIN => Self { taken, ..self },
            _ => Self { since: Some(now), taken: 0 },
        }
    }

    /// When the client should have begun to take what waits; `None` if nothing does.
    pub(super) fn since(self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_few_bytes_now_and_then_do_not_count() {
        let start = Instant::now();
        let mut stall = Stall::default().wrote(1000, 1_000_000, start);
        for second in 1..60 {
            stall = stall.wrote(1000, 1_000_000, start + Duration::from_secs(second));
            assert_eq!(stall.since(), Some(start));
        }
        let later = start + Duration::from_secs(60);
        assert_eq!(stall.wrote(TAKEN_BYTES_MIN, 1_000_000, later).since(), Some(later), "a good deal does");
        assert_eq!(stall.wrote(0, 0, later).since(), None, "and all of it does");
    }
}
