//! The order in which the replica publishes, watched by another thread while it does.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{TERMS, TestNode, item};
use sluice_protocol::{ProductId, limits};

/// Products that every entry changes: many, so that publishing them takes long enough to be caught at it.
const PRODUCTS: u64 = limits::ITEMS_MAX as u64;

/// Of those, one in so many is watched.
const WATCHED_EACH: usize = 128;

/// Entries applied under the watcher's eyes.
const ENTRIES: u64 = 200;

/// Rule N rests on it: whoever loads the applied index finds in each notice that index or a later one, if the product
/// was changed there.
#[test]
fn whoever_loads_the_applied_index_finds_every_notice_up_to_it() {
    let mut node = TestNode::new();
    for product in 1..=PRODUCTS {
        node.put(product, ENTRIES, TERMS);
    }
    let buy = |nth: u64, node: &mut TestNode| {
        let one = |product| item(u128::from(nth * PRODUCTS + product), product, 1, 1);
        node.reserve_all(&(1..=PRODUCTS).map(one).collect::<Vec<_>>());
    };
    // From here on every product has changed in every entry.
    buy(1, &mut node);
    let (board, over) = (Arc::clone(&node.board), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let gate = board.gate().expect("the gate is open");
            let products = (1..=PRODUCTS).step_by(WATCHED_EACH);
            let lanes: Vec<_> =
                products.map(|product| gate.lane(ProductId(product)).expect("it was put")).collect();
            while !over.load(Ordering::Relaxed) {
                let applied = board.applied().index;
                for lane in &lanes {
                    let posted = lane.notice.read().index;
                    assert!(posted >= applied, "index {applied} was shown with a notice of {posted}");
                }
            }
        });
        for nth in 2..=ENTRIES {
            buy(nth, &mut node);
        }
        over.store(true, Ordering::Relaxed);
        watcher.join().expect("no index was shown too early");
    });
}
