//! Formats: what was written before there were consumer groups is read and written byte for byte as it was; what has them says
//! so, and loads only as something that commands could have made.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use ledger_support::{Observed, TERM, Told, load, sections};
use sluice_core::ledger::command::{
    Ack, Batch, Cancel, ChangeStock, Consume, EntryError, FORMAT, Group, LoggedTerms, Nak, Named, Numbered,
    Put, PutGroup, Reserve,
};
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{ImageError, Ledger, image};
use sluice_protocol::event::{EVENT_LEN, EventKind, EventRecord, EventView, lane_of};
use sluice_protocol::group::GroupTerms;
use sluice_protocol::{ProductId, ReservationId, Status, UserId};
use zerocopy::IntoBytes;

const SETTINGS: Settings = Settings { records_max: 100, retention_ms: 1000 };

/// Entries as the first format has them.
const OLD_ENTRIES: [&str; 3] = [
    "01000000b75526ff01000000000000000109000000000000000000000000000000000000000000000004000000f40100\
     000001000000000000000000000000000000010000000000000003000000000000000200000002000000000000000000\
     000000000000010000000000000003000000000000000100000003000000000000000000000000000000010000000000\
     00000300000000000000090000000469ffffff01000000008affffff030000000700000000000000e803000000000000\
     deffffff02000000",
    "01000000d7de4bea01000000000000000000000000000000020000000000000000000000000000000900000004000000\
     000000000000000000000000050000000000000000000000000000000100000000000000060000000600000000000000\
     00000000000000000100000000000000010000000100000000000000018bffffff010000000292ffffff01000000039d\
     ffffff0100000005a4ffffff0100000006b7ffffff0100000007caffffff010000000700000000000000e90300000000\
     0000baffffff06000000",
    "01000000413b326d07000000000000000000000000000000010000000000000003000000000000000100000000dbffff\
     ff010000000700000000000000ea03000000000000e7ffffff01000000",
];

/// The image of a ledger that applied them, and its digest.
const OLD_IMAGE: [&str; 3] = [
    "0101000040000000c0e13c5c64000000e8030000000000000300000000000000ea030000000000000a00000000000000\
     0100000007000000ffffffff00000000020000000500000005000000",
    "010200007a000000a19e9175f40100000600000006000000de0500000000000001000000000000000e00000000000000\
     0b0000000000000001000000000000000200000000000000090000000000000000000000000000000000000000000000\
     04000000f40100000001a2ffffff01000000030000000000000000000000a2ffffff01000000",
    "01030000d4010000cd74c6250100000000000000000000000000000003000000000000000500000000000000e9030000\
     000000000000000002000000ffffffffffffffff00000000020001000200000000000000000000000000000003000000\
     000000000600000000000000e90300000000000000000000010000000300000002000000090000000300010003000000\
     00000000000000000000000003000000000000000100000000000000e803000000000000ffffffff0900000001000000\
     ffffffff00000000061201000400000000000000000000000000000000000000000000000000000000000000e9030000\
     00000000ffffffff00000000040000000100000000000000050000000500000000000000000000000000000000000000\
     000000000700000000000000e90300000000000000000000060000000500000003000000000000000700020006000000\
     00000000000000000000000000000000000000000800000000000000e9030000000000000000000001000000ffffffff\
     0400000000000000070003000700000000000000000000000000000003000000000000000a00000000000000de050000\
     000000000000000001000000ffffffffffffffff000000000100010003000000000000000000000034feffff07000000",
];
const OLD_DIGEST: u64 = 0xaad6_583b_650c_26c8;

/// What those entries say.
fn old_batches() -> Vec<Batch> {
    let put = Put {
        product: 1,
        stock: Some(9),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 4,
        hold_ms: 500,
        unlimited: false,
    };
    let reserve = |id, quantity| Reserve { id, product: 1, user: 3, quantity };
    let change = |id, quantity| ChangeStock { id, product: 1, quantity };
    let first =
        vec![Group::Put(vec![put]), Group::Reserve(vec![reserve(1, 2), reserve(2, 1), reserve(3, 9)])];
    let second = vec![
        Group::Confirm(vec![1]),
        Group::Cancel(vec![Cancel { id: 2, reason: 9 }]),
        Group::Resolve(vec![4]),
        Group::Restock(vec![change(5, 6)]),
        Group::WriteOff(vec![change(6, 1)]),
        Group::Seal(vec![1]),
    ];
    let third = vec![Group::Reserve(vec![reserve(7, 1)])];
    let entries = [(1000, first), (1001, second), (1002, third)].into_iter();
    entries.map(|(stamp_ms, groups)| Batch { proposer_term: TERM, stamp_ms, groups }).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn entries_and_images_without_groups_are_what_they_were() {
    let batches = old_batches();
    let mut ledger = Ledger::new(SETTINGS, 1);
    for (at, (batch, old)) in batches.iter().zip(OLD_ENTRIES).enumerate() {
        let old = unhex(old);
        assert_eq!(batch.encode(), old, "entry {at}");
        ledger.apply(at as u64 + 1, TERM, &old, &mut Told::default()).unwrap();
    }
    let old: Vec<Vec<u8>> = OLD_IMAGE.iter().map(|section| unhex(section)).collect();
    assert_eq!(sections(&mut ledger), old);
    let mut loaded = load(&old, 2).unwrap();
    assert_eq!(sections(&mut loaded), old);
    assert_eq!((loaded.digest(), ledger.digest()), (OLD_DIGEST, OLD_DIGEST));
    assert_eq!(loaded.groups().iter().count(), 0);
}

fn name(text: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn put_group(text: &str, terms: &GroupTerms) -> Consume {
    Consume::Put(Box::new(PutGroup { name: name(text), after: 0, terms: LoggedTerms::from(terms) }))
}

fn join(text: &str, number: u64) -> Consume {
    Consume::Join(Box::new(Named { name: name(text), number }))
}

fn nak(event: &EventRecord, for_good: bool) -> Consume {
    let mut bytes = [0; EVENT_LEN];
    bytes.copy_from_slice(event.as_bytes());
    let (group, member, epoch) = (1, 5, u64::MAX);
    Consume::Nak(Box::new(Nak { group, member, epoch, delay_ms: 0, cause: 7, for_good, event: bytes }))
}

fn batch(groups: Vec<Group>) -> Batch {
    Batch { proposer_term: TERM, stamp_ms: 1000, groups }
}

/// Gives an entry's archive, as it may have become, another prefix.
fn reframe(entry: &mut [u8], format: u8) {
    let checksum = crc32fast::hash(&entry[8..]);
    entry[0] = format;
    entry[4..8].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn an_entry_that_asks_groups_says_so() {
    let mut entry = batch(vec![Group::Consume(vec![join("orders", 5)])]).encode();
    assert_eq!(entry[0], FORMAT);
    assert!(Batch::access(&entry).is_ok());
    reframe(&mut entry, 1);
    assert!(matches!(Batch::access(&entry), Err(EntryError::Damaged(_))), "older builds refuse it too");
    reframe(&mut entry, 0);
    assert!(matches!(Batch::access(&entry), Err(EntryError::Damaged(_))));
    reframe(&mut entry, FORMAT + 1);
    assert_eq!(Batch::access(&entry).err(), Some(EntryError::Newer { got: FORMAT + 1 }));
}

#[test]
fn the_largest_frames_of_each_kind_fit_into_an_entry() {
    let seat = |_| Consume::Leave(Numbered { group: 1, number: 2 });
    let ack = Ack { group: 1, member: 2, epoch: 3, lanes: 4, upto: 5 };
    let event = EventRecord::from(view(1, 1));
    let kinds: [Vec<Consume>; 5] = [
        (0..1024).map(seat).collect(),
        (0..1024).map(|_| Consume::Ack(Box::new(ack))).collect(),
        (0..1024).map(|_| join("orders", 5)).collect(),
        (0..512).map(|_| nak(&event, false)).collect(),
        // As many as a frame of 64 KiB could have.
        (0..65_536 / 168).map(|_| put_group("orders", &GroupTerms::default())).collect(),
    ];
    let empty = batch(Vec::new()).encode().len();
    for items in kinds {
        let group = Group::Consume(items);
        let told = group.encoded_len();
        let entry = batch(vec![group]).encode();
        assert_eq!(entry.len(), empty + told, "an entry's length is known before it is made");
        assert!(entry.len() <= 64 * 1024, "{}", entry.len());
    }
}

/// An event that no ledger made.
fn view(sequence: u64, product: u64) -> EventView {
    EventView {
        sequence,
        index: 1,
        time_ms: 1,
        kind: EventKind::Reserved,
        product: ProductId(product),
        user: UserId(0),
        quantity: 1,
        id: ReservationId(0),
        detail: 0,
    }
}

/// A ledger with a group that has something of everything, and a second one.
fn furnished() -> Observed {
    let mut observed = Observed::new(SETTINGS, 1);
    for batch in old_batches() {
        observed.apply(batch.stamp_ms, batch.groups);
    }
    let terms = GroupTerms { cancel_dead: Some(9), required_lag_max: 90, ..GroupTerms::default() };
    let first =
        vec![put_group("orders", &terms), join("orders", 5), join("orders", 6), put_group("mails", &terms)];
    observed.apply(1003, vec![Group::Consume(first)]);
    // All of them are of product 1, whose lane is the second member's: it leaves.
    observed.apply(1003, vec![Group::Consume(vec![Consume::Leave(Numbered { group: 1, number: 6 })])]);
    let events = observed.events.clone();
    let letter = |number| Numbered { group: 1, number };
    let ack = Ack { group: 1, member: 5, epoch: 9, lanes: 1 << lane_of(ProductId(1)), upto: 1 };
    let told = observed.apply(
        1004,
        vec![Group::Consume(vec![
            Consume::Ack(Box::new(ack)),
            nak(&events[2], true),
            nak(&events[3], true),
            nak(&events[4], true),
            nak(&events[6], false),
            Consume::Redrive(letter(4)),
            Consume::Drop(letter(5)),
            join("orders", 7),
        ])],
    );
    let refused =
        told.answers.iter().filter(|answer| !matches!(answer.status(), Some(Status::Done | Status::Parked)));
    assert_eq!(refused.count(), 0);
    observed
}

/// Gives a damaged section a checksum that matches.
fn seal(section: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&section[..8]);
    hasher.update(&section[12..]);
    let checksum = hasher.finalize();
    section[8..12].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn an_image_with_groups_says_so_and_loads_as_it_was() {
    let mut observed = furnished();
    let whole = sections(&mut observed.ledger);
    assert_eq!(whole.len(), 5, "a header, products, records, two groups");
    assert_eq!(whole.iter().map(|section| section[0]).collect::<Vec<_>>(), [2, 1, 1, 2, 2]);
    assert_eq!(sections(&mut load(&whole, 3).unwrap()), whole);
    let mut newer = whole.clone();
    newer[3][0] = image::FORMAT + 1;
    assert_eq!(load(&newer, 1).err(), Some(ImageError::Newer { got: image::FORMAT + 1 }));
    for at in 0..whole.len() {
        let refused = |sections: &[Vec<u8>]| {
            assert!(matches!(load(sections, 1), Err(ImageError::Damaged(_))), "section {at}");
        };
        let mut changed = whole.clone();
        changed.remove(at);
        refused(&changed);
        changed = whole.clone();
        changed.insert(at, whole[at].clone());
        refused(&changed);
        changed = whole.clone();
        changed.swap(at, (at + 1) % whole.len());
        refused(&changed);
        // Another format than its kind has.
        changed = whole.clone();
        changed[at][0] ^= 3;
        seal(&mut changed[at]);
        refused(&changed);
    }
}

#[test]
fn a_number_that_was_given_outlives_all_groups() {
    let mut observed = furnished();
    let remove = |text| Consume::Remove(Box::new(Named { name: name(text), number: 0 }));
    observed.apply(1005, vec![Group::Consume(vec![remove("orders"), remove("mails")])]);
    let whole = sections(&mut observed.ledger);
    assert_eq!(whole.len(), 4, "the table is still there");
    observed.reload();
    let told = observed.apply(1006, vec![Group::Consume(vec![put_group("orders", &GroupTerms::default())])]);
    assert_eq!(told.answers[0].numbers()[0], 3);
    let mut without = whole.clone();
    without.pop();
    assert!(load(&without, 1).is_err());
}

#[test]
fn every_flipped_bit_of_a_group_is_refused() {
    let whole = sections(&mut furnished().ledger);
    for bit in 0..whole[3].len() * 8 {
        let mut damaged = whole.clone();
        damaged[3][bit / 8] ^= 1 << (bit % 8);
        assert!(load(&damaged, 1).is_err(), "bit {bit}");
    }
}

/// What was wrong before it was summed up is refused too, or it is another ledger, which can be written and goes on.
#[test]
fn flipped_bits_under_a_good_checksum_never_load_as_a_group_that_cannot_be() {
    let whole = sections(&mut furnished().ledger);
    let events = furnished().events;
    let (mut refused, mut total) = (0, 0);
    for section in [0, 3] {
        for bit in 0..whole[section].len() * 8 {
            let mut damaged = whole.clone();
            damaged[section][bit / 8] ^= 1 << (bit % 8);
            seal(&mut damaged[section]);
            total += 1;
            let Ok(mut ledger) = load(&damaged, 1) else {
                refused += 1;
                continue;
            };
            let written = sections(&mut ledger);
            let again = load(&written, 2).map(|mut ledger| sections(&mut ledger));
            assert!(again == Ok(written), "section {section}, bit {bit}: what loads can be written");
            let mut items = vec![join("orders", 8), Consume::Leave(Numbered { group: 1, number: 5 })];
            items.extend(events.iter().map(|event| nak(event, true)));
            items.push(Consume::Seek(Box::new(Named { name: name("orders"), number: 2 })));
            let entry = Batch { stamp_ms: 1005, ..batch(vec![Group::Consume(items)]) }.encode();
            if ledger.index() < u64::MAX / 4 {
                ledger.apply(ledger.index() + 1, TERM, &entry, &mut Told::default()).unwrap();
                let after = sections(&mut ledger);
                assert!(load(&after, 2).is_ok(), "section {section}, bit {bit}: it cannot go on");
            }
        }
    }
    // Most of a group is times, counters, and terms that nothing else repeats.
    assert!(refused > total / 4 && refused < total, "{refused} of {total}");
}

/// Numbers as an archive has them.
fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// What stands in the group's section, and what no command puts in its place. Members 5 and 7 joined at epochs 1 and 4.
#[test]
fn numbers_that_no_command_writes_are_refused() {
    let whole = sections(&mut furnished().ledger);
    let lane = |cursor, owner, since| bytes(&[cursor, owner, since]);
    let failing = |lane: u32, sequence: u64, attempts: u32, retry_ms: u64| {
        [&lane.to_le_bytes()[..], &bytes(&[sequence]), &attempts.to_le_bytes(), &bytes(&[retry_ms])].concat()
    };
    let letter = |attempts: u32, died_ms: u64, cause: u32, redrive: u64| {
        [&attempts.to_le_bytes()[..], &bytes(&[died_ms]), &cause.to_le_bytes(), &bytes(&[redrive])].concat()
    };
    let terms = |retry_ms: u32, retry_ms_max: u32, session_ms: u32| {
        [retry_ms, retry_ms_max, session_ms].map(u32::to_le_bytes).concat()
    };
    let at = lane_of(ProductId(1));
    let cases: Vec<(Vec<u8>, Vec<Vec<u8>>)> = vec![
        (
            lane(0, 5, 1),
            // Beyond the last event; a stranger's; nobody's; one more than its share; of an epoch to come.
            vec![lane(11, 5, 1), lane(0, 6, 1), lane(0, 0, 1), lane(0, 7, 4), lane(0, 5, 5)],
        ),
        (lane(0, 7, 4), vec![lane(0, 7, 3)]),
        (
            bytes(&[5, 1, 7, 4]),
            vec![bytes(&[5, 1, 5, 4]), bytes(&[5, 4, 7, 1]), bytes(&[5, 0, 7, 4]), bytes(&[5, 1, 7, 5])],
        ),
        (name("orders").to_vec(), vec![name("Orders").to_vec(), name("mails").to_vec(), name("").to_vec()]),
        (
            terms(1_000, 60_000, 10_000),
            vec![terms(0, 60_000, 10_000), terms(1_000, 999, 10_000), terms(1_000, 60_000, 0)],
        ),
        (
            failing(at, 7, 1, 2004),
            vec![
                failing(64, 7, 1, 2004),
                failing(at, 11, 1, 2004),
                failing(at, 1, 1, 2004),
                failing(at, 3, 1, 2004),
                failing(at, 5, 1, 2004),
                failing(at, 7, 0, 2004),
                failing(at, 7, 1, 1 << 60),
            ],
        ),
        (letter(1, 1004, 7, 1), vec![letter(0, 1004, 7, 1), letter(1, 1005, 7, 1), letter(1, 1004, 7, 2)]),
    ];
    for (from, others) in cases {
        for to in others {
            let mut damaged = whole.clone();
            let place = damaged[3].windows(from.len()).position(|window| window == from);
            let place = place.unwrap_or_else(|| panic!("{from:?} is not in the section"));
            damaged[3][place..place + to.len()].copy_from_slice(&to);
            seal(&mut damaged[3]);
            assert!(matches!(load(&damaged, 1), Err(ImageError::Damaged(_))), "{from:?} became {to:?}");
        }
    }
}

/// Bytes of events come back from clients. Whatever they make up, the group stays one that loads.
#[test]
fn events_that_a_member_made_up_leave_a_group_that_loads() {
    let mut observed = furnished();
    let leave = Consume::Leave(Numbered { group: 1, number: 7 });
    // Sequence 7 failed in the lane of product 1; now it is said to be of others, and given up there.
    let made_up = [2, 3].map(|product| EventRecord::from(view(7, product)));
    let items = vec![leave, nak(&made_up[0], false), nak(&made_up[1], true)];
    let told = observed.apply(1005, vec![Group::Consume(items)]);
    assert_eq!(told.answers[2].status(), Some(Status::Parked));
    observed.reload();
    let group = observed.ledger.groups().get(1).unwrap();
    assert!((0..64).all(|lane| group.failing(lane).is_none()), "what is dead fails nowhere");
}
