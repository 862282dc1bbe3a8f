//! `sluice dead …`: dead letters of a consumer group, one by one or all.
//!
//! Deliberately not here: what makes a dead letter; a group's terms and its consumers do.

use clap::{Args, Subcommand};
use sluice_client::{Client, DeadLetter, LetterOutcome};

use super::exit::Exit;
use super::group::unknown;
use super::output::Failure;
use super::remote::RemoteArgs;
use super::told::Fact::{Flag, Number, Text, Time};
use super::told::{Facts, Told, name_of};

/// Dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List the dead letters of a group in the order of their sequences
    List(ListArgs),
    /// Deliver dead letters again, out of order
    Redrive(LettersArgs),
    /// Forget dead letters: their events are never delivered to this group again
    Drop(LettersArgs),
}

impl DeadCommand {
    pub(super) fn run(&self) -> Exit {
        match self {
            Self::List(args) => args.remote.run(async |client| args.list(&client).await),
            Self::Redrive(args) => args.remote.run(async |client| args.each(&client, Change::Redrive).await),
            Self::Drop(args) => args.remote.run(async |client| args.each(&client, Change::Drop).await),
        }
    }
}

/// Whose dead letters.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The group's name
    group: String,
    /// The first sequence wanted
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ListArgs {
    async fn list(&self, client: &Client) -> Result<Told, Failure> {
        Ok(match client.dead_letters(&self.group, self.from).await? {
            Some(letters) => Told::yes("done").list("dead_letters", letters.iter().map(row).collect()),
            None => unknown(&self.group),
        })
    }
}

fn row(letter: &DeadLetter) -> Facts {
    let event = letter.event.as_ref();
    let number = |number: Option<u64>| number.map_or_else(|| Text("-".to_owned()), Number);
    vec![
        ("sequence", Number(letter.sequence)),
        ("kind", Text(event.map_or_else(|| "damaged".to_owned(), |event| name_of(event.kind)))),
        ("product", number(event.map(|event| event.product.0))),
        ("id", Text(event.map_or_else(|| "-".to_owned(), |event| event.id.to_string()))),
        ("attempts", Number(u64::from(letter.attempts))),
        ("cause", Number(u64::from(letter.cause))),
        ("died", Time(letter.died_ms)),
        ("redriven", Flag(letter.is_redriven)),
    ]
}

/// What to do with a letter.
#[derive(Clone, Copy, Debug)]
enum Change {
    Redrive,
    Drop,
}

/// Which letters.
#[derive(Debug, Args)]
pub struct LettersArgs {
    /// The group's name
    group: String,
    /// Their sequences
    #[arg(value_name = "SEQUENCE", required_unless_present = "all")]
    sequences: Vec<u64>,
    /// All that the group has now
    #[arg(long, conflicts_with = "sequences")]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl LettersArgs {
    /// One after the other, so that a failure leaves the rest as they are, and the same can be asked again.
    async fn each(&self, client: &Client, change: Change) -> Result<Told, Failure> {
        let sequences = if self.all {
            let Some(letters) = client.dead_letters(&self.group, 0).await? else {
                return Ok(unknown(&self.group));
            };
            letters.iter().map(|letter| letter.sequence).collect()
        } else {
            self.sequences.clone()
        };
        let (mut done, mut not_there) = (0, Vec::new());
        for sequence in sequences {
            let outcome = match change {
                Change::Redrive => client.redrive(&self.group, sequence).await?,
                Change::Drop => client.drop_dead(&self.group, sequence).await?,
            };
            match outcome {
                LetterOutcome::Done { .. } => done += 1,
                LetterOutcome::UnknownGroup { .. } => return Ok(unknown(&self.group)),
                _ => not_there.push(sequence.to_string()),
            }
        }
        let (word, name) = match change {
            Change::Redrive => ("redriven", "redriven"),
            Change::Drop => ("dropped", "dropped"),
        };
        // With all that there are, one that somebody else took is no failure.
        let told = if not_there.is_empty() || self.all { Told::yes(word) } else { Told::no("unknown_dead") };
        let told = told.fact("group", Text(self.group.clone())).fact(name, Number(done));
        Ok(if not_there.is_empty() { told } else { told.fact("not_there", Text(not_there.join(", "))) })
    }
}
