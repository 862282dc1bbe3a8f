//! The network: bytes from one end to another, late, twice, in another order, or never.
//!
//! Every link has a condition of its own, in each direction. A cut link delivers nothing; a slow one sends one message
//! after another at its rate. Deliberately not here: who sends what, and when conditions change.

use std::collections::BTreeMap;

use crate::random::Random;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A machine, by its number; not by the node that runs on it.
    Host(usize),
    /// A client.
    Client(usize),
}

/// How a link treats what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Of so many messages in 10,000 one is lost.
    pub loss: u64,
    /// Of so many in 10,000 a second copy arrives.
    pub duplication: u64,
    /// The shortest and the longest delay, microseconds.
    pub delay_us: (u64, u64),
    /// Of so many in 10,000 the delay is drawn from a second pair, which lets others pass.
    pub straying: u64,
    /// That pair.
    pub stray_us: (u64, u64),
    /// Bytes a second; 0 = as many as there are.
    pub bytes_per_s: u64,
}

impl Condition {
    /// A rack in order.
    pub const CALM: Self =
        Self { loss: 0, duplication: 0, delay_us: (20, 400), straying: 0, stray_us: (0, 0), bytes_per_s: 0 };
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Carried {
    /// When it arrives; `None` if it never does.
    pub at_us: Option<u64>,
    /// When a second copy arrives.
    pub copy_us: Option<u64>,
    /// It was lost by chance, not to a cut.
    pub lost: bool,
    /// It strayed.
    pub strayed: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SimNet {
    random: Random,
    /// Between hosts, and between hosts and clients.
    between_hosts: Condition,
    with_clients: Condition,
    links: BTreeMap<(End, End), Condition>,
    /// One way. How many have cut it: each mends its own cut only.
    cuts: BTreeMap<(End, End), u32>,
    /// When a slow link has sent what it was given.
    busy_until_us: BTreeMap<(End, End), u64>,
}

impl SimNet {
    /// A calm network.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            between_hosts: Condition::CALM,
            with_clients: Condition::CALM,
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            busy_until_us: BTreeMap::new(),
        }
    }

    /// Sets how links between hosts are, where nothing else was said.
    pub fn between_hosts(&mut self, condition: Condition) {
        self.between_hosts = condition;
    }

    /// Sets how links between hosts and clients are.
    pub fn with_clients(&mut self, condition: Condition) {
        self.with_clients = condition;
    }

    /// Sets one direction of one link; `None`: as the others.
    pub fn link(&mut self, from: End, to: End, condition: Option<Condition>) {
        match condition {
            Some(condition) => drop(self.links.insert((from, to), condition)),
            None => drop(self.links.remove(&(from, to))),
        }
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: End, to: End) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: End, to: End) {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Everything is calm again. What is on its way stays on its way.
    pub fn heal(&mut self) {
        self.between_hosts = Condition::CALM;
        self.with_clients = Condition::CALM;
        self.links.clear();
        self.cuts.clear();
        self.busy_until_us.clear();
    }

    /// Whether a message sent now could arrive.
    pub fn is_open(&self, from: End, to: End) -> bool {
        !self.cuts.contains_key(&(from, to))
    }

    fn condition(&self, from: End, to: End) -> Condition {
        if let Some(condition) = self.links.get(&(from, to)) {
            return *condition;
        }
        match (from, to) {
            (End::Host(_), End::Host(_)) => self.between_hosts,
            _ => self.with_clients,
        }
    }

    /// Sends so many bytes now.
    pub fn send(&mut self, from: End, to: End, bytes: usize, now_us: u64) -> Carried {
        let mut carried = Carried::default();
        if !self.is_open(from, to) {
            return carried;
        }
        let condition = self.condition(from, to);
        if condition.loss > 0 && self.random.chance(condition.loss, 10_000) {
            carried.lost = true;
            return carried;
        }
        let mut sent_us = now_us;
        if let Some(took_us) = (bytes as u64 * 1_000_000).checked_div(condition.bytes_per_s) {
            let busy = self.busy_until_us.entry((from, to)).or_default();
            *busy = (*busy).max(now_us) + took_us;
            sent_us = *busy;
        }
        carried.strayed = condition.straying > 0 && self.random.chance(condition.straying, 10_000);
        let (low, high) = if carried.strayed { condition.stray_us } else { condition.delay_us };
        carried.at_us = Some(sent_us + self.random.spread(low, high));
        if condition.duplication > 0 && self.random.chance(condition.duplication, 10_000) {
            let (low, high) = if condition.straying > 0 { condition.stray_us } else { (low, high) };
            carried.copy_us = Some(sent_us + self.random.spread(low, high));
        }
        carried
    }
}
