//! Records: one row of 64 bytes for every id that has an outcome, found by id.
//!
//! A record is in at most one doubly linked list through its own `next` and `prev`: a hold in the FIFO of its
//! product and hold time ([`super::expiry`]), an ended one in the FIFO of what will be forgotten, a free row in
//! the stack of free rows. So a record leaves wherever it stands in constant time, and no list allocates.
//!
//! Row numbers are part of the replicated state: free rows are used last in, first out, on every replica alike.
//! The table from id to row is not; it is built again from the rows. It holds no ids, only half of each id's hash: that
//! moves an entry without a look at its row, and tells nearly every stranger from it.
//!
//! Deliberately not here: what the states mean to a product or a user.

use rkyv::{Archive, Deserialize, Serialize};
use sluice_protocol::{State, Status};

use super::chunked::{Chunked, NONE};
use super::table::{Entry, Hasher, Table, place};
use crate::fault::{self, Mutant};

/// Rows of one chunk: 256 KiB, which is what a write after a freeze may have to copy.
#[cfg(not(fuzzing))]
pub(super) const RECORDS_PER_CHUNK: usize = 4096;

/// So few that the few records of a fuzzer's ledger fill several, and cost it little.
#[cfg(fuzzing)]
pub(super) const RECORDS_PER_CHUNK: usize = 8;

/// Shards of the table of ids, as a power of two: at ten million ids some 2,500 are moved at a time.
const SHARD_BITS: u32 = 12;

/// What an id was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing: killed before it was used, or a free row.
    None = 0,
    /// A reservation.
    Reserve = 1,
    /// A restock.
    Restock = 2,
    /// A write-off.
    WriteOff = 3,
}

impl Kind {
    const ALL: [Self; 4] = [Self::None, Self::Reserve, Self::Restock, Self::WriteOff];
}

/// What an id is used for: the same payload under the same id is the same request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) kind: Kind,
    pub(super) id: u128,
    pub(super) product: u64,
    /// 0 for changes of stock.
    pub(super) user: u64,
    pub(super) quantity: u32,
}

/// One id and its outcome.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) id: u128,
    pub(super) user: u64,
    /// The sequence of the event that made it what it is. A refusal has no event: here stands the id of the
    /// product that was asked for, which need not exist.
    pub(super) sequence: u64,
    /// The deadline while held and once expired; otherwise when it ended.
    pub(super) time_ms: u64,
    /// The product's slot; [`NONE`] for refusals, fences and free rows.
    pub(super) product: u32,
    pub(super) quantity: u32,
    pub(super) next: u32,
    pub(super) prev: u32,
    /// The shop's own code of a cancellation.
    pub(super) reason: u32,
    state: u8,
    refused: u8,
    kind: u8,
    /// 1 if an expired hold can never be taken again.
    pub(super) settled: u8,
}

const _: () = assert!(size_of::<Record>() == 64);

impl Default for Record {
    /// A free row that is last of the free ones.
    fn default() -> Self {
        Self {
            id: 0,
            user: 0,
            sequence: 0,
            time_ms: 0,
            product: NONE,
            quantity: 0,
            next: NONE,
            prev: NONE,
            reason: 0,
            state: State::None as u8,
            refused: 0,
            kind: Kind::None as u8,
            settled: 0,
        }
    }
}

impl Record {
    /// A record of something that was done to the product in slot `product`.
    #[inline]
    pub(super) fn new(ask: &Payload, state: State, product: u32, sequence: u64, time_ms: u64) -> Self {
        Self {
            id: ask.id,
            user: ask.user,
            sequence,
            time_ms,
            product,
            quantity: ask.quantity,
            state: state as u8,
            kind: ask.kind as u8,
            ..Self::default()
        }
    }

    /// A record of something that was refused.
    pub(super) fn refusal(ask: &Payload, status: Status, time_ms: u64) -> Self {
        Self { refused: status as u8, ..Self::new(ask, State::Refused, NONE, ask.product, time_ms) }
    }

    /// A free row, with the next one on the stack.
    pub(super) fn free(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    /// A record of an id that was killed.
    pub(super) fn fence(id: u128, time_ms: u64) -> Self {
        Self { id, time_ms, state: State::Fenced as u8, ..Self::default() }
    }

    pub(super) fn state(&self) -> State {
        State::from_byte(self.state).expect("records hold states only, which loading checked")
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = state as u8;
    }

    pub(super) fn kind(&self) -> Kind {
        *Kind::ALL.get(usize::from(self.kind)).expect("records hold kinds only, which loading checked")
    }

    /// What it was refused with.
    pub(super) fn refused(&self) -> Status {
        Status::from_byte(self.refused).expect("a refusal has its status, which loading checked")
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state == state as u8
    }

    /// Whether its id is remembered only so that nothing can come of it: it never took a unit.
    pub(super) fn is_dead(&self) -> bool {
        self.is(State::Fenced) || self.is(State::Refused)
    }

    /// Whether it is held and `now` has not reached its deadline.
    pub(super) fn is_held_at(&self, now_ms: u64) -> bool {
        self.is(State::Held) && self.time_ms > now_ms
    }

    /// Whether fields that belong to one state are empty in all others.
    pub(super) fn has_only_what_its_state_has(&self) -> bool {
        (self.refused == 0 || self.is(State::Refused))
            && (self.reason == 0 || self.is(State::Cancelled))
            && (self.settled == 0 || (self.settled == 1 && self.is(State::Expired)))
    }

    /// Reads an archived row; `None` if a byte that must name something names nothing.
    pub(super) fn from_archived(row: &ArchivedRecord) -> Option<Self> {
        let state = State::from_byte(row.state)?;
        Kind::ALL.get(usize::from(row.kind))?;
        if state == State::Refused {
            Status::from_byte(row.refused)?;
        }
        Some(Self {
            id: row.id.to_native(),
            user: row.user.to_native(),
            sequence: row.sequence.to_native(),
            time_ms: row.time_ms.to_native(),
            product: row.product.to_native(),
            quantity: row.quantity.to_native(),
            next: row.next.to_native(),
            prev: row.prev.to_native(),
            reason: row.reason.to_native(),
            state: row.state,
            refused: row.refused,
            kind: row.kind,
            settled: row.settled,
        })
    }
}

/// The ends of a list.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };
}

/// Where the lists of a slab begin; with the rows, all of its replicated state.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Top of the stack of free rows.
    pub(super) free: u32,
    pub(super) free_len: u32,
    /// What will be forgotten, the first ended first.
    pub(super) ended: List,
    pub(super) ended_len: u32,
}

/// Where the record of an id is.
#[derive(Clone, Copy)]
struct Known {
    /// Of the id's hash.
    place: u32,
    slot: u32,
}

impl Default for Known {
    fn default() -> Self {
        Self { place: 0, slot: NONE }
    }
}

impl Entry for Known {
    #[inline]
    fn is_free(&self) -> bool {
        self.slot == NONE
    }

    #[inline]
    fn place(&self, _: &Hasher) -> u32 {
        self.place
    }
}

/// All records.
pub(super) struct Records {
    pub(super) rows: Chunked<Record, RECORDS_PER_CHUNK>,
    pub(super) ends: Ends,
    ids: Table<Known, 8>,
    /// Records that never took a unit. Counted again from the rows when they are loaded.
    dead: u32,
}

impl Records {
    pub(super) fn with_capacity(capacity: usize, seed: u64) -> Self {
        Self {
            rows: Chunked::new(),
            ends: Ends { free: NONE, free_len: 0, ended: List::EMPTY, ended_len: 0 },
            ids: Table::with_capacity(SHARD_BITS, capacity, seed),
            dead: 0,
        }
    }

    /// Records that never took a unit.
    pub(super) fn dead(&self) -> u32 {
        self.dead
    }

    /// Ids that have an outcome.
    pub(super) fn len(&self) -> u32 {
        self.rows.len() - self.ends.free_len
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.ids.bytes()
    }

    /// Entries of the table of ids that its growth has moved.
    pub(super) fn moved(&self) -> u64 {
        self.ids.moved()
    }

    #[inline]
    pub(super) fn hash(&self, id: u128) -> u64 {
        self.ids.hash(id)
    }

    /// See [`Table::touch`].
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> bool {
        self.ids.touch(hash)
    }

    #[inline]
    pub(super) fn find(&self, id: u128) -> Option<u32> {
        let hash = self.ids.hash(id);
        let of_hash = place(hash);
        let found =
            self.ids.find(hash, |known| known.place == of_hash, |known| self.rows.get(known.slot).id == id);
        found.map(|known| known.slot)
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Record {
        self.rows.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Record {
        self.rows.get_mut(slot)
    }

    /// Adds a record whose id was just not found.
    pub(super) fn insert(&mut self, record: Record) -> u32 {
        self.dead += u32::from(record.is_dead());
        let slot = match self.ends.free {
            NONE => self.rows.push(record),
            slot => {
                let row = self.rows.get_mut(slot);
                self.ends.free = row.next;
                self.ends.free_len -= 1;
                *row = record;
                slot
            }
        };
        self.enter(record.id, slot);
        slot
    }

    fn enter(&mut self, id: u128, slot: u32) {
        let hash = self.ids.hash(id);
        self.ids.insert(hash, Known { place: place(hash), slot });
    }

    /// Enters a loaded row into the table of ids; false if its id is there already.
    pub(super) fn index_loaded(&mut self, slot: u32) -> bool {
        let id = self.rows.get(slot).id;
        let is_new = self.find(id).is_none();
        if is_new {
            self.enter(id, slot);
            self.dead += u32::from(self.get(slot).is_dead());
        }
        is_new
    }

    /// Puts a record that is in no list at the end of the ended ones.
    pub(super) fn end(&mut self, slot: u32) {
        let head = self.ends.ended.head;
        if head != NONE && fault::is_on(Mutant::StateDiverges) && self.ids.hash(0).is_multiple_of(2) {
            self.append(slot, head);
            self.ends.ended.head = slot;
            self.ends.ended_len += 1;
            return;
        }
        self.ends.ended.tail = self.append(self.ends.ended.tail, slot);
        if self.ends.ended.head == NONE {
            self.ends.ended.head = slot;
        }
        self.ends.ended_len += 1;
    }

    /// Takes a record out of the ended ones, wherever it stands.
    pub(super) fn unend(&mut self, slot: u32) {
        let (prev, next) = self.unlink(slot);
        if prev == NONE {
            self.ends.ended.head = next;
        }
        if next == NONE {
            self.ends.ended.tail = prev;
        }
        self.ends.ended_len -= 1;
    }

    /// Forgets the first ended record; its row becomes free. Returns its id.
    pub(super) fn forget(&mut self) -> u128 {
        let slot = self.ends.ended.head;
        let id = self.get(slot).id;
        self.dead -= u32::from(self.get(slot).is_dead());
        self.unend(slot);
        let found = self.ids.remove(self.ids.hash(id), |known| known.slot == slot);
        assert!(found.is_some(), "every record in use is in the table of ids");
        *self.rows.get_mut(slot) = Record::free(self.ends.free);
        self.ends.free = slot;
        self.ends.free_len += 1;
        id
    }

    /// Links a record that is in no list behind `last` ([`NONE`]: it is alone). Returns the new last.
    #[inline]
    pub(super) fn append(&mut self, last: u32, slot: u32) -> u32 {
        self.rows.get_mut(slot).prev = last;
        if last != NONE {
            self.rows.get_mut(last).next = slot;
        }
        slot
    }

    /// Joins the neighbours of a record and returns them; the caller mends the list's ends.
    #[inline]
    pub(super) fn unlink(&mut self, slot: u32) -> (u32, u32) {
        let row = self.rows.get_mut(slot);
        let (prev, next) = (row.prev, row.next);
        (row.prev, row.next) = (NONE, NONE);
        if prev != NONE {
            self.rows.get_mut(prev).next = next;
        }
        if next != NONE {
            self.rows.get_mut(next).prev = prev;
        }
        (prev, next)
    }
}
