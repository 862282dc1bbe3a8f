//! What may be read of the model.

use super::*;

impl Model {
    pub(crate) fn at(&self) -> At {
        self.at
    }

    pub(crate) fn product(&self, id: u64) -> Option<ProductView> {
        let product = self.products.get(&id)?;
        Some(ProductView {
            product: ProductId(id),
            stock: product.stock,
            free: self.free(id),
            held: self.units(id, State::Held),
            sold: self.units(id, State::Confirmed),
            terms: product.terms,
            sealed: product.sealed,
            earliest_return_ms: self.earliest(id),
        })
    }

    pub(crate) fn reservation(&self, id: u128) -> Option<(State, ReservationView)> {
        let outcome = self.outcomes.get(&id)?;
        let due = outcome.state == State::Held && outcome.time_ms <= self.at.time_ms;
        let held = outcome.state == State::Held && !due;
        let view = ReservationView {
            id: ReservationId(id),
            product: ProductId(outcome.product),
            user: UserId(outcome.user),
            quantity: outcome.quantity,
            reason: outcome.reason,
            sequence: if due { 0 } else { outcome.sequence },
            deadline_ms: if held { outcome.time_ms } else { 0 },
            ended_ms: if held { 0 } else { outcome.time_ms },
        };
        Some((if due { State::Expired } else { outcome.state }, view))
    }

    pub(crate) fn user_units(&self, product: u64, user: u64) -> u64 {
        let of_user = |outcome: &&Outcome| {
            (outcome.product, outcome.user) == (product, user)
                && matches!(outcome.state, State::Held | State::Confirmed)
        };
        self.outcomes.values().filter(of_user).map(|outcome| u64::from(outcome.quantity)).sum()
    }

    pub(crate) fn pulse_due_ms(&self) -> Option<u64> {
        let holds = self.outcomes.values().filter(|outcome| outcome.state == State::Held);
        let windows =
            self.products.values().flat_map(|product| [product.terms.opens_ms, product.terms.closes_ms]);
        let windows = windows.filter(|time_ms| *time_ms > self.at.time_ms);
        holds.map(|outcome| outcome.time_ms).chain(windows).min()
    }

    pub(super) fn units(&self, product: u64, state: State) -> u64 {
        let outcomes = self.outcomes.values();
        let those = outcomes.filter(|outcome| outcome.product == product && outcome.state == state);
        those.map(|outcome| u64::from(outcome.quantity)).sum()
    }

    pub(super) fn free(&self, product: u64) -> u64 {
        if self.products[&product].terms.unlimited {
            return 0;
        }
        let taken = self.units(product, State::Held) + self.units(product, State::Confirmed);
        self.products[&product].stock.checked_sub(taken).expect("the model oversold")
    }

    pub(super) fn earliest(&self, product: u64) -> u64 {
        let outcomes = self.outcomes.values();
        let held = outcomes.filter(|outcome| outcome.product == product && outcome.state == State::Held);
        held.map(|outcome| outcome.time_ms).min().unwrap_or(0)
    }
}
