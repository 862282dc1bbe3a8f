//! `sluice reserve`, `confirm`, `cancel`, `resolve`, `show`: one reservation at a time, by hand or by script.
//!
//! Deliberately not here: many at once; that is what the client crate is for.

use std::time::Duration;

use clap::Args;
use sluice_client::{
    CancelOutcome, ConfirmOutcome, Ended, ProductId, Reservation, ReservationId, Reserve, ReserveOutcome,
    Resolution, UserId,
};

use super::exit::Exit;
use super::output::Failure;
use super::remote::RemoteArgs;
use super::time::Span;
use super::told::Fact::{Flag, Number, Text, Time, Units};
use super::told::{Told, insufficient, invalid, name_of, unforeseen};

/// Take units of a product for a user.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// What to take
    product: ProductId,
    /// For whom
    #[arg(long, value_name = "USER")]
    user: UserId,
    /// How many units
    #[arg(long, value_name = "UNITS", default_value_t = 1)]
    quantity: u32,
    /// The reservation's id, 32 hexadecimal digits; the same id never takes units twice [default: a new one]
    #[arg(long)]
    id: Option<ReservationId>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ReserveArgs {
    pub(super) fn run(&self) -> Exit {
        let order = Reserve::new(self.product, self.user, self.quantity);
        // Whether an id from the command line was sent before, only its owner knows; "perhaps" is always right.
        let order = self.id.map_or(order, |id| order.id(id));
        self.remote.run(async |client| match client.reserve_with(order).await? {
            ReserveOutcome::Queueing { id, place, eta } => Err(queueing(id, place, eta)),
            outcome => Ok(reserve_told(&order, &outcome)),
        })
    }
}

/// Nothing was done and nothing is settled, so it is no refusal.
fn queueing(id: ReservationId, place: u64, eta: Option<Duration>) -> Failure {
    let eta_ms = eta.map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX));
    let when = eta_ms.map_or_else(String::new, |ms| format!(", in about {}", Span { ms }));
    let message = format!(
        "the order systems are too far behind: nothing was done. This would be number {place} in line{when}; ask again \
         then, with --id {id}"
    );
    Failure::new(Exit::Unavailable, "queueing", message)
        .fact("id", id.to_string())
        .fact("place", place)
        .fact("eta_ms", eta_ms)
        .fact("retryable", true)
}

fn reserve_told(order: &Reserve, outcome: &ReserveOutcome) -> Told {
    let told = match *outcome {
        ReserveOutcome::Reserved { deadline_ms, sequence, repeated, .. } => Told::yes("reserved")
            .fact("deadline", Time(deadline_ms))
            .fact("sequence", Number(sequence))
            .fact("repeated", Flag(repeated)),
        ReserveOutcome::Already { state, sequence, .. } => ended(state).fact("sequence", Number(sequence)),
        ReserveOutcome::RefusedEarlier { with, .. } => {
            Told::no("refused_earlier").fact("with", Text(name_of(with)))
        }
        ReserveOutcome::Insufficient { free, held, earliest_return_ms, .. } => {
            insufficient(free, held, earliest_return_ms)
        }
        ReserveOutcome::SoldOut { .. } => Told::no("sold_out"),
        ReserveOutcome::LimitReached { limit, has, .. } => {
            Told::no("limit_reached").fact("limit", Units(limit)).fact("has", Units(has))
        }
        ReserveOutcome::NotOpen { opens_ms, .. } => Told::no("not_open").fact("opens", Time(opens_ms)),
        ReserveOutcome::Closed { closed_ms, .. } => Told::no("closed").fact("closed", Time(closed_ms)),
        ReserveOutcome::UnknownProduct { .. } => Told::no("unknown_product"),
        ReserveOutcome::IdConflict { .. } => Told::no("id_conflict"),
        ReserveOutcome::Fenced { .. } => Told::no("fenced"),
        ReserveOutcome::Invalid(refused) => invalid(&refused),
        _ => unforeseen(outcome),
    };
    let asked = vec![
        ("id", Text(order.reservation().to_string())),
        ("product", Number(order.product().0)),
        ("user", Number(order.user().0)),
        ("quantity", Units(u64::from(order.quantity()))),
    ];
    told.about(asked).at(outcome.at())
}

/// A hold that is over. Confirmed means that the id has its units, for good.
fn ended(state: Ended) -> Told {
    match state {
        Ended::Confirmed => Told::yes("confirmed"),
        Ended::Cancelled => Told::no("cancelled"),
        Ended::Expired => Told::no("expired"),
    }
}

/// A held reservation was paid: its units are sold, for good.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// The reservation
    id: ReservationId,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ConfirmArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run(async |client| Ok(confirm_told(self.id, &client.confirm(self.id).await?)))
    }
}

fn confirm_told(id: ReservationId, outcome: &ConfirmOutcome) -> Told {
    let told = match *outcome {
        ConfirmOutcome::Confirmed { sequence, repeated, at } => {
            Told::yes("confirmed").fact("sequence", Number(sequence)).fact("repeated", Flag(repeated)).at(at)
        }
        ConfirmOutcome::Expired { sequence, at } => {
            Told::no("expired").fact("sequence", Number(sequence)).at(at)
        }
        ConfirmOutcome::Cancelled { sequence, at } => {
            Told::no("cancelled").fact("sequence", Number(sequence)).at(at)
        }
        ConfirmOutcome::RefusedEarlier { with, at } => {
            Told::no("refused_earlier").fact("with", Text(name_of(with))).at(at)
        }
        ConfirmOutcome::Fenced { at } => Told::no("fenced").at(at),
        ConfirmOutcome::UnknownReservation { at } => Told::no("unknown_reservation").at(at),
        ConfirmOutcome::IdConflict { at } => Told::no("id_conflict").at(at),
        ConfirmOutcome::Invalid(refused) => invalid(&refused),
        _ => unforeseen(outcome),
    };
    told.about(vec![("id", Text(id.to_string()))])
}

/// Give a reservation back, or make sure that it never happens.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The reservation
    id: ReservationId,
    /// The shop's own code for why; kept, and told to the order systems
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    reason: u32,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl CancelArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run(async |client| Ok(cancel_told(self.id, &client.cancel(self.id, self.reason).await?)))
    }
}

/// Whatever the word is, it is a yes if the id has no units now and never will have any.
fn cancel_told(id: ReservationId, outcome: &CancelOutcome) -> Told {
    let word = if outcome.is_released() { Told::yes } else { Told::no };
    let told = match *outcome {
        CancelOutcome::Cancelled { sequence, repeated, at } => {
            word("cancelled").fact("sequence", Number(sequence)).fact("repeated", Flag(repeated)).at(at)
        }
        CancelOutcome::Expired { sequence, at } => word("expired").fact("sequence", Number(sequence)).at(at),
        CancelOutcome::AlreadyConfirmed { sequence, at } => {
            word("already_confirmed").fact("sequence", Number(sequence)).at(at)
        }
        CancelOutcome::Fenced { at } => word("fenced").at(at),
        CancelOutcome::RefusedEarlier { with, at } => {
            word("refused_earlier").fact("with", Text(name_of(with))).at(at)
        }
        CancelOutcome::IdConflict { at } => word("id_conflict").at(at),
        CancelOutcome::Invalid(refused) => invalid(&refused),
        _ => unforeseen(outcome),
    };
    told.about(vec![("id", Text(id.to_string()))])
}

/// Tell what became of an id; one without an outcome is killed by asking, so that it never gets one.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// The id of a reservation, a restock or a write-off
    id: ReservationId,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ResolveArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run(async |client| Ok(resolve_told(self.id, &client.resolve(self.id).await?)))
    }
}

/// The question is what became of the id: any answer to it is a yes.
fn resolve_told(id: ReservationId, resolution: &Resolution) -> Told {
    let told = match *resolution {
        Resolution::Held { sequence, deadline_ms, at } => {
            Told::yes("held").fact("deadline", Time(deadline_ms)).fact("sequence", Number(sequence)).at(at)
        }
        Resolution::Ended { state, sequence, at } => {
            let word = match state {
                Ended::Confirmed => "confirmed",
                Ended::Cancelled => "cancelled",
                Ended::Expired => "expired",
            };
            Told::yes(word).fact("sequence", Number(sequence)).at(at)
        }
        Resolution::Refused { with, at } => Told::yes("refused").fact("with", Text(name_of(with))).at(at),
        Resolution::Applied { sequence, at } => {
            Told::yes("applied").fact("sequence", Number(sequence)).at(at)
        }
        Resolution::Never { at } => Told::yes("never").at(at),
        Resolution::Invalid(refused) => invalid(&refused),
        _ => unforeseen(resolution),
    };
    told.about(vec![("id", Text(id.to_string()))])
}

/// Show a reservation.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The reservation
    id: ReservationId,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ShowArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run(async |client| {
            Ok(match client.reservation(self.id).await? {
                Some(reservation) => show_told(&reservation),
                None => Told::no("unknown_reservation").fact("id", Text(self.id.to_string())),
            })
        })
    }
}

pub(super) fn show_told(reservation: &Reservation) -> Told {
    Told::yes("reservation")
        .fact("id", Text(reservation.id.to_string()))
        .fact("state", Text(name_of(reservation.state)))
        .fact("product", Number(reservation.product.0))
        .fact("user", Number(reservation.user.0))
        .fact("quantity", Units(u64::from(reservation.quantity)))
        .fact("deadline", Time(reservation.deadline_ms))
        .fact("ended", Time(reservation.ended_ms))
        .fact("reason", Number(u64::from(reservation.reason)))
        .fact("sequence", Number(reservation.sequence))
        .at(reservation.at)
}

#[cfg(test)]
mod tests {
    use sluice_client::{At, Invalid, RefusedField, Status};

    use super::*;

    const AT: At = At { index: 9, time_ms: 1000 };

    #[test]
    fn only_units_for_this_id_are_a_yes() {
        let order = Reserve::new(7, 42, 2).id(ReservationId(1));
        let invalid = Invalid { field: RefusedField::Quantity, value: 0, low: 1, high: 9, at: AT };
        let reserved = ReserveOutcome::Reserved {
            id: ReservationId(1),
            sequence: 3,
            deadline_ms: 2000,
            repeated: true,
            at: AT,
        };
        let rows = [
            (reserved, "reserved", Exit::Done),
            (
                ReserveOutcome::Already { state: Ended::Confirmed, sequence: 3, at: AT },
                "confirmed",
                Exit::Done,
            ),
            (
                ReserveOutcome::Already { state: Ended::Cancelled, sequence: 3, at: AT },
                "cancelled",
                Exit::Refused,
            ),
            (
                ReserveOutcome::Already { state: Ended::Expired, sequence: 3, at: AT },
                "expired",
                Exit::Refused,
            ),
            (
                ReserveOutcome::RefusedEarlier { with: Status::SoldOut, at: AT },
                "refused_earlier",
                Exit::Refused,
            ),
            (
                ReserveOutcome::Insufficient { free: 1, held: 2, earliest_return_ms: 0, at: AT },
                "insufficient",
                Exit::Refused,
            ),
            (ReserveOutcome::SoldOut { at: AT }, "sold_out", Exit::Refused),
            (ReserveOutcome::LimitReached { limit: 1, has: 1, at: AT }, "limit_reached", Exit::Refused),
            (ReserveOutcome::NotOpen { opens_ms: 5, opens_in_ms: 1, at: AT }, "not_open", Exit::Refused),
            (ReserveOutcome::Closed { closed_ms: 5, at: AT }, "closed", Exit::Refused),
            (ReserveOutcome::UnknownProduct { at: AT }, "unknown_product", Exit::Refused),
            (ReserveOutcome::IdConflict { at: AT }, "id_conflict", Exit::Refused),
            (ReserveOutcome::Fenced { at: AT }, "fenced", Exit::Refused),
            (ReserveOutcome::Invalid(invalid), "invalid", Exit::Refused),
        ];
        for (outcome, word, exit) in rows {
            let told = reserve_told(&order, &outcome);
            assert_eq!((told.exit(), &told.json()["outcome"]), (exit, &word.into()), "{outcome:?}");
            assert_eq!(told.json()["id"], format!("{:032x}", 1));
            assert_eq!(told.json()["index"], 9);
        }
    }

    #[test]
    fn whoever_has_to_queue_was_not_refused() {
        let json = queueing(ReservationId(1), 57, Some(Duration::from_secs(120))).json();
        assert_eq!(
            (&json["error"], &json["exit"], &json["place"]),
            (&"queueing".into(), &3.into(), &57.into())
        );
        assert_eq!(json["eta_ms"], 120_000);
        assert!(json["message"].as_str().unwrap().contains("number 57 in line, in about 2m 0s"), "{json}");
    }

    #[test]
    fn a_cancel_is_a_yes_when_nothing_is_kept() {
        let rows = [
            (CancelOutcome::Cancelled { sequence: 1, repeated: false, at: AT }, "cancelled", Exit::Done),
            (CancelOutcome::Expired { sequence: 1, at: AT }, "expired", Exit::Done),
            (CancelOutcome::Fenced { at: AT }, "fenced", Exit::Done),
            (CancelOutcome::RefusedEarlier { with: Status::Closed, at: AT }, "refused_earlier", Exit::Done),
            (CancelOutcome::AlreadyConfirmed { sequence: 1, at: AT }, "already_confirmed", Exit::Refused),
            (CancelOutcome::IdConflict { at: AT }, "id_conflict", Exit::Refused),
        ];
        for (outcome, word, exit) in rows {
            let told = cancel_told(ReservationId(1), &outcome);
            assert_eq!((told.exit(), &told.json()["outcome"]), (exit, &word.into()), "{outcome:?}");
        }
    }

    #[test]
    fn only_sold_units_are_a_confirmation() {
        let rows = [
            (ConfirmOutcome::Confirmed { sequence: 1, repeated: true, at: AT }, "confirmed", Exit::Done),
            (ConfirmOutcome::Expired { sequence: 1, at: AT }, "expired", Exit::Refused),
            (ConfirmOutcome::Cancelled { sequence: 1, at: AT }, "cancelled", Exit::Refused),
            (ConfirmOutcome::Fenced { at: AT }, "fenced", Exit::Refused),
            (ConfirmOutcome::UnknownReservation { at: AT }, "unknown_reservation", Exit::Refused),
        ];
        for (outcome, word, exit) in rows {
            let told = confirm_told(ReservationId(1), &outcome);
            assert_eq!((told.exit(), &told.json()["outcome"]), (exit, &word.into()), "{outcome:?}");
        }
    }

    #[test]
    fn every_resolution_is_an_answer() {
        let rows = [
            (Resolution::Held { sequence: 1, deadline_ms: 5, at: AT }, "held"),
            (Resolution::Ended { state: Ended::Expired, sequence: 1, at: AT }, "expired"),
            (Resolution::Refused { with: Status::SoldOut, at: AT }, "refused"),
            (Resolution::Applied { sequence: 1, at: AT }, "applied"),
            (Resolution::Never { at: AT }, "never"),
        ];
        for (resolution, word) in rows {
            let told = resolve_told(ReservationId(1), &resolution);
            assert_eq!((told.exit(), &told.json()["outcome"]), (Exit::Done, &word.into()), "{resolution:?}");
        }
    }
}
