//! What the requests of one frame were sorted into: to be sent as at most two flights.

use sluice_protocol::Answer;

use super::judge::Verdict;
use crate::ledger::command::Reserve;

/// What a frame's requests were sorted into.
#[derive(Debug, Default)]
pub(super) struct Sorting {
    pub(super) frame: Option<u32>,
    pub(super) commands: Vec<Reserve>,
    pub(super) lines: Vec<u16>,
    pub(super) tokened: Vec<bool>,
    pub(super) suspects: Vec<Reserve>,
    pub(super) suspect_lines: Vec<u16>,
}

impl Sorting {
    /// Files a request under its verdict; a no is given back to be filled in.
    pub(super) fn sort(&mut self, verdict: Verdict, item: Reserve, line: u16) -> Option<Answer> {
        match verdict {
            Verdict::Admit | Verdict::Log => {
                self.commands.push(item);
                self.lines.push(line);
                self.tokened.push(verdict == Verdict::Admit);
            }
            Verdict::Suspect => {
                self.suspects.push(item);
                self.suspect_lines.push(line);
            }
            Verdict::No(answer) => return Some(answer),
            Verdict::Doubt => unreachable!("a doubt is parked, not sorted"),
        }
        None
    }
}
