//! A cluster as its nodes have it, seen from outside: who leads, and who has the whole log.
//!
//! Asking a node blocks, and whoever waits may share a thread with others: so it is asked from another one. Deliberately not
//! here: changing anything.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::LaunchError;
use crate::peers::operator::{self, Answer, Ask, Cluster};

/// How long one node may take to say how the cluster is.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How often the cluster is looked at while it is waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// The cluster, as each of its nodes that answers has it.
#[derive(Debug)]
pub struct View(Vec<Cluster>);

impl View {
    /// Asks the nodes at these ports for peers.
    pub fn take(peers: &[String]) -> Self {
        Self(peers.iter().filter_map(|address| look(address).ok()).collect())
    }

    /// Looks until the cluster is as wanted.
    ///
    /// # Errors
    /// [`LaunchError::Cluster`] if it is not in time.
    pub async fn wait(
        peers: Vec<String>,
        patience: Duration,
        mut is_it: impl FnMut(&Self) -> bool + Send + 'static,
    ) -> Result<Self, LaunchError> {
        let by = Instant::now() + patience;
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            while Instant::now() < by && !sender.is_closed() {
                let view = Self::take(&peers);
                if is_it(&view) {
                    // Whoever asked may have gone.
                    let _ = sender.send(view);
                    return;
                }
                thread::sleep(PAUSE);
            }
        });
        let late = |_| LaunchError::Cluster(format!("its nodes disagree after {} s", patience.as_secs_f64()));
        receiver.await.map_err(late)
    }

    /// Waits until a node has all that was committed a moment before, so that it keeps up with the others; how long that
    /// took.
    ///
    /// # Errors
    /// [`LaunchError::Cluster`] if it does not in time.
    pub async fn caught_up(peers: Vec<String>, patience: Duration, id: u64) -> Result<Duration, LaunchError> {
        let (began, mut before) = (Instant::now(), None);
        let keeps_up = move |view: &Self| {
            let Some(leader) = view.leader() else { return false };
            let wanted = before.replace(leader.commit);
            wanted.is_some_and(|wanted| view.has(id, wanted))
        };
        Self::wait(peers, patience, keeps_up).await.map(|_| began.elapsed())
    }

    /// Whoever says of itself that it leads: if two do, the later one.
    pub fn leader(&self) -> Option<&Cluster> {
        self.0.iter().filter(|one| one.leader == one.node).max_by_key(|one| one.term)
    }

    /// Whether a node has the log up to an index, and knows that it is committed.
    pub fn has(&self, id: u64, index: u64) -> bool {
        self.0.iter().any(|one| one.node == id && one.commit >= index)
    }

    /// How many nodes have all that the leader has committed.
    pub fn complete(&self) -> usize {
        self.leader().map_or(0, |leader| self.0.iter().filter(|one| one.commit >= leader.commit).count())
    }
}

/// The cluster as the node at this port for peers has it.
pub(super) fn look(address: &str) -> io::Result<Cluster> {
    match operator::ask(address, &Ask::List, Instant::now() + LOOK_MAX)? {
        Answer::Listed(cluster) => Ok(cluster),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u64, term: u64, leader: u64, commit: u64) -> Cluster {
        Cluster { node, term, leader, commit, ..Cluster::default() }
    }

    #[test]
    fn of_two_that_say_they_lead_the_later_one_does() {
        let view = View(vec![node(1, 4, 1, 90), node(2, 5, 2, 100), node(3, 5, 2, 95)]);
        assert_eq!(view.leader().map(|leader| leader.node), Some(2));
        assert_eq!(view.complete(), 1);
        assert!(view.has(3, 95) && !view.has(3, 96) && !view.has(4, 0));
    }

    #[test]
    fn without_a_leader_nobody_is_complete() {
        let view = View(vec![node(1, 4, 2, 90), node(3, 4, 0, 90)]);
        assert!(view.leader().is_none());
        assert_eq!(view.complete(), 0);
    }
}
