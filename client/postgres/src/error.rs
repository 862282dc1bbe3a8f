//! Why a hand-off has ended, and what an error of PostgreSQL means for it.
//!
//! Deliberately not here: errors that pass, which nobody hears of but through [`crate::News`].

use std::error::Error;
use std::io;

use sluice_client::ConsumeError;
use thiserror::Error as ThisError;

use crate::effect::EffectError;
use crate::shape::ShapeError;

/// Why a hand-off has ended before it was told to. Nothing is lost: what was not committed was not acknowledged, and
/// comes again to whoever goes on.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum HandOffError {
    /// A setting is out of its range.
    #[error("{setting} is {got}; allowed is {allowed}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What it was.
        got: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Events cannot be consumed: the group is gone, or its terms are not allowed.
    #[error("events cannot be consumed: {0}")]
    Consume(#[from] ConsumeError),
    /// A table is not what it should be.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// PostgreSQL refuses, and would again: the login, a right, a database that is not there.
    #[error("PostgreSQL refuses: {}. Look at the login, its rights and the tables, then start again", words(.0))]
    Refused(tokio_postgres::Error),
    /// The effect has given up.
    #[error("the effect has given up: {0}")]
    Effect(EffectError),
    /// The group has acknowledged more than this database has: it was set back to an older state, or is another one; or
    /// somebody has moved the group forward. What is between would be missing.
    #[error(
        "group {group} has acknowledged up to {cursor}, and this database lacks some of it: it was set back, or is another \
         one, or the group was moved. It has all up to {database}; have the rest handed on again, which repeats nothing: \
         stop all members, then seek the group back to there. If it was passed over on purpose: accept_skipped"
    )]
    Behind {
        /// The group.
        group: String,
        /// Everything up to this sequence is acknowledged.
        cursor: u64,
        /// This database certainly has everything up to here.
        database: u64,
    },
    /// Rows of the cursors have vanished while the hand-off was at work.
    #[error(
        "the cursors of group {group} are gone: somebody has removed them. To begin anew is to start again"
    )]
    CursorsGone {
        /// The group.
        group: String,
    },
}

/// What an error means for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An event in it does not fit; its code as a number.
    Event(u32),
    /// It will pass.
    Passing,
    /// It will not.
    Fatal,
}

/// Judges what PostgreSQL said, or that it says nothing any more.
pub(crate) fn meaning(error: &tokio_postgres::Error) -> Meaning {
    let Some(said) = error.as_db_error() else {
        let is_lost = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
        return if is_lost { Meaning::Passing } else { Meaning::Fatal };
    };
    let code = said.code().code();
    match (&code[..2.min(code.len())], code) {
        // 25P02: an effect has hidden an error. 25006: the server is no primary any more, or not yet.
        ("21" | "22" | "23" | "44" | "P0", _) | (_, "25P02") => Meaning::Event(cause(code)),
        ("08" | "40" | "53" | "55" | "57" | "58", _) | (_, "25006" | "25P03" | "25P04") => Meaning::Passing,
        _ => Meaning::Fatal,
    }
}

/// What PostgreSQL said, for people: its errors say of themselves only what kind they are.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{}: {}", said.code().code(), said.message()),
        None => error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// A code of five digits and letters as a number: what it is in base 36.
pub(crate) fn cause(code: &str) -> u32 {
    u32::from_str_radix(code, 36).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_postgresql_survives_as_a_number() {
        assert_eq!(cause("00000"), 0);
        assert_eq!(cause("23505"), 3_505_685);
        assert_eq!(cause("ZZZZZ"), 36_u32.pow(5) - 1);
    }
}
