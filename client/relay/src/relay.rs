//! A relay: one group's events to one destination, until it is told to stop.
//!
//! It is written to begin anew: whatever goes wrong, it leaves its seat and does as after a crash, so that there is one way
//! back and not one for each trouble. Deliberately not here: coming to work ([`crate::seat`]) and working
//! ([`crate::session`]).

use std::pin::pin;
use std::time::Duration;

use sluice_client::Client;
use tokio::time::sleep;

use crate::destination::Destination;
use crate::error::RelayError;
use crate::note::{Note, Tally};
use crate::seat::{jitter, take_seat};
use crate::session::Session;

/// The group's name unless it is set.
pub const GROUP_DEFAULT: &str = "relay-nats";

/// The first pause before it begins anew, doubled with each further trouble. Short, for whoever loses a race for a seat.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest that this grows to: how late it may notice that a destination is back.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
#[must_use = "a relay does nothing until it runs"]
pub struct Relay<D> {
    client: Client,
    group: String,
    destination: D,
    tally: Tally,
}

impl<D: Destination> Relay<D> {
    /// A relay of the events of this client's servers, as the group [`GROUP_DEFAULT`].
    pub fn new(client: Client, destination: D) -> Self {
        Self { client, group: GROUP_DEFAULT.to_owned(), destination, tally: Tally::default() }
    }

    /// The consumer group that remembers how far it has come. It is made if there is none of this name. It must want all
    /// events; and what is to go to two places needs two groups.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = name.into();
        self
    }

    /// Publishes until `stop` is done; then what is under way is waited for and acknowledged. What happens meanwhile is
    /// told.
    ///
    /// # Errors
    /// What does not [pass](RelayError::is_passing): somebody has to change something. Nothing is lost by it: a relay that
    /// is started again goes on where this one was.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(Note<'_>),
    ) -> Result<Tally, RelayError> {
        let mut stop = pin!(stop);
        let mut pause = PAUSE_MIN;
        loop {
            let stored = self.tally.stored;
            let worked = self.work(&mut stop, &mut tell).await;
            let error = match worked {
                Ok(()) => return Ok(self.tally),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            self.tally.restarts += 1;
            // Whoever has got something done has reason to hope.
            pause = if self.tally.stored > stored { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            let pause = pause + jitter(pause);
            tell(Note::Trouble { error: &error, pause });
            tokio::select! {
                () = &mut stop => return Ok(self.tally),
                () = sleep(pause) => {}
            }
        }
    }

    /// Once from the beginning: until it is told to stop, or something is wrong.
    async fn work(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
        tell: &mut impl FnMut(Note<'_>),
    ) -> Result<(), RelayError> {
        let seat = tokio::select! {
            () = &mut *stop => return Ok(()),
            seat = take_seat(&self.client, &self.group, &mut self.destination, tell) => seat?,
        };
        self.tally.stored = self.tally.stored.max(seat.after);
        let mut session = Session::new(seat, &mut self.destination, &mut self.tally);
        let worked = session.run(stop, tell).await;
        // What is stored is acknowledged, and the place is free at once. If the servers cannot be told so now, they
        // notice by themselves.
        let _ = session.close().await;
        worked
    }
}
