//! The numbers that people ask for, as one JSON object: what `/stats` answers and `sluice status` prints.
//!
//! Seconds and bytes, like the metrics. Fields may be added; none changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_protocol::{Kind, Status};

use super::cells::AnswerCounts;
use super::groups::GroupStats;
use super::health::Health;
use super::histogram::{Durations, Sizes};
use super::labels::{Label, Queue, snake_case};
use super::members::Cluster;
use super::metrics::Metrics;

const MICROS_PER_SECOND: f64 = 1e6;
const MILLIS_PER_SECOND: f64 = 1e3;

/// A node at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Who it is, and how it is.
    pub node: NodeStats,
    /// What it sells.
    pub ledger: LedgerStats,
    /// Who is connected.
    pub connections: ConnectionStats,
    /// Answers a second, over the last second or so.
    pub rates: RateStats,
    /// Entries in the queues between threads.
    pub queues: BTreeMap<String, u64>,
    /// Answers given since it started: kind of request, status, how many. Zeros are left out.
    pub answers: BTreeMap<String, BTreeMap<String, u64>>,
    /// How long things take.
    pub latency: LatencyStats,
    /// Log and snapshots.
    pub log: LogStats,
    /// The files of the event stream.
    pub events: EventStats,
    /// Consumer groups; none unless it leads.
    pub groups: Vec<GroupStats>,
    /// The members of its cluster, as it sees them.
    pub cluster: Cluster,
    /// What replicas do for each other.
    pub replication: ReplicationStats,
}

/// Who a node is, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStats {
    /// The version of the program.
    pub version: String,
    /// The cluster, 32 hexadecimal digits; empty until its data is open.
    pub cluster: String,
    /// The node's id; 0 until its data is open.
    pub node: u64,
    /// starting, ready, following, not_ready, stopping or poisoned.
    pub condition: String,
    /// Why it is not ready; empty if it is.
    pub reason: String,
    /// starting, outsider, learner, follower, candidate, leader or removed.
    pub role: String,
    /// The raft term.
    pub term: u64,
    /// The leader's node id; 0 = not known.
    pub leader: u64,
}

/// What replicas do for each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicationStats {
    /// Committed entries that are not applied.
    pub apply_lag: u64,
    /// Read rounds: start to confirmation.
    pub read_rounds: Quantiles,
    /// Snapshots sent to peers, whole.
    pub snapshots_sent: u64,
    /// Begun and not ended.
    pub snapshots_unsent: u64,
    /// Received from peers, whole.
    pub snapshots_received: u64,
    /// Digests of other replicas' states that were compared with this one's.
    pub digests_compared: u64,
    /// Of these, those that differed: must be 0.
    pub divergences: u64,
}

/// Sums over all products.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerStats {
    /// The log index at which the sums hold.
    pub index: u64,
    /// The last index applied.
    pub applied_index: u64,
    /// How far ledger time is behind the node's clock.
    pub lag_seconds: f64,
    /// Products.
    pub products: u64,
    /// Reservations in any state, restocks, write-offs, fences.
    pub records: u64,
    /// Units put in, less those written off.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units held by unconfirmed reservations.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
    /// `stock − free − held − sold`: must be 0.
    pub conservation_error: i64,
    /// Bytes that the tables take, estimated.
    pub memory_bytes: u64,
}

/// Who is connected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionStats {
    /// Open now.
    pub open: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Turned away since the start.
    pub refused: u64,
    /// Requests that wait for units in flight to be decided.
    pub parked: u64,
    /// Request frames since the start.
    pub frames: u64,
    /// Items in them.
    pub items: u64,
}

/// Answers a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateStats {
    /// Of all kinds.
    pub answers_per_second: f64,
    /// Reservations granted.
    pub reserved_per_second: f64,
    /// Reservations refused for good.
    pub refused_per_second: f64,
}

/// How long things take, since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyStats {
    /// A frame's arrival to its reply, per item.
    pub request: Quantiles,
    /// A log entry's proposal until it is applied.
    pub commit: Quantiles,
    /// One fdatasync of the log.
    pub fsync: Quantiles,
}

/// Points of a distribution of times, at most a fifth off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Half are faster.
    pub p50_seconds: f64,
    /// 99 of 100 are faster.
    pub p99_seconds: f64,
    /// 999 of 1000 are faster.
    pub p999_seconds: f64,
    /// The slowest.
    pub max_seconds: f64,
}

/// Log and snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogStats {
    /// The first index that the log still holds.
    pub first_index: u64,
    /// The last index that is durable here.
    pub last_index: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes free in its file system.
    pub disk_free_bytes: u64,
    /// Commands per entry, on average.
    pub batch_items_mean: f64,
    /// Snapshots written since the start.
    pub snapshots: u64,
    /// Bytes of them.
    pub snapshot_bytes: u64,
    /// The last index in the newest snapshot.
    pub snapshot_index: u64,
}

/// The files of the event stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventStats {
    /// The sequence of the ledger's last event.
    pub made: u64,
    /// The oldest event that is kept; one more than the last if there is none.
    pub first: u64,
    /// The last event that is written, or came before what is kept.
    pub last: u64,
    /// Neither kept nor dropped by retention.
    pub missing: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes written since the start.
    pub bytes: u64,
    /// Calls that wrote them.
    pub writes: u64,
    /// One sync of them.
    pub syncs: Quantiles,
    /// Events delivered since the start.
    pub delivered: u64,
    /// Requests to read them from files.
    pub reads: u64,
    /// Of these, those that failed because of a file.
    pub reads_failed: u64,
}

impl Stats {
    /// Reads all numbers as they are now.
    pub fn read(metrics: &Metrics, health: &Health) -> Self {
        let (totals, rates) = (metrics.totals.get(), metrics.rates.get());
        Self {
            node: node(metrics, health),
            ledger: LedgerStats {
                index: totals.index,
                applied_index: metrics.applied_index.get(),
                lag_seconds: metrics.ledger_lag.ms() as f64 / MILLIS_PER_SECOND,
                products: totals.products,
                records: totals.records,
                stock: totals.stock,
                free: totals.free,
                held: totals.held,
                sold: totals.sold,
                conservation_error: totals.conservation_error(),
                memory_bytes: metrics.ledger_memory_bytes.get(),
            },
            connections: ConnectionStats {
                open: metrics.connections_open.get(),
                accepted: metrics.connections_accepted.get(),
                refused: metrics.connections_refused.get(),
                parked: metrics.parked.get(),
                frames: metrics.frames.get(),
                items: metrics.items.get(),
            },
            rates: RateStats {
                answers_per_second: rates.answers,
                reserved_per_second: rates.reserved,
                refused_per_second: rates.refused,
            },
            queues: Queue::ALL
                .iter()
                .map(|queue| (queue.text(), metrics.queue_depth.of(*queue).get()))
                .collect(),
            answers: answers(&metrics.answers),
            latency: LatencyStats {
                request: quantiles(&metrics.request_duration),
                commit: quantiles(&metrics.commit_duration),
                fsync: quantiles(&metrics.fsync_duration),
            },
            log: LogStats {
                first_index: metrics.log_first_index.get(),
                last_index: metrics.log_last_index.get(),
                disk_bytes: metrics.log_disk_bytes.get(),
                disk_free_bytes: metrics.disk_free_bytes.get(),
                batch_items_mean: mean(&metrics.batch_items),
                snapshots: metrics.snapshots.get(),
                snapshot_bytes: metrics.snapshot_bytes.get(),
                snapshot_index: metrics.snapshot_index.get(),
            },
            events: events(metrics),
            groups: metrics.groups.get(),
            cluster: metrics.members.get(),
            replication: ReplicationStats {
                apply_lag: metrics.apply_lag.get(),
                read_rounds: quantiles(&metrics.read_round_duration),
                snapshots_sent: metrics.snapshots_sent.get(),
                snapshots_unsent: metrics.snapshots_unsent.get(),
                snapshots_received: metrics.snapshots_received.get(),
                digests_compared: metrics.digests_compared.get(),
                divergences: metrics.divergences.get(),
            },
        }
    }
}

fn events(metrics: &Metrics) -> EventStats {
    EventStats {
        made: metrics.ledger_sequence.get(),
        first: metrics.event_first.get(),
        last: metrics.event_last.get(),
        missing: metrics.events_missing.get(),
        disk_bytes: metrics.event_disk_bytes.get(),
        bytes: metrics.event_bytes.get(),
        writes: metrics.event_writes.get(),
        syncs: quantiles(&metrics.event_fsync_duration),
        delivered: metrics.events_delivered.get(),
        reads: metrics.event_reads.get(),
        reads_failed: metrics.event_reads_failed.get(),
    }
}

fn node(metrics: &Metrics, health: &Health) -> NodeStats {
    let (condition, reason) = health.read();
    let identity = metrics.identity.get();
    NodeStats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: identity.map(|identity| identity.cluster.to_string()).unwrap_or_default(),
        node: identity.map_or(0, |identity| identity.node.0),
        condition: condition.name().to_owned(),
        reason,
        role: metrics.role.get().text(),
        term: metrics.term.get(),
        leader: metrics.leader.get(),
    }
}

fn answers(counts: &AnswerCounts) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut kinds = BTreeMap::new();
    for kind in Kind::ANSWERED {
        let given: BTreeMap<String, u64> = Status::ALL
            .iter()
            .map(|status| (snake_case(&format!("{status:?}")), counts.get(kind, *status)))
            .filter(|(_, given)| *given > 0)
            .collect();
        if !given.is_empty() {
            kinds.insert(snake_case(&format!("{kind:?}")), given);
        }
    }
    kinds
}

fn quantiles(spans: &Durations) -> Quantiles {
    let reading = spans.read();
    Quantiles {
        count: reading.count(),
        p50_seconds: reading.quantile(0.5) / MICROS_PER_SECOND,
        p99_seconds: reading.quantile(0.99) / MICROS_PER_SECOND,
        p999_seconds: reading.quantile(0.999) / MICROS_PER_SECOND,
        max_seconds: reading.max() as f64 / MICROS_PER_SECOND,
    }
}

fn mean(sizes: &Sizes) -> f64 {
    let reading = sizes.read();
    if reading.count() == 0 { 0.0 } else { reading.sum() as f64 / reading.count() as f64 }
}
