//! What may be set of a stream and its messages, and what is allowed.
//!
//! Deliberately not here: where the servers are ([`super::target`]).

use std::time::Duration;

use thiserror::Error;

use super::Nats;
use super::line::Line;
use super::target::Target;
use crate::message::Payload;

/// The stream's name unless it is set.
pub const STREAM_DEFAULT: &str = "SLUICE";

/// What subjects begin with unless it is set.
pub const SUBJECT_PREFIX_DEFAULT: &str = "sluice";

/// How long a new stream knows messages by their ids unless it is set. Nothing rests on it: it is for those who read the
/// stream through a mirror, or publish to it by hand.
pub const DUPLICATE_WINDOW_DEFAULT: Duration = Duration::from_secs(120);

/// The least that servers allow.
pub const DUPLICATE_WINDOW_MIN: Duration = Duration::from_millis(100);

/// Copies of a stream that servers keep at most.
const REPLICAS_MAX: usize = 5;

/// Characters of a name at most.
const NAME_LEN_MAX: usize = 64;

/// A setting that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{setting} is {got:?}; allowed is {allowed}")]
pub struct SettingError {
    /// Which.
    pub setting: &'static str,
    /// What it was to be.
    pub got: String,
    /// What it may be.
    pub allowed: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) source: String,
    pub(super) stream: String,
    pub(super) subject_prefix: String,
    pub(super) payload: Payload,
    pub(super) duplicate_window: Duration,
    pub(super) replicas: usize,
}

impl Settings {
    /// All subjects of the stream.
    pub(super) fn subjects(&self) -> String {
        format!("{}.>", self.subject_prefix)
    }
}

impl Nats {
    /// The stream [`STREAM_DEFAULT`] there. `source` tells this cluster's messages from those of any other: its id is
    /// good, or a name of 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// The source is none.
    pub fn new(target: Target, source: impl Into<String>) -> Result<Self, SettingError> {
        let source = source.into();
        let is_good = |c: char| is_name(c) || c == '.';
        if source.is_empty() || source.len() > NAME_LEN_MAX || !source.chars().all(is_good) {
            let allowed = "1 to 64 letters, digits, -, _ and .";
            return Err(SettingError { setting: "the source", got: source, allowed });
        }
        let settings = Settings {
            source,
            stream: STREAM_DEFAULT.to_owned(),
            subject_prefix: SUBJECT_PREFIX_DEFAULT.to_owned(),
            payload: Payload::default(),
            duplicate_window: DUPLICATE_WINDOW_DEFAULT,
            replicas: 1,
        };
        Ok(Self { target, settings, connection: None, last: 0, last_id: None, line: Line::default() })
    }

    /// The stream's name. It is made if there is none; one that exists is never changed.
    ///
    /// # Errors
    /// It is no name: 1 to 64 letters, digits, `-` and `_`.
    pub fn stream(mut self, name: impl Into<String>) -> Result<Self, SettingError> {
        let name = name.into();
        if !is_token(&name) {
            let allowed = "1 to 64 letters, digits, - and _";
            return Err(SettingError { setting: "the stream", got: name, allowed });
        }
        self.settings.stream = name;
        Ok(self)
    }

    /// What subjects begin with.
    ///
    /// # Errors
    /// It is no beginning of a subject: names as of streams, with dots in between.
    pub fn subject_prefix(mut self, prefix: impl Into<String>) -> Result<Self, SettingError> {
        let prefix = prefix.into();
        if !prefix.split('.').all(is_token) {
            let allowed = "letters, digits, - and _, with dots in between";
            return Err(SettingError { setting: "the subjects' prefix", got: prefix, allowed });
        }
        self.settings.subject_prefix = prefix;
        Ok(self)
    }

    /// How events are written.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.settings.payload = payload;
        self
    }

    /// How long a stream that is made knows messages by their ids.
    ///
    /// # Errors
    /// It is shorter than [`DUPLICATE_WINDOW_MIN`].
    pub fn duplicate_window(mut self, window: Duration) -> Result<Self, SettingError> {
        if window < DUPLICATE_WINDOW_MIN {
            let got = format!("{window:?}");
            return Err(SettingError { setting: "the duplicate window", got, allowed: "100 ms or more" });
        }
        self.settings.duplicate_window = window;
        Ok(self)
    }

    /// How many servers keep a stream that is made.
    ///
    /// # Errors
    /// There can be 1 to 5.
    pub fn replicas(mut self, replicas: usize) -> Result<Self, SettingError> {
        if !(1..=REPLICAS_MAX).contains(&replicas) {
            let got = replicas.to_string();
            return Err(SettingError { setting: "the number of replicas", got, allowed: "1 to 5" });
        }
        self.settings.replicas = replicas;
        Ok(self)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn is_token(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.chars().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_mean_something_else_are_refused() {
        let nats = |source: &str| Nats::new(Target::parse("nats://localhost").unwrap(), source);
        for bad in ["", "a b", "a\r\nb", "ü", &"x".repeat(65)] {
            assert!(nats(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a.b", "a b", "*", ">"] {
            assert!(nats("a.b-1").unwrap().stream(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".a", "a.", "a..b", "a.*", ">", "$JS API"] {
            assert!(nats("x").unwrap().subject_prefix(bad).is_err(), "{bad:?}");
        }
        assert!(nats("x").unwrap().subject_prefix("shop.sluice").is_ok());
        assert!(nats("x").unwrap().duplicate_window(Duration::from_millis(99)).is_err());
        assert!(nats("x").unwrap().replicas(0).is_err() && nats("x").unwrap().replicas(6).is_err());
    }
}
