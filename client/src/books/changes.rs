//! What events have changed since a state: the last of each reservation that they name, and stock added and removed.
//!
//! It takes memory for what the events touch, not for the state: some 110 bytes a reservation, up to three times that while the table grows. So a state of any size can be
//! carried forward while it is read ([`super::Merge`]). What an event begins with is checked against the events before it, and
//! for the first of a reservation it is noted what the state must say.
//!
//! Deliberately not here: the state, and units per product. Those are counted once each reservation is known.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use sluice_protocol::event::{EventKind, EventView};
use sluice_protocol::{ProductId, ReservationId, State};

use super::entry::Order;
use super::{BooksError, Entry};

/// A reservation that events have touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What they have made of it.
    pub now: Entry,
    /// What the first of them was about. Once it is forgotten, an id may be used again for something else.
    first: Order,
    before: Before,
    /// Whether the state was seen to have it.
    pub(super) seen: bool,
}

/// What the state before the first of the events must say of the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It has no units, and is perhaps remembered from an earlier use of the id.
    Unused,
    Held,
    /// A confirmation takes what is held, or what has expired and is free.
    HeldOrExpired,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    upto: u64,
    touched: HashMap<ReservationId, Change>,
    /// Units added, less those removed. A product that is created is named even without units.
    stock: HashMap<ProductId, i128>,
}

impl Changes {
    /// Nothing has changed since this sequence.
    pub fn since(sequence: u64) -> Self {
        Self { upto: sequence, ..Self::default() }
    }

    /// The sequence up to which events have been looked at.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Reservations that have been touched.
    pub fn len(&self) -> usize {
        self.touched.len()
    }

    /// Whether nothing has been touched.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.stock.is_empty()
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// [`BooksError::NotNext`] if it is not the next; [`BooksError::Contradicts`] if it cannot follow those before it.
    pub fn apply(&mut self, event: &EventView) -> Result<(), BooksError> {
        self.pass(event.sequence)?;
        let units = i128::from(event.quantity);
        match event.kind {
            EventKind::Reserved => self.touch(event, State::Held, Before::Unused),
            EventKind::Confirmed => self.touch(event, State::Confirmed, Before::HeldOrExpired),
            EventKind::Cancelled => self.touch(event, State::Cancelled, Before::Held),
            EventKind::Expired => self.touch(event, State::Expired, Before::Held),
            EventKind::Restocked => self.restock(event.product, units),
            EventKind::WrittenOff => self.restock(event.product, -units),
            EventKind::TermsChanged | EventKind::Sealed => self.restock(event.product, 0),
        }
    }

    /// Passes over the next event: it is to have no effect here.
    ///
    /// # Errors
    /// [`BooksError::NotNext`] if it is not the next.
    pub fn pass(&mut self, sequence: u64) -> Result<(), BooksError> {
        let expected = self.upto + 1;
        if sequence != expected {
            return Err(BooksError::NotNext { expected, got: sequence });
        }
        self.upto = sequence;
        Ok(())
    }

    /// What has become of a reservation, if it was touched.
    pub fn get(&self, id: ReservationId) -> Option<&Change> {
        self.touched.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ReservationId) -> Option<&mut Change> {
        self.touched.get_mut(&id)
    }

    pub(super) fn into_parts(self) -> (impl Iterator<Item = Change>, HashMap<ProductId, i128>) {
        (self.touched.into_values(), self.stock)
    }

    fn touch(&mut self, event: &EventView, state: State, before: Before) -> Result<(), BooksError> {
        let contradicts = BooksError::Contradicts { sequence: event.sequence, id: event.id };
        let Ok(quantity) = u32::try_from(event.quantity) else { return Err(contradicts) };
        let now = Entry::of(event, state, quantity);
        match self.touched.entry(event.id) {
            Slot::Vacant(slot) => {
                slot.insert(Change { now, first: now.order(), before, seen: false });
            }
            Slot::Occupied(mut slot) if before.allows(&slot.get().now, now.order()) => {
                slot.get_mut().now = now;
            }
            Slot::Occupied(_) => return Err(contradicts),
        }
        Ok(())
    }

    fn restock(&mut self, product: ProductId, units: i128) -> Result<(), BooksError> {
        *self.stock.entry(product).or_default() += units;
        Ok(())
    }
}

impl Change {
    /// Whether the state before the events may have this entry.
    pub(super) fn follows(&self, entry: &Entry) -> bool {
        self.before.allows(entry, self.first)
    }

    /// Whether the state before the events need not have the reservation at all.
    pub(super) fn may_be_new(&self) -> bool {
        self.before == Before::Unused
    }
}

impl Before {
    /// Whether an event that expects this, and is about `order`, may follow `was`. An id may be used again once it is forgotten.
    fn allows(self, was: &Entry, order: Order) -> bool {
        match self {
            Self::Unused => !was.is_live(),
            Self::Held => was.state == State::Held && was.order() == order,
            Self::HeldOrExpired => matches!(was.state, State::Held | State::Expired) && was.order() == order,
        }
    }
}
