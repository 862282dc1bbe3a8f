//! Runs code that may panic or hang on damaged files, and turns either into a value.
//!
//! In this process a panic must end everything at once: half a server must not go on serving. That is the job of
//! [`install_abort_hook`], not of `panic = "abort"`, because with the latter nothing could catch the panics with which
//! sled greets a damaged file. [`run`] suspends the hook for its own thread, and for sled's pool threads meanwhile.
//!
//! Deliberately not here: ending a thread that hangs. Nothing can; it is left behind, and the process exits with the
//! refusal.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Guards at work. While there are any, a panic in one of sled's pool threads is theirs.
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// How sled names the threads that do its writing.
const SLED_POOL_PREFIX: &str = "sled-io-";

/// Why guarded code gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardError {
    /// It panicked, with this message.
    Panicked(String),
    /// It did not end in time and was left behind.
    TimedOut(Duration),
    /// No thread could be started for it.
    NoThread(String),
}

/// Makes every panic end the process, except in guarded code. To be called once, first thing in `main`.
pub fn install_abort_hook() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_guarded() {
            tracing::error!(panic = %info, "panic while checking stored files");
            return;
        }
        report(info);
        std::process::abort();
    }));
}

fn is_guarded() -> bool {
    let in_pool = || thread::current().name().is_some_and(|name| name.starts_with(SLED_POOL_PREFIX));
    GUARDED.get() || (GUARDS.load(Ordering::Acquire) > 0 && in_pool())
}

/// Runs `work` on a thread of its own and waits for it, at most for `limit`.
///
/// # Errors
/// [`GuardError`] if it panicked or did not end in time. In the latter case the thread, and all that `work` owns, is
/// left behind.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GuardError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    GUARDS.fetch_add(1, Ordering::AcqRel);
    let started = thread::Builder::new().name("guard".to_owned()).spawn(move || {
        GUARDED.set(true);
        let result = panic::catch_unwind(AssertUnwindSafe(work));
        // If nobody waits any more the result is dropped here, which closes its files.
        let _ = sender.send(result.map_err(|payload| message_of(payload.as_ref())));
    });
    let outcome = match started {
        Err(error) => Err(GuardError::NoThread(error.to_string())),
        Ok(_) => match receiver.recv_timeout(limit) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(GuardError::Panicked(message)),
            Err(_) => Err(GuardError::TimedOut(limit)),
        },
    };
    // A thread left behind keeps its guard: what it and sled's pool still do must not end the process before the
    // refusal has been reported.
    if !matches!(outcome, Err(GuardError::TimedOut(_))) {
        GUARDS.fetch_sub(1, Ordering::AcqRel);
    }
    outcome
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_a_panic_and_a_hang() {
        let long = Duration::from_secs(600);
        assert_eq!(run(long, || 7), Ok(7));
        assert_eq!(
            run(long, || -> u8 { panic!("bad {}", 1) }),
            Err(GuardError::Panicked("bad 1".to_owned()))
        );
        let (keep, wait) = mpsc::channel::<()>();
        let short = Duration::from_millis(1);
        assert_eq!(run(short, move || wait.recv().is_ok()), Err(GuardError::TimedOut(short)));
        drop(keep);
    }
}
