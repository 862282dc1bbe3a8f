//! What books add up to, as `/digest` and `sluice digest` tell it.
//!
//! Deliberately not here: single reservations.

use serde::{Deserialize, Serialize};
use sluice_client::books::Sums;
use sluice_client::books::bytes::Heading;
use sluice_protocol::ProductId;

/// The books of a node as of one sequence. All but `node` are the same on every node that answers for that sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The cluster's id.
    pub cluster: String,
    /// Who tells this.
    pub node: u64,
    /// The last event in it.
    pub sequence: u64,
    /// The log index of that event; 0 if the node has it no more.
    pub index: u64,
    /// The ledger time of that event, milliseconds since 1970; 0 likewise.
    pub time_ms: u64,
    /// A number of all that follows, as 32 hexadecimal digits. It is of all products, also if one was asked for.
    pub hash: String,
    /// Reservations that are held or sold, of all products.
    pub reservations: u64,
    /// Units of all products.
    pub totals: Units,
    /// The products, by their ids.
    pub products: Vec<ProductDigest>,
}

/// Units. `stock = free + held + sold`, but for products without limit, which count as stock 0 and free 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// All units ever put in, less those written off.
    pub stock: u64,
    /// Units that can be reserved.
    pub free: u64,
    /// Units of held reservations.
    pub held: u64,
    /// Units of confirmed reservations.
    pub sold: u64,
}

/// A product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDigest {
    /// Its id.
    pub product: u64,
    /// Its units.
    #[serde(flatten)]
    pub units: Units,
    /// The hash of its held and sold reservations, as 32 hexadecimal digits.
    pub hash: String,
}

impl Digest {
    /// Of these books; with one product only, if that is what was asked for.
    pub fn new(heading: &Heading, sums: &Sums, only: Option<ProductId>) -> Self {
        let mut digest = Self {
            cluster: heading.cluster.to_string(),
            node: heading.node.0,
            sequence: heading.sequence,
            index: heading.index,
            time_ms: heading.time_ms,
            hash: hexadecimal(sums.hash()),
            reservations: sums.live,
            ..Self::default()
        };
        for sums in &sums.products {
            let units = Units { stock: sums.stock, free: sums.free, held: sums.held, sold: sums.sold };
            let totals = &mut digest.totals;
            totals.stock = totals.stock.saturating_add(units.stock);
            totals.free = totals.free.saturating_add(units.free);
            totals.held = totals.held.saturating_add(units.held);
            totals.sold = totals.sold.saturating_add(units.sold);
            if only.is_none_or(|product| product == sums.product) {
                let (product, hash) = (sums.product.0, hexadecimal(sums.hash));
                digest.products.push(ProductDigest { product, units, hash });
            }
        }
        digest
    }
}

fn hexadecimal(hash: u128) -> String {
    format!("{hash:032x}")
}
