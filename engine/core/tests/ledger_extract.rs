//! What auditors read of an image is what the ledger says; and sections that are not those of one image are refused.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use ledger_support::{Observed, sections};
use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_core::ledger::extract::{Extract, Row};
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{ImageError, Ledger};
use sluice_protocol::{ProductId, ReservationId, State};

const SETTINGS: Settings = Settings { records_max: 100_000, retention_ms: 1000 };

/// Records in every state, over more than one chunk of rows.
fn full() -> Observed {
    let put = |product| Put {
        product,
        stock: Some(100_000),
        opens_ms: 0,
        closes_ms: 0,
        per_user_limit: 0,
        hold_ms: 500,
        unlimited: false,
    };
    let reserve = |id: u128| Reserve { id, product: 1 + id as u64 % 2, user: id as u64 % 5, quantity: 2 };
    let mut observed = Observed::new(SETTINGS, 1);
    observed.apply(1000, vec![Group::Put(vec![put(1), put(2)]), Group::Resolve(vec![90_000])]);
    for from in (1..5_000_u128).step_by(500) {
        observed.apply(1000, vec![Group::Reserve((from..from + 500).map(reserve).collect())]);
    }
    observed.apply(
        1400,
        vec![Group::Confirm((1..1_000).collect()), Group::Cancel(vec![Cancel { id: 2_000, reason: 9 }])],
    );
    observed.apply(1600, vec![Group::Reserve((6_000..6_100).map(reserve).collect())]);
    let change = ChangeStock { id: 80_000, product: 1, quantity: 5 };
    observed.apply(
        1700,
        vec![Group::Restock(vec![change]), Group::Reserve(vec![Reserve { product: 9, ..reserve(7_000) }])],
    );
    observed
}

fn extract(sections: &[Vec<u8>]) -> Result<(u64, Vec<Row>), ImageError> {
    let (first, others) = sections.split_first().expect("an image has a header");
    let mut extract = Extract::begin(first)?;
    let mut rows = Vec::new();
    for section in others {
        extract.section(section, |row| rows.push(row))?;
    }
    let sequence = extract.sequence();
    extract.finish()?;
    Ok((sequence, rows))
}

/// Every id of `full`.
fn ids() -> impl Iterator<Item = u128> {
    (1..5_001).chain(6_000..6_100).chain([7_000, 80_000, 90_000])
}

fn reservations(ledger: &Ledger) -> usize {
    let has_units =
        |state| matches!(state, State::Held | State::Confirmed | State::Cancelled | State::Expired);
    ids()
        .filter_map(|id| ledger.reservation(ReservationId(id)))
        .filter(|(state, _)| has_units(*state))
        .count()
}

#[test]
fn what_is_read_of_an_image_is_what_the_ledger_says() {
    let mut observed = full();
    let (sequence, rows) = extract(&sections(&mut observed.ledger)).unwrap();
    let ledger = &observed.ledger;
    assert_eq!(sequence, ledger.sequence());
    let mut seen = 0;
    let mut states = [0; 8];
    for row in rows {
        match row {
            Row::Product(view) => assert_eq!(Some(view), ledger.product(view.product)),
            Row::Reservation(State::Held, view) if view.deadline_ms <= ledger.now_ms() => {
                // Reads tell that it is over; the event that says so is still to come.
                assert_eq!(ledger.reservation(view.id).unwrap().0, State::Expired);
                (seen, states[0]) = (seen + 1, states[0] + 1);
            }
            Row::Reservation(state, view) => {
                assert_eq!(ledger.reservation(view.id), Some((state, view)));
                (seen, states[state as usize]) = (seen + 1, states[state as usize] + 1);
            }
        }
    }
    assert_eq!(seen, reservations(ledger));
    assert!(ledger.product(ProductId(1)).is_some());
    let [due, held, confirmed, cancelled, expired, others @ ..] = states;
    assert!(held > 0 && confirmed > 0 && cancelled > 0 && due + expired > 0, "{states:?}");
    assert_eq!(others, [0; 3], "what never had units is not told");
}

#[test]
fn sections_that_are_missing_repeated_changed_or_of_another_image_are_refused() {
    let mut observed = full();
    let whole = sections(&mut observed.ledger);
    for at in 1..whole.len() {
        let mut less = whole.clone();
        less.remove(at);
        assert!(extract(&less).is_err(), "without section {at}");
        let mut twice = whole.clone();
        twice.insert(at, whole[at].clone());
        assert!(extract(&twice).is_err(), "section {at} twice");
        let mut changed = whole.clone();
        let middle = changed[at].len() / 2;
        changed[at][middle] ^= 1;
        assert!(extract(&changed).is_err(), "section {at} changed");
    }
    observed.apply(1701, vec![]);
    let later = sections(&mut observed.ledger);
    for at in 1..whole.len() {
        let mut mixed = whole.clone();
        mixed[at] = later[at].clone();
        assert!(extract(&mixed).is_err(), "section {at} of another image");
    }
}
