//! What is asked of consumer groups, in one form for what clients send and what stands in the log.
//!
//! Deliberately not here: what becomes of it.

use sluice_core::ledger::command::{ArchivedConsume, ArchivedNamed};
use sluice_protocol::event::EventRecord;
use sluice_protocol::group::{GroupName, GroupTerms, PutGroupItem};
use sluice_protocol::seat::{AckItem, NakItem, SeatItem};
use zerocopy::{FromBytes, IntoBytes};

use crate::history::{Command, Verb};

/// One thing that is asked of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consume {
    /// Create it or change its terms.
    Put(GroupName, u64, GroupTerms),
    /// Remove it.
    Remove(GroupName),
    /// Begin again behind a sequence.
    Seek(GroupName, u64),
    /// A member takes a seat.
    Join(GroupName, u64),
    /// A member gives it back.
    Leave(u32, u64),
    /// Events are done.
    Ack(AckItem),
    /// A delivery failed.
    Nak(NakItem),
    /// Deliver the dead letter of this sequence once more.
    Redrive(u32, u64),
    /// Forget it.
    Drop(u32, u64),
}

/// Mixes a word into a name. Both factors are odd, so that nothing is lost.
fn mix(name: u128, word: u64) -> u128 {
    let mixed = (name ^ u128::from(word)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    mixed ^ mixed >> 61
}

impl Consume {
    /// The command that it is in the log.
    pub fn command(&self) -> Command {
        let mut words: Vec<u64> = Vec::new();
        let bytes = |words: &mut Vec<u64>, bytes: &[u8]| {
            words.extend(
                bytes.chunks(8).map(|part| part.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))),
            );
        };
        let (tag, group) = match self {
            Self::Put(name, after, terms) => {
                bytes(&mut words, PutGroupItem::new(*name, *after, terms).as_bytes());
                (0, 0)
            }
            Self::Remove(name) => {
                bytes(&mut words, &name.bytes());
                (1, 0)
            }
            Self::Seek(name, number) | Self::Join(name, number) => {
                bytes(&mut words, &name.bytes());
                words.push(*number);
                (if matches!(self, Self::Seek(..)) { 2 } else { 3 }, 0)
            }
            Self::Leave(group, number) | Self::Redrive(group, number) | Self::Drop(group, number) => {
                words.push(*number);
                let tags = [matches!(self, Self::Leave(..)), matches!(self, Self::Redrive(..)), true];
                (4 + tags.iter().position(|is| *is).unwrap_or(0) as u64, *group)
            }
            Self::Ack(item) => {
                bytes(&mut words, item.as_bytes());
                (7, item.seat.group())
            }
            Self::Nak(item) => {
                bytes(&mut words, item.as_bytes());
                (8, item.seat.group())
            }
        };
        let verb = if tag == 4 { Verb::Leave } else { Verb::Consume };
        let name = words.into_iter().fold(u128::from(tag), mix);
        Command::new(verb, name, [tag, u64::from(group)])
    }
}

impl From<&ArchivedConsume> for Consume {
    fn from(ask: &ArchivedConsume) -> Self {
        let named = |named: &ArchivedNamed| (GroupName::from(named.name), named.number.to_native());
        match ask {
            ArchivedConsume::Put(put) => {
                Self::Put(GroupName::from(put.name), put.after.to_native(), GroupTerms::from(&put.terms))
            }
            ArchivedConsume::Remove(ask) => Self::Remove(named(ask).0),
            ArchivedConsume::Seek(ask) => Self::Seek(named(ask).0, named(ask).1),
            ArchivedConsume::Join(ask) => Self::Join(named(ask).0, named(ask).1),
            ArchivedConsume::Leave(ask) => Self::Leave(ask.group.to_native(), ask.number.to_native()),
            ArchivedConsume::Redrive(ask) => Self::Redrive(ask.group.to_native(), ask.number.to_native()),
            ArchivedConsume::Drop(ask) => Self::Drop(ask.group.to_native(), ask.number.to_native()),
            ArchivedConsume::Ack(ask) => {
                let seat = SeatItem::new(ask.group.to_native(), ask.member.to_native());
                let (lanes, upto) = (ask.lanes.to_native(), ask.upto.to_native());
                Self::Ack(AckItem::new(seat, ask.epoch.to_native(), lanes, upto))
            }
            ArchivedConsume::Nak(ask) => {
                let seat = SeatItem::new(ask.group.to_native(), ask.member.to_native());
                let event = EventRecord::read_from_bytes(&ask.event).expect("an event has its length");
                let item = NakItem::new(seat, ask.epoch.to_native(), event, ask.cause.to_native());
                let item = item.after(ask.delay_ms.to_native());
                Self::Nak(if ask.for_good { item.for_good() } else { item })
            }
        }
    }
}
