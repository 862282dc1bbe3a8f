//! Every mistake in a configuration, told at once: which key, which value, where it came from, what is allowed.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 if the file as a whole is meant.
        line: usize,
    },
    /// A flag on the command line, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not of its kind.
    Unreadable {
        /// What it should look like.
        expected: String,
    },
    /// It is of its kind, but too small or too large.
    OutOfRange {
        /// What is allowed.
        allowed: String,
    },
    /// There is no such key.
    UnknownKey {
        /// The key with the nearest name.
        nearest: Option<&'static str>,
    },
    /// It is sound by itself, but not together with another.
    Conflict {
        /// Which, and why.
        why: String,
    },
    /// It listens where others can reach it, and nothing on the wire is protected.
    PlaintextBeyondLoopback,
    /// The file cannot be read.
    FileUnreadable {
        /// The system's words.
        why: String,
    },
    /// The file is not TOML.
    Syntax {
        /// The parser's words.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { expected } => write!(f, "expected {expected}"),
            Self::OutOfRange { allowed } => write!(f, "out of range; allowed is {allowed}"),
            Self::UnknownKey { nearest: Some(nearest) } => {
                write!(f, "there is no such key; did you mean {nearest}?")
            }
            Self::UnknownKey { nearest: None } => {
                f.write_str("there is no such key; `sluice check-config` prints all of them")
            }
            Self::Conflict { why } => f.write_str(why),
            Self::PlaintextBeyondLoopback => f.write_str(
                "is reachable from other machines, and nothing on the wire is encrypted or authenticated: whoever \
                 connects may buy, cancel and restock. Listen on 127.0.0.1, or, in a network that you trust, add \
                 --insecure-plaintext (node.insecure_plaintext = true)",
            ),
            Self::FileUnreadable { why } => write!(f, "cannot be read: {why}"),
            Self::Syntax { why } => write!(f, "is not TOML: {why}"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `section.name`; empty if the file as a whole is meant.
    pub key: String,
    /// The value as it was written.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Mistake {
    pub(super) fn new(key: &str, value: &str, origin: Origin, problem: Problem) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), origin, problem }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.problem)
        } else {
            write!(f, "{}: {} = {:?}: {}", self.origin, self.key, self.value, self.problem)
        }
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// The mistakes: the file's first, then in the order in which settings are declared.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            n => write!(f, "the configuration has {n} mistakes:")?,
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
