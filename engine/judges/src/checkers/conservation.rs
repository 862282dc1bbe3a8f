//! Invariant 1: at every index, for every product, stock = free + held + sold.

use sluice_protocol::response::ProductView;

use super::Violation;
use super::setup::violation;

/// See the module.
#[derive(Debug, Default)]
pub struct Conservation {
    /// Products looked at.
    pub checks: u64,
}

impl Conservation {
    /// A product as a node's ledger shows it behind an entry.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn look(&mut self, node: u64, index: u64, view: &ProductView) -> Result<(), Violation> {
        self.checks += 1;
        let (stock, free) = (view.stock, view.free);
        let right = if view.terms.unlimited {
            stock == 0 && free == 0
        } else {
            free.checked_add(view.held).and_then(|sum| sum.checked_add(view.sold)) == Some(stock)
        };
        if right {
            return Ok(());
        }
        violation!("conservation", "node {node}, index {index}: stock is not free + held + sold in {view:?}")
    }
}
