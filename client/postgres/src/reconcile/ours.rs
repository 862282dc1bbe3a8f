//! The server's side: its books, carried forward to where each lane of the table is.
//!
//! Deliberately not here: the table.

use std::time::Duration;

use sluice_client::books::{Changes, Entry, Merge};
use sluice_client::{Client, Start, Tailed};
use sluice_protocol::event::{LANES, lane_of};

use super::{ReconcileError, ServerBooks};

/// How long one look at the stream waits for events that have been handed over already.
const LOOK: Duration = Duration::from_secs(1);

/// The books as of these sequences, one for each lane; by the ids.
pub(super) async fn carried(
    client: &Client,
    books: ServerBooks,
    reach: &[u64; LANES as usize],
) -> Result<Vec<Entry>, ReconcileError> {
    let changes = changes(client, books.heading.sequence, reach).await?;
    let mut merge = Merge::new(changes);
    for product in &books.sums.products {
        merge.product(product.product, product.stock, product.held, product.sold);
    }
    let mut entries = books.entries;
    for entry in &mut entries {
        *entry = merge.entry(*entry)?;
    }
    merge.finish(|entry| entries.push(entry))?;
    entries.sort_unstable_by_key(|entry| entry.id);
    Ok(entries)
}

/// What has happened since the books, as far as each lane was handed over.
async fn changes(
    client: &Client,
    since: u64,
    reach: &[u64; LANES as usize],
) -> Result<Changes, ReconcileError> {
    let upto = reach.iter().copied().max().unwrap_or(since);
    let mut changes = Changes::since(since);
    let mut tail = client.tail(Start::After(since)).await?;
    while changes.upto() < upto {
        match tail.next(LOOK).await? {
            Tailed::Gap { from, to } => return Err(ReconcileError::Gap { from, to }),
            Tailed::Events(events) => {
                for event in events.iter().take_while(|event| event.sequence <= upto) {
                    if event.sequence <= reach[lane_of(event.product) as usize] {
                        changes.apply(event)?;
                    } else {
                        changes.pass(event.sequence)?;
                    }
                }
            }
        }
    }
    Ok(changes)
}
