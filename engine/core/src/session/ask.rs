//! What a frame of requests asks: its items, read where they lie.
//!
//! Deliberately not here: what they mean.

use sluice_protocol::group::{GroupItem, JoinItem, PutGroupItem};
use sluice_protocol::handshake::Hello;
use sluice_protocol::header::{FrameHeader, HEADER_LEN};
use sluice_protocol::request::{
    self, IdItem, Item, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem,
};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{DecodeError, FaultCode, Kind, PROTOCOL_VERSION};

use super::SessionFault;

/// The items of one request frame, read where they lie.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Take units.
    Reserve(&'a [ReserveItem]),
    /// Confirm.
    Confirm(&'a [IdItem]),
    /// Cancel.
    Cancel(&'a [IdItem]),
    /// Tell or kill.
    Resolve(&'a [IdItem]),
    /// Read reservations.
    Reservations(&'a [IdItem]),
    /// Read products.
    Products(&'a [ProductItem]),
    /// Create products or change terms.
    Put(&'a [PutProductItem]),
    /// Add stock.
    Restock(&'a [StockItem]),
    /// Remove free stock.
    WriteOff(&'a [StockItem]),
    /// No more stock, ever.
    Seal(&'a [ProductItem]),
    /// Read a page of products.
    Page(&'a ListItem),
    /// Create a consumer group or change its terms.
    PutGroup(&'a PutGroupItem),
    /// Remove a consumer group.
    RemoveGroup(&'a GroupItem),
    /// Move a group's cursor.
    SeekGroup(&'a JoinItem),
    /// Read groups.
    Groups(&'a GroupItem),
    /// Read a group's members.
    Members(&'a GroupItem),
    /// Take a seat.
    Join(&'a JoinItem),
    /// Give a seat back.
    Leave(&'a SeatItem),
    /// Events.
    Fetch(&'a FetchItem),
    /// Acknowledge.
    Ack(&'a [AckItem]),
    /// Deliveries failed.
    Nak(&'a [NakItem]),
    /// Read a page of dead letters.
    Dead(&'a LetterItem),
    /// Deliver dead letters again.
    Redrive(&'a [LetterItem]),
    /// Forget dead letters.
    DropDead(&'a [LetterItem]),
    /// Places in line.
    Places(&'a [LetterItem]),
    /// The stream's bounds.
    Stream(&'a StreamItem),
}

impl Ask<'_> {
    /// Items in the frame.
    pub fn len(&self) -> usize {
        match self {
            Self::Reserve(items) => items.len(),
            Self::Confirm(items) | Self::Cancel(items) | Self::Resolve(items) | Self::Reservations(items) => {
                items.len()
            }
            Self::Products(items) | Self::Seal(items) => items.len(),
            Self::Put(items) => items.len(),
            Self::Restock(items) | Self::WriteOff(items) => items.len(),
            Self::Ack(items) => items.len(),
            Self::Nak(items) => items.len(),
            Self::Redrive(items) | Self::DropDead(items) | Self::Places(items) => items.len(),
            _ => 1,
        }
    }

    /// Whether it changes nothing, and may be answered by any member.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Reservations(_)
                | Self::Products(_)
                | Self::Page(_)
                | Self::Groups(_)
                | Self::Members(_)
                | Self::Dead(_)
        )
    }

    /// Whether it is said by or of those who consume the stream.
    pub fn is_consumers(&self) -> bool {
        matches!(
            self,
            Self::Join(_)
                | Self::Leave(_)
                | Self::Fetch(_)
                | Self::Ack(_)
                | Self::Nak(_)
                | Self::Redrive(_)
                | Self::DropDead(_)
                | Self::Places(_)
                | Self::Stream(_)
        )
    }

    /// Whether it asks for committed events as they are here: of every member, whoever leads.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::Fetch(item) => item.seat.group() == 0,
            Self::Stream(_) => true,
            _ => false,
        }
    }

    /// The group and the member that speak.
    pub fn seat(&self) -> Option<(u32, u64)> {
        let seat = match self {
            Self::Fetch(item) => &item.seat,
            Self::Ack(items) => &items.first()?.seat,
            Self::Nak(items) => &items.first()?.seat,
            _ => return None,
        };
        Some((seat.group(), seat.member()))
    }

    /// Whether there are none; a decoded frame always has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole frame, read.
pub(super) enum Read<'a> {
    Hello(String),
    Ping,
    Ask(Ask<'a>),
}

pub(super) fn read<'a>(header: &FrameHeader, frame: &'a [u8]) -> Result<Read<'a>, SessionFault> {
    header.check_body(frame)?;
    let body = &frame[HEADER_LEN..];
    let ask = match header.kind {
        Kind::Hello => {
            let hello = Hello::decode(body)?;
            if !(hello.version_min..=hello.version_max).contains(&PROTOCOL_VERSION) {
                return Err(SessionFault::Order(FaultCode::NoCommonVersion));
            }
            return Ok(Read::Hello(hello.name.to_owned()));
        }
        Kind::Ping => return Ok(Read::Ping),
        Kind::Reserve => Ask::Reserve(request::items(body)?),
        Kind::Confirm => Ask::Confirm(request::items(body)?),
        Kind::Cancel => Ask::Cancel(request::items(body)?),
        Kind::Resolve => Ask::Resolve(request::items(body)?),
        Kind::QueryReservation => Ask::Reservations(request::items(body)?),
        Kind::QueryProduct => Ask::Products(request::items(body)?),
        Kind::PutProduct => Ask::Put(request::items(body)?),
        Kind::Restock => Ask::Restock(request::items(body)?),
        Kind::WriteOff => Ask::WriteOff(request::items(body)?),
        Kind::Seal => Ask::Seal(request::items(body)?),
        Kind::ListProducts => Ask::Page(one(body)?),
        Kind::PutGroup => Ask::PutGroup(one(body)?),
        Kind::RemoveGroup => Ask::RemoveGroup(one(body)?),
        Kind::SeekGroup => Ask::SeekGroup(one(body)?),
        Kind::ListGroups => Ask::Groups(one(body)?),
        Kind::ListMembers => Ask::Members(one(body)?),
        Kind::Join => Ask::Join(one(body)?),
        Kind::Leave => Ask::Leave(one(body)?),
        Kind::Fetch => Ask::Fetch(one(body)?),
        Kind::Ack => Ask::Ack(request::items(body)?),
        Kind::Nak => Ask::Nak(request::items(body)?),
        Kind::ListDead => Ask::Dead(one(body)?),
        Kind::Redrive => Ask::Redrive(request::items(body)?),
        Kind::DropDead => Ask::DropDead(request::items(body)?),
        Kind::QueryPlace => Ask::Places(request::items(body)?),
        Kind::QueryStream => Ask::Stream(one(body)?),
        reply => return Err(DecodeError::BadKind { got: reply as u8 }.into()),
    };
    Ok(Read::Ask(ask))
}

/// The only item of a body.
fn one<T: Item>(body: &[u8]) -> Result<&T, DecodeError> {
    request::items::<T>(body).map(|items| items.first().expect("the count was checked to be one"))
}
