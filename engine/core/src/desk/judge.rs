//! One request to reserve, looked at: admitted, answered no, or in doubt.
//!
//! This is rule N. A no is said only from committed state that the replica has applied and published: the
//! caller has loaded `applied` before the notice, and, where the cluster has other voters, after a read round that
//! started when the request had arrived. The gate's own opinion never becomes a no.

use sluice_protocol::request::ReserveItem;
use sluice_protocol::response::{At, RefusedField};
use sluice_protocol::{Answer, Status, limits};

use crate::board::Board;
use crate::fault::{self, Mutant};
use crate::gate::Lane;
use crate::ledger::command::Reserve;
use crate::time::Moment;

/// What is to happen with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Its units are set aside: to the log.
    Admit,
    /// To the log without units: the ledger must decide in any case (a retry).
    Log,
    /// The buyer may have reached the limit, or the id may be known: to the ledger first.
    Suspect,
    /// Answered.
    No(Answer),
    /// Neither yes nor no can be said yet: units are set aside for others who may not get them, or a read round is
    /// still out.
    Doubt,
}

/// What is wrong with the numbers of a request, whatever the ledger holds.
pub(super) fn malformed(item: &Reserve, at: At) -> Option<Answer> {
    if item.id == 0 {
        return Some(Answer::invalid(at, RefusedField::Reservation, 0, 1, u64::MAX));
    }
    if item.product == 0 {
        return Some(Answer::invalid(at, RefusedField::Product, 0, 1, u64::MAX));
    }
    if item.quantity == 0 || item.quantity > limits::QUANTITY_MAX {
        let (got, high) = (u64::from(item.quantity), u64::from(limits::QUANTITY_MAX));
        return Some(Answer::invalid(at, RefusedField::Quantity, got, 1, high));
    }
    None
}

/// Judges a first attempt. `applied` was loaded before this call; `fresh` says whether a no may be said on it.
pub(super) fn first_attempt(
    board: &Board,
    lane: Option<&Lane>,
    item: &Reserve,
    stripe: usize,
    applied: At,
    fresh: bool,
    now: Moment,
) -> Verdict {
    let verdict = look(board, lane, item, stripe, applied, now);
    match verdict {
        Verdict::No(_) if !fresh => Verdict::Doubt,
        // The filter is read after the notice that the no rests on: an id whose units were taken up to that index
        // is in it. Whether such an id really has an outcome, the ledger knows. Not straight to the log: a filter with
        // more keys than it was made for suspects everything, and each refusal would be remembered.
        Verdict::No(_) if board.may_know(item.id.into()) => Verdict::Suspect,
        verdict => verdict,
    }
}

fn look(
    board: &Board,
    lane: Option<&Lane>,
    item: &Reserve,
    stripe: usize,
    applied: At,
    now: Moment,
) -> Verdict {
    let Some(lane) = lane else {
        return Verdict::No(Answer::plain(applied, Status::UnknownProduct));
    };
    let posted = lane.notice.read();
    let at = At { index: applied.index.max(posted.index), time_ms: applied.time_ms.max(posted.time_ms) };
    let standing = posted.standing(item.product.into());
    if let Some(answer) = standing.shut(at, now.wall_ms) {
        return Verdict::No(answer);
    }
    if !standing.suffices(u64::from(item.quantity)) {
        // Holds whose time is over count as free before they are swept.
        let settled = standing.is_settled_at(at.time_ms);
        return if settled { Verdict::No(standing.shortage(at)) } else { Verdict::Doubt };
    }
    if standing.per_user_limit != 0 {
        if board.may_have(item.product.into(), item.user.into()) {
            return Verdict::Suspect;
        }
        // Hopeless for anybody: it must not set units aside on its way to be refused.
        if item.quantity > standing.per_user_limit {
            return Verdict::No(Answer::limit_reached(at, standing.per_user_limit, 0));
        }
    }
    if lane.tokens.take(stripe, item.quantity) {
        return Verdict::Admit;
    }
    if fault::is_on(Mutant::GateSaysNo) { Verdict::No(standing.shortage(at)) } else { Verdict::Doubt }
}

/// The command of a request.
pub(super) fn command(item: &ReserveItem) -> Reserve {
    Reserve { id: item.id().0, product: item.product().0, user: item.user().0, quantity: item.quantity() }
}
