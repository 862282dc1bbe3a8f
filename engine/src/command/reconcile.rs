//! `sluice reconcile`: the shop's table of orders in PostgreSQL, held against the books of a server.
//!
//! It reports. It changes the table only with `--repair`, and then deletes nothing. Deliberately not here: the comparison
//! ([`sluice_postgres::reconcile`]).

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use sluice_client::Client;
use sluice_client::books::{BooksError, bytes};
use sluice_postgres::reconcile::{Finding, Reconcile, ReconcileError, Repair, Report, ServerBooks};
use sluice_postgres::tokio_postgres::{self, NoTls};

use super::database::DatabaseArgs;
use super::exit::Exit;
use super::ops;
use super::output::{self, Failure};
use super::remote::RemoteArgs;
use super::time::parse_span;

/// Compare the table of orders in PostgreSQL with what the server says. Exit code 0 if they are equal, 1 if not, 3 if the
/// hand-off has not come so far, or somebody cannot be asked.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The ops port whose books are taken
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_OPS", default_value = "127.0.0.1:7480")]
    ops: String,
    /// As of this event, by its sequence; without it, as of the last one
    #[arg(long, value_name = "SEQUENCE")]
    at: Option<u64>,
    /// How long to wait for the event, and for the hand-off to come to it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_span)]
    wait: Duration,
    /// Orders that are named, at most; all are counted
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: u64,
    /// Write what is missing or different into the table, in one transaction; what is extra stays
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ReconcileArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run_lines(async |client| self.reconcile(client).await)
    }

    async fn reconcile(&self, client: Client) -> Result<Exit, Failure> {
        let books = self.books()?;
        let sequence = books.heading.sequence;
        let reconcile = Reconcile {
            client,
            group: self.database.group.clone(),
            tables: self.database.ledger(),
            orders: self.database.orders(),
        };
        let bar = self.bar();
        let progress = |handed: u64| bar.set_message(format!("the hand-off is at {handed} of {sequence}"));
        let waited = reconcile.wait_for(sequence, self.wait, progress).await;
        bar.finish_and_clear();
        waited?;

        let (mut db, connection) = tokio_postgres::connect(&self.database.postgres, NoTls)
            .await
            .map_err(|error| no_database(&error))?;
        // Its end is told by whatever is asked of it next.
        tokio::spawn(connection);
        let (mut named, mut repair, mut printed) = (0, Repair::default(), Ok(true));
        let compared = reconcile.compare(&mut db, books, |finding| {
            named += 1;
            if named <= self.limit && matches!(printed, Ok(true)) {
                printed = output::try_print(&self.line(finding));
            }
            if self.repair {
                repair.take(finding);
            }
        });
        let report = compared.await?;
        printed?;
        output::try_print(&self.summary(sequence, &report, named))?;
        if self.repair && !report.is_equal() {
            let repaired = repair.write(&reconcile, &mut db, &report.cursors).await?;
            let (written, left) = (repaired.written, repaired.left);
            output::try_print(&match self.remote.is_json() {
                true => format!("{}\n", json!({ "repaired": { "written": written, "left": left } })),
                false => format!("repaired: {written} written, {left} left; compare again to be sure\n"),
            })?;
        }
        Ok(if report.is_equal() { Exit::Done } else { Exit::Refused })
    }

    /// The server's side, all of it in memory.
    fn books(&self) -> Result<ServerBooks, Failure> {
        let at = self.at.map_or(String::new(), |at| format!("&at={at}"));
        let path = format!("/books?wait_ms={}{at}", self.wait.as_millis());
        let body = ops::open(&self.ops, &path, self.remote.deadline(), self.wait)?;
        let mut entries = Vec::new();
        match bytes::read(body, |entry| entries.push(entry)) {
            Ok((heading, sums)) => Ok(ServerBooks { heading, sums, entries }),
            Err(error @ (BooksError::Io(_) | BooksError::Damaged(_))) => {
                Err(ops::unavailable(&self.ops, error))
            }
            Err(error) => Err(ReconcileError::from(error).into()),
        }
    }

    fn bar(&self) -> ProgressBar {
        if self.remote.is_json() || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        ProgressBar::new_spinner()
    }

    fn line(&self, finding: &Finding) -> String {
        if self.remote.is_json() { format!("{}\n", finding_json(finding)) } else { format!("{finding}\n") }
    }

    fn summary(&self, sequence: u64, report: &Report, named: u64) -> String {
        if self.remote.is_json() {
            return format!("{}\n", report_json(sequence, report));
        }
        let mut text = String::new();
        if named > self.limit {
            text += &format!("… and {} more: --limit names more\n", named - self.limit);
        }
        for undone in &report.undone {
            text += &format!(
                "undone  {}  event {} took no effect there: {}\n",
                undone.reservation, undone.sequence, undone.cause
            );
        }
        for gap in &report.gaps {
            text += &format!("gap     events {} to {} were never handed over\n", gap.from, gap.to);
        }
        for (product, units) in report.products.iter().filter(|(_, units)| !units.is_equal()) {
            text += &format!(
                "product {product}  held: {} / {}; sold: {} / {}\n",
                units.held, units.held_there, units.sold, units.sold_there
            );
        }
        let Report { equal, missing, extra, differing, forgotten, before, .. } = report;
        text += &format!(
            "as of {sequence}: {equal} equal, {missing} missing, {extra} extra, {differing} different\n"
        );
        if *forgotten > 0 {
            text += &format!("{forgotten} more have ended so long ago that the server has forgotten them\n");
        }
        if *before > 0 {
            text += &format!("{before} more are from before the hand-off began\n");
        }
        text
    }
}

fn finding_json(finding: &Finding) -> Json {
    let mut object = json!({ "finding": finding.name(), "id": finding.reservation().to_string() });
    match finding {
        Finding::Missing(entry) => {
            object["product"] = json!(entry.product.0);
            object["user"] = json!(entry.user.0);
            object["quantity"] = json!(entry.quantity);
            object["sequence"] = json!(entry.sequence);
        }
        Finding::Extra(order) => {
            object["product"] = json!(order.product.0);
            object["user"] = json!(order.user.0);
            object["quantity"] = json!(order.quantity);
            object["sequence"] = json!(order.sequence);
            object["state"] = json!(order.state.as_str());
        }
        Finding::Differs(_, differences) => {
            for difference in differences {
                object["differences"][difference.field] =
                    json!({ "ours": difference.ours, "theirs": difference.theirs });
            }
        }
    }
    object
}

fn report_json(sequence: u64, report: &Report) -> Json {
    let products = report.products.iter().filter(|(_, units)| !units.is_equal());
    let products: Vec<Json> = products
        .map(|(product, units)| {
            json!({
                "product": product.0,
                "held": units.held.to_string(), "held_there": units.held_there.to_string(),
                "sold": units.sold.to_string(), "sold_there": units.sold_there.to_string(),
            })
        })
        .collect();
    let undone = report.undone.iter().map(|undone| {
        json!({ "sequence": undone.sequence, "id": undone.reservation.to_string(), "cause": undone.cause })
    });
    let gaps = report.gaps.iter().map(|gap| json!({ "from": gap.from, "to": gap.to }));
    json!({
        "ok": report.is_equal(), "sequence": sequence, "equal": report.equal, "missing": report.missing,
        "extra": report.extra, "different": report.differing, "forgotten": report.forgotten,
        "before": report.before, "products": products, "undone": undone.collect::<Vec<_>>(),
        "gaps": gaps.collect::<Vec<_>>(),
    })
}

fn no_database(error: &tokio_postgres::Error) -> Failure {
    Failure::new(Exit::Unavailable, "database", format!("the database cannot be reached: {error}"))
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        let message = error.to_string();
        match error {
            ReconcileError::Server(error) => error.into(),
            ReconcileError::Behind { sequence, handed, .. } => {
                let failure = Self::new(Exit::Unavailable, "behind", message);
                failure.fact("sequence", sequence).fact("handed", handed)
            }
            ReconcileError::NoGroup { .. } => Self::new(Exit::Refused, "no_group", message),
            ReconcileError::Gap { .. } => Self::new(Exit::Refused, "gap", message),
            ReconcileError::Moved => Self::new(Exit::Unavailable, "moved", message),
            ReconcileError::Books(_) => Self::new(Exit::Refused, "damaged", message),
            _ => Self::new(Exit::Unavailable, "database", message),
        }
    }
}
