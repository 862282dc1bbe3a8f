//! What a client knows of its servers: their addresses, who leads, and what was wrong with each the last time.
//!
//! One router serves all connections of a client, so that one that finds the leader finds it for all.
//! Deliberately not here: asking the servers ([`crate::search`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_protocol::NodeId;
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard, watch};

use crate::trouble::{Tried, Trouble};
use crate::url::{ADDRESSES_MAX, Address};

/// Addresses beyond the URL's that are remembered: of leaders that servers named.
const NAMED_MAX: usize = ADDRESSES_MAX;

/// A server as its own welcome introduced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) node: NodeId,
}

/// What all connections of a client know together.
#[derive(Debug)]
pub(crate) struct Router {
    state: Mutex<State>,
    /// Counts how often a leader was found that was not known to be one.
    found: watch::Sender<u64>,
    search: Turn<()>,
}

#[derive(Debug)]
struct State {
    /// As in the URL. Never empty.
    addresses: Vec<Address>,
    /// The one of `addresses` to begin a search with.
    first: usize,
    /// Who said that it leads itself, and has not disappointed since.
    leader: Option<Server>,
    /// Where somebody said that the leader is; forgotten once it is asked.
    named: Option<Address>,
    /// Where each node was, the last time it was heard of.
    nodes: Vec<Server>,
    /// Connections, since a leader last answered, that were made and were of no use.
    flaps: u32,
    /// The last trouble with each address since a leader was found.
    tried: Vec<(Address, Trouble)>,
}

impl Router {
    pub(crate) fn new(addresses: Vec<Address>) -> Self {
        assert!(!addresses.is_empty(), "a URL has at least one address");
        let state = State {
            addresses,
            first: 0,
            leader: None,
            named: None,
            nodes: Vec::new(),
            flaps: 0,
            tried: Vec::new(),
        };
        Self { state: Mutex::new(state), found: watch::Sender::new(0), search: Turn::new(()) }
    }

    /// The leader, unless it is the one to avoid.
    pub(crate) fn leader(&self, avoid: Option<&Server>) -> Option<Address> {
        let state = self.lock();
        let other = |leader: &&Server| avoid.is_none_or(|avoid| avoid.node != leader.node);
        state.leader.as_ref().filter(other).map(|leader| leader.address.clone())
    }

    /// All addresses worth asking, the most promising first, without the one to avoid.
    pub(crate) fn lap(&self, avoid: Option<&Server>) -> Vec<Address> {
        let mut state = self.lock();
        let mut lap: Vec<Address> = state.named.take().into_iter().collect();
        for ahead in 0..state.addresses.len() {
            let address = &state.addresses[(state.first + ahead) % state.addresses.len()];
            if !lap.contains(address) {
                lap.push(address.clone());
            }
        }
        lap.retain(|address| avoid.is_none_or(|avoid| avoid.address != *address));
        lap
    }

    /// Whether there is any other server to ask than this one.
    pub(crate) fn has_others(&self, than: &Address) -> bool {
        self.lock().addresses.iter().any(|address| address != than)
    }

    /// A server said who it is.
    pub(crate) fn introduced(&self, server: Server) {
        let mut state = self.lock();
        state.nodes.retain(|known| known.node != server.node && known.address != server.address);
        if state.nodes.len() >= ADDRESSES_MAX + NAMED_MAX {
            state.nodes.remove(0);
        }
        state.nodes.push(server);
    }

    /// Where a node was, the last time it said who it is.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<Address> {
        self.lock().nodes.iter().find(|known| known.node == node).map(|known| known.address.clone())
    }

    /// A server says that it leads itself.
    pub(crate) fn leads(&self, server: Server) {
        let mut state = self.lock();
        state.tried.clear();
        state.named = None;
        let news = state.leader.as_ref() != Some(&server);
        if let Some(at) = state.addresses.iter().position(|address| *address == server.address) {
            state.first = at;
        }
        state.leader = Some(server);
        drop(state);
        if news {
            self.found.send_modify(|count| *count += 1);
        }
    }

    /// Somebody who does not lead said who does: the next search begins there, if it is known where that is.
    pub(crate) fn named(&self, leader: NodeId) {
        let address = self.address_of(leader);
        self.lock().named = address;
    }

    /// The address did not serve: unreachable, of another cluster, not leading. The next search begins behind it.
    pub(crate) fn disappointed(&self, address: &Address, trouble: Trouble) {
        let mut state = self.lock();
        if state.leader.as_ref().is_some_and(|leader| leader.address == *address) {
            state.leader = None;
        }
        if state.addresses[state.first] == *address {
            state.first = (state.first + 1) % state.addresses.len();
        }
        state.tried.retain(|(tried, _)| tried != address);
        if state.tried.len() >= ADDRESSES_MAX + NAMED_MAX {
            state.tried.remove(0);
        }
        state.tried.push((address.clone(), trouble));
    }

    /// Whether no address of the URL can ever serve this client.
    pub(crate) fn is_hopeless(&self) -> bool {
        let state = self.lock();
        let hopeless = |address| state.tried.iter().any(|(tried, why)| tried == address && why.is_hopeless());
        state.addresses.iter().all(hopeless)
    }

    /// What was wrong with each server that was tried since a leader was found.
    pub(crate) fn tried(&self) -> Vec<Tried> {
        let told = |(address, trouble): &(Address, Trouble)| Tried {
            address: address.to_string(),
            trouble: trouble.clone(),
        };
        self.lock().tried.iter().map(told).collect()
    }

    /// A connection was made and of no use.
    pub(crate) fn count_flap(&self) {
        let mut state = self.lock();
        state.flaps = state.flaps.saturating_add(1);
    }

    /// How many in a row were of no use.
    pub(crate) fn flaps(&self) -> u32 {
        self.lock().flaps
    }

    /// A leader answers.
    pub(crate) fn served(&self) {
        self.lock().flaps = 0;
    }

    /// Waits until nobody else of this client searches.
    pub(crate) async fn search(&self) -> TurnGuard<'_, ()> {
        self.search.lock().await
    }

    /// Which leader this is, counted.
    pub(crate) fn epoch(&self) -> u64 {
        *self.found.borrow()
    }

    /// Waits until a leader is found behind that epoch.
    pub(crate) async fn found_after(&self, epoch: u64) {
        let mut found = self.found.subscribe();
        found.wait_for(|now| *now != epoch).await.expect("the sender is in the router");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::ClusterId;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn server(text: &str, node: u64) -> Server {
        Server { address: address(text), node: NodeId(node) }
    }

    fn router(text: &str) -> Router {
        Router::new(crate::url::parse(text).unwrap())
    }

    fn lap(router: &Router) -> String {
        let lap: Vec<String> = router.lap(None).iter().map(|address| address.host().to_owned()).collect();
        lap.join(" ")
    }

    fn refused() -> Trouble {
        Trouble::Io("refused".to_owned())
    }

    #[test]
    fn begins_behind_what_disappointed() {
        let router = router("sluice://a,b,c");
        assert_eq!(lap(&router), "a b c");
        router.disappointed(&address("a"), refused());
        assert_eq!(lap(&router), "b c a");
        router.disappointed(&address("a"), refused());
        assert_eq!(lap(&router), "b c a", "an old complaint about a changes nothing");
        router.leads(server("c", 3));
        assert_eq!(lap(&router), "c a b", "who led is asked first if its connection is lost");
    }

    #[test]
    fn a_leader_is_one_until_it_disappoints() {
        let router = router("sluice://a,b");
        assert_eq!(router.leader(None), None);
        router.leads(server("b", 2));
        assert_eq!(router.leader(None), Some(address("b")));
        router.disappointed(&address("a"), refused());
        assert_eq!(router.leader(None), Some(address("b")));
        assert_eq!(router.leader(Some(&server("b", 2))), None, "it is the one to avoid");
        router.disappointed(&address("b"), refused());
        assert_eq!(router.leader(None), None);
    }

    #[test]
    fn a_named_leader_is_asked_first_once_if_it_is_known_where_it_is() {
        let router = router("sluice://a,b");
        router.named(NodeId(9));
        assert_eq!(lap(&router), "a b");
        router.introduced(server("c", 9));
        router.named(NodeId(9));
        assert_eq!(lap(&router), "c a b");
        assert_eq!(lap(&router), "a b");
    }

    #[test]
    fn the_one_to_avoid_is_not_asked() {
        let router = router("sluice://a,b");
        assert_eq!(router.lap(Some(&server("a", 1))), [address("b")]);
        assert!(router.has_others(&address("a")));
        assert!(!self::router("sluice://a").has_others(&address("a")));
    }

    #[test]
    fn nodes_move() {
        let router = router("sluice://a,b");
        router.introduced(server("a", 1));
        router.introduced(server("b", 1));
        assert_eq!(router.address_of(NodeId(1)), Some(address("b")));
        router.introduced(server("b", 2));
        assert_eq!((router.address_of(NodeId(1)), router.address_of(NodeId(2))), (None, Some(address("b"))));
    }

    #[test]
    fn what_was_tried_is_told_until_a_leader_is_found() {
        let router = router("sluice://a,b");
        router.disappointed(&address("a"), refused());
        router.disappointed(&address("a"), Trouble::Io("reset".to_owned()));
        assert_eq!(
            router.tried(),
            [Tried { address: "a:7400".to_owned(), trouble: Trouble::Io("reset".to_owned()) }]
        );
        router.leads(server("b", 2));
        assert!(router.tried().is_empty());
    }

    #[test]
    fn hopeless_is_only_what_is_so_everywhere() {
        let router = router("sluice://a,b");
        let foreign = || Trouble::OtherCluster { expected: ClusterId(1), got: ClusterId(2) };
        router.disappointed(&address("a"), foreign());
        assert!(!router.is_hopeless());
        router.disappointed(&address("b"), refused());
        assert!(!router.is_hopeless());
        router.disappointed(&address("b"), foreign());
        assert!(router.is_hopeless());
    }

    #[tokio::test]
    async fn a_leader_is_news_once() {
        let router = router("sluice://a,b");
        let epoch = router.epoch();
        router.leads(server("a", 1));
        router.found_after(epoch).await;
        let epoch = router.epoch();
        router.leads(server("a", 1));
        assert_eq!(router.epoch(), epoch);
        router.leads(server("b", 2));
        assert_ne!(router.epoch(), epoch);
    }

    #[test]
    fn memory_is_bounded() {
        let router = router("sluice://a");
        for node in 1..1_000 {
            router.introduced(server(&format!("n{node}"), node));
            router.disappointed(&address(&format!("n{node}")), refused());
        }
        assert_eq!((router.tried().len(), router.address_of(NodeId(1))), (32, None));
        assert_eq!(router.address_of(NodeId(999)), Some(address("n999")));
    }
}
