//! Invariant 4: what was acknowledged is kept, and what was said not to have been done never appears.

use std::collections::BTreeMap;

use sluice_core::ledger::Ledger;
use sluice_protocol::Status;

use super::Violation;
use super::claim::Claim;
use super::outcome::Outcome;
use super::setup::violation;
use crate::history::{Call, CallId, Command, Verb};
use crate::model::{Said, Timeline};

/// See the module.
#[derive(Debug, Default)]
pub struct Finality {
    /// Acknowledgements and commands looked at.
    pub checks: u64,
    /// Where each call's answer came from; those without one are missing.
    said: BTreeMap<CallId, Said>,
}

/// Calls that ask for the same.
#[derive(Debug, Default)]
struct Tried {
    /// Those that may stand in the log: answered from it, not answered, or unknown.
    possible: usize,
    /// Those that heard that nothing was done.
    undone: usize,
    /// Those answered from the log, by index.
    answered: BTreeMap<u64, usize>,
}

impl Finality {
    /// A call was answered.
    pub fn heard(&mut self, call: CallId, said: Said) {
        self.said.insert(call, said);
    }

    /// Nothing is in flight: the ledger has every outcome that was told, or what may have become of it.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, ledger: &Ledger, outcome: &Outcome) -> Result<(), Violation> {
        for (id, claim) in outcome.latest() {
            self.checks += 1;
            let kept = Claim::in_ledger(id, ledger);
            if let Some(why) = claim.excludes(&kept, outcome.may_be_forgotten(id, ledger.now_ms())) {
                return violation!(
                    "finality",
                    "id {id:032x} was acknowledged as {claim:?}, and in the end it is {kept:?}: {why}"
                );
            }
        }
        Ok(())
    }

    /// The run is over: each command in the log is one that somebody may believe to be there.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn finish(&mut self, calls: &[Call], timeline: &Timeline) -> Result<(), Violation> {
        let mut tried: BTreeMap<Command, Tried> = BTreeMap::new();
        for (number, call) in calls.iter().enumerate() {
            let Some(command) = call.ask.command() else { continue };
            let tried = tried.entry(command).or_default();
            let answer = call.heard.as_ref().and_then(|(_, reply)| reply.answer());
            let id = CallId(u32::try_from(number).expect("calls are numbered so"));
            match (answer, self.said.get(&id)) {
                (None, _) => tried.possible += 1,
                (Some(answer), _) if answer.status() == Some(Status::Unknown) => tried.possible += 1,
                (Some(answer), Some(Said::InTheLog)) => {
                    tried.possible += 1;
                    *tried.answered.entry(answer.at().index).or_default() += 1;
                }
                _ => tried.undone += 1,
            }
        }
        // A leader has those leave who are silent, and nobody asked it to.
        let asked = timeline.commands().iter().filter(|(command, _)| command.verb != Verb::Leave);
        for (command, commands) in asked {
            self.checks += 1;
            let none = Tried::default();
            let tried = tried.get(command).unwrap_or(&none);
            // A command may hear from the log itself that nothing was done.
            let idle = |status| matches!(status, Some(Status::Busy | Status::Queueing));
            let counts = commands.iter().filter(|(_, answer)| !idle(answer.status())).count();
            if counts > tried.possible {
                let indexes: Vec<_> = commands.iter().map(|(index, _)| index).collect();
                return violation!(
                    "finality",
                    "{command:x?} is in the log at {indexes:?}; only {} of its calls can be, and {} heard that nothing was done",
                    tried.possible,
                    tried.undone
                );
            }
        }
        for (command, tried) in tried {
            let commands = timeline.commands().get(&command).map_or(&[][..], Vec::as_slice);
            for (index, answered) in tried.answered {
                let made = commands.iter().filter(|(at, _)| *at == index).count();
                if made < answered {
                    return violation!(
                        "finality",
                        "{answered} calls were answered for {command:x?} at index {index}, where it stands {made} times"
                    );
                }
            }
        }
        Ok(())
    }
}
