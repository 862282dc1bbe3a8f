//! What a relay tells while it works.
//!
//! Deliberately not here: where it is told, which is the caller's.

use std::fmt;
use std::time::Duration;

use sluice_client::ConsumeError;

use crate::error::RelayError;

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Events that are stored because this relay published them.
    pub events: u64,
    /// Deliveries of events that the destination had already.
    pub known: u64,
    /// Gaps that were published.
    pub gaps: u64,
    /// Times that it began anew.
    pub restarts: u64,
    /// Everything up to this sequence is stored, as far as this relay knows; 0 = it has not looked yet.
    pub stored: u64,
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// Another relay of the group is at work: this one takes over when it ends.
    Waits,
    /// This relay is at work, behind what is stored.
    Begins {
        /// The last sequence that is stored; if nothing is, the last that the group has acknowledged.
        after: u64,
        /// Nothing is stored. If the group has acknowledged something, the destination lost it, or threw it away.
        is_empty: bool,
    },
    /// The group had acknowledged more than the destination has: it was moved back, and that comes again.
    MovedBack {
        /// The group's cursor.
        from: u64,
        /// The last sequence that is stored.
        to: u64,
    },
    /// The servers keep these no more: that is published in their place.
    Gap {
        /// The first sequence.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The consumer tells of something that it gets over by itself.
    Waiting {
        /// What.
        error: &'a ConsumeError,
    },
    /// How far it is, every ten seconds if there is news.
    Progress(Tally),
    /// It begins anew after a pause.
    Trouble {
        /// Why.
        error: &'a RelayError,
        /// How long.
        pause: Duration,
    },
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits => write!(f, "another relay of the group is at work; waiting for its place"),
            Self::Begins { after, is_empty: false } => write!(f, "publishing behind sequence {after}"),
            Self::Begins { after: 0, is_empty: true } => write!(f, "publishing from the beginning"),
            Self::Begins { after, is_empty: true } => write!(
                f,
                "nothing is stored; publishing behind sequence {after}, up to which the group has acknowledged"
            ),
            Self::MovedBack { from, to } => write!(
                f,
                "the destination has events up to {to}, and the group had acknowledged {from}: moved it back"
            ),
            Self::Gap { from, to } => {
                write!(f, "events {from} to {to} are kept no more: told so in their place")
            }
            Self::Waiting { error } => write!(f, "{error}; going on"),
            Self::Progress(tally) => write!(f, "{tally}"),
            Self::Trouble { error, pause } => {
                write!(f, "{error}; beginning anew in {} ms", pause.as_millis())
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, known, gaps, restarts, stored } = self;
        write!(f, "{events} events published up to sequence {stored}, {known} were there already, ")?;
        write!(f, "{gaps} gaps, began anew {restarts} times")
    }
}
