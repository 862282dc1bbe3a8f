//! Every setting, declared once: its field and type, its flag, its default, its range, and its help.
//!
//! The sentence above a field is the help of its flag. Deliberately not here: how text is parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sluice_protocol::limits::{BUDGET_MS_MAX, FRAMES_IN_FLIGHT_MAX, REPLY_BODY_MAX};

use super::Resolved;
use super::value::{FromValue, Kind};
use crate::wal::Backend;

/// What is known of a setting before anybody sets it.
#[derive(Debug)]
pub(super) struct Setting {
    /// `section.name`, as in the file.
    pub(super) key: &'static str,
    /// Its section, as the file writes it; the heading of its flag.
    pub(super) section: &'static str,
    /// The flag, without its dashes.
    pub(super) flag: &'static str,
    /// As it would be written in the file.
    pub(super) default: &'static str,
    /// What it may be.
    pub(super) kind: Kind,
    /// One sentence.
    pub(super) help: &'static str,
}

macro_rules! sections {
    ($($(#[$doc:meta])* $section:ident: $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $type:ty = $flag:literal, $default:literal, $kind:expr;)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name { $($(#[doc = $help])+ pub $field: $type,)* }
        )*

        /// The configuration of one node. Made by [`Config::load`] only, so it is valid.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Config { $($(#[$doc])* pub $section: $name,)* }

        pub(super) static SETTINGS: &[Setting] = &[$($(
            Setting {
                key: concat!(stringify!($section), ".", stringify!($field)),
                section: concat!("[", stringify!($section), "]"),
                flag: $flag,
                default: $default,
                kind: $kind,
                help: concat!($($help),+),
            },
        )*)*];

        impl Config {
            pub(super) fn build(resolved: &Resolved) -> Self {
                Self { $($section: $name {
                    $($field: read(resolved, concat!(stringify!($section), ".", stringify!($field))),)*
                },)* }
            }
        }
    };
}

fn read<T: FromValue>(resolved: &Resolved, key: &str) -> T {
    let setting = resolved.find(key).expect("every declared setting is resolved");
    T::from_value(&setting.value).expect("a value is of its declared kind, and within its range")
}

const MIB: u64 = 1 << 20;
/// The least log between two snapshots: below it a node does little else. Tests of fail points want just that.
const SNAPSHOT_EVERY_MIN: u64 = if cfg!(feature = "failpoints") { 4096 } else { MIB };
/// The fewest bytes of events. Tests of fail points want segments that are full in no time.
const STREAM_RETAIN_MIN: u64 = if cfg!(feature = "failpoints") { 64 << 10 } else { 64 * MIB };
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

sections! {
    /// What all nodes of a cluster must agree on. Taken when the cluster is created; kept in its data ever after.
    cluster: ClusterConfig {
        /// Reservations, restocks and write-offs that may be remembered at a time; beyond it new ids hear `Full`.
        records_max: u32 = "records-max", "16000000", Kind::count(1_000, 200_000_000);
        /// How long the outcome of an id is remembered after it has ended.
        outcome_retention: Duration = "outcome-retention", "24h", Kind::span(MINUTE, 30 * DAY);
    }

    /// What each node chooses for itself: where it listens, where its data is.
    node: NodeConfig {
        /// Where clients connect.
        listen: SocketAddr = "listen", "127.0.0.1:7400", Kind::Address;
        /// Where clients find this node, if that is not where it listens: a leader's address is told to them.
        advertise: String = "advertise", "auto", Kind::Advertised;
        /// The data directory; created if it does not exist.
        data: PathBuf = "data", "./sluice-data", Kind::Path;
        /// Threads that serve connections; `auto` is half the processors, at least one.
        net_threads: usize = "net-threads", "auto", Kind::Threads;
        /// Listen beyond loopback although nothing on the wire is encrypted or authenticated.
        insecure_plaintext: bool = "insecure-plaintext", "false", Kind::Switch;
        /// Which log lines go to standard error: a level, or a filter such as `info,sluice_engine::wal=debug`.
        log_filter: String = "log-filter", "info", Kind::Filter;
    }

    /// What the nodes of a cluster say to each other, and operators to them.
    peers: PeersConfig {
        /// Where the other nodes and `sluice node` connect; `off` on a node that is alone.
        listen: Option<SocketAddr> = "peer-listen", "off", Kind::AddressOrOff;
        /// Where the other nodes find this one, if that is not where it listens.
        advertise: String = "peer-advertise", "auto", Kind::Advertised;
        /// Bytes of snapshots that are sent to nodes which fell behind, per second, all together.
        snapshot_rate: u64 = "peer-snapshot-rate", "64MiB", Kind::size(MIB, TIB);
        /// Bytes of messages to one node that may wait to be sent; beyond it they are dropped, and sent again later.
        queue_bytes_max: usize = "peer-queue-bytes-max", "32MiB", Kind::size(MIB, GIB);
    }

    /// Bounds on everything a client can make grow.
    limits: LimitsConfig {
        /// Connections open at a time; more are turned away with a fault.
        connections_max: usize = "connections-max", "10000", Kind::count(1, 1_000_000);
        /// Unanswered frames of one connection; beyond it the server stops reading from it.
        frames_in_flight_max: u32 = "frames-in-flight-max", "64", Kind::count(1, FRAMES_IN_FLIGHT_MAX as u64);
        /// Requests of one connection that may be unanswered; beyond it the server stops reading from it.
        connection_requests_max: usize = "connection-requests-max", "16384", Kind::count(1024, 10_000_000);
        /// Bytes that all connections together may hold in memory: frames begun, replies owed and replies unread. As it
        /// fills up, the server stops reading from those that hold most, and lets go of slow ones.
        buffer_bytes_max: usize = "buffer-bytes-max", "256MiB", Kind::size(4 * MIB, TIB);
        /// Bytes of replies that a slow reader may leave unread before the server stops reading from it.
        reply_bytes_max: usize = "reply-bytes-max", "1MiB", Kind::size(2 * REPLY_BODY_MAX as u64, GIB);
        /// How long a connection may take to say hello.
        handshake_timeout: Duration = "handshake-timeout", "5s", Kind::span(100, MINUTE);
        /// How long a frame that has begun, or a reply that nobody reads, may take to complete.
        frame_timeout: Duration = "frame-timeout", "10s", Kind::span(100, 10 * MINUTE);
        /// How long a connection may stay silent with nothing in flight.
        idle_timeout: Duration = "idle-timeout", "10m", Kind::span(SECOND, DAY);
        /// How long the server tries when a request does not say.
        request_budget_default: Duration = "request-budget-default", "1s", Kind::span(1, BUDGET_MS_MAX as u64);
        /// How long the server tries at most, whatever a request says.
        request_budget_max: Duration = "request-budget-max", "10s", Kind::span(1, BUDGET_MS_MAX as u64);
        /// Requests of one net thread that may wait for units in flight to be decided; more wait likewise.
        parked_max: usize = "parked-max", "100000", Kind::count(1, 10_000_000);
        /// Frames of one net thread that may be with the replica; more wait, and the server stops reading from those
        /// that send most.
        flights_queue_max: usize = "flights-queue-max", "4096", Kind::count(16, 1 << 20);
        /// Requests of one net thread that may be with the replica; more wait likewise.
        requests_in_flight_max: usize = "requests-in-flight-max", "65536", Kind::count(1024, 10_000_000);
        /// Records for which tables and filters have room from the start. Beyond it they grow, a little at a time.
        records_expected: usize = "records-expected", "1000000", Kind::count(1_000, 200_000_000);
        /// Log steps queued for the write-ahead log's thread.
        appends_queue_max: usize = "appends-queue-max", "64", Kind::count(2, 4096);
    }

    /// The write-ahead log and its snapshots.
    log: LogConfig {
        /// How the log of a new data directory is kept; an old one stays as it is.
        backend: Backend = "log-backend", "segments", Kind::Backend;
        /// A snapshot is written whenever the log has grown by this much since the last one.
        snapshot_every_bytes: u64 = "snapshot-every-bytes", "256MiB", Kind::size(SNAPSHOT_EVERY_MIN, TIB);
        /// How long opening the log may take before it counts as damaged.
        open_timeout: Duration = "open-timeout", "2m", Kind::span(SECOND, HOUR);
        /// Free disk space below which nothing new is admitted, so that the log always has room to end cleanly.
        disk_free_min: u64 = "disk-free-min", "256MiB", Kind::size(0, TIB);
    }

    /// The event stream's files.
    stream: StreamConfig {
        /// How long events are kept, by ledger time. What somebody still needs is kept longer.
        retain: Duration = "stream-retain", "24h", Kind::span(MINUTE, 365 * DAY);
        /// Bytes of events that are kept; beyond it the oldest go sooner, unless somebody still needs them.
        retain_bytes: u64 = "stream-retain-bytes", "16GiB", Kind::size(STREAM_RETAIN_MIN, 1024 * TIB);
        /// A consumer group whose oldest unacknowledged event is older than this is shown as late.
        alarm_age: Duration = "stream-alarm-age", "10s", Kind::span(SECOND, DAY);
    }

    /// The HTTP port for operators.
    ops: OpsConfig {
        /// Where `/healthz`, `/readyz`, `/metrics` and `/stats` are served.
        listen: SocketAddr = "ops", "127.0.0.1:7480", Kind::Address;
        /// Connections to the ops port open at a time; more wait.
        connections_max: usize = "ops-connections-max", "64", Kind::count(1, 10_000);
        /// How long one request to the ops port may take, from its first byte to its answer's last.
        request_timeout: Duration = "ops-request-timeout", "5s", Kind::span(100, MINUTE);
    }
}
