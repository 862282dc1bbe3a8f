//! Reads by any server: a connection to each, which take turns; what none of them answers goes to the leader.
//!
//! A server that cannot read for now (it is older, cut off, gone, silent) says so or says nothing. It is then left
//! alone for a while, and the read goes on to the next one. A read changes nothing, so it can be asked twice.
//! Deliberately not here: the leader's own connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_protocol::{Kind, Status};
use tokio::time::Instant;

use crate::call::{Asked, Reply};
use crate::client::settle::ask;
use crate::connection::{Common, Link, Route};
use crate::url::Address;

/// Who answers reads. All of them are as of a moment behind the call, whoever answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The server that leads: the default.
    #[default]
    Leader,
    /// The servers of the URL in turn, so that reads are spread over the cluster; the leader if they cannot.
    Any,
}

/// How long one server may take over a read, at most, before the next one is asked.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(300);

/// How long a server that could not answer is left alone at first. It doubles with every further failure.
const SHUN_TIME: Duration = Duration::from_millis(250);
const SHUN_DOUBLINGS_MAX: u32 = 4;

/// Connections to every server.
#[derive(Debug)]
pub(crate) struct Reads {
    servers: Vec<Reader>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Reader {
    link: Link,
    record: Mutex<Record>,
}

/// How a server did of late.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    failures: u32,
    shunned_until: Option<Instant>,
}

impl Record {
    fn is_shunned(&self, now: Instant) -> bool {
        self.shunned_until.is_some_and(|until| until > now)
    }

    /// Failures of calls that were under way together count once.
    fn failed(&mut self, now: Instant) {
        if !self.is_shunned(now) {
            self.shunned_until = Some(now + SHUN_TIME * (1 << self.failures.min(SHUN_DOUBLINGS_MAX)));
            self.failures += 1;
        }
    }
}

impl Reads {
    /// Starts a task for each server; each connects when it is first asked.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn open(common: &Arc<Common>, addresses: Vec<Address>) -> Self {
        let open = |address| Link::open(Arc::clone(common), Route::Here(address));
        let server = |address| Reader { link: open(address), record: Mutex::default() };
        Self { servers: addresses.into_iter().map(server).collect(), turn: AtomicUsize::new(0) }
    }

    /// Asks one server after the other. `None`: none of them could answer in its share of the time.
    pub(crate) async fn ask(&self, kind: Kind, asked: &Asked, deadline: Instant) -> Option<Reply> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.servers.len();
        for ahead in 0..count {
            let server = &self.servers[turn.wrapping_add(ahead) % count];
            let now = Instant::now();
            if server.record().is_shunned(now) {
                continue;
            }
            // Those who are asked later, and the leader in the end, keep as much time each.
            let shares = u32::try_from(count - ahead).expect("a URL has few addresses") + 1;
            let share = deadline.saturating_duration_since(now) / shares;
            let by = now + share.min(ANSWER_TIME_MAX);
            match ask(&server.link, kind, asked.clone(), by).await {
                Ok(reply) if is_answered(&reply) => {
                    server.record().failures = 0;
                    return Some(reply);
                }
                _ => server.record().failed(Instant::now()),
            }
        }
        None
    }
}

impl Reader {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server could read at all.
fn is_answered(reply: &Reply) -> bool {
    reply.answer().is_none_or(|answer| {
        let status = answer.status();
        !matches!(status, None | Some(Status::Busy | Status::Full | Status::NotLeader | Status::Unknown))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_is_left_alone_longer_each_time_up_to_a_bound() {
        let mut record = Record::default();
        let mut now = Instant::now();
        assert!(!record.is_shunned(now));
        for expected_ms in [250, 500, 1_000, 2_000, 4_000, 4_000] {
            record.failed(now);
            record.failed(now);
            assert!(record.is_shunned(now + Duration::from_millis(expected_ms - 1)));
            now += Duration::from_millis(expected_ms);
            assert!(!record.is_shunned(now), "after {expected_ms} ms");
        }
    }
}
