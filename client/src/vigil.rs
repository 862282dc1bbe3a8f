//! Watching a leader that has fallen silent: is it still there, and does another one lead by now?
//!
//! A reply may take its whole budget, so silence alone proves nothing. A ping asks whether the server lives. If
//! not even that is answered, the other servers are asked who leads, beside the connection and for as long as the
//! silence lasts. Only one that says it leads itself is moved to. Deliberately not here: giving up a
//! connection that has no replacement; that is the session's patience.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Common;
use crate::greet::Welcomed;
use crate::router::Server;
use crate::search::find_leader;
use crate::session::Session;

/// How long nothing may come, while replies are due, before the server is asked whether it lives.
const PING_AFTER: Duration = Duration::from_millis(50);

/// How long before the others are asked who leads.
const SEARCH_AFTER: Duration = Duration::from_millis(100);

/// Over one connection.
pub(crate) struct Vigil {
    common: Arc<Common>,
    watched: Server,
    /// Whether there is anybody else to ask.
    awake: bool,
    /// The beginning of the silence in which a ping was written.
    pinged: Option<Instant>,
    search: Option<Pin<Box<dyn Future<Output = Welcomed> + Send>>>,
}

impl Vigil {
    pub(crate) fn over(common: Arc<Common>, watched: Server) -> Self {
        let awake = common.router.has_others(&watched.address);
        Self { common, watched, awake, pinged: None, search: None }
    }

    /// One that never does anything.
    pub(crate) fn asleep(common: Arc<Common>, watched: Server) -> Self {
        Self { common, watched, awake: false, pinged: None, search: None }
    }

    /// When to look next.
    pub(crate) fn next_at(&self, session: &Session) -> Option<Instant> {
        let since = session.silent_since().filter(|_| self.awake && self.search.is_none())?;
        let after = if self.pinged == Some(since) { SEARCH_AFTER } else { PING_AFTER };
        Some(since + after)
    }

    /// Does what is to be done by now. A ping is written only if `out` shows that the socket takes what it gets.
    pub(crate) fn look(&mut self, session: &mut Session, now: Instant, out: &mut Vec<u8>) {
        if self.next_at(session).is_none_or(|at| at > now) {
            return;
        }
        let since = session.silent_since();
        if self.pinged == since {
            self.search = Some(Box::pin(search(Arc::clone(&self.common), self.watched.clone())));
            return;
        }
        self.pinged = since;
        if out.is_empty() {
            session.ping(now, out);
        }
    }

    /// Something came: the server lives.
    pub(crate) fn heard(&mut self) {
        self.search = None;
    }

    /// Waits until another leader is found.
    pub(crate) async fn found(&mut self) -> Welcomed {
        match &mut self.search {
            Some(search) => search.await,
            None => pending().await,
        }
    }
}

async fn search(common: Arc<Common>, avoid: Server) -> Welcomed {
    match find_leader(&common, Some(&avoid)).await {
        Ok(welcomed) => welcomed,
        Err(_) => pending().await,
    }
}
