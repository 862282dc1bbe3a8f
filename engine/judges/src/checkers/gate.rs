//! Invariant 11: a gate never has more tokens than its ledger has free units; and when nothing is in flight it has all of
//! them, so that no unit is stranded: nothing is sold too few.

use sluice_core::ledger::Ledger;
use sluice_protocol::ProductId;

use super::Violation;
use super::setup::violation;

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    /// Lanes looked at.
    pub checks: u64,
}

impl Gate {
    /// What an open gate has of a product, and what the ledger of its node has free.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn look(&mut self, node: u64, product: u64, tokens: u64, available: u64) -> Result<(), Violation> {
        self.checks += 1;
        if tokens <= available {
            return Ok(());
        }
        violation!(
            "gate",
            "node {node} would admit {tokens} units of product {product}; {available} are free: one too many"
        )
    }

    /// Nothing is in flight: tokens and free units are the same.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet(&mut self, ledger: &Ledger, tokens: &[(u64, u64)]) -> Result<(), Violation> {
        for (product, tokens) in tokens {
            self.checks += 1;
            let Some(view) = ledger.product(ProductId(*product)) else {
                return violation!("gate", "there are tokens of product {product}, which does not exist");
            };
            if *tokens != view.free {
                return violation!(
                    "gate",
                    "nothing is in flight, and the gate has {tokens} of the {} free units of product {product}",
                    view.free
                );
            }
        }
        for view in ledger.products_from(ProductId(0)).filter(|view| !view.terms.unlimited) {
            if !tokens.iter().any(|(product, _)| *product == view.product.0) {
                return violation!("gate", "the gate does not know product {}", view.product);
            }
        }
        Ok(())
    }
}
