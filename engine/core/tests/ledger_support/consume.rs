//! The words of consumer groups in the language of `script.rs`.
//!
//! ```text
//! group orders after=0 kinds=2 products=1,2 attempts=3 retry=100 longest=400 session=500 cancel=9 required=5
//! join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff      a group by its name
//! ack g1 m1 e1 all #5 = Done                                     a group by its number, a member, an epoch, lanes
//! nak g1 m1 e1 #3 = Retried 1 at 5100                            of the event that had this sequence
//! nak g1 m1 e1 #3 dead cause=7 delay=50 = Parked 2
//! redrive g1 #3 ; drop g1 #3 = Done ; Done
//! stand orders = from 2 epoch 1 members 1 dead 0 failed 1        how it stands, and other things to look at: below
//! ```
//!
//! Lanes are `all`, `none`, or those of products: `p1,p2`.

use sluice_core::ledger::command::{Ack, Consume, Group, LoggedTerms, Nak, Named, Numbered, PutGroup};
use sluice_core::ledger::groups::{Group as Consumers, Letter};
use sluice_protocol::event::{EVENT_LEN, EventRecord, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::{Answer, ProductId, Status};
use zerocopy::IntoBytes;

use super::{field, number};
use crate::ledger_support::Observed;

/// The bytes of a name, sound or not.
fn name(word: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name[..word.len()].copy_from_slice(word.as_bytes());
    name
}

fn lanes(word: &str) -> u64 {
    match word {
        "all" => u64::MAX,
        "none" => 0,
        products => products.split(',').map(|word| 1 << lane_of(ProductId(number(word)))).sum(),
    }
}

fn terms(words: &[&str]) -> LoggedTerms {
    let usual = GroupTerms::default();
    let field = |name, usual: u32| field(words, name).map_or(usual, |value| value as u32);
    let mut products = usual.products;
    let named = words.iter().find_map(|word| word.strip_prefix("products="));
    for (place, word) in products.iter_mut().zip(named.into_iter().flat_map(|words| words.split(','))) {
        *place = ProductId(word.parse().unwrap());
    }
    LoggedTerms::from(&GroupTerms {
        kinds: field("kinds", usual.kinds),
        products,
        attempts_max: field("attempts", usual.attempts_max),
        retry_ms: field("retry", usual.retry_ms),
        retry_ms_max: field("longest", usual.retry_ms_max),
        session_ms: field("session", usual.session_ms),
        cancel_dead: super::field(words, "cancel").map(|reason| reason as u32),
        backlog_max: 0,
        required_lag_max: super::field(words, "required").unwrap_or(0),
    })
}

fn event(observed: &Observed, word: &str, is_damaged: bool) -> [u8; EVENT_LEN] {
    let at = number(word) as usize;
    let mut event = [0; EVENT_LEN];
    event.copy_from_slice(observed.events[at - 1].as_bytes());
    event[56] ^= u8::from(is_damaged);
    event
}

/// The command of these words, if they are one of a consumer group.
pub(super) fn group(observed: &Observed, words: &[&str]) -> Option<Group> {
    let named = |number| Box::new(Named { name: name(words[1]), number });
    let numbered = |at: usize| Numbered { group: number(words[1]) as u32, number: number(words[at]) };
    let seat = || (number(words[1]) as u32, number(words[2]), number(words[3]));
    let item = match words[0] {
        "group" => {
            let after = field(words, "after").unwrap_or(0);
            Consume::Put(Box::new(PutGroup { name: name(words[1]), after, terms: terms(words) }))
        }
        "remove" => Consume::Remove(named(0)),
        "seek" => Consume::Seek(named(number(words[2]))),
        "join" => Consume::Join(named(number(words[2]))),
        "leave" => Consume::Leave(numbered(2)),
        "ack" => {
            let (group, member, epoch) = seat();
            let (lanes, upto) = (lanes(words[4]), number(words[5]));
            Consume::Ack(Box::new(Ack { group, member, epoch, lanes, upto }))
        }
        "nak" => {
            let (group, member, epoch) = seat();
            Consume::Nak(Box::new(Nak {
                group,
                member,
                epoch,
                delay_ms: field(words, "delay").unwrap_or(0) as u32,
                cause: field(words, "cause").unwrap_or(0) as u32,
                for_good: words.contains(&"dead"),
                event: event(observed, words[4], words.contains(&"damaged")),
            }))
        }
        "redrive" => Consume::Redrive(numbered(2)),
        "drop" => Consume::Drop(numbered(2)),
        _ => return None,
    };
    Some(Group::Consume(vec![item]))
}

/// An answer whose status alone does not tell how to read it.
pub(super) fn render(command: &str, answer: &Answer) -> Option<String> {
    let [a, b, c] = answer.numbers();
    Some(match (command, answer.status()?) {
        ("group" | "seek", Status::Done) => format!("Group {a} from {b}"),
        ("join", Status::Done) => format!("Seated {a} epoch {b} lanes {c:016x}"),
        ("nak", Status::Done) if a != 0 => format!("Retried {a} at {b}"),
        ("remove" | "leave" | "ack" | "nak" | "redrive" | "drop", Status::Done) => {
            assert_eq!([a, b, c], [0; 3]);
            "Done".to_owned()
        }
        (_, Status::Parked) => format!("Parked {a}"),
        (_, Status::NotMember) => format!("NotMember epoch {a} lanes {b:016x}"),
        (_, Status::Queueing) => format!("Queueing {a}"),
        _ => return None,
    })
}

fn sequences<'a>(letters: impl Iterator<Item = &'a Letter>) -> String {
    let sequences: Vec<String> = letters.map(|letter| format!("#{}", letter.event.sequence())).collect();
    if sequences.is_empty() { "none".to_owned() } else { sequences.join(" ") }
}

/// What can be looked at: `stand`, `lanes`, `members`, `cursor`, `failing`, `letter`, `letters`, `again`, `skips`, `wants`.
pub(super) fn read(observed: &Observed, words: &[&str]) -> Option<String> {
    const READS: [&str; 10] =
        ["stand", "lanes", "members", "cursor", "failing", "letter", "letters", "again", "skips", "wants"];
    if !READS.contains(&words[0]) {
        return None;
    }
    let Some(group) = observed.ledger.groups().by_name(GroupName::from(name(words[1]))) else {
        return Some("none".to_owned());
    };
    Some(look(observed, group, words))
}

fn look(observed: &Observed, group: &Consumers, words: &[&str]) -> String {
    let at = |at: usize| words.get(at).map_or(0, |word| number(word));
    let lane = lane_of(ProductId(at(2)));
    match words[0] {
        "stand" => {
            let view = group.view();
            format!(
                "from {} epoch {} members {} dead {} failed {}",
                view.cursor, view.epoch, view.members, view.dead, view.failed
            )
        }
        "lanes" => format!("{:016x}", group.lanes_of(at(2))),
        "members" => {
            let seat = |seat: sluice_core::ledger::groups::Seat| {
                format!(
                    "m{} since {} has {} from {}",
                    seat.member,
                    seat.since,
                    seat.lanes.count_ones(),
                    seat.cursor
                )
            };
            group.members().map(seat).collect::<Vec<_>>().join(" ; ")
        }
        "cursor" => group.cursor(lane).to_string(),
        "failing" => group.failing(lane).map_or("none".to_owned(), |failing| {
            format!("#{} x{} at {}", failing.sequence, failing.attempts, failing.retry_ms)
        }),
        "letter" => group.letter(at(2)).map_or("none".to_owned(), |letter| {
            let Letter { attempts, died_ms, cause, redrive, .. } = letter;
            format!("x{attempts} died {died_ms} cause {cause} redrive {redrive}")
        }),
        "letters" => sequences(group.letters_from(0)),
        "again" => sequences(group.redriven(at(2), u64::MAX)),
        "skips" => group.is_dead(at(2)).to_string(),
        _ => {
            let event: &EventRecord = &observed.events[at(2) as usize - 1];
            group.wants(event).to_string()
        }
    }
}
