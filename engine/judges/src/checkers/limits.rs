//! Invariant 7: nobody gets more than the per-user limit, held and confirmed together.
//!
//! A limit that is lowered takes nothing away: so what is looked at is who gets more.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::Ledger;
use sluice_protocol::{ProductId, State, UserId};

use super::Violation;
use super::replicas::Span;
use super::setup::violation;
use crate::history::{Ask, Call, Command, Verb, reserves};
use crate::model::Timeline;

/// See the module.
#[derive(Debug, Default)]
pub struct Limits {
    /// Users who got something.
    pub checks: u64,
}

impl Limits {
    /// A node applied entries: whoever got units in them has no more than the limit allows.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn applied(
        &mut self,
        node: u64,
        span: &Span,
        timeline: &Timeline,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        for id in &span.ids {
            let Some(record) = timeline.record(*id, span.last) else { continue };
            if !matches!(record.state, State::Held | State::Confirmed) {
                continue;
            }
            let (product, user) = (record.product, record.user);
            // With another limit in the same entries, nobody can tell which one counted.
            let limit_at = |index| timeline.product(product, index).map(|view| view.terms.per_user_limit);
            let is_put = |command: &Command| command.verb == Verb::Put && command.name == u128::from(product);
            let mut steps = (span.since + 1..=span.last).filter_map(|index| timeline.step(index));
            let put = steps.any(|step| step.answers.iter().any(|(command, _)| is_put(command)));
            let Some(limit) = limit_at(span.last).filter(|_| !put) else { continue };
            let before = timeline.units(product, user, span.since);
            let units = ledger.user_units(ProductId(product), UserId(user));
            self.look(node, span.last, (product, user), (before, units), limit)?;
        }
        Ok(())
    }

    /// A user had and has so many units of a product with this limit (0 = none).
    ///
    /// # Errors
    /// [`Violation`]
    pub fn look(
        &mut self,
        node: u64,
        index: u64,
        (product, user): (u64, u64),
        (before, units): (u64, u64),
        limit: u32,
    ) -> Result<(), Violation> {
        self.checks += 1;
        if limit == 0 || units <= before || units <= u64::from(limit) {
            return Ok(());
        }
        violation!(
            "limits",
            "node {node}, index {index}: user {user} now has {units} of product {product}, whose limit is {limit}"
        )
    }

    /// What users were told they bought, against the highest limit that was ever asked for.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn told(&mut self, calls: &[Call]) -> Result<(), Violation> {
        // 0 is no limit, and so the highest.
        let mut limits: BTreeMap<u64, u32> = BTreeMap::new();
        let payloads = reserves(calls);
        let mut bought = BTreeSet::new();
        for call in calls {
            if let Ask::Put(item) = &call.ask {
                let limit = item.terms().per_user_limit;
                let highest = limits.entry(item.product().0).or_insert(limit);
                *highest = if limit == 0 || *highest == 0 { 0 } else { limit.max(*highest) };
            }
            let answer = call.heard.as_ref().and_then(|(_, reply)| reply.answer());
            if let (Some(id), Some(State::Confirmed)) = (call.ask.id(), answer.map(|answer| answer.state())) {
                bought.insert(id);
            }
        }
        let mut units: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for item in bought.iter().filter_map(|id| payloads.get(id)) {
            *units.entry((item.product().0, item.user().0)).or_default() += u64::from(item.quantity());
        }
        for ((product, user), units) in units {
            self.checks += 1;
            let limit = limits.get(&product).copied().unwrap_or(0);
            if limit != 0 && units > u64::from(limit) {
                return violation!(
                    "limits",
                    "user {user} was told that {units} units of product {product} are sold to him; the limit was {limit} at most"
                );
            }
        }
        Ok(())
    }
}
