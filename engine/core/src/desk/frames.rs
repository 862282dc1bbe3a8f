//! Frames that are not answered yet: their lines are filled in as answers come, from here or from the replica.

use sluice_protocol::{Answer, Kind};

use crate::flight::Answers;

/// Who a reply goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The connection, as its net thread names it. Names are never reused.
    pub connection: u64,
    /// The client's name for the frame.
    pub correlation: u64,
    /// What the frame asked.
    pub kind: Kind,
    /// When it arrived, in the net thread's own microseconds; carried back untouched.
    pub arrived_us: u64,
}

/// A whole frame's answers.
#[derive(Debug)]
pub struct Reply {
    /// To whom.
    pub caller: Caller,
    /// What.
    pub answers: Answers,
}

/// A frame some of whose lines are open.
#[derive(Debug)]
pub(super) struct OpenFrame {
    pub(super) caller: Caller,
    /// When the server stops trying, monotonic milliseconds.
    pub(super) deadline_ms: u64,
    /// Tells this frame from others that had its key.
    pub(super) serial: u32,
    answers: Vec<Answer>,
    open: usize,
}

impl OpenFrame {
    pub(super) fn new(caller: Caller, serial: u32, deadline_ms: u64, lines: usize) -> Self {
        // What is sent of a line that is still with the replica when the frame's time is over.
        let answers = vec![Answer::unknown(); lines];
        Self { caller, deadline_ms, serial, answers, open: lines }
    }

    /// Fills in a line that was open.
    pub(super) fn answer(&mut self, line: u16, answer: Answer) {
        self.answers[usize::from(line)] = answer;
        self.open = self.open.checked_sub(1).expect("a line is answered once");
    }

    pub(super) fn is_answered(&self) -> bool {
        self.open == 0
    }

    /// Who asked, and the answers; of lines still open, that nobody knows.
    pub(super) fn into_parts(self) -> (Caller, Vec<Answer>) {
        (self.caller, self.answers)
    }
}
