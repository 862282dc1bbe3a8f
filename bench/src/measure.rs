//! What a measurement says: rates, latencies, what it cost the server.
//!
//! Deliberately not here: sockets.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::line::Landed;
use crate::process::Process;
use crate::speech::Tally;

/// Latencies are kept to a thousandth, up to a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// One point of the rate over time.
pub const SERIES_STEP: Duration = Duration::from_millis(100);

/// A measurement in the making.
#[derive(Debug)]
pub struct Meter {
    starts_ns: f64,
    ends_ns: f64,
    /// Closed loop: what lands in the time measured counts. Open: what was due in it.
    by_landing: bool,
    latency: Histogram<u64>,
    first: Option<Reading>,
    last: Option<Reading>,
    /// The server's memory before any load, bytes.
    resident_before: Option<u64>,
    series: Vec<u64>,
    at_step: Tally,
    next_step_ns: f64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    now_ns: f64,
    tally: Tally,
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
}

impl Meter {
    /// Measures for so long, after so long.
    ///
    /// # Panics
    /// Never: the histogram's bounds are sound.
    pub fn new(warm_up: Duration, measure: Duration, by_landing: bool) -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS);
        Self {
            starts_ns: warm_up.as_nanos() as f64,
            ends_ns: (warm_up + measure).as_nanos() as f64,
            by_landing,
            latency: latency.expect("1 is below a minute"),
            first: None,
            last: None,
            resident_before: None,
            series: Vec::new(),
            at_step: Tally::default(),
            next_step_ns: 0.0,
        }
    }

    /// When it ends, nanoseconds since the start.
    pub fn ends_ns(&self) -> f64 {
        self.ends_ns
    }

    /// How it goes: seconds since the measurement began (negative: warming up), answers a second lately.
    pub fn progress(&self) -> (f64, u64) {
        let lately = self.series.last().copied().unwrap_or(0);
        ((self.next_step_ns - self.starts_ns) / 1e9, (lately as f64 / SERIES_STEP.as_secs_f64()) as u64)
    }

    /// Takes the readings that are due. Whether there is something new to show.
    pub fn turn(&mut self, now_ns: f64, tally: Tally, server: Option<&Process>) -> bool {
        let reading = || Reading {
            now_ns,
            tally,
            cpu_seconds: server.and_then(Process::cpu_seconds),
            resident_bytes: server.and_then(Process::resident_bytes),
        };
        self.resident_before = self.resident_before.or_else(|| server.and_then(Process::resident_bytes));
        if self.first.is_none() && now_ns >= self.starts_ns {
            self.first = Some(reading());
            self.series.clear();
            (self.at_step, self.next_step_ns) = (tally, now_ns + SERIES_STEP.as_nanos() as f64);
        }
        if self.last.is_none() && now_ns >= self.ends_ns {
            self.last = Some(reading());
        }
        if now_ns < self.next_step_ns || self.last.is_some() {
            return false;
        }
        self.series.push(tally.since(self.at_step).settled());
        self.at_step = tally;
        self.next_step_ns += SERIES_STEP.as_nanos() as f64;
        true
    }

    /// Takes the latencies of requests that were answered now.
    pub fn record(&mut self, landed: Landed, now_ns: f64) {
        if self.by_landing {
            if now_ns >= self.starts_ns && now_ns < self.ends_ns {
                self.latency.saturating_record_n((now_ns - landed.due_ns) as u64, u64::from(landed.items));
            }
            return;
        }
        for at in 0..landed.items {
            let due_ns = landed.due_ns + f64::from(at) * landed.step_ns;
            if due_ns >= self.starts_ns && due_ns < self.ends_ns {
                self.latency.saturating_record((now_ns - due_ns) as u64);
            }
        }
    }

    /// The measurement, with what was left over.
    ///
    /// # Panics
    /// If the time of the measurement has not passed.
    pub fn finish(self, unsent: u64, unanswered: u64) -> Measured {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            panic!("a measurement is finished when its time has passed");
        };
        let answers = last.tally.since(first.tally);
        let seconds = (last.now_ns - first.now_ns) / 1e9;
        let cpu = last.cpu_seconds.zip(first.cpu_seconds).map(|(last, first)| last - first);
        let grown = last.resident_bytes.zip(self.resident_before);
        Measured {
            seconds,
            rate: answers.settled() as f64 / seconds,
            answers,
            unsent,
            unanswered,
            latency: Quantiles::of(&self.latency),
            cpu_seconds_per_million: cpu.map(|cpu| cpu * 1e6 / answers.settled() as f64),
            cores_used: cpu.map(|cpu| cpu / seconds),
            bytes_per_accepted: grown
                .filter(|_| answers.accepted > 0)
                .map(|(after, before)| after.saturating_sub(before) as f64 / last.tally.accepted as f64),
            series: self.series,
            histogram: self.latency,
        }
    }
}

/// A measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// How long it took.
    pub seconds: f64,
    /// Outcomes a second.
    pub rate: f64,
    /// Answers, by what they say.
    pub answers: Tally,
    /// Open loop: requests that were due and found no connection with room until the end.
    pub unsent: u64,
    /// Requests without an answer at the end. A closed loop always leaves some.
    pub unanswered: u64,
    /// From due (open loop) or sent (closed loop) to answered.
    pub latency: Quantiles,
    /// Processor seconds that the server used for a million outcomes.
    pub cpu_seconds_per_million: Option<f64>,
    /// Processors that the server kept busy, on average.
    pub cores_used: Option<f64>,
    /// How much the server's memory grew for each request that it accepted, the warm-up included.
    pub bytes_per_accepted: Option<f64>,
    /// Outcomes in each tenth of a second.
    pub series: Vec<u64>,
    /// All latencies, nanoseconds.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// Points of a distribution of latencies, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Half are faster.
    pub p50_us: f64,
    /// Nine of ten are faster.
    pub p90_us: f64,
    /// 99 of 100 are faster.
    pub p99_us: f64,
    /// 999 of 1000 are faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Quantiles {
    /// Reads a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// The middle one; the upper of two.
///
/// # Panics
/// If there is none.
pub fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    *figures.get(figures.len() / 2).expect("something was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    #[test]
    fn an_open_loop_counts_by_due_time_and_from_it() {
        let mut meter = Meter::new(Duration::from_millis(10), Duration::from_millis(10), false);
        // Due at 8, 12, 16, 20 and 24 ms, answered at 30: two of them within the time measured.
        meter.record(Landed { due_ns: 8.0 * MS, step_ns: 4.0 * MS, items: 5 }, 30.0 * MS);
        assert_eq!(meter.latency.len(), 2);
        assert!(meter.latency.equivalent(meter.latency.max(), 18_000_000));
        assert!(meter.latency.equivalent(meter.latency.min(), 14_000_000));
    }

    #[test]
    fn rates_are_of_the_time_measured_alone() {
        let mut meter = Meter::new(Duration::from_millis(10), Duration::from_millis(10), true);
        let answers = |accepted| Tally { accepted, ..Tally::default() };
        meter.turn(5.0 * MS, answers(100), None);
        meter.turn(10.0 * MS, answers(200), None);
        meter.turn(20.0 * MS, answers(250), None);
        meter.turn(30.0 * MS, answers(999), None);
        let measured = meter.finish(0, 0);
        assert_eq!(measured.answers.accepted, 50);
        assert_eq!(measured.rate, 5000.0);
    }
}
