//! The bug bank: known bugs are switched on, one at a time, and the check that is to find each must fail.
//!
//! A check that no mistake has tripped is not trusted. The list of bugs is the program's own (`sluice_core::fault`); here
//! stands which check finds which. A bug without a check fails, and so does a check that fails without its bug.
//! Cargo builds the tests that are named here with the feature `failpoints`; each then runs alone, with SLUICE_MUTANTS.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use sluice_core::fault::MUTANTS;

/// Checks that run at a time. They wait for disks and clients more than they compute.
const AT_A_TIME: usize = 4;

/// Who finds a bug.
enum Finder {
    /// This test of this target.
    Test(&'static str, &'static str),
    /// The judges of a real cluster: this test of `judged_history` or `judged_faults`, for what this checker says.
    Judges(&'static str, &'static str, &'static str),
    /// The simulator: `sluice-sim bugs` fails if it does not.
    Simulator,
    /// Nobody here, and why.
    Nobody(&'static str),
}

use Finder::{Judges, Nobody, Simulator, Test};

/// A sale that is judged.
const SALE: &str = "what_is_changed_in_the_history_of_a_sale_is_found";

/// Each mutant and its finder.
const BANK: &[(&str, Finder)] = &[
    ("answer_at_append", Test("node", "nothing_is_answered_before_its_own_sync_has_returned")),
    ("report_before_write", Test("failpoints", "nothing_is_held_while_the_log_cannot_be_synced")),
    (
        "report_before_write",
        Test("failpoints", "a_death_while_the_log_is_written_loses_and_contradicts_nothing"),
    ),
    ("fence_never_written", Test("wal_store", "the_fence_lags_by_no_more_than_its_limit")),
    ("fence_not_checked", Test("wal_damage", "an_older_log_under_a_newer_fence_is_lost")),
    ("leftovers_opened", Test("wal_damage", "what_sled_left_unfinished_does_not_keep_it_from_opening")),
    ("settings_unchecked", Test("wal_damage", "files_that_are_missing_or_older")),
    ("refuse_before_sweep", Test("ledger_bugs", "a_unit_that_nobody_confirms_is_not_stranded")),
    ("token_kept", Test("node", "a_request_that_waits_for_units_in_flight_is_not_refused_on_their_account")),
    ("token_not_debited", Test("node", "a_retry_that_took_a_unit_without_a_token_leaves_none_behind")),
    ("retry_off_the_log", Test("node", "a_retry_is_decided_in_the_log_and_its_refusal_stands")),
    (
        "index_before_notices",
        Test("publication", "whoever_loads_the_applied_index_finds_every_notice_up_to_it"),
    ),
    (
        "gate_says_no",
        Test("node", "a_request_that_waits_for_units_in_flight_is_not_refused_on_their_account"),
    ),
    ("limit_not_given_back", Test("ledger_bugs", "the_limit_does_not_outlive_a_cancelled_or_expired_order")),
    (
        "compact_to_newest",
        Test("serve", "a_newest_snapshot_that_rots_after_a_restart_is_replaced_by_the_older_one_and_the_log"),
    ),
    (
        "conflict_unnoticed",
        Test("node", "a_duplicate_first_attempt_is_told_its_outcome_even_when_nothing_is_left"),
    ),
    ("held_until_swept", Test("ledger_scripts", "cancel::at_the_deadline_finds_it_expired")),
    (
        "expiry_not_settled",
        Test("ledger_bugs", "a_payment_that_was_refused_buys_nothing_when_it_is_delivered_again"),
    ),
    ("no_tombstone", Test("node", "what_was_synced_but_not_answered_may_stand_and_a_resolve_tells")),
    ("term_unchecked", Test("ledger_bounds", "an_entry_of_another_term_moves_only_the_index")),
    ("refusal_forgotten", Test("node", "a_retry_is_decided_in_the_log_and_its_refusal_stands")),
    ("restock_forgotten", Test("ledger_bugs", "stock_that_was_added_is_not_added_again_by_a_retry")),
    (
        "known_id_forgotten",
        Test("node", "a_duplicate_first_attempt_is_told_its_outcome_even_when_nothing_is_left"),
    ),
    ("stripes_not_swept", Test("node", "time_alone_expires_holds_and_their_units_sell_again")),
    ("time_falls", Test("ledger_admin_scripts", "time::never_falls")),
    ("time_jumps", Test("ledger_admin_scripts", "time::advances_boundedly")),
    ("answer_before_publish", Test("node", "sold_out_is_answered_without_the_log")),
    ("identity_first", Test("failpoints", "a_death_while_a_directory_is_made_leaves_one_that_can_be_used")),
    (
        "report_before_write",
        Judges("judged_faults", "what_no_disk_has_written_is_told_to_nobody", "finality"),
    ),
    (
        "no_without_round",
        Judges("judged_faults", "a_leader_that_was_cut_off_in_its_sleep_says_no_old_no", "linearizability"),
    ),
    (
        "follower_read_unasked",
        Judges("judged_faults", "a_follower_that_was_cut_off_reads_nothing_old", "linearizability"),
    ),
    ("gate_says_no", Judges("judged_history", SALE, "linearizability")),
    ("limit_not_given_back", Judges("judged_history", SALE, "linearizability")),
    ("retry_off_the_log", Judges("judged_history", SALE, "outcome")),
    ("no_without_round", Simulator),
    ("round_reused", Simulator),
    ("acknowledge_before_sync", Simulator),
    ("vote_forgotten", Simulator),
    ("gate_before_no_op", Simulator),
    ("index_without_term", Simulator),
    ("proposed_refused", Simulator),
    ("ids_not_in_snapshot", Simulator),
    ("confirmed_expires", Simulator),
    ("quarantine_skipped", Simulator),
    ("wiped_disk_accepted", Simulator),
    ("lost_state_accepted", Simulator),
    ("removed_accepted", Simulator),
    ("disk_failure_ignored", Simulator),
    ("state_diverges", Simulator),
    ("follower_read_unasked", Simulator),
    ("ask_joins_started_round", Simulator),
    ("suspect_taken_for_read", Simulator),
    ("cursor_goes_back", Test("ledger_group_scripts", "ack::never_moves_a_cursor_back")),
    (
        "stale_epoch_accepted",
        Test("ledger_group_scripts", "seek::makes_what_was_delivered_before_count_no_more"),
    ),
    (
        "stale_epoch_accepted",
        Test("ledger_group_scripts", "ack::of_a_lane_that_was_anothers_meanwhile_does_not_count"),
    ),
    ("two_owners", Test("ledger_group_scripts", "members::never_have_a_lane_in_common")),
    ("letter_lost", Test("ledger_group_scripts", "letters::that_fail_again_are_parked_again")),
    (
        "letter_lost",
        Test(
            "ledger_group_bounds",
            "a_delivery_for_which_there_is_no_more_room_is_tried_again_and_never_lost",
        ),
    ),
    (
        "queueing_remembered",
        Test("ledger_group_scripts", "queueing::is_told_while_a_group_that_is_required_is_behind"),
    ),
    ("gap_hidden", Test("stream", "what_is_kept_no_more_is_told_and_exactly")),
    ("gap_hidden", Simulator),
    ("cursor_before_effect", Simulator),
    ("event_passed_over", Simulator),
    ("floor_ignored", Simulator),
    ("cold_block_mistaken", Simulator),
    ("events_not_cut", Simulator),
    ("events_cut_short", Simulator),
    ("directory_not_synced", Nobody("a kill leaves the page cache as it is; only a power cut shows it")),
];

/// Where a test binary is, and the package it runs in.
struct Target {
    binary: PathBuf,
    package: PathBuf,
}

/// Has cargo build the targets, as this one was built.
fn build(targets: &BTreeSet<&str>) -> BTreeMap<String, Target> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--features", "sluice-engine/failpoints", "--no-run"]);
    cargo.args(["--message-format", "json"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for target in targets {
        cargo.args(["--test", target]);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let built = lines.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        let binary = PathBuf::from(message["executable"].as_str()?);
        let package = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        Some((message["target"]["name"].as_str()?.to_owned(), Target { binary, package }))
    });
    built.collect()
}

/// Runs one test with a bug, or without any. The short way if without: elsewhere the test runs in full.
fn run(target: &Target, test: &str, mutant: Option<&str>) -> Output {
    let mut command = Command::new(&target.binary);
    command.args(["--exact", test]).current_dir(&target.package);
    match mutant {
        Some(mutant) => command.env("SLUICE_MUTANTS", mutant),
        None => command.env_remove("SLUICE_MUTANTS").env("SLUICE_FAIL_ROUNDS", "1"),
    };
    command.output().unwrap()
}

/// What a test binary said, for whoever looks for the reason.
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}\n{err}")
}

/// A row of the bank that names a test: the mutant, the target, the test, and a checker that must be named.
type Row = (&'static str, &'static str, &'static str, Option<&'static str>);

/// What is wrong with a row of the bank.
fn try_out((mutant, _, test, checker): Row, target: &Target) -> Option<String> {
    let without = said(&run(target, test, None));
    if !without.contains("1 passed") {
        return Some(format!("{test} fails without {mutant}, or is not there:\n{without}"));
    }
    let with = run(target, test, Some(mutant));
    let named = checker.is_none_or(|checker| said(&with).contains(&format!("\njudges: {checker}: ")));
    let found = named && said(&with).contains(&format!("test {test} ... FAILED"));
    (!found).then(|| format!("{test} does not find {mutant}: {}\n{}", with.status, said(&with)))
}

#[test]
fn every_known_bug_is_found_by_its_check() {
    let named: BTreeSet<&str> = BANK.iter().map(|(mutant, _)| *mutant).collect();
    let known: BTreeSet<&str> = MUTANTS.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(named, known, "each mutant has a finder, and each finder a mutant");
    let tests = BANK.iter().filter_map(|(mutant, finder)| match finder {
        Test(target, test) => Some((*mutant, *target, *test, None)),
        Judges(target, test, checker) => Some((*mutant, *target, *test, Some(*checker))),
        Simulator => None,
        Nobody(why) => {
            eprintln!("{mutant}: not found here: {why}");
            None
        }
    });
    let tests: Vec<Row> = tests.collect();
    let targets = build(&tests.iter().map(|(_, target, ..)| *target).collect());
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(row) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let complaint = try_out(*row, &targets[row.1]);
                    complaints.lock().unwrap().extend(complaint);
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
