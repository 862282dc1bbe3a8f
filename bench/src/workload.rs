//! Which requests are made: each is a function of its number and of the run, so nothing has to be remembered.
//!
//! Ids and users are scattered over their whole range, as real ones are: a table that likes neighbours must not look
//! better than it is. Deliberately not here: bytes.

use std::time::Duration;

use sluice_protocol::request::Terms;
use sluice_protocol::{ProductId, ReservationId, UserId};

/// Units of a product that must not run out.
pub const PLENTY: u64 = 1 << 40;

/// Units of a product that is to be sold out: the warm-up takes them.
pub const FEW: u64 = 100;

/// How long holds last: longer than any measurement.
pub const HOLD: Duration = Duration::from_secs(3600);

/// Products of the zipf workload.
const ZIPF_PRODUCTS: u64 = 1000;

/// Draws that are prepared for it; a power of two.
const ZIPF_DRAWS: usize = 1 << 16;

/// What the buyers want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One product, everybody gets a unit
    Hot,
    /// A thousand products, the first of them far more wanted than the last
    Zipf,
    /// One product of which nothing is left
    SoldOut,
    /// One product; of every four reservations three are confirmed and one is cancelled
    Mixed,
}

/// A run of requests.
#[derive(Clone, Debug)]
pub struct Workload {
    kind: Kind,
    run: u64,
    zipf: Vec<u16>,
}

/// One reservation to be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Its name, never used before.
    pub id: ReservationId,
    /// What.
    pub product: ProductId,
    /// For whom: everybody comes once.
    pub user: UserId,
}

impl Workload {
    /// A run of its own: its ids and users meet no other run's.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn new(kind: Kind) -> Self {
        let run = getrandom::u64().expect("the system has random numbers");
        let zipf = if kind == Kind::Zipf { zipf_draws() } else { Vec::new() };
        Self { kind, run, zipf }
    }

    /// What the buyers want.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Every product of the run, and its stock.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, u64)> {
        let (count, stock) = match self.kind {
            Kind::Hot | Kind::Mixed => (1, PLENTY),
            Kind::Zipf => (ZIPF_PRODUCTS, PLENTY / ZIPF_PRODUCTS),
            Kind::SoldOut => (1, FEW),
        };
        (0..count).map(move |rank| (self.product_of(rank), stock))
    }

    /// One unit a user, open from the start, for good.
    pub fn terms(&self) -> Terms {
        let hold_ms = HOLD.as_millis() as u32;
        Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 1, hold_ms, unlimited: false }
    }

    /// The request of a number.
    pub fn wish(&self, number: u64) -> Wish {
        let scattered = scatter(number ^ self.run);
        let rank = match self.kind {
            Kind::Zipf => u64::from(self.zipf[scattered as usize % ZIPF_DRAWS]),
            Kind::Hot | Kind::SoldOut | Kind::Mixed => 0,
        };
        let id = ReservationId(u128::from(scattered) << 64 | u128::from(self.run | 1));
        Wish { id, product: self.product_of(rank), user: UserId(scattered) }
    }

    /// Products of different runs differ, so that one server can serve many runs.
    fn product_of(&self, rank: u64) -> ProductId {
        ProductId((self.run | 1).wrapping_add(rank).max(1))
    }
}

/// A bijection without any visible order (the finisher of splitmix64).
fn scatter(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Ranks as often as Zipf's law (exponent 1) has them: rank r is 1/(r+1) as likely as rank 0.
fn zipf_draws() -> Vec<u16> {
    let total: f64 = (1..=ZIPF_PRODUCTS).map(|rank| 1.0 / rank as f64).sum();
    let mut draws = Vec::with_capacity(ZIPF_DRAWS);
    let mut reached = 0.0;
    for rank in 0..ZIPF_PRODUCTS {
        reached += 1.0 / (rank + 1) as f64;
        let until = (reached / total * ZIPF_DRAWS as f64).round() as usize;
        draws.resize(until.max(draws.len()).min(ZIPF_DRAWS), rank as u16);
    }
    draws.resize(ZIPF_DRAWS, 0);
    draws
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_comes_once_under_an_id_of_their_own() {
        let workload = Workload::new(Kind::Hot);
        let wishes: Vec<_> = (0..10_000).map(|number| workload.wish(number)).collect();
        assert_eq!(wishes.iter().map(|wish| wish.user).collect::<HashSet<_>>().len(), wishes.len());
        assert_eq!(wishes.iter().map(|wish| wish.id).collect::<HashSet<_>>().len(), wishes.len());
    }

    #[test]
    fn the_first_product_is_twice_as_wanted_as_the_second_and_the_last_is_wanted_too() {
        let workload = Workload::new(Kind::Zipf);
        let products: Vec<_> = workload.products().map(|(product, _)| product).collect();
        let mut asked = vec![0_u32; products.len()];
        for number in 0..1_000_000 {
            let product = workload.wish(number).product;
            asked[products.iter().position(|known| *known == product).unwrap()] += 1;
        }
        let ratio = f64::from(asked[0]) / f64::from(asked[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(asked.iter().all(|asked| *asked > 0));
    }
}
