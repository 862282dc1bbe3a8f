//! A naive model of the whole service, written from `docs/PROTOCOL.md` and the table of rules in the ledger's scripts,
//! not from the ledger's code: ordered maps, no tables, no tricks. It is the second opinion on every answer.
//!
//! - `state`: products, records, holds, and what each is worth at a time
//! - `turn`: one entry of the log: time, its commands in order, then what is due
//! - `commands`: what an entry holds; `reservation`, `stock`, `consuming`: what the commands do
//! - `groups`: consumer groups
//! - `timeline`: what was true at each index; `said`: what may be said of it
//!
//! Deliberately not here: who says what to whom.

mod commands;
mod consuming;
mod groups;
mod reservation;
mod said;
mod state;
mod stock;
mod timeline;
mod turn;

pub use self::groups::Group;
pub(crate) use self::said::refusal;
pub use self::state::{Kind, Product, Record, State};
pub(crate) use self::timeline::checksum;
pub use self::timeline::{Said, Step, Timeline};
pub use self::turn::{Changed, Told, Turn};
