//! How much the connections of a net thread hold in memory, together, and how much more each may.
//!
//! Input and replies are counted apart. Whoever waits in line holds input, and what it waits for is room for its reply: were
//! the two one, those who wait could hold all that they wait for.
//!
//! Dynamic thresholds (Choudhury and Hahne, 1998): a connection that holds something may go on until it holds an eighth of
//! what is free. While little is held that is far more than any needs; as the whole fills up, those who hold most are held
//! back first, and what is left is for those who hold nothing. Deliberately not here: whose memory is given back by force.

/// A connection may hold one part in so many of what is free.
const PARTS: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    max: usize,
    held: usize,
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(max: usize) -> Self {
        Self { max, held: 0 }
    }

    /// A connection that held `before` bytes now holds `now`.
    pub fn moved(&mut self, before: usize, now: usize) {
        self.held = (self.held + now).checked_sub(before).expect("only what is held is given back");
    }

    /// Bytes held, by all together.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether so many bytes more fit. The first always does.
    pub fn fits(&self, bytes: usize) -> bool {
        self.held == 0 || self.held + bytes <= self.max
    }

    /// Bytes that one connection may hold before it has to give some back.
    pub fn share(&self) -> usize {
        self.max.saturating_sub(self.held) / PARTS
    }

    /// Bytes that are to be given back by force, so that there is room again for everybody.
    pub fn excess(&self) -> usize {
        self.held.saturating_sub(self.max / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_take_all_they_may_leave_room_for_those_who_hold_nothing() {
        const MAX: usize = 1 << 20;
        let mut memory = Memory::new(MAX);
        let mut held = [0; 1000];
        // In pieces of 1 KiB, in turn, until nobody may go on.
        while let Some(hog) = held.iter_mut().find(|held| **held + 1024 <= memory.share()) {
            *hog += 1024;
            memory.moved(0, 1024);
        }
        assert!(memory.fits(4096), "{} of {MAX} bytes are held", memory.held());
        assert!(held.iter().all(|bytes| *bytes <= MAX / PARTS));
        assert!(memory.excess() > 0);
        held.iter().for_each(|bytes| memory.moved(*bytes, 0));
        assert_eq!((memory.held(), memory.excess(), memory.share()), (0, 0, MAX / PARTS));
    }

    #[test]
    fn the_first_always_fits() {
        assert!(Memory::new(10).fits(1000));
    }
}
