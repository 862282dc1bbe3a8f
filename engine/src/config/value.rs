//! Text to values and back: addresses, counts, sizes ("64MiB"), spans of time ("15s"), each within its range.
//!
//! A number of bytes or of seconds without its unit is a mistake: 15 what? Deliberately not here: which settings
//! there are.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::error::Problem;
use crate::wal::Backend;

/// Largest first, so that printing finds the largest unit that divides a value.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// In milliseconds, largest first.
const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const THREADS_MAX: u64 = 64;
const AUTO: &str = "auto";
const OFF: &str = "off";

/// What a setting may be.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `ip:port`.
    Address,
    /// `ip:port`, or `off`.
    AddressOrOff,
    /// `host:port` as others reach it, or `auto`.
    Advertised,
    /// A path in the file system.
    Path,
    /// `true` or `false`.
    Switch,
    /// A plain number.
    Count { low: u64, high: u64 },
    /// A number of threads, or `auto`.
    Threads,
    /// A number of bytes, with its unit.
    Size { low: u64, high: u64 },
    /// A span of time, with its unit; the bounds are milliseconds.
    Span { low_ms: u64, high_ms: u64 },
    /// A filter of log lines.
    Filter,
    /// How the log is kept.
    Backend,
}

/// What a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `ip:port`.
    Address(SocketAddr),
    /// Nothing is listened on.
    Off,
    /// A path in the file system.
    Path(PathBuf),
    /// `true` or `false`.
    Switch(bool),
    /// A plain number.
    Count(u64),
    /// Bytes.
    Size(u64),
    /// A span of time.
    Span(Duration),
    /// Text that has been checked.
    Text(String),
    /// How the log is kept.
    Backend(Backend),
}

impl Value {
    /// Reads a span of time of any length, such as `15s`; `None` if it is not one.
    pub fn parse_span(text: &str) -> Option<Duration> {
        with_unit(text, &SPAN_UNITS).map(Duration::from_millis)
    }
}

impl Kind {
    pub(super) const fn count(low: u64, high: u64) -> Self {
        Self::Count { low, high }
    }

    pub(super) const fn size(low: u64, high: u64) -> Self {
        Self::Size { low, high }
    }

    pub(super) const fn span(low_ms: u64, high_ms: u64) -> Self {
        Self::Span { low_ms, high_ms }
    }

    /// Reads a value of this kind.
    pub(super) fn parse(&self, text: &str) -> Result<Value, Problem> {
        let unreadable = || Problem::Unreadable { expected: self.expected() };
        match self {
            Self::Address => text.parse().map(Value::Address).map_err(|_| unreadable()),
            Self::AddressOrOff if text == OFF => Ok(Value::Off),
            Self::AddressOrOff => text.parse().map(Value::Address).map_err(|_| unreadable()),
            Self::Advertised if text == AUTO || is_host_and_port(text) => Ok(Value::Text(text.to_owned())),
            Self::Advertised => Err(unreadable()),
            Self::Path if text.is_empty() => Err(unreadable()),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Switch => text.parse().map(Value::Switch).map_err(|_| unreadable()),
            Self::Threads if text == AUTO => Ok(Value::Count(threads_auto())),
            Self::Threads | Self::Count { .. } => {
                self.within(plain(text).ok_or_else(unreadable)?).map(Value::Count)
            }
            Self::Size { .. } => {
                self.within(with_unit(text, &SIZE_UNITS).ok_or_else(unreadable)?).map(Value::Size)
            }
            Self::Span { .. } => self
                .within(with_unit(text, &SPAN_UNITS).ok_or_else(unreadable)?)
                .map(|ms| Value::Span(Duration::from_millis(ms))),
            Self::Filter => match EnvFilter::try_new(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err(unreadable()),
            },
            Self::Backend => text.parse().map(Value::Backend).map_err(|()| unreadable()),
        }
    }

    /// What a value looks like, range included.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Address => "an address and a port, such as 127.0.0.1:7400 or [::1]:7400".to_owned(),
            Self::AddressOrOff => "off, or an address and a port, such as 127.0.0.1:7401".to_owned(),
            Self::Advertised => "auto, or a host and a port, such as db1.example:7401".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Count { low, high } => format!("a whole number from {low} to {high}"),
            Self::Threads => format!("auto, or a whole number from 1 to {THREADS_MAX}"),
            Self::Size { low, high } => {
                format!("a size from {} to {}, such as 64MiB", Value::Size(*low), Value::Size(*high))
            }
            Self::Span { low_ms, high_ms } => {
                let span = |ms: u64| Value::Span(Duration::from_millis(ms));
                format!("a span of time from {} to {}, such as 15s", span(*low_ms), span(*high_ms))
            }
            Self::Filter => "a level (error, warn, info, debug, trace) or a filter of them".to_owned(),
            Self::Backend => Backend::ALL.map(Backend::name).join(" or "),
        }
    }

    fn within(&self, number: u64) -> Result<u64, Problem> {
        let (low, high) = match self {
            Self::Count { low, high } | Self::Size { low, high } => (*low, *high),
            Self::Span { low_ms, high_ms } => (*low_ms, *high_ms),
            Self::Threads => (1, THREADS_MAX),
            Self::Address
            | Self::AddressOrOff
            | Self::Advertised
            | Self::Path
            | Self::Switch
            | Self::Filter
            | Self::Backend => return Ok(number),
        };
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(Problem::OutOfRange { allowed: self.expected() })
        }
    }
}

/// Half the processors: the other half is for the replica thread, the log and the kernel.
fn threads_auto() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    (processors / 2).clamp(1, THREADS_MAX)
}

/// A name or an address, and a port that can be connected to.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_name = !host.is_empty() && (is_bracketed || !host.contains(':'));
    is_name && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Digits, with `_` between them as TOML has it.
fn plain(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits { digits.parse().ok() } else { None }
}

/// Digits and a unit. The unit is never left out, except after a zero.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number = plain(digits)?;
    let unit = unit.trim_start();
    if unit.is_empty() && number == 0 {
        return Some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn write_with_unit(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (unit, factor) = units
        .iter()
        .find(|(_, factor)| number > 0 && number.is_multiple_of(*factor))
        .or(units.last())
        .expect("there are units");
    write!(f, "{}{unit}", number / factor)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Off => f.write_str(OFF),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Size(bytes) => write_with_unit(f, *bytes, &SIZE_UNITS),
            Self::Span(span) => write_with_unit(f, span.as_millis() as u64, &SPAN_UNITS),
            Self::Text(text) => f.write_str(text),
            Self::Backend(backend) => write!(f, "{backend}"),
        }
    }
}

/// A field's type, made from a value that was checked against its declaration.
pub(super) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty: $($pattern:pat => $made:expr),+;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $($pattern => $made,)+
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    SocketAddr: Value::Address(address) => Some(*address);
    Option<SocketAddr>: Value::Address(address) => Some(Some(*address)), Value::Off => Some(None);
    PathBuf: Value::Path(path) => Some(path.clone());
    bool: Value::Switch(on) => Some(*on);
    u32: Value::Count(n) => u32::try_from(*n).ok();
    u64: Value::Count(n) => Some(*n), Value::Size(n) => Some(*n);
    usize: Value::Count(n) => usize::try_from(*n).ok(), Value::Size(n) => usize::try_from(*n).ok();
    Duration: Value::Span(span) => Some(*span);
    String: Value::Text(text) => Some(text.clone());
    Backend: Value::Backend(backend) => Some(*backend);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let sizes = Kind::size(0, u64::MAX);
        for bytes in [0, 1, 1023, 1024, 3 << 20, (1 << 40) + 1, u64::MAX] {
            let printed = Value::Size(bytes).to_string();
            assert_eq!(sizes.parse(&printed), Ok(Value::Size(bytes)), "{printed}");
        }
        let spans = Kind::span(0, u64::MAX);
        for ms in [0, 1, 999, 1000, 1500, 60_000, 90_000, 86_400_000] {
            let span = Value::Span(Duration::from_millis(ms));
            assert_eq!(spans.parse(&span.to_string()), Ok(span.clone()), "{span}");
        }
    }

    #[test]
    fn the_largest_unit_that_divides_is_printed() {
        let span = |ms| Value::Span(Duration::from_millis(ms)).to_string();
        assert_eq!(
            (span(86_400_000), span(90_000), span(1500)),
            ("1d".into(), "90s".into(), "1500ms".into())
        );
        assert_eq!(Value::Size(64 << 20).to_string(), "64MiB");
    }

    #[test]
    fn what_is_advertised_can_be_connected_to() {
        for text in ["auto", "db1:7401", "10.0.0.1:7401", "[::1]:7401"] {
            assert!(Kind::Advertised.parse(text).is_ok(), "{text}");
        }
        for text in ["", "db1", ":7401", "db1:0", "db1:x", "::1:7401", "a b:1", "db1:70000"] {
            assert!(Kind::Advertised.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_unit_is_needed_and_overflow_is_refused() {
        let spans = Kind::span(0, u64::MAX);
        for text in
            ["15", "s", "15 parsecs", "-1s", "1.5s", "", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(matches!(spans.parse(text), Err(Problem::Unreadable { .. })), "{text}");
        }
        assert_eq!(spans.parse("1_000 ms"), Ok(Value::Span(Duration::from_secs(1))));
    }
}
