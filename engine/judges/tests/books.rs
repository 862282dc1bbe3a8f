//! What ledgers keep and what clients add up: stock, limits, time. What must pass, and each kind of failure that must not.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod by_hand;

use by_hand::run::{Run, TERMS, found, reserve};
use by_hand::{Log, START_MS};
use sluice_core::ledger::command::{Group, Reserve};
use sluice_judges::checkers::Claim;
use sluice_judges::checkers::conservation::Conservation;
use sluice_judges::checkers::limits::Limits;
use sluice_judges::checkers::oversell::Oversell;
use sluice_judges::checkers::time::Time;
use sluice_judges::history::{Ask, Call, Reply};
use sluice_protocol::request::{IdItem, PutProductItem, Terms};
use sluice_protocol::response::{At, ProductView};
use sluice_protocol::{Answer, ProductId, ReservationId, State};

const AT: At = At { index: 7, time_ms: START_MS };

fn view(stock: u64, free: u64, held: u64, sold: u64) -> ProductView {
    ProductView {
        product: ProductId(1),
        stock,
        free,
        held,
        sold,
        terms: TERMS,
        sealed: false,
        earliest_return_ms: 0,
    }
}

#[test]
fn books_that_do_not_balance_are_found() {
    let mut conservation = Conservation::default();
    conservation.look(1, 7, &view(9, 4, 3, 2)).unwrap();
    found(conservation.look(1, 7, &view(9, 5, 3, 2)), "conservation");
    found(conservation.look(1, 7, &view(9, 4, 3, 1)), "conservation");
    found(conservation.look(1, 7, &view(9, u64::MAX, 10, 0)), "conservation");
    let unlimited = ProductView { terms: Terms { unlimited: true, ..TERMS }, ..view(0, 0, 3, 2) };
    conservation.look(1, 7, &unlimited).unwrap();
    found(conservation.look(1, 7, &ProductView { free: 1, ..unlimited }), "conservation");
}

#[test]
fn one_too_many_is_found_in_the_counters() {
    let mut oversell = Oversell::default();
    oversell.look(1, 7, &view(5, 0, 3, 2)).unwrap();
    found(oversell.look(1, 7, &view(5, 0, 3, 3)), "oversell");
    found(oversell.look(1, 7, &view(5, 0, u64::MAX, 3)), "oversell");
}

#[test]
fn reservations_are_counted_one_by_one() {
    let mut run = Run::new();
    run.put(1, 5, TERMS);
    run.reserve(1, 1, 7, 2);
    run.reserve(2, 1, 7, 3);
    run.confirm(2);
    Oversell::default().recount(1, &run.log.ledger).unwrap();
}

fn call(ask: Ask, answer: Option<Answer>) -> Call {
    Call { client: 1, node: 1, ask, sent_us: 0, heard: answer.map(|answer| (1, Reply::Plain(answer))) }
}

fn put(stock: u64, per_user_limit: u32) -> Call {
    let terms = Terms { per_user_limit, ..TERMS };
    let ask = Ask::Put(PutProductItem::new(ProductId(1), Some(stock), terms));
    call(ask, Some(Answer::done(AT, 2)))
}

fn bought(id: u128, user: u64, quantity: u32) -> [Call; 2] {
    let took = call(reserve(id, 1, user, quantity), None);
    let confirm = Ask::Confirm(IdItem::new(ReservationId(id)));
    [took, call(confirm, Some(Answer::confirmed(AT, 9)))]
}

#[test]
fn one_too_many_is_found_in_what_clients_heard() {
    let mut calls = vec![put(5, 0)];
    calls.extend(bought(1, 7, 2));
    calls.extend(bought(2, 8, 3));
    Oversell::default().told(&calls).unwrap();
    calls.extend(bought(3, 9, 1));
    found(Oversell::default().told(&calls), "oversell");
    // Whether a restock was done, nobody knows: then it may have been.
    let item = sluice_protocol::request::StockItem::new(ReservationId(30), ProductId(1), 1);
    calls.push(call(Ask::Restock(item), None));
    Oversell::default().told(&calls).unwrap();
    calls.pop();
    let refused = Answer::plain(AT, sluice_protocol::Status::Sealed);
    calls.push(call(Ask::Restock(item), Some(refused)));
    found(Oversell::default().told(&calls), "oversell");
}

#[test]
fn a_limit_that_is_passed_is_found() {
    let mut limits = Limits::default();
    limits.look(1, 7, (1, 7), (0, 3), 3).unwrap();
    limits.look(1, 7, (1, 7), (0, 30), 0).unwrap();
    limits.look(1, 7, (1, 7), (5, 4), 3).unwrap();
    found(limits.look(1, 7, (1, 7), (3, 4), 3), "limits");

    let mut calls = vec![put(99, 3)];
    calls.extend(bought(1, 7, 2));
    calls.extend(bought(2, 8, 3));
    calls.extend(bought(3, 7, 1));
    Limits::default().told(&calls).unwrap();
    calls.extend(bought(4, 7, 1));
    found(Limits::default().told(&calls), "limits");
    calls.push(put(99, 0));
    Limits::default().told(&calls).unwrap();
}

#[test]
fn time_that_falls_or_leaps_is_found() {
    let at = |index, time_ms| At { index, time_ms };
    let mut time = Time::default();
    time.passed(1, at(1, 0)).unwrap();
    time.passed(1, at(2, START_MS)).unwrap();
    time.passed(1, at(3, START_MS + 60_000)).unwrap();
    time.passed(1, at(5, START_MS + 180_000)).unwrap();
    time.passed(2, at(1, 5)).unwrap();
    found(time.passed(1, at(6, START_MS + 179_999)), "time");
    time.restart(1);
    time.passed(1, at(3, START_MS)).unwrap();
    found(time.passed(1, at(4, START_MS + 60_001)), "time");
}

#[test]
fn a_hold_that_ends_wrongly_is_found() {
    use State::{Cancelled, Confirmed, Expired, Held};
    let goes = |before, after| Time::default().transition((1, AT), 1, before, after);
    goes((State::None, 0), (Held, START_MS + 5)).unwrap();
    goes((Held, START_MS), (Expired, 0)).unwrap();
    goes((Held, START_MS + 5), (Confirmed, 0)).unwrap();
    goes((Expired, 0), (Confirmed, 0)).unwrap();
    found(goes((Held, START_MS + 1), (Expired, 0)), "time");
    found(goes((Held, START_MS + 5), (Held, START_MS + 4)), "time");
    found(goes((Confirmed, 0), (Expired, 0)), "time");
    found(goes((Confirmed, 0), (State::None, 0)), "time");
    found(goes((Cancelled, 0), (Held, START_MS + 5)), "time");
    found(goes((Cancelled, 0), (Confirmed, 0)), "time");
}

#[test]
fn a_hold_that_is_shorter_than_promised_is_found() {
    let claim = |time_ms, state, deadline_ms| Claim {
        at: At { index: time_ms, time_ms },
        state,
        sequence: 0,
        refused_with: None,
        settled: false,
        deadline_ms,
    };
    let told = |claims: &[Claim]| {
        let mut time = Time::default();
        claims.iter().try_for_each(|claim| time.told(1, claim))
    };
    let held = claim(5, State::Held, 60);
    told(&[held, claim(60, State::Expired, 0), held]).unwrap();
    found(told(&[held, claim(59, State::Expired, 0)]), "time");
    found(told(&[claim(59, State::Expired, 0), held]), "time");
    found(told(&[held, claim(6, State::Held, 61)]), "time");
}

/// Ten thousand holds of one product are due at once: bounds of what an entry sweeps are the model's too.
#[test]
fn the_model_sweeps_as_much_at_a_time_as_the_ledger() {
    let mut log = Log::new();
    let mut timeline = sluice_judges::model::Timeline::new(log.ledger.settings());
    let mut apply = |log: &mut Log, groups| {
        let entry = log.entry(groups);
        let answers = log.apply(&entry);
        timeline.push(&entry).unwrap();
        let mine: Vec<_> = timeline.step(entry.index).unwrap().answers.iter().map(|(.., a)| *a).collect();
        assert_eq!(answers, mine);
        timeline.agrees(&log.ledger).unwrap();
        answers
    };
    let hold = |id: u128, quantity| Reserve { id, product: 1, user: 7, quantity };
    let terms = PutProductItem::new(ProductId(1), Some(10_000), Terms { hold_ms: 1000, ..TERMS });
    apply(&mut log, vec![by_hand::run::group(&Ask::Put(terms))]);
    for first in (1..10_000).step_by(1000) {
        apply(&mut log, vec![Group::Reserve((first..first + 1000).map(|id| hold(id, 1)).collect())]);
    }
    log.now_ms += 1000;
    let greedy =
        vec![hold(20_001, 3000), hold(20_002, 2000), hold(20_003, 2), hold(20_004, 5), hold(20_005, 4)];
    let answers = apply(&mut log, vec![Group::Reserve(greedy), Group::Confirm(vec![9_999, 9_998])]);
    assert!(answers.contains(&Answer::busy(20)), "{answers:?}");
    for _ in 0..5 {
        apply(&mut log, vec![]);
    }
    assert!(!log.ledger.backlog());
}
