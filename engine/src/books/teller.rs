//! Finds the state that books begin with and the events after it, and tells what comes of them.
//!
//! One at a time: [`Teller::place`]. Runs on the thread of whoever asks, which may block; it looks now and then whether
//! anybody still listens. Deliberately not here: that thread.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sluice_client::books::bytes::Heading;
use sluice_client::books::{Changes, Entry, Merge, Sums};
use sluice_core::ledger::Image;
use sluice_core::ledger::extract::Row;
use sluice_protocol::{ClusterId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::NoBooks;
use super::base::{self, Base, CHANGES_MAX};
use crate::node::shared::Shared;
use crate::snapshot::{Shelf, SnapshotError};
use crate::stream::{READ_MAX, ReadError, Reader};

/// How often it is looked for an event that is not there yet.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long an event that has happened may take until it is written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// As of this event; now, if none is named.
    pub(crate) at: Option<u64>,
    /// How long to wait for it.
    pub(crate) wait: Duration,
}

/// Nobody listens any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// What became of books that were told.
#[derive(Debug)]
pub(crate) enum Walked {
    /// All was heard.
    Told(Sums),
    /// Nobody listened to the end.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Teller {
    shared: Arc<Shared>,
    identity: (ClusterId, NodeId),
    shelf: Shelf,
    reader: Mutex<Reader>,
    place: Arc<Semaphore>,
}

/// A state, and what has changed since.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) heading: Heading,
    base: Base,
    changes: Changes,
}

impl Teller {
    pub(crate) fn new(
        shared: Arc<Shared>,
        identity: (ClusterId, NodeId),
        shelf: Shelf,
        reader: Reader,
    ) -> Self {
        Self { shared, identity, shelf, reader: Mutex::new(reader), place: Arc::new(Semaphore::new(1)) }
    }

    /// The one place of those who ask, if nobody has it.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.place).try_acquire_owned().ok()
    }

    /// Finds what books are made of. `is_gone` tells whether nobody waits for it any more.
    pub(crate) fn begin(&self, asked: Asked, is_gone: &dyn Fn() -> bool) -> Result<Begun, NoBooks> {
        let mut reader = self.reader.lock();
        let (sequence, base) = self.base(asked.at, &mut reader)?;
        let at = asked.at.unwrap_or(sequence);
        let mut wait =
            Wait { shared: &self.shared, is_gone, began: Instant::now(), patience: asked.wait, at };
        let mut changes = Changes::since(sequence);
        let mut last = None;
        while changes.upto() < at {
            let room = usize::try_from(at - changes.upto()).map_or(READ_MAX, |left| left.min(READ_MAX));
            let events = match reader.read(changes.upto() + 1, room) {
                Ok(events) => events,
                Err(error) => return Err(self.cannot_go_on(at, error)),
            };
            if events.is_empty() {
                wait.for_event(changes.upto())?;
            }
            for event in events.iter().filter_map(|event| event.view()) {
                changes.apply(&event)?;
                last = Some((event.index, event.time_ms));
            }
            if changes.len() > CHANGES_MAX {
                return Err(NoBooks::TooFar { at, base: sequence });
            }
        }
        let (index, time_ms) = match last {
            Some(told) => told,
            None => wait.told(&mut reader)?,
        };
        let (cluster, node) = self.identity;
        Ok(Begun { heading: Heading { cluster, node, sequence: at, index, time_ms }, base, changes })
    }

    /// The newest state at or before a sequence, and the last event in it.
    fn base(&self, at: Option<u64>, reader: &mut Reader) -> Result<(u64, Base), NoBooks> {
        let made = self.shared.board.stream.tail.last();
        if at.is_none_or(|at| at >= made) {
            let image = self.freeze()?;
            if at.is_none_or(|at| at >= image.sequence()) {
                return Ok((image.sequence(), Base::Image(image)));
            }
        }
        let at = at.expect("the state now is always good enough for now");
        let mut lowest = made;
        for index in self.shelf.indexes()? {
            let snapshot = match self.shelf.load(index) {
                Ok(snapshot) => snapshot,
                // It was removed just now, or an older one has to do.
                Err(SnapshotError::Io { .. } | SnapshotError::Damaged { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            match base::sequence_of(&snapshot)? {
                sequence if sequence <= at => return Ok((sequence, Base::File(snapshot))),
                sequence => lowest = lowest.min(sequence),
            }
        }
        if at == 0 || reader.first() == 1 {
            return Ok((0, Base::Empty));
        }
        let why = format!("it has no snapshot from before, and events only from {} on", reader.first());
        Err(NoBooks::Forgotten { at, lowest, why })
    }

    /// The replica's state as it is now.
    fn freeze(&self) -> Result<Image, NoBooks> {
        let (give, given) = sync_channel(1);
        // One that is there was left by somebody who went away.
        self.shared.freezes.force_push(give);
        self.shared.replica.wake();
        loop {
            match given.recv_timeout(LOOK_EVERY) {
                Ok(image) => return Ok(image),
                Err(RecvTimeoutError::Timeout) if !self.shared.is_stopping() => {}
                Err(_) => return Err(NoBooks::Stopping),
            }
        }
    }

    /// Events after a state cannot be read: what can be had instead.
    fn cannot_go_on(&self, at: u64, error: ReadError) -> NoBooks {
        let why = match &error {
            ReadError::Missing(_) | ReadError::Dropped { .. } => error.to_string(),
            _ => return error.into(),
        };
        let indexes = self.shelf.indexes().unwrap_or_default();
        let snapshots = indexes.into_iter().filter_map(|index| self.shelf.load(index).ok());
        let sequences = snapshots.filter_map(|snapshot| base::sequence_of(&snapshot).ok());
        let now = self.shared.board.stream.tail.last();
        let lowest = sequences.filter(|sequence| *sequence > at).chain([now]).min().unwrap_or(now);
        NoBooks::Forgotten { at, lowest, why }
    }
}

impl Begun {
    /// Tells every reservation, and at the end the sums.
    ///
    /// # Errors
    /// [`NoBooks`] if the state is damaged, or does not add up with the events.
    pub(crate) fn walk(self, mut each: impl FnMut(&Entry) -> Result<(), Gone>) -> Result<Walked, NoBooks> {
        let mut merge = Merge::new(self.changes);
        let walked = self.base.walk(|row| match row {
            Row::Product(product) => {
                merge.product(product.product, product.stock, product.held, product.sold);
                Ok(())
            }
            Row::Reservation(state, view) => {
                let now = merge.entry(base::entry(state, &view)).map_err(|e| Stop::Failed(e.into()))?;
                each(&now).map_err(|Gone| Stop::Gone)
            }
        });
        match walked {
            Ok(()) => {}
            Err(Stop::Gone) => return Ok(Walked::Gone),
            Err(Stop::Failed(error)) => return Err(error),
        }
        let mut heard = Ok(());
        let sums = merge.finish(|entry| {
            if heard.is_ok() {
                heard = each(&entry);
            }
        })?;
        Ok(heard.map_or(Walked::Gone, |()| Walked::Told(sums)))
    }
}

/// Why a walk ended before its end.
#[derive(Debug)]
enum Stop {
    Gone,
    Failed(NoBooks),
}

impl<E: Into<NoBooks>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Waiting for events.
struct Wait<'a> {
    shared: &'a Shared,
    is_gone: &'a dyn Fn() -> bool,
    began: Instant,
    patience: Duration,
    at: u64,
}

impl Wait<'_> {
    /// The event behind `here` cannot be read yet: waits a little, or gives up.
    fn for_event(&mut self, here: u64) -> Result<(), NoBooks> {
        if self.shared.is_stopping() || (self.is_gone)() {
            return Err(NoBooks::Stopping);
        }
        let has_happened = self.at <= self.shared.board.stream.tail.last();
        let patience = if has_happened { self.patience.max(WRITTEN_WITHIN) } else { self.patience };
        let waited = self.began.elapsed();
        if waited >= patience {
            return Err(NoBooks::Behind { at: self.at, here, waited });
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    /// Index and time of the last event in the books, if this node still has it.
    fn told(&mut self, reader: &mut Reader) -> Result<(u64, u64), NoBooks> {
        while self.at > 0 {
            match reader.read(self.at, 1) {
                Ok(events) => match events.first().and_then(|event| event.view()) {
                    Some(event) => return Ok((event.index, event.time_ms)),
                    None => self.for_event(self.at)?,
                },
                Err(_) => break,
            }
        }
        Ok((0, 0))
    }
}
