//! The two ends of one call: a [`Wait`] that its caller polls, and a [`Promise`] that the connection keeps.
//!
//! Why not a oneshot channel: a caller whose deadline passes must know whether its request may have left this
//! process, exactly. So there is one more step than "sent or dropped": the connection *claims* a call just
//! before it writes it, and a call that was given up cannot be claimed any more. One allocation holds all of
//! it. The lock is held for a few instructions and shared by two parties.
//!
//! Deliberately not here: deadlines. The caller's future has them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::call::{Lost, Reply};

type Fate = Result<Reply, Lost>;

/// A call's two ends.
pub(crate) fn pair() -> (Promise, Wait) {
    let cell = Arc::new(Cell(Mutex::new(Stage::Queued(None))));
    (Promise(Arc::clone(&cell)), Wait(cell))
}

struct Cell(Mutex<Stage>);

/// How far a call got. Moves downwards only.
enum Stage {
    /// In this process, not written anywhere.
    Queued(Option<Waker>),
    /// Written, or about to be.
    Claimed(Option<Waker>),
    /// Decided, and not looked at yet.
    Settled(Fate),
    /// Given up by its caller, or settled and looked at.
    Over,
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection's end. Dropped unfulfilled, it tells the caller as much as is certain.
pub(crate) struct Promise(Arc<Cell>);

impl Promise {
    /// Whether the call may be written now. `false`: its caller gave up and must never see it happen.
    pub(crate) fn claim(&self) -> bool {
        let mut stage = self.0.lock();
        match &mut *stage {
            Stage::Queued(waker) => {
                *stage = Stage::Claimed(waker.take());
                true
            }
            Stage::Claimed(_) => panic!("a call is claimed once"),
            Stage::Settled(_) | Stage::Over => false,
        }
    }

    /// Whether anybody still waits.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(*self.0.lock(), Stage::Queued(_) | Stage::Claimed(_))
    }

    /// Hands the reply to the caller, if it still waits.
    pub(crate) fn fulfil(self, fate: Fate) {
        self.settle(|_| fate);
    }

    fn settle(&self, fate: impl FnOnce(bool) -> Fate) {
        let mut stage = self.0.lock();
        let (waker, claimed) = match &mut *stage {
            Stage::Queued(waker) => (waker.take(), false),
            Stage::Claimed(waker) => (waker.take(), true),
            Stage::Settled(_) | Stage::Over => return,
        };
        *stage = Stage::Settled(fate(claimed));
        drop(stage);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(|claimed| Err(if claimed { Lost::InDoubt } else { Lost::Unsent }));
    }
}

/// The caller's end: a future of the reply. Dropped, it frees the call: one that was not written yet never is.
pub(crate) struct Wait(Arc<Cell>);

impl Wait {
    /// Stops waiting, and tells what is certain at this moment.
    pub(crate) fn give_up(self) -> Fate {
        match self.leave() {
            Stage::Queued(_) => Err(Lost::Unsent),
            Stage::Claimed(_) => Err(Lost::InDoubt),
            Stage::Settled(fate) => fate,
            Stage::Over => panic!("a call that was looked at is not given up"),
        }
    }

    /// Ends the call, and hands out where it stood, so that wakers and replies are dropped outside the lock.
    fn leave(&self) -> Stage {
        std::mem::replace(&mut *self.0.lock(), Stage::Over)
    }
}

impl Future for Wait {
    type Output = Fate;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fate> {
        let mut stage = self.0.lock();
        match &mut *stage {
            Stage::Queued(waker) | Stage::Claimed(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Stage::Settled(_) => match std::mem::replace(&mut *stage, Stage::Over) {
                Stage::Settled(fate) => Poll::Ready(fate),
                _ => unreachable!("the stage was settled under this lock"),
            },
            Stage::Over => panic!("polled after it was ready"),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_in_the_queue_is_never_claimed() {
        let (promise, wait) = pair();
        assert!(matches!(wait.give_up(), Err(Lost::Unsent)));
        assert!(!promise.is_wanted());
        assert!(!promise.claim());
    }

    #[test]
    fn what_was_claimed_is_in_doubt_when_given_up() {
        let (promise, wait) = pair();
        assert!(promise.claim());
        assert!(matches!(wait.give_up(), Err(Lost::InDoubt)));
        promise.fulfil(Ok(Reply::Pong(std::time::Duration::ZERO)));
    }

    #[test]
    fn a_reply_that_came_first_is_not_lost_by_giving_up() {
        let (promise, wait) = pair();
        assert!(promise.claim());
        promise.fulfil(Ok(Reply::Pong(std::time::Duration::ZERO)));
        assert!(matches!(wait.give_up(), Ok(Reply::Pong(_))));
    }

    #[test]
    fn a_dropped_promise_says_whether_it_was_claimed() {
        let (promise, wait) = pair();
        drop(promise);
        assert!(matches!(wait.give_up(), Err(Lost::Unsent)));
        let (promise, wait) = pair();
        assert!(promise.claim());
        drop(promise);
        assert!(matches!(wait.give_up(), Err(Lost::InDoubt)));
    }

    #[test]
    fn dropping_the_wait_frees_the_call() {
        let (promise, wait) = pair();
        drop(wait);
        assert!(!promise.is_wanted());
        assert!(!promise.claim());
    }

    #[tokio::test]
    async fn a_reply_wakes_its_caller() {
        let (promise, wait) = pair();
        let waiting = tokio::spawn(wait);
        tokio::task::yield_now().await;
        promise.fulfil(Err(Lost::Hopeless));
        assert!(matches!(waiting.await.unwrap(), Err(Lost::Hopeless)));
    }
}
