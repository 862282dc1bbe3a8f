//! How a relay comes to work: alone, and knowing what is stored.
//!
//! 1. A destination that does not answer needs no relay: nobody takes a seat for it.
//! 2. Whoever finds another member in the group waits. Events of a group are split among its members; a relay that had half of
//!    them could publish nothing, since nothing may leave before what is before it.
//! 3. The group is put where the destination is. That is the truth: what is not stored is delivered again, and what is
//!    stored and was never acknowledged is not.
//! 4. With its seat taken, it looks again what is stored. From now on only its own messages are next.
//!
//! None of it keeps two from publishing at once; the destination does that. It keeps them from trying.
//! Deliberately not here: the work ([`crate::session`]).

use std::time::Duration;

use sluice_client::consume::WINDOW_DEFAULT;
use sluice_client::{Client, ConsumeError, Consumer, EventKind, Group, GroupOutcome, GroupTerms, Start};
use tokio::time::sleep;

use crate::destination::Destination;
use crate::error::RelayError;
use crate::note::Note;

/// How often it is looked whether the seat is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a relay may be silent before another takes over: a crash costs this much, and so does a stall that is as long.
const SESSION_MS: u32 = 3_000;

/// A delivery is answered when it is stored, which takes as long as the destination is away: none is taken for failed.
const REDELIVER_AFTER: Duration = Duration::from_secs(365 * 86_400);

/// A relay at work.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) consumer: Consumer,
    /// Everything up to this sequence is stored.
    pub(crate) after: u64,
}

/// See the module.
pub(crate) async fn take_seat(
    client: &Client,
    name: &str,
    destination: &mut impl Destination,
    tell: &mut impl FnMut(Note<'_>),
) -> Result<Seat, RelayError> {
    destination.resume().await?;
    if let Some(group) = free_group(client, name, tell).await? {
        let stored = destination.resume().await?;
        align(client, name, &group, stored, tell).await?;
    }
    // Never given up: a dead letter would leave a hole that nothing may pass.
    let terms = GroupTerms { attempts_max: 0, session_ms: SESSION_MS, ..GroupTerms::default() };
    let consumer = client.consume(name).start(Start::Beginning).terms(terms).window(2 * WINDOW_DEFAULT);
    let consumer = consumer.redeliver_after(REDELIVER_AFTER).open().await?;
    match look_again(client, name, destination).await {
        Ok((after, is_empty)) => {
            tell(Note::Begins { after, is_empty });
            Ok(Seat { consumer, after })
        }
        Err(error) => {
            // Others need not wait until it is missed.
            let _ = consumer.close().await;
            Err(error)
        }
    }
}

/// The group, once it has no members; `None` if there is none.
async fn free_group(
    client: &Client,
    name: &str,
    tell: &mut impl FnMut(Note<'_>),
) -> Result<Option<Group>, RelayError> {
    let mut is_told = false;
    loop {
        let group = client.group(name).await?;
        let Some(group) = group.filter(|group| group.members > 0) else { return Ok(group) };
        if !is_told {
            tell(Note::Waits);
            is_told = true;
        }
        wants_all(name, &group.terms)?;
        sleep(LOOK_EVERY + jitter(LOOK_EVERY)).await;
    }
}

/// Puts the group where the destination is.
async fn align(
    client: &Client,
    name: &str,
    group: &Group,
    stored: Option<u64>,
    tell: &mut impl FnMut(Note<'_>),
) -> Result<(), RelayError> {
    wants_all(name, &group.terms)?;
    // Even if it seems to be there: its lanes may stand at different places, of which this is the lowest.
    let to = stored.unwrap_or(group.cursor);
    let last = client.stream_bounds().await?.last;
    if to > last {
        return Err(RelayError::Ahead { stored: to, last });
    }
    match client.seek_group(name, to).await? {
        GroupOutcome::Done { .. } if group.cursor > to => tell(Note::MovedBack { from: group.cursor, to }),
        GroupOutcome::Invalid(invalid) => return Err(ConsumeError::Refused(invalid).into()),
        // One that was removed meanwhile is made again.
        _ => {}
    }
    Ok(())
}

/// What is stored, now that it is the only one at work, and whether that is nothing.
async fn look_again(
    client: &Client,
    name: &str,
    destination: &mut impl Destination,
) -> Result<(u64, bool), RelayError> {
    let unknown = || ConsumeError::UnknownGroup { name: name.to_owned() };
    let group = client.group(name).await?.ok_or_else(unknown)?;
    if group.members > 1 {
        return Err(RelayError::Occupied);
    }
    let stored = destination.resume().await?;
    let after = stored.unwrap_or(group.cursor);
    // Asked for behind the destination, so that it cannot be older.
    let last = client.stream_bounds().await?.last;
    if after > last {
        return Err(RelayError::Ahead { stored: after, last });
    }
    Ok((after, stored.is_none()))
}

fn wants_all(name: &str, terms: &GroupTerms) -> Result<(), RelayError> {
    let all_kinds = EventKind::ALL.iter().fold(0, |mask, kind| mask | kind.bit());
    let wants_kinds = terms.kinds == 0 || terms.kinds & all_kinds == all_kinds;
    let wants_products = terms.products.iter().all(|product| product.0 == 0);
    if wants_kinds && wants_products {
        return Ok(());
    }
    Err(RelayError::Filtered { group: name.to_owned() })
}

/// Up to so much, at random: of two that wait for one thing, one comes first.
pub(crate) fn jitter(most: Duration) -> Duration {
    // Without randomness they meet more often, and nothing else.
    let random = getrandom::u32().unwrap_or_default();
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}
