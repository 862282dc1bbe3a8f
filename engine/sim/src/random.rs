//! The only source of chance: a generator of our own, so that a seed means the same for ever.
//!
//! Splitmix64 spreads a seed, xoshiro256** draws (both by Blackman and Vigna, public domain). Forks are made of the seed
//! and a name, not of the state: one more draw in one place leaves all others as they were. Integers only, since sums of
//! floats depend on how they are compiled.

/// See the module.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    state: [u64; 4],
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        let mut spread = seed;
        let state = std::array::from_fn(|_| splitmix(&mut spread));
        Self { seed, state }
    }

    /// A generator of its own for whatever `name` and `number` stand for.
    pub fn fork(&self, name: &str, number: u64) -> Self {
        let mut spread = self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        for byte in name.bytes() {
            spread = splitmix(&mut spread) ^ u64::from(byte);
        }
        Self::new(splitmix(&mut spread))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        let state = &mut self.state;
        let drawn = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        drawn
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A number from `low` (at least 1) to `high`, each order of magnitude as likely as any other.
    pub fn spread(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(low).max(1));
        let bits = self.between(u64::from(low.ilog2()), u64::from(high.ilog2()));
        let floor = 1_u64 << bits;
        self.between(floor.max(low), (floor * 2 - 1).clamp(low, high))
    }

    /// True in `part` of `whole` cases.
    pub fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// An index, drawn by weight.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut drawn = self.below(weights.iter().sum());
        for (at, weight) in weights.iter().enumerate() {
            if drawn < *weight {
                return at;
            }
            drawn -= weight;
        }
        weights.len().saturating_sub(1)
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..3).map(|_| random.word()).collect();
        assert_eq!(
            drawn,
            [12_923_355_070_828_475_994, 5_142_052_590_334_782_674, 15_488_392_906_492_639_638]
        );
    }

    #[test]
    fn forks_do_not_depend_on_what_was_drawn() {
        let mut random = Random::new(7);
        let before = random.fork("disk", 3).word();
        random.word();
        assert_eq!(random.fork("disk", 3).word(), before);
        assert_ne!(random.fork("disk", 4).word(), before);
        assert_ne!(random.fork("net", 3).word(), before);
    }

    #[test]
    fn bounds_are_kept() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            assert!(random.below(3) < 3);
            assert!((5..=9).contains(&random.between(5, 9)));
            assert!((10..=1000).contains(&random.spread(10, 1000)));
            assert!(random.weighted(&[0, 2, 0, 1]) % 2 == 1);
        }
        assert_eq!(random.below(0), 0);
    }
}
