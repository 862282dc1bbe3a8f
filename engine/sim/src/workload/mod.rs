//! The clients: what they want, how they go about it, and how they try again.
//!
//! - `jobs`: intentions, drawn from the seed
//! - `talk`: what is sent and heard
//! - `consumers`: who consumes events; `deliveries`: what they do with them
//!
//! A job is one client's intention from its first request to its last: buy and pay, buy and forget, pay too late, cancel
//! before it bought, restock. Replies get lost, clients lose patience, and then they try the same id again, or resolve
//! it, or walk away. Once all faults are over, whoever is unsure of an id resolves it until he knows.
//!
//! Relies on nothing but what a client may know: answers, and hints to the leader.

pub(crate) mod consumers;
mod deliveries;
mod jobs;
mod talk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_protocol::Kind;

use self::consumers::Consumers;
pub(crate) use self::consumers::Turn;
pub(crate) use self::talk::Steer;
use crate::plan::Plan;
use crate::random::Random;
use sluice_judges::history::{Ask, CallId};

/// One request of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    /// How long the client waits before it, microseconds.
    pub(crate) after_us: u64,
    pub(crate) ask: Ask,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) begins_us: u64,
    client: usize,
    stages: VecDeque<Stage>,
    /// Jobs whose first request goes in the same frame.
    flock: Vec<usize>,
    attempt: u8,
    tries: u32,
    /// The frame that is waited for.
    flying: Option<u64>,
    /// The client walked away, not knowing.
    is_unsure: bool,
}

impl Job {
    fn new(client: usize, begins_us: u64, stages: VecDeque<Stage>) -> Self {
        let (flock, flying) = (Vec::new(), None);
        Self { begins_us, client, stages, flock, attempt: 0, tries: 0, flying, is_unsure: false }
    }
}

/// A frame that was sent.
#[derive(Debug)]
struct Frame {
    client: usize,
    node: u64,
    calls: Vec<CallId>,
    jobs: Vec<usize>,
    is_given_up: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Workload {
    random: Random,
    pub(crate) jobs: Vec<Job>,
    /// Where each client believes the leader to be.
    targets: Vec<u64>,
    frames: BTreeMap<u64, Frame>,
    correlation: u64,
    /// Ids of which some client did not know, at some time, what became of a request.
    doubted: BTreeSet<u128>,
    is_healed: bool,
    /// From which job on they are probes, and how often one had to ask again.
    probes_from: usize,
    pub(crate) probes_again: usize,
    /// Few calls, so few tries.
    tries_max: u32,
    pub(crate) consumers: Consumers,
}

/// What kind of frame an item travels in.
pub(crate) fn kind(ask: &Ask) -> Kind {
    match ask {
        Ask::Reserve(_) => Kind::Reserve,
        Ask::Confirm(_) => Kind::Confirm,
        Ask::Cancel(_) => Kind::Cancel,
        Ask::Resolve(_) => Kind::Resolve,
        Ask::Put(_) => Kind::PutProduct,
        Ask::Restock(_) => Kind::Restock,
        Ask::WriteOff(_) => Kind::WriteOff,
        Ask::Seal(_) => Kind::Seal,
        Ask::QueryReservation(_) => Kind::QueryReservation,
        Ask::QueryProduct(_) => Kind::QueryProduct,
        Ask::List(_) => Kind::ListProducts,
        Ask::Consume(_) => unreachable!("no job asks anything of a group"),
    }
}

impl Workload {
    /// The jobs of a run; faults begin at these times.
    pub(crate) fn new(plan: &Plan, fault_times_us: &[u64]) -> Self {
        Self {
            random: plan.random("workload", 0),
            jobs: jobs::draw(plan, fault_times_us),
            targets: vec![1; plan.clients],
            frames: BTreeMap::new(),
            correlation: 0,
            doubted: BTreeSet::new(),
            is_healed: false,
            probes_from: usize::MAX,
            probes_again: 0,
            consumers: Consumers::new(plan),
            tries_max: if plan.mode == crate::plan::Mode::Small { 3 } else { 10 },
        }
    }

    /// Whether every client knows what became of everything.
    pub(crate) fn is_done(&self) -> bool {
        self.jobs.iter().all(|job| job.stages.is_empty() && !job.is_unsure)
    }

    /// Jobs that are not done, for people.
    pub(crate) fn undone(&self) -> Vec<String> {
        let open = self.jobs.iter().enumerate().filter(|(_, job)| !job.stages.is_empty() || job.is_unsure);
        open.map(|(number, job)| format!("job {number}: {:?}", job.stages.front())).take(2).collect()
    }

    /// Whether the client waits for any reply.
    pub(crate) fn is_loaded(&self) -> bool {
        self.frames.values().any(|frame| !frame.is_given_up)
    }
}
