//! Answers a second, for people: a collector makes its own rates from the counters.
//!
//! One thread samples the counters now and then; whoever reads gets the rates between the last two samples.

use parking_lot::Mutex;
use sluice_protocol::{Kind, Status};

use super::cells::AnswerCounts;

/// Samples closer together say nothing, milliseconds.
const SAMPLE_MS_MIN: u64 = 900;

/// See the module.
#[derive(Debug, Default)]
pub struct RateCell(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    at_ms: u64,
    counts: [u64; 3],
    rates: Rates,
}

/// Answers a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Of all kinds.
    pub answers: f64,
    /// Reservations granted.
    pub reserved: f64,
    /// Reservations refused for good.
    pub refused: f64,
}

impl RateCell {
    /// Takes a sample at a monotonic time, unless the last one is too near.
    pub fn sample(&self, answers: &AnswerCounts, now_ms: u64) {
        let mut samples = self.0.lock();
        let elapsed_ms = now_ms.saturating_sub(samples.at_ms);
        if elapsed_ms < SAMPLE_MS_MIN {
            return;
        }
        let counts = count(answers);
        let per_second = |at: usize| {
            let more = counts[at].saturating_sub(samples.counts[at]);
            (more * 1000 / elapsed_ms) as f64
        };
        let rates = Rates { answers: per_second(0), reserved: per_second(1), refused: per_second(2) };
        *samples = Samples { at_ms: now_ms, counts, rates };
    }

    /// Between the last two samples.
    pub fn get(&self) -> Rates {
        self.0.lock().rates
    }
}

/// All answers, reservations granted, reservations refused.
fn count(answers: &AnswerCounts) -> [u64; 3] {
    let all = |kind: Kind| -> u64 { Status::ALL.iter().map(|status| answers.get(kind, *status)).sum() };
    let refusals = Status::ALL.iter().filter(|status| (16..48).contains(&(**status as u8)));
    [
        Kind::ANSWERED.into_iter().map(all).sum(),
        answers.get(Kind::Reserve, Status::Reserved),
        refusals.map(|status| answers.get(Kind::Reserve, *status)).sum(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_between_two_samples() {
        let (cell, answers) = (RateCell::default(), AnswerCounts::default());
        cell.sample(&answers, 1000);
        answers.add(Kind::Reserve, Status::Reserved, 300);
        answers.add(Kind::Reserve, Status::Insufficient, 500);
        answers.add(Kind::Reserve, Status::Busy, 100);
        answers.add(Kind::Confirm, Status::Confirmed, 100);
        cell.sample(&answers, 1500);
        assert_eq!(cell.get(), Rates::default(), "too near");
        cell.sample(&answers, 3000);
        assert_eq!(cell.get(), Rates { answers: 500.0, reserved: 150.0, refused: 250.0 });
        cell.sample(&answers, 4000);
        assert_eq!(cell.get(), Rates::default(), "nothing since");
    }
}
