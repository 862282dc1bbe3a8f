//! The history of a real cluster, tampered with: a judge who does not see that is not trusted with those that were not.
//!
//! One sale on three nodes is recorded and must pass. Then one thing at a time is changed in a copy: an answer, the order of
//! things, the log, a snapshot; and the judge of that must find it. In builds with known bugs, `bug_bank` has
//! this sale and the scenes of `judged_faults` run with some of them.
//!
//! One judge is not shown anything here: `conservation`. A snapshot in which stock does not add up is not even loaded.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use sluice_engine::audit::Promise;
use sluice_judges::history::{Ask, Call, CallId, Reply};
use sluice_judges::recorded::{Event, Evidence};
use sluice_protocol::{Answer, State, Status};

use self::rig::court::judge;
use self::rig::{ClusterRig, run, seed};

/// Answers of the sale.
const ANSWERS: usize = 5_000;

const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1GiB"];

/// What is sold: stock, limit, hold time. There is enough of what has a limit, and too little of what has none.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 100_000, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// By their numbers in [`PRODUCTS`].
const LIMITED: u64 = 1;
const SCARCE: u64 = 2;
const LASTING: u64 = 3;

/// A change, who must find it, and how it is made.
type Tampering = (&'static str, &'static str, fn(&mut Evidence));

const TAMPERINGS: &[Tampering] = &[
    ("a refusal tells of one unit more", "linearizability", one_free_unit_more),
    ("a refusal is said later than it was true", "linearizability", a_refusal_comes_late),
    ("an acknowledged entry is lost", "finality", an_entry_is_lost),
    ("an entry is there twice", "finality", an_entry_is_there_twice),
    ("what was confirmed is said to be cancelled", "outcome", a_second_outcome),
    ("refused ids are said to be held", "existence", ids_from_nowhere),
    ("holds are to last longer", "time", longer_holds),
    ("everybody is said to have bought what is scarce", "oversell", all_bought_of_the_scarce),
    ("everybody is said to have bought beyond the limit", "limits", all_bought_beyond_the_limit),
    ("one node's snapshot lacks an entry", "replicas", an_image_lacks_an_entry),
    ("one node's log has another entry", "raft", another_entry),
];

#[test]
fn what_is_changed_in_the_history_of_a_sale_is_found() {
    run(async {
        let mut rig = ClusterRig::judged(seed(), &FLAGS, &[]).await;
        let load = rig.under_load(&PRODUCTS).await;
        rig.wait("answers", load.crowd.answers(ANSWERS)).await;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        // Nobody but the judges says what is wrong with it.
        rig.read_all(&account).await;
        rig.caught_up().await;
        let evidence = rig.stop_for_evidence().await;
        judge(&evidence, || rig.words());
        for (what, judge, tamper) in TAMPERINGS {
            let mut tampered = evidence.clone();
            tamper(&mut tampered);
            let verdict = tampered.judge().unwrap_or_else(|why| panic!("{what}: {why}"));
            let found = verdict.violations.iter().find(|violation| violation.checker == *judge);
            let found = found.unwrap_or_else(|| panic!("{what}: {judge} finds nothing: {verdict:?}"));
            eprintln!("{what}: {found}");
        }
    });
}

/// The calls of a history, in the order in which they were sent.
fn calls(evidence: &Evidence) -> Vec<Call> {
    let sent = evidence.events.iter().filter_map(|event| match event {
        Event::Sent(call) => Some(call.clone()),
        Event::Heard(..) => None,
    });
    sent.collect()
}

/// Changes the first plain answer for which there is another one.
fn change_one(evidence: &mut Evidence, change: impl Fn(&Ask, &Answer) -> Option<Answer>) {
    assert!(change_some(evidence, 1, change), "there is no such answer");
}

/// Changes plain answers, so many at most. Whether there was one.
fn change_some(
    evidence: &mut Evidence,
    mut most: usize,
    change: impl Fn(&Ask, &Answer) -> Option<Answer>,
) -> bool {
    let (calls, before) = (calls(evidence), most);
    for event in &mut evidence.events {
        if most > 0
            && let Event::Heard(id, _, Reply::Plain(answer)) = event
            && let Some(other) = change(&calls[id.0 as usize].ask, answer)
        {
            *answer = other;
            most -= 1;
        }
    }
    most < before
}

fn one_free_unit_more(evidence: &mut Evidence) {
    change_one(evidence, |_, answer| {
        let more =
            Answer::insufficient(answer.at(), answer.free() + 1, answer.held(), answer.earliest_return_ms());
        (answer.status() == Some(Status::Insufficient)).then_some(more)
    });
}

fn a_refusal_comes_late(evidence: &mut Evidence) {
    let calls = calls(evidence);
    let refusal = evidence.events.iter().find_map(|event| match event {
        Event::Heard(id, _, Reply::Plain(answer)) if answer.status() == Some(Status::Insufficient) => {
            calls[id.0 as usize].ask.may_pass_the_log_by().then_some(*id)
        }
        _ => None,
    });
    let refusal = refusal.expect("somebody was refused");
    let last = CallId(calls.len() as u32 - 1);
    let (mut sent, mut reply) = (0, None);
    evidence.events.retain_mut(|event| match event {
        Event::Sent(_) => {
            sent += 1;
            sent != refusal.0 + 1
        }
        Event::Heard(id, at_us, heard) if *id == refusal => {
            reply = Some((*at_us, heard.clone()));
            false
        }
        // Whoever was sent behind it has moved up.
        Event::Heard(id, ..) => {
            id.0 -= u32::from(*id > refusal);
            true
        }
    });
    let (at_us, reply) = reply.expect("it was heard");
    evidence.events.push(Event::Sent(calls[refusal.0 as usize].clone()));
    evidence.events.push(Event::Heard(last, at_us, reply));
}

fn a_second_outcome(evidence: &mut Evidence) {
    change_one(evidence, |_, answer| {
        let other = Answer::cancelled(answer.at(), answer.sequence());
        (answer.status() == Some(Status::Confirmed)).then_some(other)
    });
}

fn ids_from_nowhere(evidence: &mut Evidence) {
    // The log has refused some of them itself, and knows those.
    let changed = change_some(evidence, usize::MAX, |ask, answer| {
        let is_refused = answer.status() == Some(Status::Insufficient) && ask.may_pass_the_log_by();
        is_refused.then(|| Answer::reserved(answer.at(), 1, answer.at().time_ms + 200))
    });
    assert!(changed, "nobody was refused");
}

fn longer_holds(evidence: &mut Evidence) {
    // Of those that lasted, the audit heard when they end.
    let changed = change_some(evidence, usize::MAX, |ask, answer| {
        let is_held = answer.status() == Some(Status::Reserved) && ask.product() == Some(LASTING);
        is_held.then(|| Answer::reserved(answer.at(), answer.sequence(), answer.deadline_ms() + 1))
    });
    assert!(changed, "nobody held anything");
}

fn all_bought(evidence: &mut Evidence, product: u64, status: Status) {
    let changed = change_some(evidence, usize::MAX, |ask, answer| {
        let is_meant = ask.product() == Some(product) && answer.status() == Some(status);
        is_meant.then(|| Answer::already(answer.at(), State::Confirmed, 1, 0))
    });
    assert!(changed, "nobody heard {status:?}");
}

fn all_bought_of_the_scarce(evidence: &mut Evidence) {
    all_bought(evidence, SCARCE, Status::Insufficient);
}

fn all_bought_beyond_the_limit(evidence: &mut Evidence) {
    all_bought(evidence, LIMITED, Status::LimitReached);
    all_bought(evidence, LIMITED, Status::Reserved);
}

/// The image that a log makes.
fn image(evidence: &Evidence, log: &[LogEntry], index: u64) -> Vec<Vec<u8>> {
    let first = evidence.images[0].sections.iter().map(Vec::as_slice);
    let settings = Ledger::from_sections(first, 0, 1).unwrap().settings();
    let mut ledger = Ledger::new(settings, 1);
    for entry in log.iter().filter(|entry| entry.index <= index) {
        let data: &[u8] = if entry.kind == EntryKind::Membership { &[] } else { &entry.data };
        ledger.apply(entry.index, entry.term, data, &mut Ignore).unwrap();
    }
    ledger.freeze().sections().collect()
}

/// Has every node have this log, and the snapshots that it makes.
fn rewrite(evidence: &mut Evidence, log: &[LogEntry]) {
    let end = log.len() as u64;
    for found in evidence.logs.iter_mut().filter(|found| found.last) {
        (found.entries, found.applied) = (log.to_vec(), end);
    }
    for at in 0..evidence.images.len() {
        let index = match evidence.images[at].index {
            0 => 0,
            index => index.max(end),
        };
        let sections = image(evidence, log, index);
        (evidence.images[at].index, evidence.images[at].sections) = (index, sections);
    }
}

/// An index at which units were taken from what is not scarce and not asked for twice.
fn index_of_a_hold(evidence: &Evidence) -> u64 {
    let calls = calls(evidence);
    let held = evidence.events.iter().find_map(|event| match event {
        Event::Heard(id, _, Reply::Plain(answer)) if answer.status() == Some(Status::Reserved) => {
            let is_meant = calls[id.0 as usize].ask.product() == Some(LASTING);
            is_meant.then(|| answer.at().index)
        }
        _ => None,
    });
    held.expect("somebody holds something")
}

/// The same entry with nothing in it.
fn empty(entry: &LogEntry) -> LogEntry {
    LogEntry { data: Vec::new().into(), ..entry.clone() }
}

fn an_entry_is_lost(evidence: &mut Evidence) {
    let (mut log, at) = (evidence.committed().unwrap(), index_of_a_hold(evidence) as usize - 1);
    log[at] = empty(&log[at]);
    rewrite(evidence, &log);
}

fn an_entry_is_there_twice(evidence: &mut Evidence) {
    let (mut log, at) = (evidence.committed().unwrap(), index_of_a_hold(evidence) as usize - 1);
    let index = log.len() as u64 + 1;
    log.push(LogEntry { index, ..log[at].clone() });
    rewrite(evidence, &log);
}

fn an_image_lacks_an_entry(evidence: &mut Evidence) {
    let (mut log, at) = (evidence.committed().unwrap(), index_of_a_hold(evidence) as usize - 1);
    log[at] = empty(&log[at]);
    let newest = (0..evidence.images.len()).max_by_key(|at| evidence.images[*at].index).unwrap();
    evidence.images[newest].sections = image(evidence, &log, evidence.images[newest].index);
}

fn another_entry(evidence: &mut Evidence) {
    let index = index_of_a_hold(evidence);
    let log = evidence.logs.last_mut().unwrap();
    let entry = log.entries.iter_mut().find(|entry| entry.index == index).unwrap();
    *entry = empty(entry);
}
