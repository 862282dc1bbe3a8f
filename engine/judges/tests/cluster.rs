//! What nodes do: disks, elections, applies, snapshots, gates. What must pass, and each kind of failure that must not.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod by_hand;

use by_hand::run::{NODES, Run, TERMS, entry_of, found, group, reserve};
use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{Append, HardState, LogEntry, Members};
use sluice_judges::checkers::{Checkers, Kept, Setup, Spoke};
use sluice_judges::history::Ask;
use sluice_protocol::request::PutProductItem;
use sluice_protocol::{Answer, ProductId};

fn put(product: u64, stock: u64) -> sluice_core::ledger::command::Group {
    group(&Ask::Put(PutProductItem::new(ProductId(product), Some(stock), TERMS)))
}

fn append(term: u64, vote: u64, entries: &[LogEntry]) -> Append {
    let hard_state = Some(HardState { term, vote, commit: 0 });
    Append { hard_state, entries: entries.to_vec(), compact_to: 0, reset: None }
}

#[test]
fn two_leaders_in_a_term_are_found() {
    let mut run = Run::new();
    run.checkers.became_leader(1, 1).unwrap();
    run.checkers.durable(3, &append(2, 2, &[])).unwrap();
    run.checkers.became_leader(2, 2).unwrap();
    found(run.checkers.became_leader(3, 2), "raft");
}

#[test]
fn a_leader_without_a_quorum_of_synced_votes_is_found() {
    let mut run = Run::new();
    run.checkers.durable(2, &append(2, 2, &[])).unwrap();
    run.checkers.durable(3, &append(2, 0, &[])).unwrap();
    found(run.checkers.became_leader(2, 2), "raft");
    // That one of those disks was lost since does not undo its vote.
    run.checkers.durable(3, &append(3, 2, &[])).unwrap();
    run.checkers.lost(3, &Kept { hard_state: HardState::default(), snapshot: (0, 0), log: &[] });
    run.checkers.became_leader(2, 3).unwrap();
}

#[test]
fn a_vote_that_is_taken_back_is_found() {
    let mut checkers = Checkers::new(Setup::new(&NODES));
    checkers.durable(2, &append(1, 0, &[])).unwrap();
    checkers.durable(2, &append(1, 1, &[])).unwrap();
    checkers.durable(2, &append(1, 1, &[])).unwrap();
    found(checkers.durable(2, &append(1, 3, &[])), "raft");
    found(checkers.durable(2, &append(1, 0, &[])), "raft");
    found(checkers.durable(2, &append(0, 0, &[])), "raft");
    checkers.durable(2, &append(2, 3, &[])).unwrap();
}

#[test]
fn logs_that_do_not_match_are_found() {
    let mut checkers = Checkers::new(Setup::new(&NODES));
    let (one, other) = (entry_of(1, 1, vec![put(1, 1)]), entry_of(1, 1, vec![put(1, 2)]));
    checkers.durable(1, &append(1, 1, std::slice::from_ref(&one))).unwrap();
    found(checkers.durable(2, &append(1, 1, &[other])), "raft");
    // The same entry upon different ones.
    let third = entry_of(1, 2, vec![]);
    let next = entry_of(2, 3, vec![]);
    checkers.durable(1, &append(3, 1, std::slice::from_ref(&next))).unwrap();
    checkers.durable(3, &append(2, 3, &[third])).unwrap();
    found(checkers.durable(3, &append(3, 1, &[next])), "raft");
    found(checkers.durable(2, &append(3, 1, &[entry_of(9, 3, vec![])])), "raft");
}

#[test]
fn what_is_committed_cannot_be_replaced_cut_or_lacked() {
    let settled = |run: &mut Run| {
        run.put(1, 1, TERMS);
        run.put(2, 1, TERMS);
    };
    let mut run = Run::new();
    settled(&mut run);
    found(run.checkers.durable(2, &append(2, 2, &[entry_of(2, 2, vec![])])), "raft");
    let mut run = Run::new();
    settled(&mut run);
    let first = run.log.entries[0].clone();
    found(run.checkers.durable(2, &append(2, 2, &[first])), "raft");

    // Nor by what was written before, unless it was not there.
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let second = run.log.entry(vec![]);
    let mut second = LogEntry { term: 3, ..second };
    second.data = bytes::Bytes::new();
    for node in &NODES[..2] {
        run.checkers.durable(*node, &append(3, 1, std::slice::from_ref(&second))).unwrap();
    }
    run.lead(&second).unwrap();
    let stale = [entry_of(2, 1, vec![]), entry_of(3, 1, vec![])];
    run.checkers.durable(3, &append(3, 1, &stale)).unwrap();
    run.checkers.durable(3, &append(3, 1, std::slice::from_ref(&second))).unwrap();
    found(run.checkers.durable(3, &append(3, 1, &stale)), "raft");
    found(run.checkers.durable(2, &append(3, 1, &stale)), "raft");

    // A leader of term 2 writes at 2; then an entry of term 1 is applied there.
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let old = run.log.entry(vec![]);
    run.checkers.durable(3, &append(2, 3, &[entry_of(2, 2, vec![])])).unwrap();
    run.durable(1, &old).unwrap();
    run.durable(2, &old).unwrap();
    found(run.lead(&old).map(|_| ()), "raft");
}

#[test]
fn an_entry_that_others_never_applied_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let mut entry = run.log.entry(vec![put(2, 1)]);
    for node in NODES {
        run.durable(node, &entry).unwrap();
    }
    run.lead(&entry).unwrap();
    entry.term = 2;
    found(run.follow(2, &entry), "raft");
}

#[test]
fn an_entry_that_no_quorum_has_synced_is_found() {
    let mut run = Run::new();
    let entry = run.log.entry(vec![put(1, 1)]);
    found(run.lead(&entry).map(|_| ()), "quorum");

    let mut run = Run::new();
    let entry = run.log.entry(vec![put(1, 1)]);
    run.durable(1, &entry).unwrap();
    found(run.lead(&entry).map(|_| ()), "quorum");

    let mut run = Run::new();
    let entry = run.log.entry(vec![put(1, 1)]);
    run.durable(1, &entry).unwrap();
    run.durable(3, &entry).unwrap();
    run.lead(&entry).unwrap();
}

#[test]
fn what_a_quorum_had_synced_counts_although_a_disk_was_lost() {
    let mut run = Run::new();
    let entry = run.log.entry(vec![put(1, 1)]);
    run.durable(1, &entry).unwrap();
    run.durable(2, &entry).unwrap();
    let hard_state = HardState::default();
    run.checkers.lost(2, &Kept { hard_state, snapshot: (0, 0), log: &[] });
    run.lead(&entry).unwrap();
}

#[test]
fn a_quorum_is_one_of_the_voters_of_the_time() {
    let joint = Members { voters: vec![1, 4, 5], outgoing: vec![1, 2, 3], ..Members::default() };
    let five = Members { voters: vec![1, 2, 3, 4, 5], ..Members::default() };
    let holders = |members: &Members, nodes: &[u64]| {
        let mut run = Run::new();
        for _ in 0..4 {
            run.commit(vec![]);
        }
        for index in 2..=4 {
            run.checkers.members(index, members);
        }
        let entry = run.log.entry(vec![]);
        // Nodes that come later hold what came before by a snapshot.
        for node in [4, 5] {
            run.checkers.durable(node, &Append { reset: Some((4, 1)), ..Append::default() }).unwrap();
        }
        for node in nodes {
            run.durable(*node, &entry).unwrap();
        }
        run.lead(&entry).map(|_| ())
    };
    holders(&joint, &[1, 2, 4]).unwrap();
    found(holders(&joint, &[1, 2, 3]), "quorum");
    found(holders(&joint, &[1, 4, 5]), "quorum");
    holders(&five, &[1, 4, 5]).unwrap();
    found(holders(&five, &[1, 2]), "quorum");
}

#[test]
fn an_answer_of_a_node_that_has_not_applied_it_is_found() {
    let mut run = Run::new();
    let ask = Ask::Put(PutProductItem::new(ProductId(1), Some(1), TERMS));
    let call = run.ask(ask);
    let entry = run.log.entry(vec![group(&ask)]);
    for node in NODES {
        run.durable(node, &entry).unwrap();
    }
    run.follow(2, &entry).unwrap();
    let answer = Answer::done(run.others[&2].at(), 2);
    found(run.hear(call, answer), "quorum");
    run.lead(&entry).unwrap();
    run.hear(call, answer).unwrap();
}

#[test]
fn a_replica_that_differs_is_found() {
    // In what an entry changed.
    let mut run = Run::new();
    let entry = run.commit(vec![put(1, 1)]);
    assert_eq!(entry.len(), 1);
    let call = run.log.entry(vec![group(&reserve(1, 1, 7, 1))]);
    for node in NODES {
        run.durable(node, &call).unwrap();
    }
    run.lead(&call).unwrap();
    let other = run.log.entry(vec![group(&reserve(1, 1, 8, 1))]);
    let ledger = run.others.get_mut(&2).unwrap();
    ledger.apply(call.index, call.term, &other.data, &mut Ignore).unwrap();
    found(run.checkers.applied(2, &call, ledger), "replicas");

    // Elsewhere: by its bytes alone.
    let mut run = Run::new();
    run.commit(vec![put(1, 1)]);
    run.commit(vec![put(2, 1)]);
    let mut ledger = Ledger::new(Settings::default(), 9);
    ledger.apply(1, 1, &entry_of(1, 1, vec![put(1, 3)]).data, &mut Ignore).unwrap();
    let second = run.log.entries[1].clone();
    ledger.apply(2, 1, &second.data, &mut Ignore).unwrap();
    run.checkers.started(2);
    found(run.checkers.applied(2, &second, &ledger), "replicas");
}

#[test]
fn an_entry_that_is_left_out_is_found() {
    let mut run = Run::new();
    for entry in [run.log.entry(vec![put(1, 1)])] {
        for node in NODES {
            run.durable(node, &entry).unwrap();
        }
        run.lead(&entry).unwrap();
        run.follow(3, &entry).unwrap();
    }
    let second = run.log.entry(vec![]);
    run.durable(1, &second).unwrap();
    run.durable(3, &second).unwrap();
    run.lead(&second).unwrap();
    let third = run.log.entry(vec![]);
    run.durable(1, &third).unwrap();
    run.durable(3, &third).unwrap();
    run.lead(&third).unwrap();
    found(run.follow(3, &third), "replicas");
}

#[test]
fn a_snapshot_of_something_else_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    let replay = |entries: &[LogEntry]| {
        let mut ledger = Ledger::new(Settings::default(), 9);
        for entry in entries {
            ledger.apply(entry.index, entry.term, &entry.data, &mut Ignore).unwrap();
        }
        ledger
    };
    let whole = replay(&run.log.entries);
    run.checkers.installed(2, 2, &whole).unwrap();
    let mut without = run.log.entries.clone();
    without[1] = entry_of(2, 1, vec![]);
    found(run.checkers.installed(2, 2, &replay(&without)), "replicas");
    without[1] = entry_of(2, 1, vec![group(&reserve(1, 1, 8, 1))]);
    found(run.checkers.installed(2, 2, &replay(&without)), "replicas");
    found(run.checkers.installed(2, 9, &whole), "replicas");
}

#[test]
fn several_entries_applied_at_once_are_looked_at_together() {
    let mut run = Run::new();
    let ask = reserve(1, 1, 7, 1);
    run.ask(Ask::Put(PutProductItem::new(ProductId(1), Some(1), TERMS)));
    run.ask(ask);
    let first = run.log.entry(vec![put(1, 1)]);
    run.log.apply(&first);
    let second = run.log.entry(vec![group(&ask)]);
    run.log.apply(&second);
    for entry in [&first, &second] {
        for node in NODES {
            run.durable(node, entry).unwrap();
        }
    }
    for entry in [&first, &second] {
        run.checkers.applied(1, entry, &run.log.ledger).unwrap();
        run.follow(2, entry).unwrap();
        run.follow(3, entry).unwrap();
    }
    run.quiet().unwrap();
    run.finish().unwrap();
}

#[test]
fn a_node_that_lags_when_all_is_quiet_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let entry = run.log.entry(vec![]);
    for node in NODES {
        run.durable(node, &entry).unwrap();
    }
    run.lead(&entry).unwrap();
    run.follow(2, &entry).unwrap();
    found(run.quiet(), "replicas");
}

#[test]
fn tokens_too_many_and_too_few_are_found() {
    let mut run = Run::new();
    run.put(1, 5, TERMS);
    run.checkers.gate(1, 1, 5, 5).unwrap();
    run.checkers.gate(1, 1, 0, 5).unwrap();
    found(run.checkers.gate(1, 1, 6, 5), "gate");
    run.quiet_with(&[(1, 5)]).unwrap();
    found(run.quiet_with(&[(1, 4)]), "gate");
    found(run.quiet_with(&[(1, 6)]), "gate");
    found(run.quiet_with(&[]), "gate");
    found(run.quiet_with(&[(1, 5), (2, 0)]), "gate");
}

#[test]
fn who_is_stopped_says_nothing() {
    let mut run = Run::new();
    for what in [Spoke::Vote, Spoke::Lead, Spoke::Serve] {
        run.checkers.spoke(2, what).unwrap();
        run.checkers.stopped(2);
        found(run.checkers.spoke(2, what), "exclusion");
        found(run.checkers.became_leader(2, 9), "exclusion");
        run.checkers.started(2);
        run.checkers.spoke(2, what).unwrap();
    }
}

#[test]
fn who_has_forgotten_says_nothing() {
    let entries = [entry_of(1, 1, vec![]), entry_of(2, 1, vec![]), entry_of(3, 1, vec![])];
    let hard_state = HardState { term: 3, vote: 2, commit: 1 };
    let recovers = |kept: &Kept<'_>| {
        let mut run = Run::new();
        run.checkers.durable(2, &append(3, 2, &entries)).unwrap();
        run.checkers.durable(2, &Append { compact_to: 1, ..Append::default() }).unwrap();
        run.checkers.stopped(2);
        run.checkers.lost(2, kept);
        run.checkers.started(2);
        run.checkers.spoke(2, Spoke::Vote)
    };
    let whole = Kept { hard_state, snapshot: (1, 1), log: &entries[1..] };
    recovers(&whole).unwrap();
    recovers(&Kept { snapshot: (3, 1), log: &[], ..whole }).unwrap();
    recovers(&Kept { snapshot: (0, 0), log: &entries, ..whole }).unwrap();
    found(recovers(&Kept { log: &entries[1..2], ..whole }), "exclusion");
    found(recovers(&Kept { log: &[], ..whole }), "exclusion");
    found(recovers(&Kept { snapshot: (0, 0), log: &[], ..whole }), "exclusion");
    let other = [entry_of(2, 1, vec![]), entry_of(3, 2, vec![])];
    found(recovers(&Kept { log: &other, ..whole }), "exclusion");
    let unvoted = HardState { vote: 0, ..hard_state };
    found(recovers(&Kept { hard_state: unvoted, ..whole }), "exclusion");
    let earlier = HardState { term: 2, ..hard_state };
    found(recovers(&Kept { hard_state: earlier, ..whole }), "exclusion");
}

#[test]
fn who_waits_too_long_or_for_ever_is_found() {
    let slow = |healed: bool, ms: u64| {
        let mut run = Run::new();
        run.put(1, 1, TERMS);
        if healed {
            run.checkers.healed(run.now_us);
        }
        let call = run.ask(reserve(1, 1, 7, 1));
        run.pass(ms);
        run.hear(call, Answer::busy(5))
    };
    slow(false, 60_000).unwrap();
    slow(true, 10_000).unwrap();
    found(slow(true, 20_000), "liveness");

    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.checkers.healed(run.now_us);
    run.ask(reserve(1, 1, 7, 1));
    found(run.quiet(), "liveness");
}

#[test]
fn an_id_that_nobody_settles_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.ask(reserve(1, 1, 7, 1));
    run.checkers.healed(run.now_us + 1);
    run.pass(1);
    found(run.quiet(), "liveness");
    run.resolve(1);
    run.quiet().unwrap();
    run.finish().unwrap();
}

#[test]
fn where_disks_lie_only_ledgers_and_gates_are_judged() {
    let mut run = Run::with(Setup { honest: false, ..Setup::new(&NODES) });
    let entry = run.log.entry(vec![put(1, 1)]);
    run.lead(&entry).unwrap();
    let call = run.ask(reserve(1, 1, 7, 1));
    run.hear(call, Answer::sold_out(run.at())).unwrap();
    found(run.checkers.gate(1, 1, 2, 1), "gate");
    run.finish().unwrap();
}
