//! From the bytes of an entry to commands, and from a command to what carries it out.

use sluice_core::ledger::command::{ArchivedBatch, ArchivedChangeStock, ArchivedGroup, ArchivedPut};
use sluice_core::ledger::command::{ChangeStock, Put, Reserve};
use sluice_protocol::Answer;
use sluice_protocol::request::{PUT_KEEP_STOCK, PUT_UNLIMITED};

use super::turn::{Told, Turn};
use crate::consume::Consume;
use crate::history::{Command, Verb};

fn put(item: &ArchivedPut) -> Command {
    let flags = if item.unlimited { PUT_UNLIMITED } else { 0 };
    let flags = flags | if item.stock.is_none() { PUT_KEEP_STOCK } else { 0 };
    let payload = [
        item.stock.as_ref().map_or(0, |stock| stock.to_native()),
        item.opens_ms.to_native(),
        item.closes_ms.to_native(),
        u64::from(item.per_user_limit.to_native()),
        u64::from(item.hold_ms.to_native()),
        u64::from(flags),
    ];
    Command::new(Verb::Put, u128::from(item.product.to_native()), payload)
}

fn change(verb: Verb, item: &ArchivedChangeStock) -> Command {
    let payload = [item.product.to_native(), u64::from(item.quantity.to_native())];
    Command::new(verb, item.id.to_native(), payload)
}

/// What an entry asks.
pub(super) enum Asked {
    /// Of the sale.
    Plain(Command),
    /// Of a consumer group.
    Consume(Consume),
}

/// The commands of a batch, in order.
pub(super) fn commands(batch: &ArchivedBatch) -> Vec<Asked> {
    let mut asked = Vec::new();
    for group in batch.groups.iter() {
        match group {
            ArchivedGroup::Reserve(items) => asked.extend(items.iter().map(|item| {
                let payload =
                    [item.product.to_native(), item.user.to_native(), u64::from(item.quantity.to_native())];
                Asked::Plain(Command::new(Verb::Reserve, item.id.to_native(), payload))
            })),
            ArchivedGroup::Confirm(ids) => {
                asked.extend(
                    ids.iter().map(|id| Asked::Plain(Command::new(Verb::Confirm, id.to_native(), []))),
                );
            }
            ArchivedGroup::Cancel(items) => asked.extend(items.iter().map(|item| {
                let reason = u64::from(item.reason.to_native());
                Asked::Plain(Command::new(Verb::Cancel, item.id.to_native(), [reason]))
            })),
            ArchivedGroup::Resolve(ids) => {
                asked.extend(
                    ids.iter().map(|id| Asked::Plain(Command::new(Verb::Resolve, id.to_native(), []))),
                );
            }
            ArchivedGroup::Put(items) => asked.extend(items.iter().map(|item| Asked::Plain(put(item)))),
            ArchivedGroup::Restock(items) => {
                asked.extend(items.iter().map(|item| Asked::Plain(change(Verb::Restock, item))));
            }
            ArchivedGroup::WriteOff(items) => {
                asked.extend(items.iter().map(|item| Asked::Plain(change(Verb::WriteOff, item))));
            }
            ArchivedGroup::Seal(items) => asked.extend(
                items
                    .iter()
                    .map(|item| Asked::Plain(Command::new(Verb::Seal, u128::from(item.to_native()), []))),
            ),
            ArchivedGroup::Consume(items) => {
                asked.extend(items.iter().map(|item| Asked::Consume(Consume::from(item))));
            }
        }
    }
    asked
}

/// What was 32 bits when the command was made.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("commands are made of narrow numbers")
}

/// A product that a command is named after.
fn product(command: &Command) -> u64 {
    u64::try_from(command.name).expect("products have narrow names")
}

impl Turn<'_> {
    /// Carries out commands, in order.
    pub(super) fn carry_out_all(&mut self, asked: Vec<Asked>) -> Vec<Told> {
        let carry_out = |asked| match asked {
            Asked::Plain(command) => (command, self.carry_out(&command)),
            Asked::Consume(asked) => (asked.command(), self.consume(&asked)),
        };
        asked.into_iter().map(carry_out).collect()
    }

    /// Carries out a command.
    ///
    /// # Panics
    /// If it is one of a consumer group.
    pub fn carry_out(&mut self, command: &Command) -> Answer {
        let id = command.name;
        let [first, second, third, ..] = command.payload;
        let change = || ChangeStock { id, product: first, quantity: narrow(second) };
        match command.verb {
            Verb::Reserve => {
                self.reserve(&Reserve { id, product: first, user: second, quantity: narrow(third) })
            }
            Verb::Confirm => self.confirm(id),
            Verb::Cancel => self.cancel(id, narrow(first)),
            Verb::Resolve => self.resolve(id),
            Verb::Put => {
                let [stock, opens_ms, closes_ms, per_user_limit, hold_ms, flags] = command.payload;
                let keeps = flags & u64::from(PUT_KEEP_STOCK) != 0;
                self.put(&Put {
                    product: product(command),
                    stock: (!keeps).then_some(stock),
                    opens_ms,
                    closes_ms,
                    per_user_limit: narrow(per_user_limit),
                    hold_ms: narrow(hold_ms),
                    unlimited: flags & u64::from(PUT_UNLIMITED) != 0,
                })
            }
            Verb::Restock => self.restock(&change()),
            Verb::WriteOff => self.write_off(&change()),
            Verb::Seal => self.seal(product(command)),
            Verb::Consume | Verb::Leave => {
                unreachable!("a command alone does not say what a group was asked")
            }
        }
    }
}
