//! What happened, folded into one number, so that two runs of a seed can be compared; and, if somebody wants to read it,
//! line by line.

use std::fmt;

/// See the module.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Where lines go.
    told: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or not.
    pub fn new(tells: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, told: tells.then(Vec::new) }
    }

    /// Takes a number of what happened.
    pub fn take(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// Something happened.
    pub fn event(&mut self, at_us: u64, kind: u64, who: u64) {
        self.events += 1;
        self.take(at_us);
        self.take((kind << 32) ^ who);
    }

    /// Takes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.take(u64::from(crc32fast::hash(bytes)));
    }

    /// Says something for people. What it says is part of the hash of no run.
    pub fn say(&mut self, at_us: u64, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let at = Clock(at_us);
            told.push(format!("{at} {}", what()));
        }
    }

    /// The number of all that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines.
    pub fn lines(&self) -> &[String] {
        self.told.as_deref().unwrap_or_default()
    }
}

struct Clock(u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
