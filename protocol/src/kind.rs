//! What a frame can be, and what follows from that alone: its answer, the size of its items, how many there may be.
//!
//! Deliberately not here: what the items mean.

use crate::consumed::{DELIVERY_ROW_LEN, DeadReply, GroupReply, MemberReply};
use crate::error::DecodeError;
use crate::group::{GroupItem, JoinItem, PutGroupItem};
use crate::handshake::{FAULT_BODY_MAX, HELLO_BODY_MAX, WELCOME_BODY_MAX};
use crate::limits::{DEAD_PAGE_MAX, GROUPS_MAX, ITEMS_MAX, MEMBERS_MAX, REPLY_BODY_MAX, REQUEST_BODY_MAX};
use crate::request::{IdItem, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem};
use crate::response::{Answer, PRODUCT_REPLY_LEN, RESERVATION_REPLY_LEN};
use crate::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};

/// The bit of a kind that tells a reply from its request.
const REPLY_BIT: u8 = 0x80;

/// What a frame is. A reply's kind is its request's with the top bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Client: first frame of a connection.
    Hello = 0x01,
    /// Client: asks for nothing but a pong.
    Ping = 0x02,
    /// Client: take units.
    Reserve = 0x10,
    /// Client: a held reservation was paid.
    Confirm = 0x11,
    /// Client: give a reservation back, or make sure that it never happens.
    Cancel = 0x12,
    /// Client: tell the outcome of an id, or kill it.
    Resolve = 0x13,
    /// Client: read a reservation.
    QueryReservation = 0x14,
    /// Client: read a product.
    QueryProduct = 0x15,
    /// Client: create a product or change its terms.
    PutProduct = 0x20,
    /// Client: add stock.
    Restock = 0x21,
    /// Client: remove free stock.
    WriteOff = 0x22,
    /// Client: promise that no stock will ever be added.
    Seal = 0x23,
    /// Client: read products in the order of their ids, a page at a time.
    ListProducts = 0x24,
    /// Client: create a consumer group or change its terms.
    PutGroup = 0x30,
    /// Client: remove a consumer group, with its cursor and its dead letters.
    RemoveGroup = 0x31,
    /// Client: read a consumer group, or all of them.
    ListGroups = 0x32,
    /// Client: read the members of a consumer group.
    ListMembers = 0x33,
    /// Client: move the cursor of a consumer group.
    SeekGroup = 0x34,
    /// Client: read the bounds of the stream of events, or find a time in it.
    QueryStream = 0x35,
    /// Client: take a seat in a consumer group.
    Join = 0x36,
    /// Client: give a seat back.
    Leave = 0x37,
    /// Client: events, or news of them.
    Fetch = 0x38,
    /// Client: acknowledge events.
    Ack = 0x39,
    /// Client: a delivery failed.
    Nak = 0x3A,
    /// Client: read a page of dead letters.
    ListDead = 0x3B,
    /// Client: deliver a dead letter again.
    Redrive = 0x3C,
    /// Client: forget a dead letter.
    DropDead = 0x3D,
    /// Client: how many events are ahead of one.
    QueryPlace = 0x3E,
    /// Server: first frame of a connection.
    Welcome = 0x81,
    /// Server: answers a ping.
    Pong = 0x82,
    /// Server: answers [`Kind::Reserve`].
    ReserveReply = 0x90,
    /// Server: answers [`Kind::Confirm`].
    ConfirmReply = 0x91,
    /// Server: answers [`Kind::Cancel`].
    CancelReply = 0x92,
    /// Server: answers [`Kind::Resolve`].
    ResolveReply = 0x93,
    /// Server: answers [`Kind::QueryReservation`].
    QueryReservationReply = 0x94,
    /// Server: answers [`Kind::QueryProduct`].
    QueryProductReply = 0x95,
    /// Server: answers [`Kind::PutProduct`].
    PutProductReply = 0xA0,
    /// Server: answers [`Kind::Restock`].
    RestockReply = 0xA1,
    /// Server: answers [`Kind::WriteOff`].
    WriteOffReply = 0xA2,
    /// Server: answers [`Kind::Seal`].
    SealReply = 0xA3,
    /// Server: answers [`Kind::ListProducts`].
    ListProductsReply = 0xA4,
    /// Server: answers [`Kind::PutGroup`].
    PutGroupReply = 0xB0,
    /// Server: answers [`Kind::RemoveGroup`].
    RemoveGroupReply = 0xB1,
    /// Server: answers [`Kind::ListGroups`].
    ListGroupsReply = 0xB2,
    /// Server: answers [`Kind::ListMembers`].
    ListMembersReply = 0xB3,
    /// Server: answers [`Kind::SeekGroup`].
    SeekGroupReply = 0xB4,
    /// Server: answers [`Kind::QueryStream`].
    QueryStreamReply = 0xB5,
    /// Server: answers [`Kind::Join`].
    JoinReply = 0xB6,
    /// Server: answers [`Kind::Leave`].
    LeaveReply = 0xB7,
    /// Server: answers [`Kind::Fetch`].
    FetchReply = 0xB8,
    /// Server: answers [`Kind::Ack`].
    AckReply = 0xB9,
    /// Server: answers [`Kind::Nak`].
    NakReply = 0xBA,
    /// Server: answers [`Kind::ListDead`].
    ListDeadReply = 0xBB,
    /// Server: answers [`Kind::Redrive`].
    RedriveReply = 0xBC,
    /// Server: answers [`Kind::DropDead`].
    DropDeadReply = 0xBD,
    /// Server: answers [`Kind::QueryPlace`].
    QueryPlaceReply = 0xBE,
    /// Server: why it closes the connection. The last frame.
    Fault = 0xFF,
}

impl Kind {
    /// Every kind, requests first.
    pub const ALL: [Self; 57] = [
        Self::Hello,
        Self::Ping,
        Self::Reserve,
        Self::Confirm,
        Self::Cancel,
        Self::Resolve,
        Self::QueryReservation,
        Self::QueryProduct,
        Self::PutProduct,
        Self::Restock,
        Self::WriteOff,
        Self::Seal,
        Self::ListProducts,
        Self::PutGroup,
        Self::RemoveGroup,
        Self::ListGroups,
        Self::ListMembers,
        Self::SeekGroup,
        Self::QueryStream,
        Self::Join,
        Self::Leave,
        Self::Fetch,
        Self::Ack,
        Self::Nak,
        Self::ListDead,
        Self::Redrive,
        Self::DropDead,
        Self::QueryPlace,
        Self::Welcome,
        Self::Pong,
        Self::ReserveReply,
        Self::ConfirmReply,
        Self::CancelReply,
        Self::ResolveReply,
        Self::QueryReservationReply,
        Self::QueryProductReply,
        Self::PutProductReply,
        Self::RestockReply,
        Self::WriteOffReply,
        Self::SealReply,
        Self::ListProductsReply,
        Self::PutGroupReply,
        Self::RemoveGroupReply,
        Self::ListGroupsReply,
        Self::ListMembersReply,
        Self::SeekGroupReply,
        Self::QueryStreamReply,
        Self::JoinReply,
        Self::LeaveReply,
        Self::FetchReply,
        Self::AckReply,
        Self::NakReply,
        Self::ListDeadReply,
        Self::RedriveReply,
        Self::DropDeadReply,
        Self::QueryPlaceReply,
        Self::Fault,
    ];

    /// What clients ask once they are greeted, in the order of the numbers.
    pub const CALLS: [Self; 27] = Self::some(Self::Ping);

    /// Those of them whose items are answered one by one.
    pub const ANSWERED: [Self; 26] = Self::some(Self::Reserve);

    /// Some of all kinds, from one on.
    const fn some<const LEN: usize>(first: Self) -> [Self; LEN] {
        let mut from = 0;
        while Self::ALL[from] as u8 != first as u8 {
            from += 1;
        }
        let mut kinds = [first; LEN];
        let mut at = 0;
        while at < LEN {
            kinds[at] = Self::ALL[from + at];
            at += 1;
        }
        kinds
    }

    /// The kind of a byte.
    ///
    /// # Errors
    /// [`DecodeError::BadKind`] if no kind has this number.
    pub fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(DecodeError::BadKind { got: byte })
    }

    /// Whether clients send it.
    pub fn is_request(self) -> bool {
        (self as u8) & REPLY_BIT == 0
    }

    /// The kind of the reply to a request; a reply's own kind is returned unchanged.
    pub fn reply(self) -> Self {
        let byte = self as u8 | REPLY_BIT;
        Self::from_byte(byte).expect("each request has a reply, and a fault is its own")
    }

    /// Whether a request changes nothing and may be answered by any member: if it is not answered, nothing was done.
    pub fn is_read(self) -> bool {
        matches!(
            self,
            Self::QueryReservation
                | Self::QueryProduct
                | Self::ListProducts
                | Self::ListGroups
                | Self::ListMembers
                | Self::ListDead
        )
    }

    /// Bytes of one item, or `None` for the kinds whose body is not a row of items.
    pub fn item_len(self) -> Option<usize> {
        match self {
            Self::Hello | Self::Ping | Self::Welcome | Self::Pong | Self::Fault => None,
            Self::Reserve => Some(size_of::<ReserveItem>()),
            Self::Confirm | Self::Cancel | Self::Resolve | Self::QueryReservation => {
                Some(size_of::<IdItem>())
            }
            Self::QueryProduct | Self::Seal => Some(size_of::<ProductItem>()),
            Self::PutProduct => Some(size_of::<PutProductItem>()),
            Self::Restock | Self::WriteOff => Some(size_of::<StockItem>()),
            Self::ListProducts => Some(size_of::<ListItem>()),
            Self::PutGroup => Some(size_of::<PutGroupItem>()),
            Self::RemoveGroup | Self::ListGroups | Self::ListMembers => Some(size_of::<GroupItem>()),
            Self::SeekGroup | Self::Join => Some(size_of::<JoinItem>()),
            Self::QueryStream => Some(size_of::<StreamItem>()),
            Self::Leave => Some(size_of::<SeatItem>()),
            Self::Fetch => Some(size_of::<FetchItem>()),
            Self::Ack => Some(size_of::<AckItem>()),
            Self::Nak => Some(size_of::<NakItem>()),
            Self::ListDead | Self::Redrive | Self::DropDead | Self::QueryPlace => {
                Some(size_of::<LetterItem>())
            }
            Self::ListGroupsReply => Some(size_of::<GroupReply>()),
            Self::ListMembersReply => Some(size_of::<MemberReply>()),
            Self::FetchReply => Some(DELIVERY_ROW_LEN),
            Self::ListDeadReply => Some(size_of::<DeadReply>()),
            Self::QueryReservationReply => Some(RESERVATION_REPLY_LEN),
            Self::QueryProductReply | Self::ListProductsReply => Some(PRODUCT_REPLY_LEN),
            Self::ReserveReply
            | Self::ConfirmReply
            | Self::CancelReply
            | Self::ResolveReply
            | Self::PutProductReply
            | Self::RestockReply
            | Self::WriteOffReply
            | Self::SealReply
            | Self::PutGroupReply
            | Self::RemoveGroupReply
            | Self::SeekGroupReply
            | Self::QueryStreamReply
            | Self::JoinReply
            | Self::LeaveReply
            | Self::AckReply
            | Self::NakReply
            | Self::RedriveReply
            | Self::DropDeadReply
            | Self::QueryPlaceReply => Some(size_of::<Answer>()),
        }
    }

    /// The longest body a frame of this kind may have, bytes.
    pub fn body_max(self) -> usize {
        match self {
            Self::Ping | Self::Pong => 0,
            // Strangers may send hellos: they are held to what a hello can be.
            Self::Hello => HELLO_BODY_MAX,
            Self::Welcome => WELCOME_BODY_MAX,
            Self::Fault => FAULT_BODY_MAX,
            _ if self.is_request() => REQUEST_BODY_MAX,
            _ => REPLY_BODY_MAX,
        }
    }

    /// How many items a frame of this kind may hold.
    pub fn count_range(self) -> (usize, usize) {
        match self {
            Self::Hello | Self::Ping | Self::Welcome | Self::Pong | Self::Fault => (0, 0),
            Self::ListProducts
            | Self::PutGroup
            | Self::RemoveGroup
            | Self::ListGroups
            | Self::ListMembers
            | Self::SeekGroup
            | Self::QueryStream
            | Self::Join
            | Self::Leave
            | Self::Fetch
            | Self::ListDead
            | Self::PutGroupReply
            | Self::RemoveGroupReply
            | Self::SeekGroupReply
            | Self::QueryStreamReply
            | Self::JoinReply
            | Self::LeaveReply => (1, 1),
            Self::Nak => (1, REQUEST_BODY_MAX / size_of::<NakItem>()),
            Self::ListProductsReply => (0, ITEMS_MAX),
            Self::ListGroupsReply => (0, GROUPS_MAX),
            Self::ListMembersReply => (0, MEMBERS_MAX),
            Self::ListDeadReply => (0, DEAD_PAGE_MAX),
            _ => (1, ITEMS_MAX),
        }
    }
}
