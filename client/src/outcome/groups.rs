//! Final answers about consumer groups and their dead letters.
//!
//! Read like those about reservations: see [`crate::outcome`].

use sluice_protocol::{Answer, Status};

use super::{At, Invalid};

/// What became of a change of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the group may not be as it was asked for"]
pub enum GroupOutcome {
    /// The group is as it was asked for.
    Done {
        /// When this held.
        at: At,
    },
    /// No group has this name.
    UnknownGroup {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl GroupOutcome {
    /// Whether the group is as it was asked for.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let at = answer.at();
        Some(match answer.status()? {
            Status::Done => Self::Done { at },
            Status::UnknownGroup => Self::UnknownGroup { at },
            Status::Invalid => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}

/// What became of a change of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "there may be no such letter"]
pub enum LetterOutcome {
    /// It is delivered again, or forgotten.
    Done {
        /// When this held.
        at: At,
    },
    /// The group has no dead letter of this sequence.
    UnknownDead {
        /// When this held.
        at: At,
    },
    /// No group has this name.
    UnknownGroup {
        /// When this held.
        at: At,
    },
    /// A field is out of its range.
    Invalid(Invalid),
}

impl LetterOutcome {
    /// Whether it is delivered again, or forgotten.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    pub(crate) fn read(answer: &Answer) -> Option<Self> {
        let at = answer.at();
        Some(match answer.status()? {
            Status::Done => Self::Done { at },
            Status::UnknownDead => Self::UnknownDead { at },
            Status::UnknownGroup => Self::UnknownGroup { at },
            Status::Invalid => Self::Invalid(Invalid::read(answer)?),
            _ => return None,
        })
    }
}
