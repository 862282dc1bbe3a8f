//! What a batch of events makes of orders: the last state of each reservation.
//!
//! A later event wins; an earlier one, whenever it comes, adds only what the later ones do not know. So the outcome is the
//! same in whatever pieces a history comes, and a dead letter that is delivered again disturbs no newer state.
//! Deliberately not here: the table, in which the same rule meets what came before ([`super::Orders`]).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sluice_client::{EventKind, EventView};

use super::row::{Order, OrderState};

/// The order as this event alone tells it; `None` if it is about stock and not about a reservation.
fn order(event: &EventView) -> Option<Order> {
    let state = match event.kind {
        EventKind::Reserved => OrderState::Held,
        EventKind::Confirmed => OrderState::Sold,
        EventKind::Cancelled => OrderState::Cancelled,
        EventKind::Expired => OrderState::Expired,
        EventKind::Restocked | EventKind::WrittenOff | EventKind::TermsChanged | EventKind::Sealed => {
            return None;
        }
    };
    let is_new = state == OrderState::Held;
    Some(Order {
        reservation: event.id,
        product: event.product,
        user: event.user,
        quantity: event.quantity,
        state,
        reason: (state == OrderState::Cancelled).then_some(event.detail),
        deadline_ms: is_new.then_some(event.detail),
        sequence: event.sequence,
        reserved_ms: is_new.then_some(event.time_ms),
        updated_ms: event.time_ms,
    })
}

/// The same order after both.
fn merge(one: &Order, other: &Order) -> Order {
    let (newer, older) = if one.sequence >= other.sequence { (one, other) } else { (other, one) };
    Order {
        deadline_ms: newer.deadline_ms.or(older.deadline_ms),
        reserved_ms: newer.reserved_ms.or(older.reserved_ms),
        ..*newer
    }
}

/// One order for each reservation in these events.
pub(super) fn fold(events: &[EventView]) -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::with_capacity(events.len());
    let mut places = HashMap::with_capacity(events.len());
    for order in events.iter().filter_map(order) {
        match places.entry(order.reservation) {
            Entry::Occupied(place) => {
                let known: &mut Order = &mut orders[*place.get()];
                *known = merge(known, &order);
            }
            Entry::Vacant(place) => {
                place.insert(orders.len());
                orders.push(order);
            }
        }
    }
    orders
}

#[cfg(test)]
mod tests {
    use sluice_client::{ProductId, ReservationId, UserId};

    use super::*;

    fn event(sequence: u64, kind: EventKind, id: u128, detail: u64) -> EventView {
        EventView {
            sequence,
            index: sequence,
            time_ms: 1_000 + sequence,
            kind,
            product: ProductId(u64::MAX),
            user: UserId(u64::MAX - 1),
            quantity: 2,
            id: ReservationId(id),
            detail,
        }
    }

    #[test]
    fn each_kind_of_event_has_its_state() {
        let rows = [
            (EventKind::Reserved, Some((OrderState::Held, None, Some(9)))),
            (EventKind::Confirmed, Some((OrderState::Sold, None, None))),
            (EventKind::Cancelled, Some((OrderState::Cancelled, Some(9), None))),
            (EventKind::Expired, Some((OrderState::Expired, None, None))),
            (EventKind::Restocked, None),
            (EventKind::WrittenOff, None),
            (EventKind::TermsChanged, None),
            (EventKind::Sealed, None),
        ];
        assert_eq!(rows.len(), EventKind::ALL.len());
        for (kind, expected) in rows {
            let orders = fold(&[event(5, kind, 1, 9)]);
            let got = orders.first().map(|order| (order.state, order.reason, order.deadline_ms));
            assert_eq!(got, expected, "{kind:?}");
        }
    }

    #[test]
    fn the_last_event_of_a_reservation_wins_and_keeps_what_the_first_told() {
        let reserved = event(3, EventKind::Reserved, 1, 60_000);
        let expired = event(7, EventKind::Expired, 1, 0);
        let confirmed = event(9, EventKind::Confirmed, 1, 0);
        let other = event(8, EventKind::Reserved, u128::MAX, u64::MAX);
        let [first, second] = fold(&[reserved, expired, other, confirmed])[..] else { panic!("two orders") };
        assert_eq!((first.state, first.sequence, first.updated_ms), (OrderState::Sold, 9, 1_009));
        assert_eq!((first.deadline_ms, first.reserved_ms), (Some(60_000), Some(1_003)));
        assert_eq!((second.reservation, second.state), (ReservationId(u128::MAX), OrderState::Held));
        assert_eq!(second.deadline_ms, Some(u64::MAX));
    }

    #[test]
    fn an_event_that_comes_late_adds_what_it_knows_and_takes_nothing_back() {
        let reserved = event(3, EventKind::Reserved, 1, 60_000);
        let cancelled = event(4, EventKind::Cancelled, 1, 77);
        assert_eq!(fold(&[cancelled, reserved]), fold(&[reserved, cancelled]));
        assert_eq!(fold(&[cancelled, reserved])[0].reason, Some(77));
    }

    #[test]
    fn a_reason_does_not_outlive_the_state_that_it_is_for() {
        let cancelled = event(4, EventKind::Cancelled, 1, 77);
        let confirmed = event(5, EventKind::Confirmed, 1, 0);
        assert_eq!(fold(&[cancelled, confirmed])[0].reason, None);
    }
}
