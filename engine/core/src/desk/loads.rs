//! What a frame asks of the replica, if its items need no judging first. Deliberately not here: reserves.

use sluice_protocol::request::{IdItem, StockItem};

use crate::flight::Load;
use crate::ledger::command::{Cancel, ChangeStock, Consume, Group, Put};
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
        Ask::Groups(item) => Load::Groups(item.name()),
        Ask::Members(item) => Load::Members(item.name()),
        Ask::Dead(item) => {
            Load::Letters { group: item.group(), from: item.sequence(), limit: item.limit() as usize }
        }
        Ask::PutGroup(item) => consume([Consume::put(item)]),
        Ask::RemoveGroup(item) => consume([Consume::remove(item)]),
        Ask::SeekGroup(item) => consume([Consume::seek(item)]),
        Ask::Join(item) => consume([Consume::join(item)]),
        Ask::Leave(item) => consume([Consume::from(item)]),
        Ask::Ack(items) => consume(items.iter().map(Consume::from)),
        Ask::Nak(items) => consume(items.iter().map(Consume::from)),
        Ask::Redrive(items) => consume(items.iter().map(Consume::redrive)),
        Ask::DropDead(items) => consume(items.iter().map(Consume::drop)),
        Ask::Fetch(_) | Ask::Stream(_) | Ask::Places(_) => unreachable!("net threads answer those"),
    }
}

fn consume(commands: impl IntoIterator<Item = Consume>) -> Load {
    Load::Commands(Group::Consume(commands.into_iter().collect()))
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
