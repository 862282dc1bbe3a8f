//! What clients hear: runs that must pass, and each kind of lie that must not.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod by_hand;

use by_hand::run::{Run, TERMS, found, query, query_product, reserve, retry};
use sluice_judges::checkers::existence::Existence;
use sluice_judges::checkers::outcome::Outcome;
use sluice_judges::checkers::{Claim, Setup};
use sluice_judges::history::{Ask, Call, Delivery, Reply};
use sluice_judges::model::Timeline;
use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::request::{IdItem, ListItem, ProductItem, Terms};
use sluice_protocol::response::{At, ProductReply};
use sluice_protocol::seat::{FetchItem, SeatItem};
use sluice_protocol::{Answer, ProductId, ReservationId, State, Status};

/// A run in which everything happens once, honestly.
fn eventful() -> Run {
    let mut run = Run::new();
    run.put(1, 4, Terms { per_user_limit: 2, ..TERMS });
    run.reserve(1, 1, 7, 2);
    run.confirm(1);
    run.reserve(2, 1, 8, 2);
    assert_eq!(run.reserve(3, 1, 9, 1).status(), Some(Status::Insufficient));
    // Off the log.
    let call = run.ask(reserve(4, 1, 9, 1));
    run.hear(call, run.shortage(1)).unwrap();
    let call = run.ask(reserve(5, 9, 9, 1));
    run.hear(call, Answer::plain(run.at(), Status::UnknownProduct)).unwrap();
    // A retry after silence.
    run.ask(reserve(6, 1, 9, 1));
    let call = run.ask(retry(6, 1, 9, 1));
    let answers = run.commit(vec![by_hand::run::group(&retry(6, 1, 9, 1))]);
    run.hear(call, answers[0]).unwrap();
    run.cancel(2);
    run.resolve(2);
    run.resolve(20);
    run.reserve(7, 1, 8, 1);
    run.pass(59_999);
    run.commit(vec![]);
    let call = run.ask(query(7));
    run.hear_reply(call, Reply::Reservation(run.read_reservation(7))).unwrap();
    run.pass(1);
    run.commit(vec![]);
    let call = run.ask(query(7));
    run.hear_reply(call, Reply::Reservation(run.read_reservation(7))).unwrap();
    assert_eq!(run.confirm(7).status(), Some(Status::Confirmed));
    run.restock(30, 1, 5);
    let call = run.ask(query_product(1));
    run.hear_reply(call, Reply::Product(run.read_product(1))).unwrap();
    let call = run.ask(Ask::List(ListItem::new(ProductId(0), 10)));
    run.hear_reply(call, Reply::Page(vec![run.read_product(1)])).unwrap();
    let call = run.ask(reserve(8, 1, 7, 1));
    run.hear(call, Answer::limit_reached(run.at(), 2, 2)).unwrap();
    run.carry_out(Ask::Seal(ProductItem::new(ProductId(1))));
    let call = run.ask(reserve(9, 1, 9, 1));
    run.hear(call, Answer::busy(5)).unwrap();
    run
}

/// What somebody hears who looks at everything behind a sequence, if there is nothing.
fn nothing_after(run: &Run, sequence: u64) -> Delivery {
    let last = run.log.ledger.sequence();
    let head = DeliveryHead::new(Answer::delivery(run.at(), last, last, 1), 0, u64::MAX, 0);
    let item = FetchItem::new(SeatItem::new(0, 0), 0).after(sequence, 0);
    Delivery { item, head, events: Vec::new() }
}

#[test]
fn an_event_that_is_passed_over_is_found() {
    let mut run = eventful();
    let last = run.log.ledger.sequence();
    let passed_over = nothing_after(&run, last - 1);
    found(run.checkers.delivered(1, &passed_over), "groups");
}

#[test]
fn an_honest_run_passes_and_is_looked_at_from_all_sides() {
    let mut run = eventful();
    run.checkers.gate(1, 1, 6, 6).unwrap();
    run.checkers.healed(run.now_us);
    run.resolve(6);
    let last = run.log.ledger.sequence();
    run.checkers.delivered(1, &nothing_after(&run, last)).unwrap();
    run.quiet().unwrap();
    let tally = run.checkers.finish().unwrap();
    for (checker, checks) in &tally.checks {
        assert!(*checks > 0 || *checker == "search undecided", "{checker} looked at nothing");
    }
    assert_eq!(tally.unanswered, 1);
    assert_eq!(tally.statuses["Reserved"], 3);
}

#[test]
fn a_yes_that_the_log_did_not_give_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let call = run.ask(reserve(1, 1, 7, 1));
    found(run.hear(call, Answer::reserved(run.at(), 3, by_hand::START_MS + 60_000)), "linearizability");

    let mut run = Run::new();
    run.put(1, 0, TERMS);
    let call = run.ask(reserve(1, 1, 7, 1));
    run.commit(vec![by_hand::run::group(&reserve(1, 1, 7, 1))]);
    found(run.hear(call, Answer::reserved(run.at(), 2, by_hand::START_MS + 60_000)), "linearizability");
}

#[test]
fn a_no_although_units_were_free_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let call = run.ask(reserve(1, 1, 7, 1));
    found(run.hear(call, Answer::insufficient(run.at(), 0, 1, 5)), "linearizability");
}

#[test]
fn a_no_with_wrong_numbers_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let call = run.ask(reserve(1, 1, 7, 2));
    found(run.hear(call, Answer::insufficient(run.at(), 0, 0, 0)), "linearizability");
}

#[test]
fn a_stale_sold_out_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    let stale = run.shortage(1);
    run.cancel(1);
    let call = run.ask(reserve(2, 1, 8, 1));
    found(run.hear(call, stale), "linearizability");
}

#[test]
fn the_same_no_is_fine_if_it_was_asked_for_in_time() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    let call = run.ask(reserve(2, 1, 8, 1));
    let no = run.shortage(1);
    run.cancel(1);
    run.hear(call, no).unwrap();
    run.finish().unwrap();
}

#[test]
fn sold_out_for_good_may_be_said_by_who_is_behind() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    run.confirm(1);
    run.carry_out(Ask::Seal(ProductItem::new(ProductId(1))));
    let no = run.shortage(1);
    assert_eq!(no.status(), Some(Status::SoldOut));
    run.put(2, 1, TERMS);
    let call = run.ask(reserve(2, 1, 8, 1));
    run.hear(call, no).unwrap();
}

#[test]
fn a_stale_read_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let stale = run.read_product(1);
    run.put(2, 1, TERMS);
    let call = run.ask(query_product(1));
    found(run.hear_reply(call, Reply::Product(stale)), "linearizability");
}

#[test]
fn a_read_of_what_never_was_is_found() {
    let mut run = eventful();
    let mut reply = run.read_product(1);
    reply.record = sluice_protocol::response::ProductView { held: 1, ..reply.record.into() }.into();
    let call = run.ask(query_product(1));
    found(run.hear_reply(call, Reply::Product(reply)), "linearizability");
    let call = run.ask(query(1));
    let reply = run.read_reservation(2);
    found(run.hear_reply(call, Reply::Reservation(reply)), "linearizability");
}

#[test]
fn a_page_with_a_hole_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.put(2, 1, TERMS);
    let list = Ask::List(ListItem::new(ProductId(0), 10));
    let call = run.ask(list);
    run.hear_reply(call, Reply::Page(vec![run.read_product(1), run.read_product(2)])).unwrap();
    let call = run.ask(list);
    found(run.hear_reply(call, Reply::Page(vec![run.read_product(2)])), "linearizability");
    let call = run.ask(list);
    found(run.hear_reply(call, Reply::Page(Vec::<ProductReply>::new())), "linearizability");
}

#[test]
fn a_retry_that_is_refused_off_the_log_is_found() {
    let mut run = Run::new();
    run.put(1, 0, TERMS);
    let call = run.ask(retry(1, 1, 7, 1));
    found(run.hear(call, run.shortage(1)), "linearizability");
}

#[test]
fn a_no_to_an_id_that_holds_units_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    let call = run.ask(reserve(1, 1, 7, 1));
    found(run.hear(call, run.shortage(1)), "linearizability");
}

#[test]
fn evidence_that_is_made_up_is_found() {
    let mut run = Run::new();
    run.put(1, 0, TERMS);
    let call = run.ask(reserve(1, 1, 7, 1));
    let At { index, time_ms } = run.at();
    let wrong = At { index, time_ms: time_ms + 1 };
    found(run.hear(call, Answer::insufficient(wrong, 0, 0, 0)), "linearizability");
    let call = run.ask(reserve(2, 1, 7, 1));
    found(run.hear(call, Answer::insufficient(At { index: 9, time_ms }, 0, 0, 0)), "quorum");
}

#[test]
fn what_was_said_not_to_be_done_may_not_appear() {
    for no in [Answer::busy(5), Answer::not_leader(2)] {
        let mut run = Run::new();
        run.put(1, 1, TERMS);
        let call = run.ask(reserve(1, 1, 7, 1));
        run.hear(call, no).unwrap();
        run.commit(vec![by_hand::run::group(&reserve(1, 1, 7, 1))]);
        found(run.finish(), "finality");
    }
}

#[test]
fn what_was_not_answered_may_appear_once() {
    for times in 1..=2 {
        let mut run = Run::new();
        run.put(1, 1, TERMS);
        let call = run.ask(reserve(1, 1, 7, 1));
        let call_too = run.ask(reserve(1, 1, 7, 1));
        run.hear(call, Answer::unknown()).unwrap();
        run.hear(call_too, Answer::busy(5)).unwrap();
        for _ in 0..times {
            run.commit(vec![by_hand::run::group(&reserve(1, 1, 7, 1))]);
        }
        if times == 1 {
            run.finish().unwrap();
        } else {
            found(run.finish(), "finality");
        }
    }
}

#[test]
fn a_command_that_answers_two_calls_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let (one, two) = (run.ask(reserve(1, 1, 7, 1)), run.ask(reserve(1, 1, 7, 1)));
    let answer = run.commit(vec![by_hand::run::group(&reserve(1, 1, 7, 1))])[0];
    run.hear(one, answer).unwrap();
    run.hear(two, answer).unwrap();
    found(run.finish(), "finality");
}

#[test]
fn an_acknowledged_reservation_that_is_gone_is_found() {
    let mut outcome = Outcome::new(86_400_000);
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    outcome.sent(1);
    outcome.heard(by_hand::START_MS);
    outcome.sent(2);
    let told = Claim {
        at: run.at(),
        state: State::Held,
        sequence: 3,
        refused_with: None,
        settled: false,
        deadline_ms: by_hand::START_MS + 60_000,
    };
    outcome.told(2, told).unwrap();
    let mut finality = sluice_judges::checkers::finality::Finality::default();
    found(finality.quiet(&run.log.ledger, &outcome), "finality");
    run.reserve(2, 1, 7, 1);
    finality.quiet(&run.log.ledger, &outcome).unwrap();
}

fn claim(index: u64, state: State, sequence: u64) -> Claim {
    let at = At { index, time_ms: by_hand::START_MS + index };
    Claim { at, state, sequence, refused_with: None, settled: false, deadline_ms: 0 }
}

/// Tells these in the order given; whether they are one story.
fn story(claims: &[Claim]) -> by_hand::run::Verdict {
    let mut outcome = Outcome::new(86_400_000);
    outcome.heard(by_hand::START_MS);
    outcome.sent(1);
    claims.iter().try_for_each(|claim| outcome.told(1, *claim))
}

#[test]
fn an_id_has_one_story() {
    let held = claim(5, State::Held, 3);
    let expired = claim(9, State::Expired, 4);
    let settled = Claim { settled: true, ..expired };
    let confirmed = claim(12, State::Confirmed, 6);
    story(&[held, expired, confirmed, claim(14, State::Confirmed, 6)]).unwrap();
    story(&[confirmed, held, claim(1, State::None, 0), expired]).unwrap();
    let refused = |index, with| Claim { refused_with: Some(with), ..claim(index, State::Refused, 0) };
    story(&[refused(3, Status::Closed), refused(4, Status::Closed)]).unwrap();

    found(story(&[held, claim(7, State::Held, 5)]), "outcome");
    found(story(&[held, settled, confirmed]), "outcome");
    found(story(&[confirmed, settled]), "outcome");
    found(story(&[confirmed, claim(14, State::Cancelled, 7)]), "outcome");
    found(story(&[claim(14, State::Cancelled, 7), claim(15, State::Held, 3)]), "outcome");
    found(story(&[claim(14, State::Fenced, 0), claim(15, State::Held, 3)]), "outcome");
    found(story(&[held, claim(8, State::None, 0)]), "outcome");
    found(story(&[refused(3, Status::Closed), refused(4, Status::NotOpen)]), "outcome");
    found(story(&[refused(3, Status::Closed), held]), "outcome");
    found(story(&[held, refused(3, Status::Closed)]), "outcome");
    // Beside each other in one entry.
    story(&[held, claim(5, State::Confirmed, 4)]).unwrap();
    found(story(&[claim(5, State::Cancelled, 9), claim(5, State::Confirmed, 4)]), "outcome");
}

#[test]
fn a_reply_about_what_does_not_exist_yet_is_found() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let early = run.at();
    run.reserve(1, 1, 7, 1);
    let mut timeline = Timeline::new(Setup::new(&[1]).settings);
    for entry in &run.log.entries {
        timeline.push(entry).unwrap();
    }
    let ask = |id| Ask::Resolve(IdItem::new(ReservationId(id)));
    let heard = |id, at| {
        let reply = Reply::Plain(Answer::already(at, State::Held, 3, by_hand::START_MS + 60_000));
        let call = Call { client: 1, node: 1, ask: ask(id), sent_us: 0, heard: None };
        Existence::default().heard(&call, &reply, &timeline)
    };
    heard(1, run.at()).unwrap();
    found(heard(1, early), "existence");
    found(heard(2, run.at()), "existence");
}

/// Two readers who hear the same entry differently, each with evidence that fits: only what was said tells.
#[test]
fn an_order_that_cannot_be_is_found_without_evidence() {
    use sluice_core::ledger::settings::Settings;
    use sluice_judges::checkers::search::Search;
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    run.reserve(1, 1, 7, 1);
    let mut timeline = Timeline::new(Setup::new(&[1]).settings);
    for entry in &run.log.entries {
        timeline.push(entry).unwrap();
    }
    let at = run.at();
    let call = |ask, sent_us, heard_us, answer| Call {
        client: 1,
        node: 1,
        ask,
        sent_us,
        heard: Some((heard_us, Reply::Plain(answer))),
    };
    let put = Ask::Put(sluice_protocol::request::PutProductItem::new(ProductId(1), Some(1), TERMS));
    let deadline_ms = at.time_ms + 60_000;
    let confirm = |id| Ask::Confirm(IdItem::new(ReservationId(id)));
    let cancel = |id| Ask::Cancel(IdItem::new(ReservationId(id)));
    let no = Answer::insufficient(at, 0, 1, deadline_ms);
    let put = call(put, 0, 1, Answer::done(at, 2));
    let took = call(reserve(1, 1, 7, 1), 2, 10, Answer::reserved(at, 3, deadline_ms));
    let judge = |calls: &[Call]| Search::default().run(calls, &timeline, Settings::default());

    // Beside the one that takes the unit, the other hears no: fine, in one order.
    judge(&[put.clone(), took.clone(), call(reserve(2, 1, 8, 1), 2, 9, no)]).unwrap();
    // Before it was asked for, nobody can have lacked it.
    let early = call(reserve(2, 1, 8, 1), 1, 1, no);
    found(judge(&[Call { sent_us: 0, ..early.clone() }, took.clone()]), "search");
    found(
        judge(&[
            put.clone(),
            Call { heard: Some((1, Reply::Plain(no))), ..early },
            Call { sent_us: 2, ..took.clone() },
        ]),
        "search",
    );
    // Nor after it was given back.
    let back = call(cancel(1), 11, 12, Answer::cancelled(at, 4));
    judge(&[put.clone(), took.clone(), back.clone(), call(reserve(2, 1, 8, 1), 2, 20, no)]).unwrap();
    found(judge(&[put.clone(), took.clone(), back.clone(), call(reserve(2, 1, 8, 1), 13, 20, no)]), "search");
    // Two cannot have it, nor one what he gave back.
    let took_too = call(reserve(2, 1, 8, 1), 2, 10, Answer::reserved(at, 4, deadline_ms));
    found(judge(&[put.clone(), took.clone(), took_too]), "search");
    let sold = call(confirm(1), 11, 12, Answer::confirmed(at, 4));
    judge(&[put.clone(), took.clone(), sold.clone()]).unwrap();
    found(judge(&[put.clone(), took.clone(), sold, back]), "search");
    // Of one that was not answered, either may be true; the log tells when, not whether.
    let silent = Call { heard: None, ..took };
    judge(&[put.clone(), silent.clone(), call(reserve(2, 1, 8, 1), 3, 20, no)]).unwrap();
    judge(&[put, silent, call(reserve(2, 1, 8, 1), 3, 20, Answer::reserved(at, 3, deadline_ms))]).unwrap();
}

#[test]
fn voided_commands_do_nothing_and_may_be_denied() {
    let mut run = Run::new();
    run.put(1, 1, TERMS);
    let call = run.ask(reserve(1, 1, 7, 1));
    let mut entry = run.log.entry(vec![by_hand::run::group(&reserve(1, 1, 7, 1))]);
    entry.term = 2;
    run.log.term = 2;
    run.commit_entry(&entry);
    run.hear(call, Answer::not_leader(2)).unwrap();
    assert!(run.log.ledger.reservation(ReservationId(1)).is_none());
    run.quiet().unwrap();
    run.finish().unwrap();
}
