//! `sluice position` and `sluice watch`: how far an order is, for whoever waits for it.
//!
//! Deliberately not here: reading a reservation once ([`super::reservation`]).

use clap::Args;
use sluice_client::{Client, Position, ReservationId, State};

use super::exit::Exit;
use super::group::unknown;
use super::output::{self, Failure};
use super::remote::RemoteArgs;
use super::reservation::show_told;
use super::told::Fact::{Number, Span, Text};
use super::told::Told;

/// Tell how many events a group takes before a reservation's.
#[derive(Debug, Args)]
pub struct PositionArgs {
    /// The group's name
    group: String,
    /// The reservation
    id: ReservationId,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl PositionArgs {
    pub(super) fn run(&self) -> Exit {
        self.remote.run(async |client| self.position(&client).await)
    }

    async fn position(&self, client: &Client) -> Result<Told, Failure> {
        let id = ("id", Text(self.id.to_string()));
        let Some(reservation) = client.reservation(self.id).await? else {
            return Ok(Told::no("unknown_reservation").about(vec![id]));
        };
        Ok(match client.position(&self.group, &reservation).await? {
            Some(position) => {
                told(&position, reservation.sequence).about(vec![("group", Text(self.group.clone())), id])
            }
            None if reservation.sequence == 0 => Told::no("no_event").about(vec![id]),
            None => unknown(&self.group),
        })
    }
}

/// Acknowledged is not the same as next.
fn told(position: &Position, sequence: u64) -> Told {
    let word = match position.ahead {
        _ if position.cursor >= sequence => "acknowledged",
        0 => "next",
        _ => "waiting",
    };
    let told = Told::yes(word)
        .fact("sequence", Number(sequence))
        .fact("ahead", Number(position.ahead))
        .fact("cursor", Number(position.cursor))
        .at(position.at);
    match position.eta {
        Some(eta) => told.fact("eta", Span(u64::try_from(eta.as_millis()).unwrap_or(u64::MAX))),
        None => told,
    }
}

/// Tell where a reservation stands, and each change until it has ended. Exit code 1 if it did not end in a sale.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The reservation; one that does not exist yet is waited for
    id: ReservationId,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl WatchArgs {
    pub(super) fn run(&self) -> Exit {
        let as_json = self.remote.is_json();
        self.remote.run_lines(async |client| {
            let mut watch = client.watch(self.id);
            let mut exit = Exit::Refused;
            while let Some(change) = watch.next().await? {
                exit = if change.state == State::Confirmed { Exit::Done } else { Exit::Refused };
                let told = show_told(&change);
                let text = if as_json { format!("{}\n", told.json()) } else { told.text() };
                if !output::try_print(&text)? {
                    break;
                }
            }
            Ok(exit)
        })
    }
}
