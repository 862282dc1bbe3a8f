//! Three real processes, killed at random under load, one, two or all at a time; then every answer they ever gave is
//! checked, on each of them, and judged as the simulator's runs are.
//!
//! `kill` does this to a node alone. Here others lead on, and what one of them said must be true on all.
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does. SLUICE_KILL_CYCLES asks for more
//! kills: each so many are done to a new cluster, so that an hour of them takes no more room than a minute.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::rc::Rc;
use std::time::Instant;

use sluice_engine::audit::{Account, Promise};

use self::rig::{ClusterRig, Dice, run, seed};

/// Times that nodes are killed, unless SLUICE_KILL_CYCLES says otherwise.
const CYCLES: u64 = 50;

/// Kills of one cluster. The next are done to a new one.
const CYCLES_OF_A_CLUSTER: u64 = 50;

/// Kills in one sale, which is audited at its end.
const CYCLES_OF_A_SALE: u64 = 5;

/// Answers between kills, at most.
const ANSWERS_MAX: u64 = 3_000;

/// Answers until one that is dead is started again, at most.
const ANSWERS_DEAD_MAX: u64 = 1_500;

/// As small as it may be, so that kills meet snapshots, and whoever was dead for a while needs one.
const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// The node that the others joined.
const FOUNDER: u64 = 1;

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// What has happened so far.
#[derive(Debug, Default)]
struct Tally {
    cycles: u64,
    /// Of these, how many lost two nodes at once, and all three.
    of_two: u64,
    of_all: u64,
    leaders: u64,
    answers: usize,
    refusals: usize,
    compared: usize,
}

#[test]
fn what_any_leader_answered_before_kills_is_true_on_every_node_after_them() {
    let cycles = env::var("SLUICE_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.parse().unwrap());
    let dice = Dice::new(seed());
    let (mut tally, begun) = (Tally::default(), Instant::now());
    while tally.cycles < cycles {
        let more = CYCLES_OF_A_CLUSTER.min(cycles - tally.cycles);
        run(kill_one_cluster(dice.next(), more, &mut tally));
        eprintln!("{} s: {tally:?}", begun.elapsed().as_secs());
    }
    assert!(tally.refusals > 0, "no refusal was checked");
    assert!(cycles < CYCLES || tally.of_two > 0 && tally.of_all > 0 && tally.leaders > cycles / 3);
    assert!(cycles < CYCLES || tally.compared > 0, "no two nodes had a snapshot of one index");
}

async fn kill_one_cluster(seed: u64, cycles: u64, tally: &mut Tally) {
    let mut killer = Killer { rig: ClusterRig::judged(seed, &FLAGS, &[]).await, dead: BTreeSet::new() };
    // It alone has the beginning of the log, and the judges see a log only of a node that does not run.
    killer.rig.kill(FOUNDER);
    killer.rig.start_again(FOUNDER).await;
    let mut accounts: Vec<Rc<RefCell<Account>>> = Vec::new();
    let mut done = 0;
    while done < cycles {
        let load = killer.rig.under_load(&PRODUCTS).await;
        let in_this_sale = CYCLES_OF_A_SALE.min(cycles - done);
        for _ in 0..in_this_sale {
            let answers = load.crowd.answers(1 + killer.rig.dice.below(ANSWERS_MAX) as usize);
            killer.rig.wait("answers while a majority lives", answers).await;
            killer.kill(tally).await;
            killer.raise(&load.crowd).await;
        }
        done += in_this_sale;
        let account = match killer.rig.dice.below(2) {
            0 => killer.rig.wait("everybody to be answered", load.finish()).await,
            _ => killer.rig.cut_off(load).await,
        };
        let findings = killer.rig.audit(&account).await;
        tally.answers += findings.answers;
        tally.refusals += findings.refusals;
        accounts.push(account);
    }
    killer.raise_all();
    let mut rig = killer.rig;
    rig.audit_everywhere(&accounts).await;
    tally.compared += rig.stop_and_compare().await;
}

/// Who kills and raises the dead.
struct Killer {
    rig: ClusterRig,
    dead: BTreeSet<u64>,
}

impl Killer {
    /// Kills one, two, or all that live: mostly the leader, or it and others.
    async fn kill(&mut self, tally: &mut Tally) {
        let leader = self.rig.cluster.leader_now().await;
        let mut living: Vec<u64> = self.rig.cluster.ids().filter(|id| !self.dead.contains(id)).collect();
        let wants_leader = self.rig.dice.below(100) < 60;
        living.sort_by_key(|id| (wants_leader && leader != Some(*id), self.rig.dice.next()));
        let victims = match self.rig.dice.below(100) {
            0..70 => 1,
            70..85 => 2,
            _ => 3,
        };
        living.truncate(victims);
        for id in &living {
            self.rig.kill(*id);
        }
        tally.cycles += 1;
        tally.leaders += u64::from(leader.is_some_and(|leader| living.contains(&leader)));
        self.dead.extend(living);
        tally.of_two += u64::from(self.dead.len() == 2);
        tally.of_all += u64::from(self.dead.len() == 3);
    }

    /// Starts nodes again: at once if nobody could lead without them; the last one at once, later, or in another cycle.
    async fn raise(&mut self, crowd: &rig::Crowd) {
        while self.dead.len() > 1 {
            self.raise_one();
        }
        match self.rig.dice.below(3) {
            0 => {}
            1 => {
                let answers = crowd.answers(1 + self.rig.dice.below(ANSWERS_DEAD_MAX) as usize);
                self.rig.wait("answers of two nodes", answers).await;
                self.raise_all();
            }
            _ => self.raise_all(),
        }
    }

    fn raise_one(&mut self) {
        let nth = self.rig.dice.below(self.dead.len().max(1) as u64) as usize;
        if let Some(id) = self.dead.iter().copied().nth(nth) {
            self.dead.remove(&id);
            self.rig.start_only(id);
        }
    }

    fn raise_all(&mut self) {
        while !self.dead.is_empty() {
            self.raise_one();
        }
    }
}
