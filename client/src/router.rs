//! Which server to connect to next: the addresses of the URL in turn, and the leader when somebody names it.
//!
//! One router serves all connections of a client, so that one that finds the leader finds it for all.
//! Deliberately not here: when to connect; that is the connection's back-off.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::url::Address;

/// Chooses addresses.
#[derive(Debug)]
pub(crate) struct Router {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As in the URL. Never empty.
    addresses: Vec<Address>,
    /// The one of `addresses` to use without a hint.
    current: usize,
    /// Where a server said the leader is; forgotten as soon as it disappoints.
    hint: Option<Address>,
}

impl Router {
    pub(crate) fn new(addresses: Vec<Address>) -> Self {
        assert!(!addresses.is_empty(), "a URL has at least one address");
        Self { state: Mutex::new(State { addresses, current: 0, hint: None }) }
    }

    /// Where to connect now.
    pub(crate) fn pick(&self) -> Address {
        let state = self.lock();
        state.hint.clone().unwrap_or_else(|| state.addresses[state.current].clone())
    }

    /// A server named the leader. Returns whether that is news, so that two nodes which name each other
    /// cannot send a client in circles: it follows a hint only when the hint changes.
    pub(crate) fn learn(&self, leader: Address) -> bool {
        let mut state = self.lock();
        if state.hint.as_ref() == Some(&leader) {
            return false;
        }
        state.hint = Some(leader);
        true
    }

    /// The address did not serve: unreachable, or not leading. Returns whether there is another one to try.
    pub(crate) fn disappointed(&self, by: &Address) -> bool {
        let mut state = self.lock();
        if state.hint.as_ref() == Some(by) {
            state.hint = None;
        }
        if state.addresses[state.current] == *by {
            state.current = (state.current + 1) % state.addresses.len();
        }
        state.hint.as_ref().is_some_and(|hint| hint != by) || state.addresses[state.current] != *by
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn router(text: &str) -> Router {
        Router::new(crate::url::parse(text).unwrap())
    }

    #[test]
    fn takes_turns_among_the_urls_addresses() {
        let router = router("sluice://a,b");
        assert_eq!(router.pick(), address("a"));
        assert!(router.disappointed(&address("a")));
        assert_eq!(router.pick(), address("b"));
        assert!(router.disappointed(&address("a")), "an old complaint about a changes nothing");
        assert_eq!(router.pick(), address("b"));
        assert!(router.disappointed(&address("b")));
        assert_eq!(router.pick(), address("a"));
    }

    #[test]
    fn has_nowhere_else_to_go_with_one_address() {
        let router = router("sluice://a");
        assert!(!router.disappointed(&address("a")));
        assert_eq!(router.pick(), address("a"));
    }

    #[test]
    fn follows_a_hint_until_it_disappoints() {
        let router = router("sluice://a,b");
        assert!(router.learn(address("c")));
        assert!(!router.learn(address("c")), "the same hint again is no news");
        assert_eq!(router.pick(), address("c"));
        assert!(router.disappointed(&address("c")));
        assert_eq!(router.pick(), address("a"));
    }
}
