//! Whether this node is alive, whether it can serve, and if not, why.
//!
//! Two questions, since they have different consequences: a node that is not *ready* gets no traffic for a while;
//! a node that is not *live* is restarted. Poison is for good: a node that cannot trust its own state never
//! becomes healthy again.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Condvar, Mutex};

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// Loading its state.
    Starting = 0,
    /// Leads, and its gate is open.
    Ready = 1,
    /// Alive, but others must serve, or nobody can at the moment.
    NotReady = 2,
    /// Going away after it has answered what it took on.
    Stopping = 3,
    /// Cannot trust its own state; wants to be stopped.
    Poisoned = 4,
    /// Alive and following a leader, who serves instead.
    Following = 5,
}

impl Condition {
    const ALL: [Self; 6] =
        [Self::Starting, Self::Ready, Self::NotReady, Self::Stopping, Self::Poisoned, Self::Following];

    /// Its name, as `/readyz` and `/stats` show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Stopping => "stopping",
            Self::Poisoned => "poisoned",
            Self::Following => "following",
        }
    }
}

/// The one place where threads say how the node is.
#[derive(Debug)]
pub struct Health {
    condition: AtomicU8,
    reason: Mutex<Cow<'static, str>>,
    changed: Condvar,
}

impl Health {
    /// A node that is starting.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            condition: AtomicU8::new(Condition::Starting as u8),
            reason: Mutex::new(Cow::Borrowed("loading the log and the ledger")),
            changed: Condvar::new(),
        })
    }

    /// The node leads and its gate is open.
    pub fn ready(&self) {
        self.become_(Condition::Ready, Cow::Borrowed(""));
    }

    /// The node follows the one that the reason names.
    pub fn following(&self, reason: impl Into<Cow<'static, str>>) {
        self.become_(Condition::Following, reason.into());
    }

    /// The node cannot serve at the moment, for this reason.
    pub fn not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.become_(Condition::NotReady, reason.into());
    }

    /// The node is going away, for good.
    pub fn stopping(&self) {
        self.become_(Condition::Stopping, Cow::Borrowed("shutting down"));
    }

    /// The node cannot trust its own state. Nothing said later takes this back.
    pub fn poison(&self, reason: impl Into<Cow<'static, str>>) {
        self.become_(Condition::Poisoned, reason.into());
    }

    /// How the node is. One atomic load.
    pub fn condition(&self) -> Condition {
        Condition::ALL[usize::from(self.condition.load(Ordering::Acquire))]
    }

    /// How the node is, and why; the reason is empty when it is ready.
    pub fn read(&self) -> (Condition, String) {
        let reason = self.reason.lock();
        (self.condition(), reason.clone().into_owned())
    }

    /// Blocks until the node serves or follows whoever does (`true`), or never will (`false`).
    pub fn wait_until_up(&self) -> bool {
        let mut reason = self.reason.lock();
        loop {
            match self.condition() {
                Condition::Ready | Condition::Following => return true,
                Condition::Stopping | Condition::Poisoned => return false,
                Condition::Starting | Condition::NotReady => self.changed.wait(&mut reason),
            }
        }
    }

    fn become_(&self, condition: Condition, why: Cow<'static, str>) {
        // The reason's lock also orders writers, so that the two never disagree.
        let mut reason = self.reason.lock();
        let allowed = match self.condition() {
            Condition::Poisoned => false,
            // A thread that has not heard of it yet must not make a node look ready that is going away.
            Condition::Stopping => condition == Condition::Poisoned,
            Condition::Starting | Condition::Ready | Condition::NotReady | Condition::Following => true,
        };
        if allowed {
            *reason = why;
            self.condition.store(condition as u8, Ordering::Release);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_stops_is_never_ready_again() {
        let health = Health::new();
        health.stopping();
        health.ready();
        health.not_ready("another node leads");
        assert_eq!(health.read(), (Condition::Stopping, "shutting down".to_owned()));
        assert!(!health.wait_until_up());
        health.poison("fdatasync failed");
        assert_eq!(health.condition(), Condition::Poisoned);
    }

    #[test]
    fn whoever_waits_hears_of_every_end() {
        for (end, ready) in [(Health::ready as fn(&Health), true), (Health::stopping, false)] {
            let health = Health::new();
            let waiting = std::thread::spawn({
                let health = Arc::clone(&health);
                move || health.wait_until_up()
            });
            health.not_ready("another node leads");
            end(&health);
            assert_eq!(waiting.join().unwrap(), ready);
        }
    }

    #[test]
    fn poison_is_for_good_and_keeps_its_first_reason() {
        let health = Health::new();
        assert_eq!(health.condition(), Condition::Starting);
        health.ready();
        assert_eq!(health.read(), (Condition::Ready, String::new()));
        health.not_ready("another node leads");
        assert_eq!(health.read(), (Condition::NotReady, "another node leads".to_owned()));
        health.poison("fdatasync failed");
        health.ready();
        health.poison("something else");
        assert_eq!(health.read(), (Condition::Poisoned, "fdatasync failed".to_owned()));
    }
}
