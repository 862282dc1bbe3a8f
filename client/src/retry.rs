//! When to try again, and what may be said when trying ends.
//!
//! [`Attempts`] is the memory of one item over all its attempts: how often its id was sent, and whether an
//! attempt is in doubt. It decides, and does nothing: whoever sends asks it after each attempt. The rules:
//! - "busy", "full" and "not the leader" claim nothing: pause, then again;
//! - an attempt that was never written does not count: attempt 0 stays attempt 0;
//! - after an attempt in doubt only a final answer ends the matter, or a resolve;
//! - "queueing" claims nothing either, but is told: how long to wait is for the one in line to decide.
//!
//! Deliberately not here: sending, sleeping.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_protocol::Status;

use crate::call::{Lost, Reply};
use crate::ids::{random_u64, scramble};

/// The first pause between two attempts of one call, milliseconds.
const CALL_PAUSE_MS: u64 = 5;

/// The longest, unless the server asks for more.
const CALL_PAUSE_MS_MAX: u64 = 500;

/// The longest after an attempt that met no leader or lost its connection: what has to be waited for is waited
/// for in the queue, and a new leader is not kept waiting.
const HOP_PAUSE_MS_MAX: u64 = 40;

/// The first pause between two rounds of connecting in vain, milliseconds.
const CONNECT_PAUSE_MS: u64 = 20;

/// The longest: a server that is back is found within a tenth of a second.
const CONNECT_PAUSE_MS_MAX: u64 = 64;

/// The shortest pause between two servers that both answer and do not lead, milliseconds; and the longest.
const POLL_PAUSE_MS: u64 = 20;
const POLL_PAUSE_MS_MAX: u64 = 40;

/// What kind of promise the request's repetition keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It takes or changes units under an id: an answer of "unknown" is to be resolved, not repeated.
    Named,
    /// Doing it twice is doing it once, or it is a read: it is simply sent again.
    Harmless,
}

/// One item over all its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    repeat: Repeat,
    number: u8,
    in_doubt: bool,
    /// Pauses that the server asked for, or that its "unknown" made.
    pauses: u32,
    /// Pauses for want of a leader or a connection.
    hops: u32,
}

/// What to do after an attempt.
#[derive(Debug)]
pub(crate) enum Next {
    /// The reply is final.
    Done(Reply),
    /// Wait this long, then send again.
    Pause(Duration),
    /// Stop: an attempt is in doubt.
    Doubt,
    /// Stop: certainly nothing was done.
    Nothing(Because),
}

/// Why certainly nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    Busy { retry_after_ms: u32 },
    Full { retry_after_ms: u32 },
    NotLeader,
    Unsent,
    Hopeless,
    Closed,
}

impl Attempts {
    /// An item that is about to be sent. `number` is 0 only if its id was never sent before.
    pub(crate) fn new(repeat: Repeat, number: u8) -> Self {
        Self { repeat, number, in_doubt: false, pauses: 0, hops: 0 }
    }

    /// The number of the attempt to send now.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Judges an attempt that ended with `left` of the call's time.
    pub(crate) fn judge(&mut self, fate: Result<Reply, Lost>, left: Duration, jitter: &Jitter) -> Next {
        match fate {
            Ok(reply) => self.judge_reply(reply, left, jitter),
            Err(Lost::Unsent) => self.hop(Because::Unsent, left, jitter),
            Err(Lost::InDoubt) => {
                self.was_sent();
                self.in_doubt = true;
                self.hop(Because::Unsent, left, jitter)
            }
            Err(Lost::Hopeless) => self.stop(Because::Hopeless),
            Err(Lost::Closed) => self.stop(Because::Closed),
        }
    }

    fn judge_reply(&mut self, reply: Reply, left: Duration, jitter: &Jitter) -> Next {
        let Some(answer) = reply.answer() else { return Next::Done(reply) };
        self.was_sent();
        let retry_after_ms = answer.retry_after_ms();
        match answer.status() {
            Some(Status::Busy) => self.pause(Because::Busy { retry_after_ms }, retry_after_ms, left, jitter),
            Some(Status::Full) => self.pause(Because::Full { retry_after_ms }, retry_after_ms, left, jitter),
            Some(Status::NotLeader) => self.hop(Because::NotLeader, left, jitter),
            Some(Status::Unknown) => {
                self.in_doubt = true;
                match self.repeat {
                    Repeat::Named => Next::Doubt,
                    Repeat::Harmless => self.pause(Because::Unsent, 0, left, jitter),
                }
            }
            Some(Status::Queueing) if self.in_doubt => Next::Doubt,
            // A status of a later version may well mean that something was done.
            None => {
                self.in_doubt = true;
                Next::Doubt
            }
            Some(_) => Next::Done(reply),
        }
    }

    fn was_sent(&mut self) {
        self.number = self.number.saturating_add(1);
    }

    fn pause(&mut self, because: Because, at_least_ms: u32, left: Duration, jitter: &Jitter) -> Next {
        let pause = pause(self.pauses, CALL_PAUSE_MS, CALL_PAUSE_MS_MAX, u64::from(at_least_ms), jitter);
        self.pauses += 1;
        self.go_on(because, pause, left)
    }

    fn hop(&mut self, because: Because, left: Duration, jitter: &Jitter) -> Next {
        let pause = pause(self.hops, CALL_PAUSE_MS, HOP_PAUSE_MS_MAX, 0, jitter);
        self.hops += 1;
        self.go_on(because, pause, left)
    }

    fn go_on(&self, because: Because, pause: Duration, left: Duration) -> Next {
        if pause < left { Next::Pause(pause) } else { self.stop(because) }
    }

    fn stop(&self, because: Because) -> Next {
        if self.in_doubt { Next::Doubt } else { Next::Nothing(because) }
    }
}

/// How long to wait before connecting again after `failures` in a row.
pub(crate) fn connect_pause(failures: u32, jitter: &Jitter) -> Duration {
    pause(failures, CONNECT_PAUSE_MS, CONNECT_PAUSE_MS_MAX, 0, jitter)
}

/// How long to wait before asking the next server, while nobody leads.
pub(crate) fn poll_pause(jitter: &Jitter) -> Duration {
    Duration::from_micros(POLL_PAUSE_MS * 1000 + jitter.below((POLL_PAUSE_MS_MAX - POLL_PAUSE_MS) * 1000))
}

/// Doubles with every round up to a bound, is never less than asked for, and is stretched by up to a half at
/// random, so that clients which failed together do not come back together.
fn pause(round: u32, first_ms: u64, max_ms: u64, at_least_ms: u64, jitter: &Jitter) -> Duration {
    let doubled = first_ms.saturating_mul(1 << round.min(16)).min(max_ms);
    let base_us = doubled.max(at_least_ms) * 1000;
    Duration::from_micros(base_us + jitter.below(base_us / 2))
}

/// Random numbers that need not be good.
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(random_u64()))
    }

    /// A number from 0 up to `bound`.
    fn below(&self, bound: u64) -> u64 {
        // The step of SplitMix64: odd, so that the state runs through all values.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        scramble(self.0.fetch_add(STEP, Ordering::Relaxed)) % (bound + 1)
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::Answer;
    use sluice_protocol::response::At;

    use super::*;

    const LEFT: Duration = Duration::from_secs(1);

    fn judge(attempts: &mut Attempts, fate: Result<Answer, Lost>, left: Duration) -> Next {
        attempts.judge(fate.map(Reply::Answer), left, &Jitter::new())
    }

    #[test]
    fn only_what_was_written_counts_as_an_attempt() {
        let mut attempts = Attempts::new(Repeat::Named, 0);
        assert!(matches!(judge(&mut attempts, Err(Lost::Unsent), LEFT), Next::Pause(_)));
        assert_eq!(attempts.number(), 0);
        assert!(matches!(judge(&mut attempts, Ok(Answer::busy(0)), LEFT), Next::Pause(_)));
        assert_eq!(attempts.number(), 1);
        assert!(matches!(judge(&mut attempts, Err(Lost::InDoubt), LEFT), Next::Pause(_)));
        assert_eq!(attempts.number(), 2);
    }

    #[test]
    fn the_attempt_number_stops_at_its_highest() {
        let mut attempts = Attempts::new(Repeat::Named, 250);
        for _ in 0..10 {
            judge(&mut attempts, Ok(Answer::busy(0)), LEFT);
        }
        assert_eq!(attempts.number(), 255);
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_asks_and_at_most_half_as_long_again() {
        let mut attempts = Attempts::new(Repeat::Named, 0);
        let Next::Pause(pause) = judge(&mut attempts, Ok(Answer::busy(100)), LEFT) else {
            panic!("no pause")
        };
        assert!((100..=150).contains(&pause.as_millis()), "{pause:?}");
    }

    #[test]
    fn no_time_left_ends_in_nothing_or_in_doubt() {
        let mut attempts = Attempts::new(Repeat::Named, 0);
        let next = judge(&mut attempts, Ok(Answer::busy(2_000)), LEFT);
        assert!(matches!(next, Next::Nothing(Because::Busy { retry_after_ms: 2_000 })));
        let mut attempts = Attempts::new(Repeat::Named, 0);
        judge(&mut attempts, Err(Lost::InDoubt), LEFT);
        assert!(matches!(judge(&mut attempts, Ok(Answer::busy(2_000)), LEFT), Next::Doubt));
        assert!(matches!(judge(&mut attempts, Err(Lost::Closed), LEFT), Next::Doubt));
    }

    #[test]
    fn unknown_is_resolved_if_named_and_repeated_if_harmless() {
        let mut named = Attempts::new(Repeat::Named, 0);
        assert!(matches!(judge(&mut named, Ok(Answer::unknown()), LEFT), Next::Doubt));
        let mut harmless = Attempts::new(Repeat::Harmless, 0);
        assert!(matches!(judge(&mut harmless, Ok(Answer::unknown()), LEFT), Next::Pause(_)));
    }

    #[test]
    fn a_place_in_line_is_told_unless_an_earlier_attempt_is_in_doubt() {
        let mut attempts = Attempts::new(Repeat::Named, 0);
        assert!(matches!(judge(&mut attempts, Ok(Answer::queueing(9, 0)), LEFT), Next::Done(_)));
        let mut attempts = Attempts::new(Repeat::Named, 0);
        judge(&mut attempts, Err(Lost::InDoubt), LEFT);
        assert!(matches!(judge(&mut attempts, Ok(Answer::queueing(9, 0)), LEFT), Next::Doubt));
    }

    #[test]
    fn every_other_status_is_final() {
        for answer in [Answer::sold_out(At::default()), Answer::fenced(At::default())] {
            let mut attempts = Attempts::new(Repeat::Named, 0);
            assert!(matches!(judge(&mut attempts, Ok(answer), LEFT), Next::Done(_)));
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let jitter = Jitter::new();
        for (round, low_ms) in [(0, 20), (1, 40), (2, 64), (1_000, 64)] {
            let pause = connect_pause(round, &jitter).as_millis();
            assert!((low_ms..=low_ms * 3 / 2).contains(&pause), "round {round}: {pause} ms");
        }
    }

    #[test]
    fn a_leader_is_waited_for_in_short_steps_and_a_busy_one_is_left_in_peace() {
        let mut attempts = Attempts::new(Repeat::Harmless, 0);
        for fate in [Ok(Answer::not_leader(0)), Err(Lost::Unsent), Err(Lost::InDoubt)].repeat(5) {
            match judge(&mut attempts, fate, LEFT) {
                Next::Pause(pause) => assert!(pause <= Duration::from_millis(60), "{pause:?}"),
                other => panic!("no pause, but {other:?}"),
            }
        }
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            if let Next::Pause(pause) = judge(&mut attempts, Ok(Answer::busy(0)), LEFT) {
                longest = longest.max(pause);
            }
        }
        assert!(longest >= Duration::from_millis(500), "{longest:?}");
    }
}
