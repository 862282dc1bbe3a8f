//! Everything the log may contain.
//!
//! One raft entry carries one [`Batch`]: thousands of commands in groups of one kind, so that applying is a
//! row of tight loops and a group's cache lines can be fetched ahead. On disk and between nodes a batch is
//!
//! ```text
//! 0 1 version   FORMAT if anything is asked of consumer groups, otherwise 1, which older builds read
//! 1 3 reserved  zero
//! 4 4 checksum  CRC-32 (IEEE) of everything behind
//! 8 … rkyv archive of Batch (little-endian, 32-bit offsets, unaligned)
//! ```
//!
//! Deliberately not here: what the commands do, and the commands of consumer groups (`consume`).

mod consume;

use rkyv::rancor;
use rkyv::{Archive, Deserialize, Serialize};
use sluice_protocol::request::PutProductItem;
use thiserror::Error;

pub use consume::{Ack, Consume, LoggedTerms, Nak, Named, Numbered, PutGroup};
pub(super) use consume::{ArchivedAck, ArchivedNak, ArchivedPutGroup};
pub use consume::{ArchivedConsume, ArchivedNamed};

/// The newest format that this build reads and writes.
pub const FORMAT: u8 = 2;

/// The format of entries that ask nothing of consumer groups.
pub const FORMAT_WITHOUT_GROUPS: u8 = 1;

const PREFIX_LEN: usize = 8;

/// What one log entry holds.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Batch {
    /// The raft term in which the proposer believed to lead. If raft committed the entry under another term the
    /// ledger voids it: it was forwarded, and whoever waits for it has been told so.
    pub proposer_term: u64,
    /// The proposer's clock, milliseconds since 1970. The ledger clamps it.
    pub stamp_ms: u64,
    /// The commands, in order. None: a pulse, which only moves time.
    pub groups: Vec<Group>,
}

/// Commands of one kind.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Group {
    /// Take units.
    Reserve(Vec<Reserve>),
    /// Held reservations were paid; each item is the id.
    Confirm(Vec<u128>),
    /// Give back, or make sure that it never happens.
    Cancel(Vec<Cancel>),
    /// Tell the outcome or kill the id; each item is the id.
    Resolve(Vec<u128>),
    /// Create products or change their terms.
    Put(Vec<Put>),
    /// Add stock.
    Restock(Vec<ChangeStock>),
    /// Remove free stock.
    WriteOff(Vec<ChangeStock>),
    /// Promise that no stock will be added; each item is the product.
    Seal(Vec<u64>),
    /// Whatever is asked of consumer groups.
    Consume(Vec<Consume>),
}

/// Take units of a product for a user.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Reservation id.
    pub id: u128,
    /// Product id.
    pub product: u64,
    /// User id.
    pub user: u64,
    /// Units.
    pub quantity: u32,
}

/// Give a reservation back.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Reservation id.
    pub id: u128,
    /// The shop's own code.
    pub reason: u32,
}

/// Create a product or change its terms.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Product id.
    pub product: u64,
    /// Stock at creation; `None` changes only the terms of a product that exists.
    pub stock: Option<u64>,
    /// See [`sluice_protocol::request::Terms`].
    pub opens_ms: u64,
    /// See [`sluice_protocol::request::Terms`].
    pub closes_ms: u64,
    /// See [`sluice_protocol::request::Terms`].
    pub per_user_limit: u32,
    /// See [`sluice_protocol::request::Terms`].
    pub hold_ms: u32,
    /// See [`sluice_protocol::request::Terms`].
    pub unlimited: bool,
}

/// Add or remove stock.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeStock {
    /// The id of this change.
    pub id: u128,
    /// Product id.
    pub product: u64,
    /// Units.
    pub quantity: u32,
}

impl From<&PutProductItem> for Put {
    fn from(item: &PutProductItem) -> Self {
        let terms = item.terms();
        Self {
            product: item.product().0,
            stock: item.stock(),
            opens_ms: terms.opens_ms,
            closes_ms: terms.closes_ms,
            per_user_limit: terms.per_user_limit,
            hold_ms: terms.hold_ms,
            unlimited: terms.unlimited,
        }
    }
}

/// Why the bytes of an entry are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Written by a later version of Sluice.
    #[error("log entry has format {got}; this build reads up to {FORMAT}: run the newer version")]
    Newer {
        /// The format found.
        got: u8,
    },
    /// Not what was written.
    #[error("log entry is damaged: {0}")]
    Damaged(&'static str),
}

impl Batch {
    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREFIX_LEN + 256);
        bytes.extend_from_slice(&[0; PREFIX_LEN]);
        let mut bytes = rkyv::api::high::to_bytes_in::<_, rancor::Failure>(self, bytes)
            .expect("a batch in memory can be written to memory");
        let checksum = crc32fast::hash(&bytes[PREFIX_LEN..]);
        let asks_groups = self.groups.iter().any(|group| matches!(group, Group::Consume(_)));
        bytes[0] = if asks_groups { FORMAT } else { FORMAT_WITHOUT_GROUPS };
        bytes[4..PREFIX_LEN].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads an entry where it lies; every offset in it has been checked.
    ///
    /// # Errors
    /// [`EntryError`] if the bytes are of a newer format or not a batch.
    pub fn access(bytes: &[u8]) -> Result<&ArchivedBatch, EntryError> {
        let Some((prefix, archive)) = bytes.split_at_checked(PREFIX_LEN) else {
            return Err(EntryError::Damaged("shorter than its prefix"));
        };
        if prefix[0] > FORMAT {
            return Err(EntryError::Newer { got: prefix[0] });
        }
        if prefix[0] < FORMAT_WITHOUT_GROUPS {
            return Err(EntryError::Damaged("of no format that there was"));
        }
        if prefix[1..4] != [0; 3] {
            return Err(EntryError::Damaged("reserved bytes are not zero"));
        }
        if crc32fast::hash(archive).to_le_bytes() != prefix[4..] {
            return Err(EntryError::Damaged("checksum does not match"));
        }
        let batch = rkyv::access::<ArchivedBatch, rancor::Failure>(archive)
            .map_err(|_| EntryError::Damaged("not an archive of a batch"))?;
        // Builds that know the first format alone must refuse what this one refuses.
        let asks_groups = batch.groups.iter().any(|group| matches!(group, ArchivedGroup::Consume(_)));
        if asks_groups && prefix[0] == FORMAT_WITHOUT_GROUPS {
            return Err(EntryError::Damaged("it asks consumer groups in a format that has none"));
        }
        Ok(batch)
    }
}

impl Group {
    /// Commands in the group.
    pub fn len(&self) -> usize {
        match self {
            Self::Reserve(items) => items.len(),
            Self::Confirm(items) | Self::Resolve(items) => items.len(),
            Self::Cancel(items) => items.len(),
            Self::Put(items) => items.len(),
            Self::Restock(items) | Self::WriteOff(items) => items.len(),
            Self::Seal(items) => items.len(),
            Self::Consume(items) => items.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes in an encoded entry, its own header included.
    pub fn encoded_len(&self) -> usize {
        let item = match self {
            Self::Reserve(_) => size_of::<ArchivedReserve>(),
            Self::Confirm(_) | Self::Resolve(_) => size_of::<u128>(),
            Self::Cancel(_) => size_of::<ArchivedCancel>(),
            Self::Put(_) => size_of::<ArchivedPut>(),
            Self::Restock(_) | Self::WriteOff(_) => size_of::<ArchivedChangeStock>(),
            Self::Seal(_) => size_of::<u64>(),
            Self::Consume(items) => {
                let items = items.iter().map(Consume::encoded_len);
                return size_of::<ArchivedGroup>() + items.sum::<usize>();
            }
        };
        size_of::<ArchivedGroup>() + item * self.len()
    }

    /// Appends the commands of `other` if it is of the same kind; otherwise says so by `false`.
    pub fn absorb(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Reserve(mine), Self::Reserve(theirs)) => mine.extend_from_slice(theirs),
            (Self::Confirm(mine), Self::Confirm(theirs)) | (Self::Resolve(mine), Self::Resolve(theirs)) => {
                mine.extend_from_slice(theirs);
            }
            (Self::Cancel(mine), Self::Cancel(theirs)) => mine.extend_from_slice(theirs),
            (Self::Put(mine), Self::Put(theirs)) => mine.extend_from_slice(theirs),
            (Self::Restock(mine), Self::Restock(theirs)) | (Self::WriteOff(mine), Self::WriteOff(theirs)) => {
                mine.extend_from_slice(theirs);
            }
            (Self::Seal(mine), Self::Seal(theirs)) => mine.extend_from_slice(theirs),
            (Self::Consume(mine), Self::Consume(theirs)) => mine.extend_from_slice(theirs),
            _ => return false,
        }
        true
    }
}
