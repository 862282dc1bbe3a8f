//! Points in time as people write and read them: UTC, whatever the machine's time zone is.
//!
//! Calendar arithmetic after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". Deliberately not here:
//! leap seconds, which Unix time does not have either.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_client::Start;
pub use sluice_client::Utc;

use crate::config::Value;

const MS_PER_DAY: u64 = 86_400_000;
/// Days from 0000-03-01, where Hinnant's years begin, to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;
const YEAR_MAX: u64 = 9999;

/// A span as people say it: its two largest units, such as `14m 3s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its length.
    pub ms: u64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ms / 1000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes, seconds % 60) {
            (0, 0, 0, 0) => write!(f, "{}ms", self.ms),
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, s) => write!(f, "{m}m {s}s"),
            (0, h, m, _) => write!(f, "{h}h {m}m"),
            (d, h, ..) => write!(f, "{d}d {h}h"),
        }
    }
}

/// A point in time on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// No such point: the sale is open from the start, or never closes.
    Never,
    /// At this time, milliseconds since 1970.
    At(u64),
    /// This long after the command was given.
    After(Duration),
}

impl When {
    /// As the protocol has it: milliseconds since 1970, 0 = never.
    pub fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Never => 0,
            Self::At(ms) => ms,
            Self::After(span) => now_ms.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Reads `never`, `+10m`, `2026-11-27T20:00Z` or `2026-11-27T20:00:00.000+08:00`.
pub(super) fn parse_when(text: &str) -> Result<When, String> {
    if text == "never" {
        return Ok(When::Never);
    }
    if let Some(span) = text.strip_prefix('+') {
        return parse_span(span).map(When::After);
    }
    utc(text).map(When::At).ok_or_else(|| {
        "expected never, a span from now such as +10m, or a time such as 2026-11-27T20:00:00Z or \
         2026-11-28T04:00:00+08:00"
            .to_owned()
    })
}

/// Reads a place in the stream of events: `beginning`, `end`, a sequence, a time, or a span that it lies back.
pub(super) fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "beginning" => return Ok(Start::Beginning),
        "end" => return Ok(Start::End),
        _ => {}
    }
    if let Ok(sequence) = text.parse::<u64>() {
        // The first one that is wanted.
        return Ok(Start::After(sequence.saturating_sub(1)));
    }
    if let Some(span) = Value::parse_span(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(Start::At(now.saturating_sub(span).as_millis() as u64));
    }
    utc(text).map(Start::At).ok_or_else(|| {
        "expected beginning, end, a sequence such as 1200, a time such as 2026-11-27T20:00:00Z, or how long ago, \
         such as 10m"
            .to_owned()
    })
}

/// Reads a span of time, as in the configuration.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    match Value::parse_span(text) {
        Some(span) => Ok(span),
        None => Err("expected a span of time such as 200ms, 15s, 10m, 24h or 7d".to_owned()),
    }
}

/// Year, month, day to days since 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * DAYS_PER_ERA + day_of_era).checked_sub(EPOCH_DAYS)
}

/// RFC 3339 with the seconds optional.
fn utc(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    if !(1970..=YEAR_MAX).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days(year, month, day)?;
    // A day that its month does not have would come out as one of the next month.
    if !Utc(days * MS_PER_DAY).to_string().starts_with(date) {
        return None;
    }
    let zone = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let local = days * MS_PER_DAY + clock_ms(clock)?;
    match zone.split_at(1) {
        ("Z", "") => Some(local),
        ("+", offset) => local.checked_sub(clock_ms(offset)?),
        ("-", offset) => local.checked_add(clock_ms(offset)?),
        _ => None,
    }
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.mmm`, in milliseconds.
fn clock_ms(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let [hour, minute, second] = match whole.len() {
        5 if !text.contains('.') => {
            let [hour, minute] = numbers(whole, ':', [2, 2])?;
            [hour, minute, 0]
        }
        _ => numbers(whole, ':', [2, 2, 2])?,
    };
    let fraction_is_digits =
        (1..=3).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if hour > 23 || minute > 59 || second > 59 || !fraction_is_digits {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}").parse().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Exactly `N` numbers of so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_795_816_800_000, "2026-11-27T22:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in rows {
            assert_eq!(Utc(ms).to_string(), text);
            assert_eq!(parse_when(text), Ok(When::At(ms)), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_reads_back() {
        for day in (0..DAYS_PER_ERA).map(|day| day * MS_PER_DAY) {
            assert_eq!(utc(&Utc(day).to_string()), Some(day));
        }
    }

    #[test]
    fn zones_and_short_forms() {
        let noon = utc("2026-11-27T12:00:00Z").unwrap();
        for text in
            ["2026-11-27T12:00Z", "2026-11-27 12:00Z", "2026-11-27T20:00+08:00", "2026-11-27T07:30:00-04:30"]
        {
            assert_eq!(parse_when(text), Ok(When::At(noon)), "{text}");
        }
        assert_eq!(utc("2026-11-27T12:00:00.5Z"), Some(noon + 500));
        assert_eq!(parse_when("never").unwrap().ms(5), 0);
        assert_eq!(parse_when("+10m").unwrap().ms(5), 600_005);
    }

    #[test]
    fn places_in_the_stream() {
        assert_eq!(parse_start("beginning"), Ok(Start::Beginning));
        assert_eq!(parse_start("end"), Ok(Start::End));
        assert_eq!((parse_start("0"), parse_start("17")), (Ok(Start::After(0)), Ok(Start::After(16))));
        assert_eq!(parse_start("1970-01-02T00:00Z"), Ok(Start::At(MS_PER_DAY)));
        assert!(matches!(parse_start("10m"), Ok(Start::At(ms)) if ms > MS_PER_DAY));
        assert!(parse_start("yesterday").is_err() && parse_start("-3").is_err());
    }

    #[test]
    fn what_is_not_a_time() {
        for text in [
            "",
            "now",
            "2026-11-27",
            "2026-11-27T12:00",
            "2026-02-29T00:00Z",
            "2026-13-01T00:00Z",
            "2026-00-01T00:00Z",
            "2026-01-00T00:00Z",
            "2026-01-01T24:00Z",
            "2026-01-01T00:60Z",
            "1969-12-31T00:00Z",
            "1970-01-01T00:00+01:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00.5Z",
            "2026-1-1T00:00Z",
            "+10",
            "2026-01-01T00:00Zulu",
            "+2026-01-01T00:00Z",
        ] {
            assert!(parse_when(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let rows = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (843_999, "14m 3s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ];
        for (ms, text) in rows {
            assert_eq!(Span { ms }.to_string(), text);
        }
    }
}
