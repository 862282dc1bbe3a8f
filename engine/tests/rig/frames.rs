//! Frames of clients and servers as calls and answers.
//!
//! Deliberately not here: connections, and who said it when.

use sluice_judges::history::{Ask, Reply};
use sluice_protocol::Kind;
use sluice_protocol::request::{
    IdItem, Item, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem, items,
};
use sluice_protocol::response::{self, ProductReply, ReservationReply};

/// What each item of a request asks; nothing if the frame is no call.
pub fn asks(kind: Kind, body: &[u8]) -> Vec<Ask> {
    match kind {
        Kind::Reserve => each(body, Ask::Reserve),
        Kind::Confirm => each(body, Ask::Confirm),
        Kind::Cancel => each(body, Ask::Cancel),
        Kind::Resolve => each(body, Ask::Resolve),
        Kind::QueryReservation => each(body, Ask::QueryReservation),
        Kind::QueryProduct => each(body, Ask::QueryProduct),
        Kind::PutProduct => each(body, Ask::Put),
        Kind::Restock => each(body, Ask::Restock),
        Kind::WriteOff => each(body, Ask::WriteOff),
        Kind::Seal => each(body, Ask::Seal),
        Kind::ListProducts => each(body, Ask::List),
        _ => Vec::new(),
    }
}

fn each<T: Item + Copy>(body: &[u8], ask: impl Fn(T) -> Ask) -> Vec<Ask> {
    items(body).unwrap().iter().copied().map(ask).collect()
}

/// What each item of a reply says.
pub fn replies(kind: Kind, body: &[u8]) -> Vec<Reply> {
    match kind {
        Kind::QueryReservationReply => {
            let replies = response::items::<ReservationReply>(body).unwrap();
            replies.iter().copied().map(Reply::Reservation).collect()
        }
        Kind::QueryProductReply => {
            let replies = response::items::<ProductReply>(body).unwrap();
            replies.iter().copied().map(Reply::Product).collect()
        }
        Kind::ListProductsReply => {
            vec![Reply::Page(response::items::<ProductReply>(body).unwrap().to_vec())]
        }
        _ => response::items(body).unwrap().iter().copied().map(Reply::Plain).collect(),
    }
}
