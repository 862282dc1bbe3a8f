//! What the demo measures: answers, their times, and the outage.
//!
//! A call that was under way at some moment between the kill and the first answer after it is counted apart: it
//! shows the outage, not the engine. Deliberately not here: the truth of the answers.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::audit::Said;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Times of one kind of call, microseconds.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u32>);

impl Times {
    fn new() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are within what a histogram can keep"))
    }

    fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).expect("a call takes less than an age");
        self.0.record(us).expect("the histogram grows with what it is given");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share of the calls was answered, milliseconds; 1 means all of them. `None` if there
    /// were no calls.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

/// When things happened.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    opened: Option<Instant>,
    /// A buyer first heard that nothing is free.
    first_shortage: Option<Instant>,
    /// The last planned attempt was answered.
    rush_over: Option<Instant>,
    killed: Option<Instant>,
    /// The first answer after the kill, and the first yes.
    back: Option<Instant>,
    reserved_again: Option<Instant>,
}

/// See the module. One thread uses it.
#[derive(Debug)]
pub(super) struct Meter {
    moments: Cell<Moments>,
    attempts: Cell<u64>,
    yes: Cell<u64>,
    no: Cell<u64>,
    /// Yeses of the rush until units ran out for the first time, and noes of the rush.
    yes_early: Cell<u64>,
    no_in_rush: Cell<u64>,
    unanswered: Cell<u64>,
    yes_times: RefCell<Times>,
    no_times: RefCell<Times>,
    outage_times: RefCell<Times>,
}

/// Counts so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) attempts: u64,
    pub(super) yes: u64,
    pub(super) no: u64,
    /// Calls that ended without an answer, and were made again.
    pub(super) unanswered: u64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            moments: Cell::default(),
            attempts: Cell::default(),
            yes: Cell::default(),
            no: Cell::default(),
            yes_early: Cell::default(),
            no_in_rush: Cell::default(),
            unanswered: Cell::default(),
            yes_times: RefCell::new(Times::new()),
            no_times: RefCell::new(Times::new()),
            outage_times: RefCell::new(Times::new()),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Moments)) {
        let mut moments = self.moments.get();
        change(&mut moments);
        self.moments.set(moments);
    }

    pub(super) fn open(&self) {
        self.note(|moments| moments.opened = Some(Instant::now()));
    }

    /// The server is about to be killed. Nothing is asked until it is dead.
    pub(super) fn killed(&self) {
        self.note(|moments| moments.killed = Some(Instant::now()));
    }

    pub(super) fn rush_over(&self) {
        self.note(|moments| moments.rush_over = Some(Instant::now()));
    }

    /// One planned attempt has come to its end.
    pub(super) fn attempt_done(&self) {
        self.attempts.set(self.attempts.get() + 1);
    }

    /// A reservation that was asked for at `asked` was answered now, or not.
    pub(super) fn heard(&self, asked: Instant, said: Option<Said>) {
        let now = Instant::now();
        let yes = match said {
            Some(Said::Nothing) | None => {
                self.unanswered.set(self.unanswered.get() + 1);
                return;
            }
            Some(said) => said.claims_effect(),
        };
        if self.moments.get().killed.is_some_and(|killed| asked >= killed) {
            // Asked of a dead server: the one that answers is the next one.
            self.note(|moments| {
                moments.back = moments.back.or(Some(now));
                moments.reserved_again = moments.reserved_again.or(yes.then_some(now));
            });
        }
        let moments = self.moments.get();
        if yes {
            self.yes.set(self.yes.get() + 1);
            if moments.first_shortage.is_none() && moments.rush_over.is_none() {
                self.yes_early.set(self.yes.get());
            }
        } else {
            self.no.set(self.no.get() + 1);
            if moments.rush_over.is_none() {
                self.no_in_rush.set(self.no.get());
            }
            if moments.first_shortage.is_none() && said.is_some_and(is_shortage) {
                self.note(|moments| moments.first_shortage = Some(now));
            }
        }
        let times = match moments.killed {
            Some(killed) if now >= killed && moments.back.is_none_or(|back| asked <= back) => {
                &self.outage_times
            }
            _ if yes => &self.yes_times,
            _ => &self.no_times,
        };
        times.borrow_mut().record(now.duration_since(asked));
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            attempts: self.attempts.get(),
            yes: self.yes.get(),
            no: self.no.get(),
            unanswered: self.unanswered.get(),
        }
    }

    /// From the kill to the first answer after it.
    pub(super) fn rto(&self) -> Option<Duration> {
        let Moments { killed, back, .. } = self.moments.get();
        Some(back?.duration_since(killed?))
    }

    /// From the kill to the first yes that was asked for after it.
    pub(super) fn reserved_again(&self) -> Option<Duration> {
        let Moments { killed, reserved_again, .. } = self.moments.get();
        Some(reserved_again?.duration_since(killed?))
    }

    /// Whether the server is dead as far as anybody knows.
    pub(super) fn is_out(&self) -> bool {
        let Moments { killed, back, .. } = self.moments.get();
        killed.is_some() && back.is_none()
    }

    /// Reservations granted per second from the opening until units first ran out, without the outage.
    pub(super) fn yes_per_s(&self) -> f64 {
        let moments = self.moments.get();
        let shortage = moments.first_shortage.filter(|_| moments.rush_over > moments.first_shortage);
        self.rate(self.yes_early.get(), shortage.or(moments.rush_over))
    }

    /// Refusals per second during the rush, without the outage.
    pub(super) fn no_per_s(&self) -> f64 {
        self.rate(self.no_in_rush.get(), self.moments.get().rush_over)
    }

    fn rate(&self, count: u64, until: Option<Instant>) -> f64 {
        let Moments { opened, killed, back, .. } = self.moments.get();
        let (Some(opened), Some(until)) = (opened, until) else { return 0.0 };
        let out = match (killed, back) {
            (Some(killed), Some(back)) if killed < until => back.min(until).duration_since(killed),
            _ => Duration::ZERO,
        };
        let seconds = until.duration_since(opened).saturating_sub(out).as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// Times of yeses, of noes, and of calls during the outage.
    pub(super) fn times(&self) -> [Times; 3] {
        [&self.yes_times, &self.no_times, &self.outage_times].map(|times| times.borrow().clone())
    }
}

fn is_shortage(said: Said) -> bool {
    use sluice_client::Status::{Insufficient, SoldOut};
    matches!(said, Said::Refused { status: Insufficient | SoldOut, .. })
}

#[cfg(test)]
mod tests {
    use sluice_client::Status;

    use super::*;

    const YES: Said = Said::Held { sequence: 1, deadline_ms: 1, first: true };
    const NO: Said = Said::Refused { status: Status::Insufficient, figures: Some((0, 1)) };

    #[test]
    fn calls_across_the_outage_are_counted_apart() {
        let meter = Meter::new();
        meter.open();
        let before = Instant::now();
        meter.heard(before, Some(YES));
        meter.killed();
        assert!(meter.is_out());
        // Answered by the dead: it is still out.
        meter.heard(before, Some(YES));
        assert!(meter.is_out() && meter.rto().is_none());
        meter.heard(Instant::now(), Some(NO));
        assert!(!meter.is_out() && meter.rto().is_some() && meter.reserved_again().is_none());
        meter.heard(before, Some(NO));
        // A call that begins after the moment at which the server was back.
        while Instant::now() <= meter.moments.get().back.unwrap() {}
        meter.heard(Instant::now(), Some(NO));
        assert_eq!(meter.times().map(|times| times.count()), [1, 1, 3]);
        let counts = meter.counts();
        assert_eq!((counts.yes, counts.no, counts.unanswered), (2, 3, 0));
    }

    #[test]
    fn yeses_count_for_their_rate_until_units_run_out() {
        let meter = Meter::new();
        meter.open();
        for said in [YES, YES, NO, YES] {
            meter.heard(Instant::now(), Some(said));
        }
        meter.rush_over();
        meter.heard(Instant::now(), Some(NO));
        assert_eq!((meter.yes_early.get(), meter.no_in_rush.get()), (2, 1));
        assert_eq!((meter.counts().yes, meter.counts().no), (3, 2));
        assert!(meter.yes_per_s() > 0.0 && meter.no_per_s() > 0.0);
    }

    #[test]
    fn no_answer_is_neither_yes_nor_no() {
        let meter = Meter::new();
        meter.heard(Instant::now(), None);
        meter.heard(Instant::now(), Some(Said::Nothing));
        let counts = meter.counts();
        assert_eq!((counts.yes, counts.no, counts.unanswered), (0, 0, 2));
    }
}
