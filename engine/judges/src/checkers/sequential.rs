//! The naive server that [`super::search`] tries orders of calls on: one call at a time, no log, no index.

use std::fmt;

use sluice_protocol::request::ReserveItem;
use sluice_protocol::response::{At, ReservationRecord, ReservationReply, ReservationView};
use sluice_protocol::{Answer, Status};

use crate::history::{Ask, Reply};
use crate::model::{Changed, State, Turn, refusal};

/// A call to be put into an order.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) ask: Ask,
    pub(super) sent_us: u64,
    /// When and what it heard; nothing, if it may have happened at any time or never.
    pub(super) heard: Option<(u64, Reply)>,
    /// The ledger time of its answer, or of its command in the log.
    pub(super) time_ms: u64,
    /// Where to try it first.
    pub(super) hint: (u64, usize),
}

impl Op {
    pub(super) fn heard_us(&self) -> Option<u64> {
        self.heard.as_ref().map(|(heard_us, _)| *heard_us)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} µs", self.ask, self.sent_us)?;
        match &self.heard {
            Some((heard_us, reply)) => write!(f, ", which heard {reply:?} at {heard_us} µs"),
            None => write!(f, ", not answered"),
        }
    }
}

/// An answer without what a single server of one product could not know: index and sequence.
fn bare(answer: &Answer) -> (u8, u8, u32, [u64; 3]) {
    let counts = match answer.status() {
        Some(Status::Reserved | Status::Already) => [0, answer.deadline_ms(), 0],
        Some(status) if (status as u8) < 16 || status == Status::AlreadyConfirmed => [0; 3],
        _ => [answer.free(), answer.held(), answer.earliest_return_ms()],
    };
    (answer.status_byte(), answer.state() as u8, answer.retry_after_ms(), counts)
}

fn bare_record(record: ReservationRecord) -> ReservationView {
    ReservationView { sequence: 0, ..record.into() }
}

/// The states that a call may leave behind, if it is the next one and its answer is the one it heard.
pub(super) fn after(state: &State, op: &Op) -> Vec<State> {
    let mut next = state.clone();
    let mut changed = Changed::default();
    let mut turn = Turn::at_time(&mut next, &mut changed, op.time_ms);
    let Some(command) = op.ask.command() else {
        return if reads(&next, op) { vec![next] } else { Vec::new() };
    };
    let answer = turn.carry_out(&command);
    let Some((_, Reply::Plain(heard))) = &op.heard else { return vec![next] };
    let mut states = Vec::new();
    if bare(&answer) == bare(heard) {
        states.push(next);
    }
    if let Ask::Reserve(item) = &op.ask
        && item.attempt == 0
        && heard.status().is_some_and(|status| status as u8 >= 16)
        && let Some(state) = passed_by(state, item, heard, op.time_ms)
    {
        states.push(state);
        // The likelier one first.
        if op.hint.1 == usize::MAX {
            states.reverse();
        }
    }
    states
}

/// A refusal that the server does not remember.
fn passed_by(state: &State, item: &ReserveItem, heard: &Answer, time_ms: u64) -> Option<State> {
    let mut next = state.clone();
    Turn::at_time(&mut next, &mut Changed::default(), time_ms);
    if next.records().contains_key(&item.id().0) {
        return None;
    }
    let product = next.product_view(item.product().0);
    let has = next.units().get(&(item.product().0, item.user().0)).copied().unwrap_or(0);
    let at = At { index: 0, time_ms };
    let right = refusal(item, heard.status()?, at, product.as_ref(), has)?;
    (bare(&right) == bare(heard)).then_some(next)
}

/// Whether a read shows this state.
fn reads(state: &State, op: &Op) -> bool {
    let at = At { index: 0, time_ms: op.time_ms };
    match (&op.ask, &op.heard) {
        (Ask::QueryReservation(item), Some((_, Reply::Reservation(heard)))) => {
            let right: ReservationReply = match state.records().get(&item.id().0) {
                None => (Answer::plain(at, Status::UnknownReservation), None).into(),
                Some(record) => {
                    let (state, view) = record.view(item.id().0, op.time_ms);
                    (Answer::found(at, state), Some(view)).into()
                }
            };
            bare(&right.answer) == bare(&heard.answer)
                && bare_record(right.record) == bare_record(heard.record)
        }
        (Ask::QueryProduct(item), Some((_, Reply::Product(heard)))) => {
            let right = state.product_view(item.product().0);
            let status = if right.is_some() { Status::Done } else { Status::UnknownProduct };
            heard.answer.status() == Some(status) && right.is_none_or(|view| heard.record == view.into())
        }
        _ => true,
    }
}
