//! The cluster as this node sees it, for operators.

use sluice_core::replica::{PeerState, PeerStatus, Replica, Seat};

use crate::ops::members::{Cluster, Member, MemberProgress};
use crate::ops::metrics::Identity;
use crate::peers::{Peers, Post};

/// See the module.
pub(super) fn cluster(
    replica: &Replica,
    own: Identity,
    peers: Option<&Peers>,
    post: Option<&Post>,
) -> Cluster {
    let (status, members) = (replica.status(), replica.members());
    let Identity { cluster, node } = own;
    let leads = |node| node == status.leader;
    let mut seen: Vec<Member> = replica
        .peers()
        .iter()
        .map(|peer| Member { leads: leads(peer.node), ..member(peer, status.commit, peers, post) })
        .collect();
    if members.contains(node.0) {
        let place = place(node.0, post);
        seen.push(Member {
            role: role(members.seat(node.0)),
            leads: leads(node.0),
            connected: true,
            ..place
        });
    }
    seen.sort_unstable_by_key(|member| member.node);
    Cluster {
        cluster: cluster.to_string(),
        node: node.0,
        term: status.term,
        leader: status.leader,
        commit: status.commit,
        applied: status.applied,
        changing: status.changing,
        members: seen,
        removed: members.removed.clone(),
    }
}

fn member(peer: &PeerStatus, commit: u64, peers: Option<&Peers>, post: Option<&Post>) -> Member {
    let standing = peers.and_then(|peers| peers.standing(peer.node));
    let progress = peer.progress.map(|known| {
        let state = match known.state {
            PeerState::Probe => "probe",
            PeerState::Replicate => "replicate",
            PeerState::Snapshot => "snapshot",
        };
        let (snapshot_sent, snapshot_len) = known.sending.unwrap_or_default();
        MemberProgress {
            matched: known.matched,
            behind: commit.saturating_sub(known.matched),
            state: state.to_owned(),
            silent_ms: peer.silent_ms,
            snapshot_sent,
            snapshot_len,
        }
    });
    Member {
        role: role(peer.seat),
        connected: standing.as_ref().is_some_and(|standing| standing.is_up),
        trouble: standing.map(|standing| standing.trouble).unwrap_or_default(),
        dropped: peers.map_or(0, |peers| peers.dropped(peer.node)),
        progress,
        ..place(peer.node, post)
    }
}

/// A node, and where it is.
fn place(node: u64, post: Option<&Post>) -> Member {
    let entry = post.and_then(|post| post.entry(node));
    Member {
        node,
        peers: entry.as_ref().map(|entry| entry.peers.clone()),
        clients: entry.map(|entry| entry.clients),
        ..Member::default()
    }
}

/// A part in the membership, by its name.
fn role(seat: Seat) -> String {
    let role = match seat {
        Seat::Voter => "voter",
        Seat::Incoming => "incoming",
        Seat::Outgoing => "outgoing",
        Seat::Learner => "learner",
    };
    role.to_owned()
}
