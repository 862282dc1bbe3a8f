//! What a frame asks of the replica, if its items need no judging first. Deliberately not here: reserves.

use sluice_protocol::request::{IdItem, StockItem};

use crate::flight::Load;
use crate::ledger::command::{Cancel, ChangeStock, Group, Put};
use crate::session::Ask;

/// The whole frame as one load.
pub(super) fn load(ask: Ask<'_>) -> Load {
    match ask {
        Ask::Reserve(_) => unreachable!("reserves are judged one by one"),
        Ask::Confirm(items) => Load::Commands(Group::Confirm(ids(items))),
        Ask::Resolve(items) => Load::Commands(Group::Resolve(ids(items))),
        Ask::Cancel(items) => {
            let items = items.iter().map(|item| Cancel { id: item.id().0, reason: item.reason() });
            Load::Commands(Group::Cancel(items.collect()))
        }
        Ask::Put(items) => Load::Commands(Group::Put(items.iter().map(Put::from).collect())),
        Ask::Restock(items) => Load::Commands(Group::Restock(changes(items))),
        Ask::WriteOff(items) => Load::Commands(Group::WriteOff(changes(items))),
        Ask::Seal(items) => Load::Commands(Group::Seal(items.iter().map(|item| item.product().0).collect())),
        Ask::Reservations(items) => Load::Reservations(items.iter().map(IdItem::id).collect()),
        Ask::Products(items) => Load::Products(items.iter().map(|item| item.product()).collect()),
        Ask::Page(item) => Load::Page { from: item.from(), limit: item.limit() as usize },
    }
}

fn ids(items: &[IdItem]) -> Vec<u128> {
    items.iter().map(|item| item.id().0).collect()
}

fn changes(items: &[StockItem]) -> Vec<ChangeStock> {
    items
        .iter()
        .map(|item| ChangeStock { id: item.id().0, product: item.product().0, quantity: item.quantity() })
        .collect()
}
