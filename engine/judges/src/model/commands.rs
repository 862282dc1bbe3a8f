//! From the bytes of an entry to commands, and from a command to what carries it out.

use sluice_core::ledger::command::{ArchivedBatch, ArchivedChangeStock, ArchivedGroup, ArchivedPut};
use sluice_core::ledger::command::{ChangeStock, Put, Reserve};
use sluice_protocol::Answer;
use sluice_protocol::request::{PUT_KEEP_STOCK, PUT_UNLIMITED};

use super::turn::{Told, Turn};
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

/// The commands of a batch, in order.
pub(super) fn commands(batch: &ArchivedBatch) -> Vec<Command> {
    let mut commands = Vec::new();
    for group in batch.groups.iter() {
        match group {
            ArchivedGroup::Reserve(items) => commands.extend(items.iter().map(|item| {
                let payload =
                    [item.product.to_native(), item.user.to_native(), u64::from(item.quantity.to_native())];
                Command::new(Verb::Reserve, item.id.to_native(), payload)
            })),
            ArchivedGroup::Confirm(ids) => {
                commands.extend(ids.iter().map(|id| Command::new(Verb::Confirm, id.to_native(), [])));
            }
            ArchivedGroup::Cancel(items) => commands.extend(items.iter().map(|item| {
                let reason = u64::from(item.reason.to_native());
                Command::new(Verb::Cancel, item.id.to_native(), [reason])
            })),
            ArchivedGroup::Resolve(ids) => {
                commands.extend(ids.iter().map(|id| Command::new(Verb::Resolve, id.to_native(), [])));
            }
            ArchivedGroup::Put(items) => commands.extend(items.iter().map(put)),
            ArchivedGroup::Restock(items) => {
                commands.extend(items.iter().map(|item| change(Verb::Restock, item)));
            }
            ArchivedGroup::WriteOff(items) => {
                commands.extend(items.iter().map(|item| change(Verb::WriteOff, item)));
            }
            ArchivedGroup::Seal(items) => commands
                .extend(items.iter().map(|item| Command::new(Verb::Seal, u128::from(item.to_native()), []))),
            ArchivedGroup::Consume(_) => unreachable!("no client of a run asks anything of consumer groups"),
        }
    }
    commands
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
    pub(super) fn carry_out_all(&mut self, commands: Vec<Command>) -> Vec<Told> {
        commands.into_iter().map(|command| (command, self.carry_out(&command))).collect()
    }

    /// Carries out a command.
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
        }
    }
}
