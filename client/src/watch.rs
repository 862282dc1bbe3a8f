//! Watching one reservation until it has ended.
//!
//! Servers tell nobody by themselves what became of a reservation, so this asks again and again: at first often, then
//! ever more slowly, and when the hold ends. Each time costs the server one read. Whoever wants to know of *many*
//! reservations reads the stream ([`crate::consume`]), which costs nothing for each.

use std::time::Duration;

use sluice_protocol::{ReservationId, State};
use tokio::time::sleep;

use crate::client::Client;
use crate::error::Error;
use crate::view::Reservation;

/// The first pause between two reads; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest: what a visitor who watches the page hardly notices.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How far behind a deadline it is read again: expiry is told by the first entry behind it.
const BEHIND_DEADLINE: Duration = Duration::from_millis(50);

/// The changes of one reservation. See [`Client::watch`].
#[derive(Debug)]
pub struct Watch {
    client: Client,
    id: ReservationId,
    seen: Option<State>,
    pause: Duration,
    /// How long until the hold ends, as of the last read.
    left: Duration,
}

impl Client {
    /// Watches a reservation: tells where it stands, and each change until it has ended.
    pub fn watch(&self, id: ReservationId) -> Watch {
        Watch { client: self.clone(), id, seen: None, pause: PAUSE, left: Duration::MAX }
    }
}

impl Watch {
    /// Where the reservation stands, then its next change; `None` after it has ended. One that does not exist yet is
    /// waited for. A reservation that expired ends the watch, though a late payment may yet confirm it if its units are
    /// still free: cancel it to be sure.
    ///
    /// # Errors
    /// As every read. After an error the next call goes on where this one stopped.
    pub async fn next(&mut self) -> Result<Option<Reservation>, Error> {
        if self.seen.is_some_and(|state| state != State::Held) {
            return Ok(None);
        }
        loop {
            // Nothing is known at first, and nothing is waited for.
            if self.left != Duration::MAX {
                sleep(self.pause.min(self.left.saturating_add(BEHIND_DEADLINE))).await;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
            let found = self.client.reservation(self.id).await?;
            self.left = PAUSE_MAX;
            let Some(found) = found else { continue };
            if found.state == State::Held {
                self.left = Duration::from_millis(found.deadline_ms.saturating_sub(found.at.time_ms));
            }
            if self.seen != Some(found.state) {
                self.seen = Some(found.state);
                self.pause = PAUSE;
                return Ok(Some(found));
            }
        }
    }

    /// How the reservation ended: waits for the last of its changes.
    ///
    /// # Errors
    /// As every read.
    pub async fn end(mut self) -> Result<Option<Reservation>, Error> {
        let mut last = None;
        while let Some(change) = self.next().await? {
            last = Some(change);
        }
        Ok(last)
    }
}
