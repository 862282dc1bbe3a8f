//! What goes wrong, when, and for how long: a schedule drawn from the seed before the run, so that steps can be left out
//! one by one without changing the others.
//!
//! Whom a step hits is decided when it happens. A step that would take more from a cluster than a run allows does not
//! happen. Deliberately not here: how each is done (`world::faults`).

use sluice_core::replica::TICK_MS;

use crate::net::Condition;
use crate::plan::{Mode, Plan};
use crate::random::Random;

/// Whom a step hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads when it happens; if nobody does, a voter.
    Leader,
    /// The voter of this number, counted around.
    Voter(u64),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, and is started again in the end.
    Crash(Who),
    /// So many processes die at once.
    CrashMany(u64),
    /// The process is stopped in order.
    Stop(Who),
    /// All are stopped and started, one after the other.
    Rolling,
    /// The process stands still.
    Pause(Who),
    /// The leader stands still until another is elected, and hears later than that what it was sent before.
    Stale,
    /// The process makes so many ticks at once.
    Ticks(Who, u64),
    /// So many hosts are cut off from the others.
    Partition(Who, u64),
    /// A host hears nobody (or nobody hears it).
    OneWay(Who, bool),
    /// A host is cut off and not, in turns of so many milliseconds.
    Flap(Who, u64),
    /// The network between hosts is like this.
    Net(Condition),
    /// The links of one host are.
    Link(Who, Condition),
    /// The network between clients and hosts is.
    Clients(Condition),
    /// The disk takes so many times as long; a stall, for as long as the step lasts, if 0.
    SlowDisk(Who, u64),
    /// The next write or sync fails.
    DiskError(Who),
    /// The disk is nearly full.
    DiskFull(Who),
    /// Snapshots cannot be saved.
    SnapshotError(Who),
    /// The system's clock is set, by so many milliseconds.
    Jump(Who, i64),
    /// The clock runs so many millionths faster.
    Drift(Who, i64),
    /// A snapshot is asked for.
    Snapshot(Who),
    /// The leadership is handed over.
    Transfer,
    /// Bits flip, and the process is started again.
    Rot(Who, u64),
    /// The disk is wiped, and the process started again.
    Wipe(Who),
    /// The disk is set back to how it was when it was opened so many times ago, and the process started again.
    Rollback(Who),
    /// A second process is started on a copy of the disk.
    Clone(Who),
    /// The disk lies; in the end the process dies, and what was not synced is gone.
    Lie(Who),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins.
    pub at_us: u64,
    /// How long it lasts.
    pub for_us: u64,
    /// What it is.
    pub fault: Fault,
}

/// Steps that one kind of run knows, by weight: crash, crash many, stop, rolling, pause, ticks, partition, one-way, flap, net,
/// link, clients, slow disk, disk error, disk full, snapshot error, jump, drift, snapshot, transfer, rot, wipe, rollback,
/// clone, lie, stale leader.
const LIVENESS: [u64; 26] = [10, 3, 4, 1, 6, 2, 8, 6, 4, 6, 3, 5, 5, 2, 2, 2, 3, 2, 4, 4, 1, 1, 0, 0, 0, 4];
const SAFETY: [u64; 26] = [8, 3, 3, 1, 4, 1, 6, 4, 3, 4, 2, 4, 3, 2, 1, 1, 2, 1, 4, 3, 4, 3, 0, 0, 0, 3];
const BEYOND: [u64; 26] = [8, 3, 3, 1, 4, 1, 6, 4, 3, 4, 2, 4, 3, 2, 1, 1, 2, 1, 4, 3, 2, 2, 5, 4, 5, 2];
const SMALL: [u64; 26] = [10, 2, 2, 0, 6, 1, 8, 4, 4, 4, 2, 4, 3, 1, 0, 0, 1, 1, 2, 4, 0, 0, 0, 0, 0, 8];

const MS_US: u64 = 1000;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// The steps of a run, in the order of their times.
pub fn schedule(plan: &Plan) -> Vec<Step> {
    let weights = match (plan.mode, plan.honest) {
        (Mode::Small, _) => &SMALL,
        (Mode::Safety, true) => &SAFETY,
        (Mode::Safety, false) => &BEYOND,
        _ => &LIVENESS,
    };
    let mut steps: Vec<Step> = (0..plan.steps)
        .map(|number| {
            let mut random = plan.random("nemesis", number as u64);
            let at_us = random.below(plan.span_us);
            let longest_us = (plan.span_us / 4).clamp(500 * MS_US, 60_000 * MS_US);
            let for_us = random.spread(20 * MS_US, longest_us);
            let fault = draw(&mut random, weights);
            // Long enough for an election, not so long that the leader would have noticed before.
            let for_us =
                if fault == Fault::Stale { random.between(15, 50) * TICK_MS * MS_US } else { for_us };
            Step { at_us, for_us, fault }
        })
        .collect();
    steps.sort_by_key(|step| step.at_us);
    if let Some(kept) = &plan.cut.steps {
        for (number, step) in steps.iter_mut().enumerate() {
            if !kept.contains(&number) {
                step.at_us = u64::MAX;
            }
        }
    }
    steps
}

fn who(random: &mut Random) -> Who {
    if random.chance(2, 5) { Who::Leader } else { Who::Voter(random.below(60)) }
}

fn draw(random: &mut Random, weights: &[u64; 26]) -> Fault {
    match random.weighted(weights) {
        0 => Fault::Crash(who(random)),
        1 => Fault::CrashMany(random.between(2, 5)),
        2 => Fault::Stop(who(random)),
        3 => Fault::Rolling,
        4 => Fault::Pause(who(random)),
        5 => Fault::Ticks(who(random), random.between(2, 40)),
        6 => Fault::Partition(who(random), random.between(1, 2)),
        7 => Fault::OneWay(who(random), random.chance(1, 2)),
        8 => Fault::Flap(who(random), random.spread(20, 3000)),
        9 => Fault::Net(condition(random, true)),
        10 => {
            let bytes_per_s = random.spread(2_000, 500_000);
            Fault::Link(who(random), Condition { bytes_per_s, ..Condition::CALM })
        }
        11 => Fault::Clients(condition(random, false)),
        12 => Fault::SlowDisk(who(random), random.below(4) * random.spread(2, 2000)),
        13 => Fault::DiskError(who(random)),
        14 => Fault::DiskFull(who(random)),
        15 => Fault::SnapshotError(who(random)),
        16 => {
            let by_ms = random.spread(1, DAY_MS) as i64;
            Fault::Jump(who(random), if random.chance(1, 2) { by_ms } else { -by_ms })
        }
        17 => Fault::Drift(who(random), random.between(0, 200_000) as i64 - 100_000),
        18 => Fault::Snapshot(who(random)),
        19 => Fault::Transfer,
        20 => Fault::Rot(who(random), random.below(8)),
        21 => Fault::Wipe(who(random)),
        22 => Fault::Rollback(who(random)),
        23 => Fault::Clone(who(random)),
        24 => Fault::Lie(who(random)),
        _ => Fault::Stale,
    }
}

/// A network in disorder. Clients' connections keep their order and repeat nothing.
fn condition(random: &mut Random, peers: bool) -> Condition {
    let slow_us = random.spread(100, 300_000);
    Condition {
        loss: random.below(2) * random.spread(10, 4000),
        duplication: if peers { random.below(2) * random.spread(10, 3000) } else { 0 },
        delay_us: (slow_us / 4 + 1, slow_us),
        straying: random.below(2) * random.spread(10, 2000),
        stray_us: (slow_us, random.spread(slow_us, 120_000_000)),
        bytes_per_s: 0,
    }
}
