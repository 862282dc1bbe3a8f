//! What the replica thread does for operators: it tells who the members are, and has membership changed.
//!
//! A change is answered when it is decided. Deliberately not here: what a change is.

use std::collections::BTreeMap;

use sluice_core::replica::Replica;
use sluice_core::replica::membership::{Change, ChangeError};
use sluice_protocol::NodeId;
use tokio::sync::oneshot;

use super::view;
use crate::ops::labels::snake_case;
use crate::ops::metrics::Identity;
use crate::peers::operator::{Answer, Ask, Call, Joined};
use crate::peers::{Peers, Post};

/// A change that is under way.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Answer>,
    /// The node that joins by it.
    joins: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Operators {
    waiting: BTreeMap<u64, Waiting>,
    last_ticket: u64,
}

impl Operators {
    /// Does what is asked, or has it begun.
    pub(super) fn take(&mut self, call: Call, replica: &mut Replica, peers: &Peers, post: &Post) {
        let Call { ask, reply } = call;
        let (change, joins) = match ask {
            Ask::List => {
                // Whoever asked may have gone.
                let own = Identity { cluster: post.cluster(), node: NodeId(post.node()) };
                let seen = view::cluster(replica, own, Some(peers), Some(post));
                let _ = reply.send(Answer::Listed(seen));
                return;
            }
            Ask::Transfer { to } => {
                let begun = replica.transfer_leadership(to);
                let _ =
                    reply.send(begun.map_or_else(|error| refusal(error, post), |()| Answer::Transferring));
                return;
            }
            Ask::Join { incarnation } => match known(replica, incarnation) {
                Some(node) => {
                    let _ = reply.send(joined(node, replica, post));
                    return;
                }
                None => {
                    let node = fresh(replica);
                    (Change::AddLearner { node, incarnation }, Some(node))
                }
            },
            Ask::Promote { node } => (Change::Promote { node }, None),
            Ask::Remove { node } => (Change::Remove { node }, None),
            Ask::Replace { node, by } => (Change::Replace { node, by }, None),
        };
        self.last_ticket += 1;
        self.waiting.insert(self.last_ticket, Waiting { reply, joins });
        replica.change_members(self.last_ticket, change);
    }

    /// A change was decided.
    pub(super) fn decided(
        &mut self,
        ticket: u64,
        result: Result<u64, ChangeError>,
        replica: &Replica,
        post: &Post,
    ) {
        let Some(Waiting { reply, joins }) = self.waiting.remove(&ticket) else { return };
        let answer = match (result, joins) {
            (Ok(_), Some(node)) => joined(node, replica, post),
            (Ok(index), None) => Answer::Changed { index },
            (Err(error), _) => refusal(error, post),
        };
        let _ = reply.send(answer);
    }
}

/// The member with this incarnation: it asked before, and did not hear the answer.
fn known(replica: &Replica, incarnation: u64) -> Option<u64> {
    let incarnations = &replica.members().incarnations;
    incarnations.iter().find(|(_, known)| *known == incarnation).map(|(node, _)| *node)
}

/// An id that no node has ever had.
fn fresh(replica: &Replica) -> u64 {
    let members = replica.members();
    1 + members.nodes().chain(members.removed.iter().copied()).max().unwrap_or(0)
}

fn joined(node: u64, replica: &Replica, post: &Post) -> Answer {
    let settings = replica.ledger().settings();
    Answer::Joined(Joined {
        cluster: post.cluster().to_string(),
        node,
        records_max: settings.records_max,
        retention_ms: settings.retention_ms,
        book: post.book(),
    })
}

fn refusal(error: ChangeError, post: &Post) -> Answer {
    if let ChangeError::NotLeader { leader } = error {
        return Answer::NotLeader { leader, address: post.entry(leader).map(|entry| entry.peers) };
    }
    let retry = matches!(
        error,
        ChangeError::UnderWay
            | ChangeError::Behind { .. }
            | ChangeError::Silent
            | ChangeError::NoQuorum
            | ChangeError::Dropped
    );
    let name = format!("{error:?}");
    let name = name.split([' ', '{']).next().unwrap_or_default();
    Answer::Refused { code: snake_case(name), message: error.to_string(), retry }
}
