//! The signals that end a command which would work for ever.
//!
//! Deliberately not here: a node, which looks further after its end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for one of them. They are caught from now on.
pub(super) fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
