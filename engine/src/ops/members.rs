//! The members of the cluster as one node sees them: what `sluice node list` prints, and `/stats` and `/metrics` show.

use std::fmt::Result;

use parking_lot::Mutex;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use serde::{Deserialize, Serialize};

/// A cluster, as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub cluster: String,
    /// Who tells this.
    pub node: u64,
    /// Raft's term.
    pub term: u64,
    /// Who leads; 0 = not known.
    pub leader: u64,
    /// The commit index.
    pub commit: u64,
    /// The last index applied here.
    pub applied: u64,
    /// Whether the membership is being changed.
    pub changing: bool,
    /// The members, by their ids.
    pub members: Vec<Member>,
    /// Ids that will never be used again.
    pub removed: Vec<u64>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// `voter` or `learner`; while a voter is replaced, `incoming` and `outgoing`.
    pub role: String,
    /// Whether it leads.
    pub leads: bool,
    /// Where its peers find it.
    pub peers: Option<String>,
    /// Where its clients find it.
    pub clients: Option<String>,
    /// Whether the node that tells this is connected to it; itself always.
    pub connected: bool,
    /// Why not.
    pub trouble: String,
    /// Messages to it that the node which tells this had to drop since it started.
    pub dropped: u64,
    /// How far it is; only the leader knows.
    pub progress: Option<MemberProgress>,
}

/// How far a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberProgress {
    /// The last log index that is on its disk.
    pub matched: u64,
    /// Committed entries that it lacks.
    pub behind: u64,
    /// `replicate`, `probe` or `snapshot`.
    pub state: String,
    /// Milliseconds since it was heard; none if it never was.
    pub silent_ms: Option<u64>,
    /// Bytes that it holds of a snapshot on its way.
    pub snapshot_sent: u64,
    /// Bytes of that snapshot; 0 if there is none, or they are not known yet.
    pub snapshot_len: u64,
}

/// The last that was seen of them.
#[derive(Debug, Default)]
pub struct MembersCell(Mutex<Cluster>);

/// Name, help, and how it is read.
type Row = (&'static str, &'static str, fn(&Member) -> Option<u64>);

const ROWS: [Row; 6] = [
    ("sluice_peer_connected", "Whether this node is connected to the peer.", |peer| {
        Some(peer.connected.into())
    }),
    ("sluice_peer_dropped_messages", "Messages to the peer that had to be dropped.", |peer| {
        Some(peer.dropped)
    }),
    ("sluice_peer_match_index", "The last log index on the peer's disk; leader only.", |peer| {
        Some(peer.progress.as_ref()?.matched)
    }),
    ("sluice_peer_behind_entries", "Committed entries that the peer lacks; leader only.", |peer| {
        Some(peer.progress.as_ref()?.behind)
    }),
    (
        "sluice_peer_snapshot_sent_bytes",
        "Bytes that the peer holds of a snapshot on its way; leader only.",
        |peer| Some(peer.progress.as_ref()?.snapshot_sent),
    ),
    ("sluice_peer_snapshot_bytes", "Bytes of the snapshot on its way to the peer; leader only.", |peer| {
        Some(peer.progress.as_ref()?.snapshot_len)
    }),
];

impl MembersCell {
    /// Replaces what is shown.
    pub fn set(&self, cluster: Cluster) {
        *self.0.lock() = cluster;
    }

    /// What is shown.
    pub fn get(&self) -> Cluster {
        self.0.lock().clone()
    }

    /// Writes the metrics of all peers: as many time series as there are members.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let cluster = self.get();
        for (name, help, read) in ROWS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for peer in cluster.members.iter().filter(|member| member.node != cluster.node) {
                if let Some(value) = read(peer) {
                    let labels = [("peer", peer.node.to_string())];
                    family.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
                }
            }
        }
        Ok(())
    }
}
