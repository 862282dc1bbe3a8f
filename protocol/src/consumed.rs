//! What consumers and their keepers hear: the head of a delivery, groups, members, dead letters.
//!
//! Deliberately not here: what they ask (`group`), and events.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::event::EventRecord;
use crate::group::{GroupName, GroupTerms, PutGroupItem};
use crate::response::Answer;

/// The first row of the reply to a fetch: 80 bytes, as long as the events behind it.
///
/// ```text
///  0 48 answer     Done: a = the last sequence looked through, b = the newest there is, c = the oldest that is kept
/// 48  8 epoch      of the group
/// 56  8 lanes      that are the member's
/// 64  8 redriven   the last redrive that was delivered
/// 72  8 reserved   do not look at it
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DeliveryHead {
    /// What became of the fetch.
    pub answer: Answer,
    epoch: U64,
    lanes: U64,
    redriven: U64,
    reserved: [u8; 8],
}

impl DeliveryHead {
    /// See the type.
    pub fn new(answer: Answer, epoch: u64, lanes: u64, redriven: u64) -> Self {
        Self {
            answer,
            epoch: U64::new(epoch),
            lanes: U64::new(lanes),
            redriven: U64::new(redriven),
            reserved: [0; 8],
        }
    }

    /// The group's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// The member's lanes.
    pub fn lanes(&self) -> u64 {
        self.lanes.get()
    }

    /// The last redrive that was delivered.
    pub fn redriven(&self) -> u64 {
        self.redriven.get()
    }
}

/// Bytes of one row of the reply to a fetch.
pub const DELIVERY_ROW_LEN: usize = size_of::<DeliveryHead>();

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its number: never used again.
    pub group: u32,
    /// Its name.
    pub name: GroupName,
    /// How it reads.
    pub terms: GroupTerms,
    /// Everything up to this sequence is acknowledged, in every lane.
    pub cursor: u64,
    /// Rises with each change of who has which lanes.
    pub epoch: u64,
    /// Members with a seat.
    pub members: u32,
    /// Dead letters.
    pub dead: u32,
    /// Deliveries that failed, since the group was made.
    pub failed: u64,
    /// Ledger time of the oldest event that is not acknowledged; 0 = there is none, or it is not known.
    pub oldest_ms: u64,
    /// Sequences acknowledged a second, smoothed, in thousandths.
    pub rate_milli: u64,
}

/// One item of the reply to a list of groups: 48 + 224 bytes. The terms are laid out as in [`PutGroupItem`].
///
/// ```text
///   0 168 put          its terms, as a put that would make them; `after` = the cursor
/// 168   4 group        its number
/// 172   4 members
/// 176   8 epoch
/// 184   4 dead
/// 188   4 reserved     do not look at it
/// 192   8 failed
/// 200   8 oldest_ms
/// 208   8 rate_milli
/// 216   8 reserved     do not look at it
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupRecord {
    put: PutGroupItem,
    group: U32,
    members: U32,
    epoch: U64,
    dead: U32,
    reserved: [u8; 4],
    failed: U64,
    oldest_ms: U64,
    rate_milli: U64,
    reserved_too: [u8; 8],
}

impl From<GroupView> for GroupRecord {
    fn from(view: GroupView) -> Self {
        Self {
            put: PutGroupItem::new(view.name, view.cursor, &view.terms),
            group: U32::new(view.group),
            members: U32::new(view.members),
            epoch: U64::new(view.epoch),
            dead: U32::new(view.dead),
            reserved: [0; 4],
            failed: U64::new(view.failed),
            oldest_ms: U64::new(view.oldest_ms),
            rate_milli: U64::new(view.rate_milli),
            reserved_too: [0; 8],
        }
    }
}

impl From<GroupRecord> for GroupView {
    fn from(record: GroupRecord) -> Self {
        Self {
            group: record.group.get(),
            name: record.put.name(),
            terms: record.put.terms(),
            cursor: record.put.after(),
            epoch: record.epoch.get(),
            members: record.members.get(),
            dead: record.dead.get(),
            failed: record.failed.get(),
            oldest_ms: record.oldest_ms.get(),
            rate_milli: record.rate_milli.get(),
        }
    }
}

/// One item of the reply to a list of groups.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupReply {
    /// Found (`Done`), and when that held.
    pub answer: Answer,
    /// The group.
    pub record: GroupRecord,
}

impl From<(Answer, Option<GroupView>)> for GroupReply {
    fn from((answer, view): (Answer, Option<GroupView>)) -> Self {
        Self { answer, record: view.map_or_else(GroupRecord::new_zeroed, GroupRecord::from) }
    }
}

/// One item of the reply to a list of a group's members: 80 bytes.
///
/// ```text
///  0 48 answer
/// 48  8 member
/// 56  8 lanes
/// 64  8 epoch      since which it has a seat
/// 72  8 cursor     everything up to this sequence is acknowledged in its lanes
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MemberReply {
    /// `Done`, and when that held.
    pub answer: Answer,
    member: U64,
    lanes: U64,
    epoch: U64,
    cursor: U64,
}

impl MemberReply {
    /// See the type.
    pub fn new(answer: Answer, member: u64, lanes: u64, epoch: u64, cursor: u64) -> Self {
        Self {
            answer,
            member: U64::new(member),
            lanes: U64::new(lanes),
            epoch: U64::new(epoch),
            cursor: U64::new(cursor),
        }
    }

    /// The member's number.
    pub fn member(&self) -> u64 {
        self.member.get()
    }

    /// Its lanes.
    pub fn lanes(&self) -> u64 {
        self.lanes.get()
    }

    /// Since which epoch it has a seat.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Everything up to this sequence is acknowledged in its lanes.
    pub fn cursor(&self) -> u64 {
        self.cursor.get()
    }
}

/// One item of the reply to a list of dead letters: 152 bytes.
///
/// ```text
///   0 48 answer
///  48 80 event       `attempts` = deliveries that failed; flag bit 0: it is being delivered again
/// 128  8 died_ms     ledger time
/// 136  4 cause       the consumer's own code
/// 140  4 reserved    do not look at it
/// 144  8 redrive     the number of its redrive; 0 = it is parked
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DeadReply {
    /// `Done`, and when that held.
    pub answer: Answer,
    /// The event.
    pub event: EventRecord,
    died_ms: U64,
    cause: U32,
    reserved: [u8; 4],
    redrive: U64,
}

impl DeadReply {
    /// See the type.
    pub fn new(answer: Answer, event: EventRecord, died_ms: u64, cause: u32, redrive: u64) -> Self {
        Self {
            answer,
            event,
            died_ms: U64::new(died_ms),
            cause: U32::new(cause),
            reserved: [0; 4],
            redrive: U64::new(redrive),
        }
    }

    /// When it became one, ledger milliseconds.
    pub fn died_ms(&self) -> u64 {
        self.died_ms.get()
    }

    /// The consumer's own code for why.
    pub fn cause(&self) -> u32 {
        self.cause.get()
    }

    /// The number of its redrive; 0 = it is parked.
    pub fn redrive(&self) -> u64 {
        self.redrive.get()
    }
}

const _: () = assert!(DELIVERY_ROW_LEN == size_of::<EventRecord>());
const _: () = assert!(size_of::<GroupRecord>() == 224);
const _: () = assert!(size_of::<MemberReply>() == 80);
const _: () = assert!(size_of::<DeadReply>() == 152);
