//! Consumer groups on the wire: their names, their terms, and what their keepers ask.
//!
//! A *group* reads the stream of events with a cursor that is replicated like stock. Its events are split into *lanes* by
//! product ([`crate::event::lane_of`]); each lane belongs to one *member* at a time. Deliberately not here: what members ask
//! (`seat`), and what comes back (`consumed`).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;
use crate::ids::ProductId;
use crate::limits::{GROUP_NAME_MAX, GROUP_PRODUCTS_MAX};
use crate::request::{Item, all_zero};

/// The name of a group: 1 to 32 of a–z, 0–9, `-`, `_` and `.`. On the wire zeros follow.
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[repr(C)]
pub struct GroupName([u8; GROUP_NAME_MAX]);

impl GroupName {
    /// The name in a text; `None` if it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let mut name = [0; GROUP_NAME_MAX];
        name.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let name = Self(name);
        name.is_sound().then_some(name)
    }

    /// No name: where none is meant.
    pub const NONE: Self = Self([0; GROUP_NAME_MAX]);

    /// The name as text; what is not a name reads as nothing.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(GROUP_NAME_MAX);
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; GROUP_NAME_MAX] {
        self.0
    }

    /// Whether it is a name.
    pub fn is_sound(&self) -> bool {
        let len = self.as_str().len();
        let may_be = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        len > 0 && self.0[..len].iter().all(may_be) && self.0[len..].iter().all(|byte| *byte == 0)
    }
}

impl From<[u8; GROUP_NAME_MAX]> for GroupName {
    fn from(bytes: [u8; GROUP_NAME_MAX]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupName({:?})", self.as_str())
    }
}

/// How a group reads. The defaults are those of [`GroupTerms::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTerms {
    /// The kinds of events it wants, each by [`crate::event::EventKind::bit`]; 0 = all.
    pub kinds: u32,
    /// The products it wants; 0 = none in this place. All zero: every product.
    pub products: [ProductId; GROUP_PRODUCTS_MAX],
    /// Deliveries of an event that may fail before it is a dead letter; 0 = it is tried for ever.
    pub attempts_max: u32,
    /// How long after the first failed delivery it is tried again, milliseconds. Doubles with each further one.
    pub retry_ms: u32,
    /// The longest that this grows to, milliseconds.
    pub retry_ms_max: u32,
    /// A member that is silent for so long has left, milliseconds.
    pub session_ms: u32,
    /// A dead letter that tells of a held reservation cancels it, with this reason. If not, the hold is kept.
    pub cancel_dead: Option<u32>,
    /// Events that are kept for the group at most, while it has not acknowledged them; 0 = all.
    pub backlog_max: u64,
    /// So many events behind, and reservations of the products it wants are told to queue; 0 = it may lag as it likes.
    pub required_lag_max: u64,
}

impl Default for GroupTerms {
    fn default() -> Self {
        Self {
            kinds: 0,
            products: [ProductId(0); GROUP_PRODUCTS_MAX],
            attempts_max: 5,
            retry_ms: 1_000,
            retry_ms_max: 60_000,
            session_ms: 10_000,
            cancel_dead: None,
            backlog_max: 0,
            required_lag_max: 0,
        }
    }
}

/// Flag bit of [`PutGroupItem`]: dead letters cancel the reservation they tell of.
const CANCEL_DEAD: u32 = 1;

/// Create a group, or change the terms of one that exists: 168 bytes. Idempotent.
///
/// ```text
///   0 32 name
///  32  8 after             at creation: the last sequence it does not want; 2^64 - 1 = all there are so far
///  40  4 kinds             mask; 0 = all
///  44  4 flags             bit 0: dead letters cancel held reservations; others zero
///  48  4 cancel_reason     with bit 0; otherwise zero
///  52  4 attempts_max      0 = never give up
///  56  4 retry_ms
///  60  4 retry_ms_max
///  64  4 session_ms
///  68  4 reserved          zero
///  72  8 backlog_max       0 = unlimited
///  80  8 required_lag_max  0 = not required
///  88 64 products          eight ids; 0 = none in this place
/// 152 16 reserved          zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PutGroupItem {
    name: GroupName,
    after: U64,
    kinds: U32,
    flags: U32,
    cancel_reason: U32,
    attempts_max: U32,
    retry_ms: U32,
    retry_ms_max: U32,
    session_ms: U32,
    reserved: [u8; 4],
    backlog_max: U64,
    required_lag_max: U64,
    products: [U64; GROUP_PRODUCTS_MAX],
    reserved_too: [u8; 16],
}

impl PutGroupItem {
    /// `after` is the last sequence that a new group does not want; [`u64::MAX`]: all there are so far.
    pub fn new(name: GroupName, after: u64, terms: &GroupTerms) -> Self {
        Self {
            name,
            after: U64::new(after),
            kinds: U32::new(terms.kinds),
            flags: U32::new(if terms.cancel_dead.is_some() { CANCEL_DEAD } else { 0 }),
            cancel_reason: U32::new(terms.cancel_dead.unwrap_or(0)),
            attempts_max: U32::new(terms.attempts_max),
            retry_ms: U32::new(terms.retry_ms),
            retry_ms_max: U32::new(terms.retry_ms_max),
            session_ms: U32::new(terms.session_ms),
            reserved: [0; 4],
            backlog_max: U64::new(terms.backlog_max),
            required_lag_max: U64::new(terms.required_lag_max),
            products: terms.products.map(|product| U64::new(product.0)),
            reserved_too: [0; 16],
        }
    }

    /// Which group.
    pub fn name(&self) -> GroupName {
        self.name
    }

    /// Where it begins, if it is new.
    pub fn after(&self) -> u64 {
        self.after.get()
    }

    /// How it reads.
    pub fn terms(&self) -> GroupTerms {
        GroupTerms {
            kinds: self.kinds.get(),
            products: self.products.map(|product| ProductId(product.get())),
            attempts_max: self.attempts_max.get(),
            retry_ms: self.retry_ms.get(),
            retry_ms_max: self.retry_ms_max.get(),
            session_ms: self.session_ms.get(),
            cancel_dead: (self.flags.get() & CANCEL_DEAD != 0).then_some(self.cancel_reason.get()),
            backlog_max: self.backlog_max.get(),
            required_lag_max: self.required_lag_max.get(),
        }
    }
}

impl Item for PutGroupItem {
    fn check(&self) -> Result<(), DecodeError> {
        if self.flags.get() & !CANCEL_DEAD != 0 {
            return Err(DecodeError::ReservedNotZero { offset: 44 });
        }
        if self.flags.get() & CANCEL_DEAD == 0 && self.cancel_reason.get() != 0 {
            return Err(DecodeError::ReservedNotZero { offset: 48 });
        }
        all_zero(&self.reserved, 68)?;
        all_zero(&self.reserved_too, 152)
    }
}

/// Name a group: 32 bytes. To list groups, no name (zeros) means all of them.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupItem {
    name: GroupName,
}

impl GroupItem {
    /// The item for one group.
    pub fn new(name: GroupName) -> Self {
        Self { name }
    }

    /// Which group.
    pub fn name(&self) -> GroupName {
        self.name
    }
}

impl Item for GroupItem {
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Take a seat in a group, or move a group's cursor: 48 bytes.
///
/// ```text
///  0 32 name
/// 32  8 number     join: the member, chosen at random, never 0; seek: the last sequence it does not want
/// 40  8 reserved   zero
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct JoinItem {
    name: GroupName,
    number: U64,
    reserved: [u8; 8],
}

impl JoinItem {
    /// Join: `number` is the member. Seek: the last sequence that the group does not want.
    pub fn new(name: GroupName, number: u64) -> Self {
        Self { name, number: U64::new(number), reserved: [0; 8] }
    }

    /// Which group.
    pub fn name(&self) -> GroupName {
        self.name
    }

    /// The member, or the sequence.
    pub fn number(&self) -> u64 {
        self.number.get()
    }
}

impl Item for JoinItem {
    fn check(&self) -> Result<(), DecodeError> {
        all_zero(&self.reserved, 40)
    }
}

const _: () = assert!(size_of::<PutGroupItem>() == 168);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_may_be_and_nothing_else() {
        for good in ["a", "orders", "orders-2.eu_1", "abcdefghijklmnopqrstuvwxyz012345"] {
            let name = GroupName::new(good).expect("it is a name");
            assert_eq!(name.as_str(), good);
            assert!(name.is_sound());
        }
        for bad in ["", "Orders", "a b", "ä", "a\0b", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert_eq!(GroupName::new(bad), None, "{bad:?}");
        }
        let mut hole = GroupName::new("ab").expect("it is a name").bytes();
        hole[3] = b'c';
        assert!(!GroupName::from(hole).is_sound());
        assert!(!GroupName::NONE.is_sound());
    }
}
