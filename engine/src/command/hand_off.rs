//! `sluice hand-off`: keeps a table of orders in PostgreSQL, one row for each reservation, until it is told to stop.
//!
//! For shops that want the table as it is made; others write an effect of their own. Deliberately not here: what is
//! promised, and how it is kept ([`sluice_postgres`]).

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value as Json, json};
use sluice_client::Client;
use sluice_postgres::orders::Orders;
use sluice_postgres::tokio_postgres::Config;
use sluice_postgres::{Counts, HandOff, HandOffError, News};

use super::database::DatabaseArgs;
use super::exit::Exit;
use super::output::{self, Failure};
use super::remote::RemoteArgs;
use super::signals::stopped;

/// How often it is told how far it is, if there is news.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Keep a table of orders in PostgreSQL: one row for each reservation, whoever crashes where.
#[derive(Debug, Args)]
pub struct HandOffArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Go on although the group has acknowledged what this database does not have; it is noted as a gap
    #[arg(long)]
    accept_skipped: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl HandOffArgs {
    pub(super) fn run(&self) -> Exit {
        let as_json = self.remote.is_json();
        // What is wrong on the command line is said before anybody is asked.
        match self.database.postgres.parse::<Config>() {
            Ok(database) => self.remote.run_lines(async |client| self.hand_off(client, database).await),
            Err(error) => {
                let message = format!("--postgres is no URL of a database: {error}");
                output::finish(Err(Failure::new(Exit::Usage, "usage", message)), as_json)
            }
        }
    }

    async fn hand_off(&self, client: Client, database: Config) -> Result<Exit, Failure> {
        let as_json = self.remote.is_json();
        let effect = Orders::new(self.database.orders());
        let mut teller = Teller::new(as_json);
        let hand_off = HandOff::new(&client, database, &self.database.group, effect);
        let mut hand_off = hand_off.tables(self.database.ledger()).observe(move |news| teller.hear(news));
        if self.accept_skipped {
            hand_off = hand_off.accept_skipped();
        }
        let stop = stopped().map_err(|error| Failure::new(Exit::Internal, "internal", error.to_string()))?;
        let counts = hand_off.run(stop).await?;
        let line = match as_json {
            true => format!("{}\n", progress("stopped", &counts)),
            false => format!("stopped: {}\n", text(&counts)),
        };
        Ok(output::print(&line, Exit::Done))
    }
}

/// Programs read one object a line on standard output, people everything but the end on standard error.
struct Teller {
    as_json: bool,
    counts: Counts,
    told: Instant,
}

impl Teller {
    fn new(as_json: bool) -> Self {
        Self { as_json, counts: Counts::default(), told: Instant::now() }
    }

    fn hear(&mut self, news: &News) {
        self.counts.add(news);
        let (object, words) = match news {
            News::Connected => (json!({ "hand_off": "connected" }), "connected".to_owned()),
            News::Committed { .. } if self.told.elapsed() < PROGRESS_EVERY => return,
            News::Committed { .. } => {
                self.told = Instant::now();
                (progress("progress", &self.counts), text(&self.counts))
            }
            News::Lost { why } => (
                json!({ "hand_off": "lost", "message": why }),
                format!("PostgreSQL is lost: {why}; trying again"),
            ),
            News::Troubled(error) => (
                json!({ "hand_off": "troubled", "message": error.to_string() }),
                format!("{error}; going on"),
            ),
            News::Failed { event, cause, why } => (
                json!({ "hand_off": "failed", "sequence": event.sequence, "cause": cause, "message": why }),
                format!("event {} is refused: {why}", event.sequence),
            ),
            News::Parked { event, attempts } => (
                json!({ "hand_off": "parked", "sequence": event.sequence, "attempts": attempts }),
                format!("event {} is a dead letter now, refused {attempts} times", event.sequence),
            ),
            News::Gap { from, to } => (
                json!({ "hand_off": "gap", "from": from, "to": to }),
                format!("events {from} to {to} are kept no more: noted in sluice_gaps"),
            ),
            _ => return,
        };
        if self.as_json {
            // Whoever reads no more is told no more; what is handed on is not for them.
            let _ = output::try_print(&format!("{object}\n"));
        } else {
            output::complain(&words, Exit::Done);
        }
    }
}

fn progress(word: &str, counts: &Counts) -> Json {
    json!({
        "hand_off": word, "events": counts.events, "batches": counts.batches, "repeated": counts.repeated,
        "connections": counts.connections, "losses": counts.losses, "troubles": counts.troubles,
        "failures": counts.failures, "parked": counts.parked, "gaps": counts.gaps,
    })
}

fn text(counts: &Counts) -> String {
    format!("{} events in {} transactions, {} came again", counts.events, counts.batches, counts.repeated)
}

/// A hand-off ends by itself only if somebody has to change something.
impl From<HandOffError> for Failure {
    fn from(error: HandOffError) -> Self {
        let (exit, code) = match &error {
            HandOffError::Setting { .. } => (Exit::Usage, "usage"),
            HandOffError::Consume(_) => (Exit::Unavailable, "unavailable"),
            HandOffError::Behind { .. } => (Exit::Usage, "behind"),
            _ => (Exit::Usage, "database"),
        };
        Self::new(exit, code, error.to_string())
    }
}
