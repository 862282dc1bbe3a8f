//! Any bytes as one frame: the same faults as the page's, no allocation, and what decodes encodes to the same bytes.
//!
//! The first byte says whether the rest is taken as it is or mended into a frame whose checksum holds, so that the
//! fuzzer gets to what lies behind it. Deliberately not here: which frames may come when (`session`).

use sluice_protocol::handshake::{Fault, Hello, Welcome};
use sluice_protocol::header::{self, FrameHeader};

use sluice_protocol::request::{
    self, IdItem, Item, ListItem, PUT_KEEP_STOCK, ProductItem, PutProductItem, ReserveItem, StockItem,
};
use sluice_protocol::response::{
    self, Answer, ProductRecord, ProductReply, ProductView, ReservationRecord, ReservationReply,
    ReservationView,
};
use sluice_protocol::{DecodeError, Kind};
use zerocopy::IntoBytes;

use crate::{consumers, heap, naive};

/// See the module.
pub fn target(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        naive::mend(&mut bytes);
    }
    let (header, taken) = heap::taken(|| FrameHeader::parse(&bytes));
    assert_eq!(taken, 0, "nothing is allocated for a header");
    let expected = naive::head(&bytes);
    assert_eq!(header.as_ref().err().map(code), expected.as_ref().err().copied());
    let (Ok(Some(header)), Ok(Some(head))) = (header, expected) else { return };
    assert_eq!((header.kind as u8, header.length as usize), (head.row.kind, head.length));
    if let Some(frame) = bytes.get(..header.frame_len()) {
        whole(&header, &head, frame);
    }
}

fn code(error: &DecodeError) -> u16 {
    error.code() as u16
}

fn whole(header: &FrameHeader, head: &naive::Head, frame: &[u8]) {
    let (checked, taken) = heap::taken(|| header.check_body(frame));
    assert_eq!(taken, 0, "nothing is allocated for a check");
    assert_eq!(checked.as_ref().err().map(code), naive::whole(head, frame).err());
    if checked.is_err() {
        return;
    }
    let mut again = frame.to_vec();
    again[..naive::HEADER].fill(0xee);
    header::seal(&mut again, header.kind, header.version, header.count, header.budget_ms, header.correlation);
    assert_eq!(again, frame, "a header is what its fields say");

    let body = &frame[naive::HEADER..];
    let decoded = encode_again(header.kind, body);
    let expected = match header.kind {
        Kind::Hello => naive::hello(body).err().filter(|fault| *fault < 32),
        kind if kind.is_request() && head.row.item != 0 => naive::items(&head.row, body).err(),
        _ => decoded.as_ref().err().map(code),
    };
    assert_eq!(decoded.as_ref().err().map(code), expected);
    if let Ok(again) = decoded {
        assert_eq!(again, body, "what decodes encodes to the same bytes");
    }
}

/// Decodes a body, and encodes what it said.
fn encode_again(kind: Kind, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    match kind {
        Kind::Hello => Hello::decode(body)?.encode(&mut out),
        Kind::Welcome => Welcome::decode(body)?.encode(&mut out),
        Kind::Fault => Fault::decode(body)?.encode(&mut out),
        Kind::Ping | Kind::Pong => {}
        Kind::Reserve => return each(body, reserve_again),
        Kind::Confirm | Kind::Cancel | Kind::Resolve | Kind::QueryReservation => {
            return each(body, |item: &IdItem| IdItem::with_reason(item.id(), item.reason()));
        }
        Kind::QueryProduct | Kind::Seal => {
            return each(body, |item: &ProductItem| ProductItem::new(item.product()));
        }
        Kind::PutProduct => return puts_again(body),
        Kind::Restock | Kind::WriteOff => return each(body, stock_again),
        Kind::ListProducts => {
            return each(body, |item: &ListItem| ListItem::new(item.from(), item.limit()));
        }
        Kind::QueryReservationReply => {
            for item in reply_items::<ReservationReply>(body) {
                let again = ReservationRecord::from(ReservationView::from(item.record));
                assert_eq!(again, item.record);
                out.extend_from_slice(look(&item.answer).as_bytes());
                out.extend_from_slice(again.as_bytes());
            }
        }
        Kind::QueryProductReply | Kind::ListProductsReply => {
            for item in reply_items::<ProductReply>(body) {
                let view = ProductView::from(item.record);
                // Flags of later versions and reserved bytes are not looked at, so they do not come back.
                assert_eq!(ProductView::from(ProductRecord::from(view)), view);
                look(&item.answer);
                out.extend_from_slice(item.as_bytes());
            }
        }
        kind if kind as u8 & 0x7f >= Kind::PutGroup as u8 => return consumers::again(kind, body),
        _ => {
            for answer in reply_items::<Answer>(body) {
                out.extend_from_slice(look(answer).as_bytes());
            }
        }
    }
    Ok(out)
}

pub(crate) fn each<T: Item>(body: &[u8], again: impl Fn(&T) -> T) -> Result<Vec<u8>, DecodeError> {
    let (items, taken) = heap::taken(|| request::items::<T>(body));
    assert_eq!(taken, 0, "items are read where they lie");
    Ok(items?.iter().flat_map(|item| again(item).as_bytes().to_vec()).collect())
}

fn reserve_again(item: &ReserveItem) -> ReserveItem {
    let mut again = ReserveItem::new(item.id(), item.product(), item.user(), item.quantity());
    again.attempt = item.attempt;
    again
}

fn stock_again(item: &StockItem) -> StockItem {
    let mut again = StockItem::new(item.id(), item.product(), item.quantity());
    again.attempt = item.attempt;
    again
}

/// Stock is not looked at in a put that keeps it, so it comes back as it was sent.
fn puts_again(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out =
        each(body, |item: &PutProductItem| PutProductItem::new(item.product(), item.stock(), item.terms()))?;
    for (again, sent) in out.chunks_mut(48).zip(body.chunks(48)) {
        if naive::number(&sent[40..44]) & u64::from(PUT_KEEP_STOCK) != 0 {
            again[8..16].copy_from_slice(&sent[8..16]);
        }
    }
    Ok(out)
}

pub(crate) fn reply_items<T>(body: &[u8]) -> &[T]
where
    T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    response::items(body).expect("the length was checked against the count")
}

/// Asks an answer for everything that it might say.
pub(crate) fn look(answer: &Answer) -> &Answer {
    assert_eq!(
        answer.status().map(|status| status as u8).unwrap_or(answer.status_byte()),
        answer.status_byte()
    );
    assert!(!format!("{answer:?}").is_empty());
    let _ = (answer.state(), answer.refused_with(), answer.refused_field());
    answer
}
