//! The state that books begin with: the replica's own, a snapshot file, or the empty one before the first event.
//!
//! Deliberately not here: which of them is right for a sequence (`teller`).

use sluice_client::books::Entry;
use sluice_core::ledger::extract::{Extract, Row};
use sluice_core::ledger::{Image, ImageError};
use sluice_protocol::State;
use sluice_protocol::response::ReservationView;

use crate::snapshot::Snapshot;

/// Reservations that events may change between a state and the books made of it: a gigabyte, and half of another while the
/// table of them grows.
pub(super) const CHANGES_MAX: usize = 4_000_000;

/// See the module.
#[derive(Debug)]
pub(super) enum Base {
    /// Before the first event.
    Empty,
    /// The state now. What has been read of it is let go of.
    Image(Image),
    /// A snapshot file, in memory.
    File(Snapshot),
}

impl Base {
    /// Passes through all rows. Stops early if `each` says so, which is no error.
    ///
    /// # Errors
    /// The error of the image, or that of `each`.
    pub(super) fn walk<E: From<ImageError>>(
        self,
        mut each: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Empty => Ok(()),
            Self::Image(image) => read(image.sections(), &mut each),
            Self::File(snapshot) => read(snapshot.sections(), &mut each),
        }
    }
}

/// The sequence of a snapshot's last event.
pub(super) fn sequence_of(snapshot: &Snapshot) -> Result<u64, ImageError> {
    let first = snapshot.sections().next().ok_or(ImageError::Damaged("it is empty"))?;
    Ok(Extract::begin(first)?.sequence())
}

fn read<E: From<ImageError>>(
    mut sections: impl Iterator<Item = impl AsRef<[u8]>>,
    each: &mut impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let first = sections.next().ok_or(ImageError::Damaged("it is empty"))?;
    let mut extract = Extract::begin(first.as_ref())?;
    for section in sections {
        let mut result = Ok(());
        extract.section(section.as_ref(), |row| {
            if result.is_ok() {
                result = each(row);
            }
        })?;
        result?;
    }
    Ok(extract.finish()?)
}

/// A reservation of a state, as books have it.
pub(super) fn entry(state: State, view: &ReservationView) -> Entry {
    let detail = match state {
        State::Held => view.deadline_ms,
        State::Confirmed => view.ended_ms,
        State::Cancelled => u64::from(view.reason),
        _ => 0,
    };
    Entry {
        id: view.id,
        product: view.product,
        user: view.user,
        quantity: view.quantity,
        state,
        sequence: view.sequence,
        detail,
    }
}
