//! Images: the same state has the same bytes, and bytes that are not exactly an image's are refused.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use ledger_support::{Observed, load, sections};
use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_core::ledger::image::FORMAT;
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{Image, ImageError, Ledger};
use sluice_protocol::ProductId;

const SETTINGS: Settings = Settings { records_max: 100_000, retention_ms: 1000 };

fn put(product: u64) -> Put {
    Put {
        product,
        stock: Some(100_000),
        opens_ms: 0,
        closes_ms: 9000,
        per_user_limit: 0,
        hold_ms: 500,
        unlimited: false,
    }
}

fn reserve(id: u128, product: u64) -> Reserve {
    Reserve { id, product, user: id as u64 % 5, quantity: 2 }
}

/// A ledger with a record in every state, and a free row.
fn small() -> Observed {
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![Group::Put(vec![put(1), put(2)]), Group::Resolve(vec![90])]);
    observed.apply(1000, vec![Group::Reserve((1..7).map(|id| reserve(id, 1 + id as u64 % 2)).collect())]);
    observed.apply(1400, vec![Group::Confirm(vec![1]), Group::Cancel(vec![Cancel { id: 2, reason: 9 }])]);
    observed.apply(1600, vec![Group::Reserve(vec![reserve(8, 1), reserve(9, 2), reserve(10, 9)])]);
    let change = |id| ChangeStock { id, product: 1, quantity: 5 };
    observed.apply(1700, vec![Group::Restock(vec![change(20)]), Group::WriteOff(vec![change(21)])]);
    observed.apply(2000, vec![Group::Resolve(vec![91])]);
    observed
}

#[test]
fn an_image_does_not_depend_on_the_seed_or_on_the_path() {
    let (mut one, mut two) = (small(), small());
    two.reload();
    assert_eq!(sections(&mut one.ledger), sections(&mut two.ledger));
    assert_eq!(one.ledger.digest(), two.ledger.digest());
    one.apply(2001, vec![]);
    assert_ne!(one.ledger.digest(), two.ledger.digest());
}

#[test]
fn images_of_two_moments_keep_theirs_while_the_ledger_goes_on() {
    let mut observed = small();
    let first = (observed.ledger.digest(), observed.ledger.freeze());
    observed.apply(2001, vec![Group::Resolve(vec![92]), Group::Reserve(vec![reserve(30, 1)])]);
    let second = (observed.ledger.digest(), observed.ledger.freeze());
    let again = observed.ledger.freeze();
    observed.apply(2002, vec![Group::Confirm(vec![30])]);
    assert_ne!(first.0, second.0);
    assert_eq!(again.digest(), second.0, "two of one moment are the same");
    observed.apply(2003, vec![Group::Restock(vec![ChangeStock { id: 31, product: 2, quantity: 1 }])]);
    assert_eq!((first.1.digest(), second.1.digest()), (first.0, second.0));
    let last = observed.ledger.digest();
    assert_eq!(observed.ledger.freeze().digest(), last);
}

#[test]
fn every_flipped_bit_is_refused() {
    let sections = sections(&mut small().ledger);
    assert_eq!(sections.len(), 3);
    for section in 0..sections.len() {
        for bit in 0..sections[section].len() * 8 {
            let mut damaged = sections.clone();
            damaged[section][bit / 8] ^= 1 << (bit % 8);
            assert!(load(&damaged, 1).is_err(), "section {section}, bit {bit}");
        }
    }
}

/// A checksum keeps accidents out. What was wrong before it was summed up must not load either, or not as
/// anything that applying entries could not have reached.
#[test]
fn flipped_bits_under_a_good_checksum_never_load_as_a_ledger_that_does_not_add_up() {
    let sections = sections(&mut small().ledger);
    let mut refused = 0;
    let mut total = 0;
    for section in 0..sections.len() {
        for bit in 12 * 8..sections[section].len() * 8 {
            let mut damaged = sections.clone();
            damaged[section][bit / 8] ^= 1 << (bit % 8);
            seal(&mut damaged[section]);
            total += 1;
            let Ok(ledger) = load(&damaged, 1) else {
                refused += 1;
                continue;
            };
            let mut sums = std::collections::BTreeMap::new();
            ledger.each_buyer(|product, _, units| *sums.entry(product).or_insert(0) += units);
            for view in ledger.products_from(ProductId(0)) {
                assert_eq!(view.stock, view.free + view.held + view.sold);
                assert_eq!(sums.get(&view.product).copied().unwrap_or(0), view.held + view.sold);
            }
        }
    }
    // Most of a record is its id, its user and times, which nothing else in the image repeats.
    assert!(refused > 0 && refused < total, "{refused} of {total}");
}

/// They would load as a ledger that cannot go on: a hold that never ends, or one behind which none can be put.
#[test]
fn numbers_that_no_entry_writes_are_refused() {
    let sections = sections(&mut small().ledger);
    // The hold time in the terms and the list, and the deadline of what is held.
    let (hold_ms, deadline_ms) = (500_u32.to_le_bytes(), 2100_u64.to_le_bytes());
    let cases: &[(&[u8], &[u8])] = &[
        (&hold_ms, &0_u32.to_le_bytes()),
        (&hold_ms, &u32::MAX.to_le_bytes()),
        (&deadline_ms, &(1_u64 << 60).to_le_bytes()),
        (&deadline_ms, &1_u64.to_le_bytes()),
    ];
    for (from, to) in cases {
        let mut damaged = sections.clone();
        let changed: usize = damaged[1..].iter_mut().map(|section| replace(section, from, to)).sum();
        assert!(changed > 0, "{from:?} is not in the image");
        assert!(matches!(load(&damaged, 1), Err(ImageError::Damaged(_))), "{from:?} became {to:?}");
    }
}

/// Puts other bytes for some, under a checksum that matches, and returns how often.
fn replace(section: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    let places: Vec<usize> =
        (12..=section.len() - from.len()).filter(|at| section[*at..].starts_with(from)).collect();
    for at in &places {
        section[*at..*at + to.len()].copy_from_slice(to);
    }
    seal(section);
    places.len()
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
fn a_missing_doubled_or_displaced_section_is_refused() {
    let sections = sections(&mut many().ledger);
    assert!(sections.len() > 4, "a header, products, and several chunks of records");
    let refused = |sections: &[Vec<u8>]| assert!(matches!(load(sections, 1), Err(ImageError::Damaged(_))));
    refused(&[]);
    for at in 0..sections.len() {
        let mut missing = sections.clone();
        missing.remove(at);
        refused(&missing);
        let mut doubled = sections.clone();
        doubled.insert(at, sections[at].clone());
        refused(&doubled);
        let mut short = sections.clone();
        short[at].pop();
        refused(&short);
    }
    let mut displaced = sections.clone();
    displaced.swap(2, 3);
    refused(&displaced);
}

#[test]
fn sections_of_two_images_do_not_mix() {
    let mut observed = many();
    let before = sections(&mut observed.ledger);
    observed.apply(1001, vec![]);
    let after = sections(&mut observed.ledger);
    for at in 0..before.len() {
        let mut mixed = after.clone();
        mixed[at] = before[at].clone();
        assert!(load(&mixed, 1).is_err(), "section {at}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut sections = sections(&mut small().ledger);
    sections[0][0] = FORMAT + 1;
    assert_eq!(load(&sections, 1).err(), Some(ImageError::Newer { got: FORMAT + 1 }));
}

/// A ledger of several chunks of records.
fn many() -> Observed {
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![Group::Put(vec![put(1), put(2)])]);
    for first in (1..10_000).step_by(1000) {
        observed.apply(1000, vec![Group::Reserve((first..first + 1000).map(|id| reserve(id, 1)).collect())]);
    }
    observed
}

#[test]
fn an_image_is_of_its_index_whatever_is_written_meanwhile() {
    let mut observed = many();
    let digest = observed.ledger.digest();
    let image: Image = observed.ledger.freeze();
    let index = image.index();
    observed.apply(1100, vec![Group::Confirm(vec![1, 5000, 9999]), Group::Put(vec![put(3)])]);
    observed.apply(1500, vec![]);
    let sections = written_elsewhere(image);
    let loaded = load(&sections, 2).unwrap();
    assert_eq!((loaded.index(), loaded.digest()), (index, digest));
    assert_eq!(loaded.product(ProductId(3)), None);
    observed.reload();
}

#[test]
fn two_images_may_be_held_at_once() {
    let mut observed = many();
    let digest_before = observed.ledger.digest();
    let before = observed.ledger.freeze();
    observed.apply(1100, vec![Group::Confirm(vec![1])]);
    let digest_after = observed.ledger.digest();
    let after = observed.ledger.freeze();
    observed.apply(1100, vec![Group::Confirm(vec![2])]);
    let before: Vec<Vec<u8>> = before.sections().collect();
    let after: Vec<Vec<u8>> = after.sections().collect();
    assert_eq!(load(&before, 1).unwrap().digest(), digest_before);
    assert_eq!(load(&after, 1).unwrap().digest(), digest_after);
}

#[test]
fn a_loaded_ledger_hands_out_all_its_products() {
    let sections = sections(&mut small().ledger);
    let mut ledger: Ledger = load(&sections, 1).unwrap();
    let mut products = Vec::new();
    ledger.changed(|standing| products.push(standing.product.0));
    assert_eq!(products, [1, 2]);
    ledger.changed(|standing| panic!("{standing:?} was handed out twice"));
}

/// A ledger moves to its replica's thread.
#[test]
fn a_ledger_can_be_given_to_a_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Ledger>();
}

/// Writes an image as the shell does: away from the ledger's thread.
fn written_elsewhere(image: Image) -> Vec<Vec<u8>> {
    fn sendable<T: Send + 'static>(value: T) -> T {
        value
    }
    sendable(sendable(image).sections()).collect()
}
