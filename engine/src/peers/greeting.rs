//! How a conversation begins: who connects, to whom, what for; and why it may end there.
//!
//! Cluster, node and process are known on both sides before the first message. What the membership makes of them is the
//! core's to say.

use serde::{Deserialize, Serialize};
use sluice_core::replica::peer::Identity;
use sluice_protocol::ids::ClusterId;

use super::book::Book;

/// What somebody connects for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    /// To exchange messages, as a node.
    Peer,
    /// To ask or change something, as an operator.
    Operator,
}

/// Who a process says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    cluster: String,
    pub(super) node: u64,
    incarnation: u64,
    boot: u64,
    pub(super) nonce: u64,
}

impl Card {
    pub(super) fn of(identity: &Identity) -> Self {
        Self {
            cluster: identity.cluster.to_string(),
            node: identity.node,
            incarnation: identity.incarnation,
            boot: identity.boot,
            nonce: identity.nonce,
        }
    }

    /// The same as the core knows it; `None` if there is no such cluster id.
    pub(super) fn identity(&self) -> Option<Identity> {
        let cluster: ClusterId = self.cluster.parse().ok()?;
        let Self { node, incarnation, boot, nonce, .. } = *self;
        Some(Identity { cluster, node, incarnation, boot, nonce })
    }
}

/// The first frame of whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) purpose: Purpose,
    /// Of a node.
    pub(super) from: Option<Card>,
    /// The node that is expected here; 0 = any.
    pub(super) to: u64,
    pub(super) book: Book,
}

impl Greeting {
    /// Whether it is from a node of this cluster.
    pub(super) fn is_of(&self, cluster: ClusterId) -> bool {
        let from = self.from.as_ref().filter(|_| self.purpose == Purpose::Peer);
        from.and_then(Card::identity).is_some_and(|from| from.cluster == cluster)
    }
}

/// The first frame of whoever was connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) from: Card,
    pub(super) book: Book,
}

/// Why not, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) why: String,
}

/// Why a greeting is refused; `Ok` is who greets, if it is a node.
pub(super) fn judge(greeting: &Greeting, own: &Identity) -> Result<Option<Identity>, Refusal> {
    let refuse = |why: String| Err(Refusal { why });
    if greeting.purpose == Purpose::Operator {
        return Ok(None);
    }
    let Some(from) = greeting.from.as_ref().and_then(Card::identity) else {
        return refuse("the greeting does not say which node it is from".to_owned());
    };
    if from.cluster != own.cluster {
        return refuse(format!(
            "node {} is of cluster {}, and this is node {} of cluster {}: check the addresses in both configurations",
            from.node, from.cluster, own.node, own.cluster
        ));
    }
    if greeting.to != own.node && greeting.to != 0 {
        return refuse(format!(
            "this is node {}, not node {}: its address has changed",
            own.node, greeting.to
        ));
    }
    if from.node == own.node && from.nonce != own.nonce {
        return refuse(format!(
            "another process is node {} already: two data directories with one id must not run at once",
            own.node
        ));
    }
    Ok(Some(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Identity = Identity { cluster: ClusterId(7), node: 1, incarnation: 3, boot: 4, nonce: 5 };

    fn greeting(from: Identity, to: u64) -> Greeting {
        Greeting { purpose: Purpose::Peer, from: Some(Card::of(&from)), to, book: Book::default() }
    }

    #[test]
    fn a_node_of_the_cluster_is_welcome() {
        let peer = Identity { node: 2, ..OWN };
        for to in [0, 1] {
            assert_eq!(judge(&greeting(peer, to), &OWN), Ok(Some(peer)));
        }
    }

    #[test]
    fn whoever_is_wrong_here_is_told_why() {
        let peer = Identity { node: 2, ..OWN };
        for (from, to, why) in [
            (Identity { cluster: ClusterId(8), ..peer }, 1, "check the addresses"),
            (peer, 3, "this is node 1, not node 3"),
            (Identity { nonce: 6, ..OWN }, 1, "another process is node 1"),
        ] {
            let refusal = judge(&greeting(from, to), &OWN).unwrap_err();
            assert!(refusal.why.contains(why), "{refusal:?}");
        }
        let nobody = Greeting { from: None, ..greeting(peer, 1) };
        assert!(judge(&nobody, &OWN).is_err());
    }
}
