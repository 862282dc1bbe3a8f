//! `sluice tail`: events as they are committed, for people and for scripts. Nothing is acknowledged by it.
//!
//! Deliberately not here: order systems; those are members of a group, through the client crate.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use sluice_client::{Client, EventKind, EventView, ProductId, Start, Tailed};
use sluice_relay::event_json;

use super::exit::Exit;
use super::output::{self, Failure};
use super::remote::RemoteArgs;
use super::time::{Utc, parse_start};
use super::told::name_of;

/// How long a look waits for news. Longer costs the server less.
const WAIT: Duration = Duration::from_secs(10);

/// Between two tries while no server answers.
const PAUSE: Duration = Duration::from_millis(500);

/// Print events as they are committed, without a group.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Where to begin: beginning, end, a sequence, a time such as 2026-11-27T20:00Z, or 10m for ten minutes ago
    #[arg(long, value_name = "WHERE", default_value = "end", value_parser = parse_start)]
    from: Start,
    /// Only events of this product
    #[arg(long)]
    product: Option<ProductId>,
    /// Only events of this kind: reserved, confirmed, cancelled, expired, restocked, written-off, terms-changed, sealed;
    /// may be given more than once
    #[arg(long, value_name = "KIND", value_parser = parse_kind, value_delimiter = ',')]
    kind: Vec<EventKind>,
    /// Stop after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop where the stream ended when this was asked
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl TailArgs {
    pub(super) fn run(&self) -> Exit {
        let as_json = self.remote.is_json();
        self.remote.run_lines(async |client| self.print(&client, as_json).await)
    }

    async fn print(&self, client: &Client, as_json: bool) -> Result<Exit, Failure> {
        let end = if self.no_follow { client.stream_bounds().await?.last } else { u64::MAX };
        let mut tail = client.tail(self.from).await?;
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && tail.after() < end {
            let tailed = match tail.next(WAIT).await {
                Ok(tailed) => tailed,
                Err(error) if error.is_retryable() && !self.no_follow => {
                    output::complain(&format!("{error}; trying again"), Exit::Done);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let lines = match tailed {
                Tailed::Gap { from, to } => vec![gap(from, to, as_json)],
                Tailed::Events(events) => {
                    let wanted = events.iter().filter(|event| event.sequence <= end && self.wants(event));
                    let lines: Vec<String> = wanted
                        .take(usize::try_from(left).unwrap_or(usize::MAX))
                        .map(|event| line(event, as_json))
                        .collect();
                    left -= lines.len() as u64;
                    lines
                }
            };
            if !output::try_print(&lines.concat())? {
                break;
            }
        }
        Ok(Exit::Done)
    }

    fn wants(&self, event: &EventView) -> bool {
        self.product.is_none_or(|product| product == event.product)
            && (self.kind.is_empty() || self.kind.contains(&event.kind))
    }
}

/// Reads the name of a kind, with either stroke.
pub(super) fn parse_kind(text: &str) -> Result<EventKind, String> {
    let name = text.replace('-', "_");
    EventKind::ALL.iter().copied().find(|kind| name_of(kind) == name).ok_or_else(|| {
        let names: Vec<String> = EventKind::ALL.iter().map(name_of).collect();
        format!("expected one of {}", names.join(", ").replace('_', "-"))
    })
}

fn gap(from: u64, to: u64, as_json: bool) -> String {
    if as_json {
        return format!("{}\n", json!({ "gap": { "from": from, "to": to } }));
    }
    format!("{from} to {to} are kept no more\n")
}

fn line(event: &EventView, as_json: bool) -> String {
    if as_json { format!("{}\n", event_json(event)) } else { event_text(event) }
}

fn event_text(event: &EventView) -> String {
    let kind = name_of(event.kind).replace('_', " ");
    let mut text = format!("{}  {:>8}  {kind:<13}", Utc(event.time_ms), event.sequence);
    text += &match event.quantity {
        0 => format!("  product {}", event.product),
        units => format!("  {units} of product {}", event.product),
    };
    if event.user.0 != 0 {
        text += &format!("  user {}", event.user);
    }
    if event.id.0 != 0 {
        text += &format!("  {}", event.id);
    }
    text += &match event.kind {
        EventKind::Reserved => format!("  until {}", Utc(event.detail)),
        EventKind::Cancelled if event.detail != 0 => format!("  reason {}", event.detail),
        _ => String::new(),
    };
    text + "\n"
}

#[cfg(test)]
mod tests {
    use sluice_client::{ReservationId, UserId};

    use super::*;

    fn event(kind: EventKind) -> EventView {
        EventView {
            sequence: 17,
            index: 9,
            time_ms: 1_000_000_000,
            kind,
            product: ProductId(7),
            user: UserId(42),
            quantity: 2,
            id: ReservationId(0xab),
            detail: 3,
        }
    }

    #[test]
    fn people_read_a_line() {
        let text = event_text(&event(EventKind::Cancelled));
        let id = format!("{:032x}", 0xab);
        let expected = format!(
            "1970-01-12T13:46:40.000Z        17  cancelled      2 of product 7  user 42  {id}  reason 3\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn kinds_have_one_name_here_and_in_subjects() {
        for kind in EventKind::ALL {
            assert_eq!(name_of(kind), sluice_relay::kind_name(*kind));
        }
    }

    #[test]
    fn kinds_are_read_by_their_names() {
        assert_eq!(parse_kind("written-off"), Ok(EventKind::WrittenOff));
        assert_eq!(parse_kind("terms_changed"), Ok(EventKind::TermsChanged));
        assert!(parse_kind("sold").unwrap_err().contains("confirmed"));
    }
}
