//! Every bound of the wire. A server may announce smaller ones in its welcome; it never exceeds these.

use crate::consumed::{DELIVERY_ROW_LEN, DeadReply, GroupReply, MemberReply};
use crate::header::HEADER_LEN;
use crate::request::{PutProductItem, ReserveItem};
use crate::response::{Answer, ProductRecord};

/// Items in one frame. One frame of the largest loggable item fits a 64 KiB log entry.
pub const ITEMS_MAX: usize = 1024;

/// Bytes in the body of a request frame, checked before anything is allocated.
pub const REQUEST_BODY_MAX: usize = 64 * 1024;

/// Bytes in the body of a reply frame.
pub const REPLY_BODY_MAX: usize = ITEMS_MAX * PRODUCT_REPLY_LEN;

/// One item of a reply that carries a product: its [`Answer`], then its [`ProductRecord`].
pub const PRODUCT_REPLY_LEN: usize = size_of::<Answer>() + size_of::<ProductRecord>();

/// Request frames of one connection that may be unanswered at a time. Beyond it the server stops reading, so
/// TCP's own flow control holds the client back.
pub const FRAMES_IN_FLIGHT_MAX: usize = 256;

/// Bytes of a client's self-description in its hello.
pub const CLIENT_NAME_MAX: usize = 64;

/// Bytes of credentials in a hello.
pub const CREDENTIALS_MAX: usize = 4096;

/// Bytes of the address in a leader hint.
pub const ADDRESS_MAX: usize = 255;

/// Bytes of the explanation in a fault frame.
pub const FAULT_TEXT_MAX: usize = 512;

/// Units in one reservation, restock or write-off.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// Units of one product, over its whole life.
pub const STOCK_MAX: u64 = 1 << 40;

/// The longest a hold may last: seven days.
pub const HOLD_MS_MAX: u32 = 7 * 24 * 3600 * 1000;

/// The longest a request may ask the server to keep trying.
pub const BUDGET_MS_MAX: u32 = 60_000;

/// Events in one delivery: with its head they fill a reply.
pub const EVENTS_MAX: usize = ITEMS_MAX - 1;

/// Bytes of the name of a consumer group.
pub const GROUP_NAME_MAX: usize = 32;

/// Products that a group may name; it may also want all.
pub const GROUP_PRODUCTS_MAX: usize = 8;

/// Consumer groups of a cluster.
pub const GROUPS_MAX: usize = 64;

/// Members of a group: one for each lane.
pub const MEMBERS_MAX: usize = 64;

/// Dead letters in one page.
pub const DEAD_PAGE_MAX: usize = 512;

/// The longest a fetch may wait for an event.
pub const WAIT_MS_MAX: u32 = 30_000;

/// How long a member may be silent before it has left, at least and at most.
pub const SESSION_MS_MIN: u32 = 500;
/// See [`SESSION_MS_MIN`].
pub const SESSION_MS_MAX: u32 = 3_600_000;

/// The longest until a failed delivery is tried again: a day.
pub const RETRY_MS_MAX: u32 = 24 * 3600 * 1000;

const _: () = assert!(ITEMS_MAX * DELIVERY_ROW_LEN <= REPLY_BODY_MAX);
const _: () = assert!(GROUPS_MAX * size_of::<GroupReply>() <= REPLY_BODY_MAX);
const _: () = assert!(MEMBERS_MAX * size_of::<MemberReply>() <= REPLY_BODY_MAX);
const _: () = assert!(DEAD_PAGE_MAX * size_of::<DeadReply>() <= REPLY_BODY_MAX);
const _: () = assert!(ITEMS_MAX * size_of::<ReserveItem>() <= REQUEST_BODY_MAX);
const _: () = assert!(ITEMS_MAX * size_of::<PutProductItem>() <= REQUEST_BODY_MAX);
const _: () = assert!(ITEMS_MAX <= u16::MAX as usize);
const _: () = assert!(HEADER_LEN == 32);
const _: () = assert!((QUANTITY_MAX as u64) < STOCK_MAX);
