//! When members of groups were last heard here: net threads tell, the replica asks.
//!
//! Known to the leader only, and only since it leads: a new leader gives everybody a whole session. Deliberately not here:
//! who has a seat, which the ledger decides.

use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use papaya::HashMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    /// By group and member: monotonic milliseconds.
    heard: HashMap<(u32, u64), AtomicU64, FixedState>,
}

impl Seats {
    /// A member said something.
    pub(crate) fn heard(&self, group: u32, member: u64, now_ms: u64) {
        // Whoever has no seat must not make this grow: the replica enters those who have.
        if let Some(heard) = self.heard.pin().get(&(group, member)) {
            heard.fetch_max(now_ms, Ordering::Relaxed);
        }
    }

    /// Replica thread: who has a seat now, by group and member, and how long he may be silent, milliseconds. Returns those
    /// who have been silent for longer.
    pub(crate) fn look(&self, seated: impl Iterator<Item = (u32, u64, u64)>, now_ms: u64) -> Vec<(u32, u64)> {
        let heard = self.heard.pin();
        let (mut silent, mut known) = (Vec::new(), Vec::new());
        for (group, member, session_ms) in seated {
            let since = heard.get_or_insert_with((group, member), || AtomicU64::new(now_ms));
            if now_ms.saturating_sub(since.load(Ordering::Relaxed)) > session_ms {
                silent.push((group, member));
            }
            known.push((group, member));
        }
        if known.len() < heard.len() {
            known.sort_unstable();
            heard.retain(|seat, _| known.binary_search(seat).is_ok());
        }
        silent
    }

    /// Replica thread: a leadership begins; what was heard before says nothing.
    pub(crate) fn forget(&self) {
        self.heard.pin().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_for_a_session_is_told_and_nobody_else() {
        let seats = Seats::default();
        let seated = || [(1, 7, 100), (1, 8, 100)].into_iter();
        assert_eq!(seats.look(seated(), 1_000), []);
        seats.heard(1, 7, 1_080);
        seats.heard(1, 9, 1_080);
        assert_eq!(seats.look(seated(), 1_100), []);
        assert_eq!(seats.look(seated(), 1_101), [(1, 8)]);
        assert_eq!(seats.look(seated(), 1_181), [(1, 7), (1, 8)]);
        assert_eq!(seats.look([(1, 7, 100)].into_iter(), 1_181), [(1, 7)]);
        assert_eq!(seats.heard.len(), 1);
        seats.forget();
        assert_eq!(seats.look(seated(), 2_000), []);
    }
}
