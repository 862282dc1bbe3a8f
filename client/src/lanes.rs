//! Calls that wait to be written, one lane for each kind, because a frame holds one kind.
//!
//! Within a lane calls keep their order. Lanes take turns, so that a flood of one kind cannot starve the
//! others. Deliberately not here: a bound; the connection takes no more from its queue than it wants.

use std::collections::VecDeque;

use sluice_protocol::Kind;

use crate::call::{Call, Lost};

/// The kinds of calls, each with its lane.
const KINDS: [Kind; Kind::CALLS.len()] = Kind::CALLS;

/// Calls by kind.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: [VecDeque<Call>; KINDS.len()],
    len: usize,
    turn: usize,
}

impl Lanes {
    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a call to its lane.
    pub(crate) fn push(&mut self, call: Call) {
        let lane = KINDS.iter().position(|kind| *kind == call.kind).expect("calls are of these kinds");
        self.lanes[lane].push_back(call);
        self.len += 1;
    }

    /// The kind whose turn it is to be written, if any call waits. The turn passes on.
    pub(crate) fn next_kind(&mut self) -> Option<Kind> {
        if self.len == 0 {
            return None;
        }
        let turn = (0..KINDS.len())
            .map(|ahead| (self.turn + ahead) % KINDS.len())
            .find(|lane| !self.lanes[*lane].is_empty())
            .expect("a call waits in some lane");
        self.turn = (turn + 1) % KINDS.len();
        Some(KINDS[turn])
    }

    /// The first call of a kind if `wanted` says so of its number of items.
    pub(crate) fn pop_if(&mut self, kind: Kind, wanted: impl FnOnce(&Call) -> bool) -> Option<Call> {
        let lane = KINDS.iter().position(|each| *each == kind)?;
        let call = self.lanes[lane].pop_front_if(|call| wanted(call))?;
        self.len -= 1;
        Some(call)
    }

    /// Forgets calls whose callers gave up.
    pub(crate) fn purge(&mut self) {
        for lane in &mut self.lanes {
            lane.retain(|call| call.promise.is_wanted());
        }
        self.len = self.lanes.iter().map(VecDeque::len).sum();
    }

    /// Ends every waiting call in the same way.
    pub(crate) fn fail_all(&mut self, lost: Lost) {
        for lane in &mut self.lanes {
            lane.drain(..).for_each(|call| call.promise.fulfil(Err(lost)));
        }
        self.len = 0;
    }
}
