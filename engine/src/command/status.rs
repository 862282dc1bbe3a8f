//! `sluice status`: a node at a glance, from its ops port.
//!
//! The ops port, not the protocol: it answers while the node cannot serve, and its sums are of one log index.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::output::{self, Failure};
use super::time::{Span, parse_span};
use super::told::Fact::{Flag, Number, Text, Units};
use super::told::{Facts, Told};
use crate::ops::fetch;
use crate::ops::groups::GroupStats;
use crate::ops::members::{Member, MemberProgress};
use crate::ops::stats::{Quantiles, ReplicationStats, Stats};

const HTTP_OK: u16 = 200;
const MIB: f64 = 1_048_576.0;
const MILLIS_PER_SECOND: f64 = 1e3;

/// Show how a node is and what it has sold. Exit code 3 if it cannot serve here and now.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where its ops port is
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_OPS", default_value = "127.0.0.1:7480")]
    ops: String,
    /// How long to wait for it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_span)]
    deadline: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    pub(super) fn run(&self) -> Exit {
        let stats = match self.fetch() {
            Ok(stats) => stats,
            Err(failure) => return output::finish(Err(failure), self.json),
        };
        let exit = if stats.node.condition == "ready" { Exit::Done } else { Exit::Unavailable };
        if !self.json {
            return output::print(&told(&stats).text(), exit);
        }
        let mut object = json!(stats);
        object["ok"] = json!(exit == Exit::Done);
        output::print(&format!("{object}\n"), exit)
    }

    fn fetch(&self) -> Result<Stats, Failure> {
        let address = self.ops.strip_prefix("http://").unwrap_or(&self.ops);
        let address = address.strip_suffix('/').unwrap_or(address);
        // No socket waits for zero time; asking for it would be an error of the system's making.
        let deadline = self.deadline.max(Duration::from_millis(1));
        let unavailable = |why: String| {
            let message =
                format!("no status from the ops port at {address}: {why}; is the node running there?");
            Failure::new(Exit::Unavailable, "unavailable", message)
        };
        match fetch::get(address, "/stats", deadline) {
            Ok((HTTP_OK, body)) => {
                serde_json::from_str(&body).map_err(|error| unavailable(format!("not a status: {error}")))
            }
            Ok((status, _)) => Err(unavailable(format!("it answered with HTTP status {status}"))),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

fn told(stats: &Stats) -> Told {
    let (node, ledger, log) = (&stats.node, &stats.ledger, &stats.log);
    let condition = match node.reason.as_str() {
        "" => node.condition.clone(),
        reason => format!("{}: {reason}", node.condition),
    };
    let told = Told::yes("node")
        .fact("node", Number(node.node))
        .fact("cluster", Text(node.cluster.clone()))
        .fact("version", Text(node.version.clone()))
        .fact("condition", Text(condition.replace('_', " ")))
        .fact("role", Text(format!("{} of term {}", node.role, node.term)))
        .fact("products", Number(ledger.products))
        .fact("stock", Units(ledger.stock))
        .fact("free", Units(ledger.free))
        .fact("held", Units(ledger.held))
        .fact("sold", Units(ledger.sold))
        .fact("conservation", Text(conservation(ledger.conservation_error)))
        .fact("records", Number(ledger.records))
        .fact("connections", Number(stats.connections.open))
        .fact("parked", Number(stats.connections.parked))
        .fact("requests", Text(times(&stats.latency.request)))
        .fact("commits", Text(times(&stats.latency.commit)))
        .fact("fsyncs", Text(times(&stats.latency.fsync)))
        .fact(
            "log",
            Text(format!(
                "{:.1} MiB, entries {} to {}",
                log.disk_bytes as f64 / MIB,
                log.first_index,
                log.last_index
            )),
        )
        .fact(
            "applied",
            Text(format!(
                "up to entry {}, ledger time {} behind",
                ledger.applied_index,
                behind(ledger.lag_seconds)
            )),
        )
        .fact("snapshot", Text(format!("up to entry {}", log.snapshot_index)))
        .fact("groups", Text(groups(&stats.groups)))
        .fact("read_rounds", Text(times(&stats.replication.read_rounds)))
        .fact("replicas", Text(replicas(stats)))
        .fact("digests", Text(digests(&stats.replication)));
    match &stats.groups[..] {
        [] => told,
        groups => told.list("groups", groups.iter().map(group).collect()),
    }
}

/// How many groups there are, and which are too far behind.
fn groups(groups: &[GroupStats]) -> String {
    let late = groups.iter().filter(|group| group.late).map(|group| group.group.as_str());
    match (groups.len(), late.collect::<Vec<_>>()) {
        (0, _) => "none, or another node leads".to_owned(),
        (count, late) if late.is_empty() => format!("{count}, none late"),
        (count, late) => format!("{count}, LATE: {}; see what holds them up", late.join(", ")),
    }
}

fn group(group: &GroupStats) -> Facts {
    vec![
        ("group", Text(group.group.clone())),
        ("lag", Number(group.lag)),
        ("oldest", Text(behind(group.oldest_seconds).to_string())),
        ("rate", Text(format!("{:.1}/s", group.acknowledged_per_second))),
        ("members", Number(group.members)),
        ("failed", Number(group.failed)),
        ("dead_letters", Number(group.dead_letters)),
        ("late", Flag(group.late)),
    ]
}

/// Each other member, and how far it is.
fn replicas(stats: &Stats) -> String {
    let others = stats.cluster.members.iter().filter(|member| member.node != stats.node.node);
    let told: Vec<String> = others.map(replica).collect();
    if told.is_empty() { "none but this one".to_owned() } else { told.join("; ") }
}

fn replica(member: &Member) -> String {
    let (node, role) = (member.node, &member.role);
    match &member.progress {
        _ if !member.connected => format!("{role} {node}: no connection: {}", member.trouble),
        Some(MemberProgress { snapshot_len: len @ 1.., snapshot_sent, .. }) => {
            format!("{role} {node}: {} % of a snapshot sent", snapshot_sent * 100 / len)
        }
        Some(progress) => format!("{role} {node}: {} entries behind", progress.behind),
        None => format!("{role} {node}: connected"),
    }
}

fn digests(replication: &ReplicationStats) -> String {
    match replication.divergences {
        0 => format!("{} compared with other replicas', none different", replication.digests_compared),
        n => format!("DIFFERENT {n} times: replicas disagree on the state; see the log, and report this"),
    }
}

fn conservation(error: i64) -> String {
    match error {
        0 => "exact: stock = free + held + sold".to_owned(),
        error => format!("BROKEN by {error} units: stop selling and report this"),
    }
}

fn behind(seconds: f64) -> Span {
    Span { ms: (seconds * MILLIS_PER_SECOND) as u64 }
}

fn times(quantiles: &Quantiles) -> String {
    if quantiles.count == 0 {
        return "none yet".to_owned();
    }
    let ms = |seconds: f64| seconds * MILLIS_PER_SECOND;
    format!(
        "{} (p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms)",
        quantiles.count,
        ms(quantiles.p50_seconds),
        ms(quantiles.p99_seconds),
        ms(quantiles.max_seconds)
    )
}
