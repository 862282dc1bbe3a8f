//! Every metric, declared once: its field, its name and its help text stand together, and what is declared here is
//! exported, nothing else.
//!
//! Base units only (seconds, bytes), which the name ends in. Each field's sentence is its help text. Whoever owns
//! the thing updates the field, batch by batch; nobody waits for a scrape. Deliberately not here: HTTP.

use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use sluice_protocol::{ClusterId, FaultCode, NodeId};

use super::cells::{
    AnswerCounts, Counter, Counters, Gauge, Gauges, MillisGauge, RoleCell, Totals, TotalsCell,
};
use super::export::export;
use super::groups::GroupsCell;
use super::histogram::{Durations, Sizes};
use super::labels::{Doubt, Queue};
use super::members::MembersCell;
use super::rates::RateCell;

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $cell:ty = $name:literal,)*) => {
        /// All numbers of one node. Usable before the ops port exists, and without it.
        #[derive(Debug, Default)]
        pub struct Metrics {
            /// Who this node is; set once, when its data directory is open.
            pub identity: OnceLock<Identity>,
            /// Sums over all products.
            pub totals: TotalsCell,
            /// Answers a second.
            pub rates: RateCell,
            /// The members of the cluster.
            pub members: MembersCell,
            /// Consumer groups, if this node leads.
            pub groups: GroupsCell,
            $($(#[doc = $help])+ pub $field: $cell,)*
        }

        impl Metrics {
            fn encode_declared(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
                $(export(encoder, $name, concat!($($help),+), &self.$field)?;)*
                Ok(())
            }
        }
    };
}

metrics! {
    /// When this node started, in seconds since 1970.
    started: MillisGauge = "sluice_start_time_seconds",

    /// Connections accepted.
    connections_accepted: Counter = "sluice_connections_accepted",
    /// Connections turned away because there were as many as allowed.
    connections_refused: Counter = "sluice_connections_refused",
    /// Connections open now.
    connections_open: Gauge = "sluice_connections_open",
    /// Connections that may be open at a time.
    connections_max: Gauge = "sluice_connections_max",
    /// Connections whose next request waits for room.
    connections_waiting: Gauge = "sluice_connections_waiting",
    /// Bytes that connections hold: frames begun, replies owed and replies unread.
    buffer_bytes: Gauge = "sluice_buffer_bytes",
    /// Connections closed with a fault, by its code.
    faults: Counters<FaultCode> = "sluice_faults",
    /// Bytes read from clients.
    received_bytes: Counter = "sluice_received_bytes",
    /// Bytes written to clients.
    sent_bytes: Counter = "sluice_sent_bytes",
    /// Request frames accepted whole.
    frames: Counter = "sluice_frames",
    /// Items in those frames.
    items: Counter = "sluice_items",
    /// Items per request frame.
    frame_items: Sizes = "sluice_frame_items",
    /// Answers given, by kind of request and by status.
    answers: AnswerCounts = "sluice_answers",
    /// Time from a frame's arrival to its reply, one count per item.
    request_duration: Durations = "sluice_request_duration_seconds",

    /// Requests that the gate admitted to the log at once.
    gate_admitted: Counter = "sluice_gate_admitted",
    /// First attempts that the gate did not admit at once, by what became of them.
    gate_doubts: Counters<Doubt> = "sluice_gate_doubts",
    /// Requests that wait for units in flight to be decided.
    parked: Gauge = "sluice_parked_requests",
    /// Entries in a queue between threads.
    queue_depth: Gauges<Queue> = "sluice_queue_depth",

    /// Commands per log entry.
    batch_items: Sizes = "sluice_batch_items",
    /// Bytes per log entry.
    batch_bytes: Sizes = "sluice_batch_bytes",
    /// Time from handing a durable step to the log's thread until it was reported synced.
    commit_duration: Durations = "sluice_commit_duration_seconds",
    /// Time that one fdatasync of the log took.
    fsync_duration: Durations = "sluice_log_fsync_duration_seconds",
    /// Entries made durable in the log.
    log_entries: Counter = "sluice_log_entries",
    /// Bytes of entries made durable in the log.
    log_bytes: Counter = "sluice_log_bytes",
    /// Bytes that the log takes on disk.
    log_disk_bytes: Gauge = "sluice_log_disk_bytes",
    /// Bytes free in the file system of the data directory.
    disk_free_bytes: Gauge = "sluice_disk_free_bytes",
    /// The first index that the log still holds.
    log_first_index: Gauge = "sluice_log_first_index",
    /// The last index that is durable here.
    log_last_index: Gauge = "sluice_log_last_index",

    /// Snapshots written.
    snapshots: Counter = "sluice_snapshots",
    /// Bytes of snapshots written.
    snapshot_bytes: Counter = "sluice_snapshot_bytes",
    /// Time that writing a snapshot took.
    snapshot_duration: Durations = "sluice_snapshot_duration_seconds",
    /// The last log index that the newest durable snapshot contains.
    snapshot_index: Gauge = "sluice_snapshot_index",

    /// The oldest event that is kept here; one more than the last if there is none.
    event_first: Gauge = "sluice_events_first_sequence",
    /// The last event that is written here, or came before what is kept.
    event_last: Gauge = "sluice_events_last_sequence",
    /// Events that are neither kept here nor were dropped by retention.
    events_missing: Gauge = "sluice_events_missing",
    /// Bytes that events take on disk.
    event_disk_bytes: Gauge = "sluice_events_disk_bytes",
    /// Bytes of events written.
    event_bytes: Counter = "sluice_events_bytes",
    /// Calls that wrote events.
    event_writes: Counter = "sluice_events_writes",
    /// Time that one sync of events took.
    event_fsync_duration: Durations = "sluice_events_fsync_duration_seconds",
    /// Events delivered to consumers, and to those who only look; redelivered ones count again.
    events_delivered: Counter = "sluice_events_delivered",
    /// Requests to read events from files.
    event_reads: Counter = "sluice_events_reads",
    /// Of these, those that failed because a file is damaged or cannot be read.
    event_reads_failed: Counter = "sluice_events_reads_failed",

    /// The raft term.
    term: Gauge = "sluice_raft_term",
    /// The part this node plays: 1 for its present role, 0 for the others.
    role: RoleCell = "sluice_raft_role",
    /// The leader's node id; 0 = not known.
    leader: Gauge = "sluice_raft_leader",
    /// The highest log index known to be committed.
    commit_index: Gauge = "sluice_raft_commit_index",
    /// The last log index that the ledger has applied.
    applied_index: Gauge = "sluice_raft_applied_index",
    /// Committed entries that the ledger has not applied.
    apply_lag: Gauge = "sluice_raft_apply_lag_entries",
    /// Time from the start of a read round until it was confirmed.
    read_round_duration: Durations = "sluice_read_round_duration_seconds",
    /// Read rounds that were abandoned, since the leadership ended first.
    read_rounds_abandoned: Counter = "sluice_read_rounds_abandoned",
    /// Snapshots that this node has sent to peers, whole.
    snapshots_sent: Gauge = "sluice_snapshots_sent",
    /// Snapshots that this node began to send and did not end.
    snapshots_unsent: Gauge = "sluice_snapshots_unsent",
    /// Snapshots that this node has received from peers, whole.
    snapshots_received: Gauge = "sluice_snapshots_received",
    /// Digests of other replicas' states that were compared with this one's.
    digests_compared: Gauge = "sluice_digests_compared",
    /// Times that another replica's state differed from this one's at the same index. Must be 0.
    divergences: Counter = "sluice_divergences",
    /// The sequence of the ledger's last event.
    ledger_sequence: Gauge = "sluice_ledger_sequence",
    /// How far ledger time is behind this node's clock.
    ledger_lag: MillisGauge = "sluice_ledger_lag_seconds",
    /// Bytes that the ledger's tables take, estimated.
    ledger_memory_bytes: Gauge = "sluice_ledger_memory_bytes",
}

/// Name, help, and how it is read.
type TotalsRow = (&'static str, &'static str, fn(&Totals) -> i64);

/// What is shown of [`Totals`]: one reading serves all rows, so that they belong to one index.
const TOTALS: [TotalsRow; 7] = [
    ("sluice_ledger_products", "Products in the ledger.", |t| t.products as i64),
    ("sluice_ledger_records", "Reservations in any state, restocks, write-offs and fences.", |t| {
        t.records as i64
    }),
    ("sluice_ledger_stock_units", "Units put in, less those written off.", |t| t.stock as i64),
    ("sluice_ledger_free_units", "Units that can be reserved.", |t| t.free as i64),
    ("sluice_ledger_held_units", "Units held by unconfirmed reservations.", |t| t.held as i64),
    ("sluice_ledger_sold_units", "Units of confirmed reservations.", |t| t.sold as i64),
    (
        "sluice_conservation_error",
        "Stock - free - held - sold, in units; must be 0.",
        Totals::conservation_error,
    ),
];

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster its data belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.encode_declared(&mut encoder)?;
        self.members.encode(&mut encoder)?;
        self.groups.encode(&mut encoder)?;
        let totals = self.totals.get();
        for (name, help, read) in TOTALS {
            export(&mut encoder, name, help, &read(&totals))?;
        }
        Ok(())
    }
}
