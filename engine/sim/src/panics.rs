//! Panics of the core are part of what is simulated: they end a process, not the simulator, and are told by whoever
//! caught them.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics remembered instead of printed, for the rest of the process.
pub fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            LAST.with(|last| *last.borrow_mut() = info.to_string().replace('\n', " "));
        }));
    });
}

/// What the last panic of this thread said.
pub fn last() -> String {
    LAST.with(|last| last.borrow().clone())
}
