//! One reservation in the books, and its share of their hash.

use sluice_protocol::event::EventView;
use sluice_protocol::{ProductId, ReservationId, State, UserId};

/// A reservation as of some sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: ReservationId,
    /// What was reserved.
    pub product: ProductId,
    /// For whom.
    pub user: UserId,
    /// How many units.
    pub quantity: u32,
    /// `Held`, `Confirmed`, `Cancelled` or `Expired`. A hold whose deadline has come is held until its expiry is an event.
    pub state: State,
    /// The event that made it what it is.
    pub sequence: u64,
    /// Held: its deadline, ledger milliseconds. Confirmed: when. Cancelled: the reason. Expired: 0.
    pub detail: u64,
}

/// Product, user and units.
pub(super) type Order = (ProductId, UserId, u32);

impl Entry {
    /// What an event makes of its reservation.
    pub(super) fn of(event: &EventView, state: State, quantity: u32) -> Self {
        let detail = match state {
            State::Held | State::Cancelled => event.detail,
            State::Confirmed => event.time_ms,
            _ => 0,
        };
        Self {
            id: event.id,
            product: event.product,
            user: event.user,
            quantity,
            state,
            sequence: event.sequence,
            detail,
        }
    }

    /// Whether it has units: held, or sold. Servers forget those that have none after a while.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Held | State::Confirmed)
    }

    /// What it is for.
    pub(super) fn order(&self) -> Order {
        (self.product, self.user, self.quantity)
    }

    /// Its share of the hash of its product: a number of id, product, user, quantity and state. Shares are added up, so
    /// the order in which reservations are looked at does not matter. What has no units has no share.
    ///
    /// Fixed for good: whoever has a table of orders can compute it. Good against accidents, not against an adversary.
    pub fn share(&self) -> u128 {
        if !self.is_live() {
            return 0;
        }
        let id = self.id.0;
        mix(&[
            id as u64,
            (id >> 64) as u64,
            self.product.0,
            self.user.0,
            u64::from(self.quantity) | (self.state as u64) << 32,
        ])
    }
}

/// A number of 128 bits that depends on every bit of the words: two rounds of the finalizer of splitmix64 over them, begun
/// with two seeds (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) fn mix(words: &[u64]) -> u128 {
    const SEEDS: [u64; 2] = [0x536c_7569_6365_3031, 0x536c_7569_6365_3032];
    let half = |seed| words.iter().fold(seed, |hash, word| finalize(hash ^ word));
    let [low, high] = SEEDS.map(half);
    u128::from(high) << 64 | u128::from(low)
}

fn finalize(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: ReservationId(0x0199_0000_0000_7000_8000_0000_0000_00a1),
            product: ProductId(7),
            user: UserId(4242),
            quantity: 2,
            state: State::Held,
            sequence: 9,
            detail: 1_000,
        }
    }

    #[test]
    fn a_share_is_fixed_for_good() {
        assert_eq!(entry().share(), SHARE_OF_ENTRY);
    }

    /// Computed once by the same words in Python; see docs/OPERATIONS.md.
    const SHARE_OF_ENTRY: u128 = 0x2d31_3d3c_0d1c_aed7_053c_abd5_0b77_0003;

    #[test]
    fn a_share_depends_on_the_order_and_on_whether_it_is_sold_and_on_nothing_else() {
        let one = entry();
        let others = [
            Entry { id: ReservationId(one.id.0 ^ 1 << 127), ..one },
            Entry { product: ProductId(8), ..one },
            Entry { user: UserId(0), ..one },
            Entry { quantity: 3, ..one },
            Entry { state: State::Confirmed, ..one },
        ];
        for other in others {
            assert_ne!(other.share(), one.share(), "{other:?}");
        }
        assert_eq!(Entry { sequence: 10, detail: 0, ..one }.share(), one.share());
        assert_eq!(Entry { state: State::Expired, ..one }.share(), 0);
    }
}
