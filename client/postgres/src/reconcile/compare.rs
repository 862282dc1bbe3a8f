//! Books and rows side by side, both in the order of ids.
//!
//! Deliberately not here: where they come from.

use std::iter::Peekable;
use std::vec::IntoIter;

use sluice_client::books::Entry;

use super::finding::{Difference, Finding, Report, state_of};
use crate::orders::{Order, OrderState};

/// See the module.
pub(super) struct Comparison<F> {
    ours: Peekable<IntoIter<Entry>>,
    /// The sequence of the books: what ended at or before it may be forgotten.
    sequence: u64,
    /// What is at or before this was never handed over.
    base: u64,
    each: F,
    report: Report,
}

impl<F: FnMut(&Finding)> Comparison<F> {
    /// Begins with the server's side, by the ids.
    pub(super) fn new(ours: Vec<Entry>, sequence: u64, base: u64, each: F) -> Self {
        let ours = ours.into_iter().peekable();
        Self { ours, sequence, base, each, report: Report::default() }
    }

    /// Takes the table's next row.
    pub(super) fn row(&mut self, row: &Order) {
        while let Some(entry) = self.ours.next_if(|entry| entry.id < row.reservation) {
            self.only_ours(entry);
        }
        self.count_row(row);
        match self.ours.next_if(|entry| entry.id == row.reservation) {
            Some(entry) => self.both(entry, row),
            None => self.only_theirs(row),
        }
    }

    /// Behind the table's last row.
    pub(super) fn finish(mut self) -> Report {
        while let Some(entry) = self.ours.next() {
            self.only_ours(entry);
        }
        self.report
    }

    fn only_ours(&mut self, entry: Entry) {
        if entry.sequence <= self.base {
            self.report.before += 1;
            return;
        }
        self.count_entry(&entry);
        self.report.missing += 1;
        (self.each)(&Finding::Missing(entry));
    }

    fn only_theirs(&mut self, row: &Order) {
        let has_units = matches!(row.state, OrderState::Held | OrderState::Sold);
        if !has_units && row.sequence <= self.sequence {
            self.report.forgotten += 1;
            return;
        }
        self.report.extra += 1;
        (self.each)(&Finding::Extra(*row));
    }

    fn both(&mut self, entry: Entry, row: &Order) {
        self.count_entry(&entry);
        let differences = differences(&entry, row);
        if differences.is_empty() {
            self.report.equal += 1;
            return;
        }
        self.report.differing += 1;
        (self.each)(&Finding::Differs(entry, differences));
    }

    fn count_entry(&mut self, entry: &Entry) {
        let product = self.report.products.entry(entry.product).or_default();
        match state_of(entry) {
            OrderState::Held => product.held += u128::from(entry.quantity),
            OrderState::Sold => product.sold += u128::from(entry.quantity),
            OrderState::Cancelled | OrderState::Expired => {}
        }
    }

    fn count_row(&mut self, row: &Order) {
        let product = self.report.products.entry(row.product).or_default();
        match row.state {
            OrderState::Held => product.held_there += u128::from(row.quantity),
            OrderState::Sold => product.sold_there += u128::from(row.quantity),
            OrderState::Cancelled | OrderState::Expired => {}
        }
    }
}

/// The columns that differ.
fn differences(entry: &Entry, row: &Order) -> Vec<Difference> {
    let none_or = |number: Option<u64>| number.map_or("none".to_owned(), |number| number.to_string());
    let state = state_of(entry);
    let reason = (state == OrderState::Cancelled).then_some(entry.detail);
    // The table keeps what was known when the hold began; a hold that began before the hand-off has no deadline there.
    let deadline = row.deadline_ms.filter(|_| state == OrderState::Held).map(|_| entry.detail);
    let fields = [
        ("product", entry.product.to_string(), row.product.to_string()),
        ("user", entry.user.to_string(), row.user.to_string()),
        ("quantity", entry.quantity.to_string(), row.quantity.to_string()),
        ("state", state.to_string(), row.state.to_string()),
        ("reason", none_or(reason), none_or(row.reason)),
        ("deadline", none_or(deadline), none_or(row.deadline_ms.filter(|_| deadline.is_some()))),
        ("sequence", entry.sequence.to_string(), row.sequence.to_string()),
    ];
    let differing = fields.into_iter().filter(|(_, ours, theirs)| ours != theirs);
    differing.map(|(field, ours, theirs)| Difference { field, ours, theirs }).collect()
}

#[cfg(test)]
mod tests {
    use sluice_client::{ProductId, ReservationId, State, UserId};

    use super::super::ProductReport;
    use super::*;

    fn entry(id: u128, state: State) -> Entry {
        Entry {
            id: ReservationId(id),
            product: ProductId(7),
            user: UserId(42),
            quantity: 2,
            state,
            sequence: 100 + id as u64,
            detail: if state == State::Held { 9_000 } else { 0 },
        }
    }

    fn row(id: u128, state: OrderState) -> Order {
        Order {
            reservation: ReservationId(id),
            product: ProductId(7),
            user: UserId(42),
            quantity: 2,
            state,
            reason: (state == OrderState::Cancelled).then_some(0),
            deadline_ms: Some(9_000),
            sequence: 100 + id as u64,
            reserved_ms: Some(1_000),
            updated_ms: 1_000,
        }
    }

    fn compare(ours: Vec<Entry>, theirs: &[Order], base: u64) -> (Report, Vec<String>) {
        let mut found = Vec::new();
        let mut comparison = Comparison::new(ours, 1_000, base, |finding| {
            found.push(format!("{} {:x}", finding.name(), finding.reservation().0));
        });
        theirs.iter().for_each(|row| comparison.row(row));
        let report = comparison.finish();
        (report, found)
    }

    fn four() -> (Vec<Entry>, Vec<Order>) {
        let states = [
            (State::Held, OrderState::Held),
            (State::Confirmed, OrderState::Sold),
            (State::Cancelled, OrderState::Cancelled),
            (State::Expired, OrderState::Expired),
        ];
        (1..).zip(states).map(|(id, (ours, theirs))| (entry(id, ours), row(id, theirs))).unzip()
    }

    #[test]
    fn what_is_the_same_is_found_the_same() {
        let (ours, theirs) = four();
        let (report, found) = compare(ours, &theirs, 0);
        assert_eq!((report.equal, found.len(), report.is_equal()), (4, 0, true));
        let sums = ProductReport { held: 2, sold: 2, held_there: 2, sold_there: 2 };
        assert_eq!(report.products[&ProductId(7)], sums);
    }

    #[test]
    fn each_row_that_is_taken_away_is_missing_and_each_that_is_added_extra() {
        for at in 0..4 {
            let (ours, mut theirs) = four();
            theirs.remove(at);
            let (report, found) = compare(ours, &theirs, 0);
            assert_eq!(found, [format!("missing {:x}", at + 1)]);
            assert!(!report.is_equal());

            let (mut ours, theirs) = four();
            ours.remove(at);
            let (report, found) = compare(ours, &theirs, 0);
            match at {
                0 | 1 => assert_eq!((found, report.forgotten), (vec![format!("extra {:x}", at + 1)], 0)),
                // The server forgets what has no units.
                _ => assert_eq!((found, report.forgotten, report.is_equal()), (vec![], 1, true)),
            }
        }
        let late = Order { sequence: 1_001, ..row(9, OrderState::Expired) };
        assert_eq!(compare(vec![], &[late], 0).1, ["extra 9"], "what ended after the books is not forgotten");
    }

    #[test]
    fn each_column_that_is_changed_is_named() {
        let held = row(1, OrderState::Held);
        for (changed, fields) in [
            (Order { product: ProductId(8), ..held }, vec!["product"]),
            (Order { user: UserId(u64::MAX), ..held }, vec!["user"]),
            (Order { quantity: u64::MAX, ..held }, vec!["quantity"]),
            (Order { state: OrderState::Sold, ..held }, vec!["state"]),
            (Order { reason: Some(3), ..held }, vec!["reason"]),
            (Order { deadline_ms: Some(9_001), ..held }, vec!["deadline"]),
            (Order { sequence: 102, ..held }, vec!["sequence"]),
            (Order { deadline_ms: None, reserved_ms: None, updated_ms: 5, ..held }, vec![]),
        ] {
            let found: Vec<_> =
                differences(&entry(1, State::Held), &changed).iter().map(|found| found.field).collect();
            assert_eq!(found, fields, "{changed:?}");
        }
    }

    #[test]
    fn what_was_there_before_the_hand_off_began_is_not_missing() {
        let (ours, _) = four();
        let (report, found) = compare(ours, &[], 102);
        assert_eq!((report.before, found), (2, vec!["missing 3".to_owned(), "missing 4".to_owned()]));
    }
}
