//! `sluice digest`: what has been sold as of one event, to the unit, from the ops port of any node; and whether nodes agree.
//!
//! Deliberately not here: single reservations, and the shop's own table (`reconcile`).

use std::io::Read;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use sluice_client::ProductId;

use super::exit::Exit;
use super::output::{self, Failure};
use super::time::{Utc, parse_span};
use super::told::Fact::{Number, Text, Units};
use super::told::{Facts, Told};
use crate::books::digest::{Digest, ProductDigest};

/// Bytes of an answer that are read: a million products take a fifth of it.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Tell what has been sold as of one event. Exit code 1 if nodes do not agree, 3 if one cannot be asked.
#[derive(Debug, Args)]
pub struct DigestArgs {
    /// Where ops ports are; given more than once, all are asked for the same event and compared
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_OPS", default_value = "127.0.0.1:7480")]
    ops: Vec<String>,
    /// As of this event, by its sequence; without it, as of the last one of the first node
    #[arg(long, value_name = "SEQUENCE")]
    at: Option<u64>,
    /// Only this product; totals and hash stay those of all
    #[arg(long)]
    product: Option<ProductId>,
    /// How long a node may wait for the event
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_span)]
    wait: Duration,
    /// How long to try to connect
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_span)]
    deadline: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl DigestArgs {
    pub(super) fn run(&self) -> Exit {
        let digests = match self.ask_all() {
            Ok(digests) => digests,
            Err(failure) => return output::finish(Err(failure), self.json),
        };
        let (first, others) =
            digests.split_first().expect("the command line names a port, or its default is one");
        let differing: Vec<&Digest> = others.iter().filter(|other| !agrees(first, other)).collect();
        let exit = if differing.is_empty() { Exit::Done } else { Exit::Refused };
        if self.json {
            let mut object = json!(first);
            object["ok"] = json!(exit == Exit::Done);
            object["agree"] =
                json!(digests.iter().filter(|d| agrees(first, d)).map(|d| d.node).collect::<Vec<_>>());
            object["differ"] = json!(differing);
            return output::print(&format!("{object}\n"), exit);
        }
        let mut text = told(first).text();
        for other in others {
            text += &comparison(first, other);
        }
        output::print(&text, exit)
    }

    /// All for the same event: the first's, if none is named.
    fn ask_all(&self) -> Result<Vec<Digest>, Failure> {
        let mut at = self.at;
        let mut digests = Vec::with_capacity(self.ops.len());
        for ops in &self.ops {
            let digest = self.ask(ops, at)?;
            at = Some(digest.sequence);
            digests.push(digest);
        }
        Ok(digests)
    }

    fn ask(&self, ops: &str, at: Option<u64>) -> Result<Digest, Failure> {
        let mut path = format!("/digest?wait_ms={}", self.wait.as_millis());
        for (name, value) in [("at", at), ("product", self.product.map(|product| product.0))] {
            if let Some(value) = value {
                path += &format!("&{name}={value}");
            }
        }
        let body = super::ops::open(ops, &path, self.deadline, self.wait)?;
        serde_json::from_reader(body.take(ANSWER_BYTES_MAX))
            .map_err(|error| super::ops::unavailable(ops, format!("not a digest: {error}")))
    }
}

/// Whether two nodes have the same, of the same cluster as of the same event.
fn agrees(one: &Digest, other: &Digest) -> bool {
    // Who has let go of the event itself does not know when it was.
    let (node, index, time_ms) = (one.node, one.index, one.time_ms);
    *one == Digest { node, index, time_ms, ..other.clone() }
}

fn told(digest: &Digest) -> Told {
    let event = match digest.time_ms {
        0 => format!("{}", digest.sequence),
        ms => format!("{} at {}", digest.sequence, Utc(ms)),
    };
    let told = Told::yes("digest")
        .fact("cluster", Text(digest.cluster.clone()))
        .fact("node", Number(digest.node))
        .fact("as_of", Text(event))
        .fact("reservations", Number(digest.reservations))
        .fact("stock", Units(digest.totals.stock))
        .fact("free", Units(digest.totals.free))
        .fact("held", Units(digest.totals.held))
        .fact("sold", Units(digest.totals.sold))
        .fact("hash", Text(digest.hash.clone()));
    told.list("products", digest.products.iter().map(product).collect())
}

fn product(product: &ProductDigest) -> Facts {
    vec![
        ("product", Number(product.product)),
        ("stock", Units(product.units.stock)),
        ("free", Units(product.units.free)),
        ("held", Units(product.units.held)),
        ("sold", Units(product.units.sold)),
        ("hash", Text(product.hash.clone())),
    ]
}

/// One line, and one for each product that is not the same.
fn comparison(first: &Digest, other: &Digest) -> String {
    if first.cluster != other.cluster {
        return format!("node {} is of ANOTHER CLUSTER: {}\n", other.node, other.cluster);
    }
    if agrees(first, other) {
        return format!("node {} agrees\n", other.node);
    }
    let mut text = format!(
        "node {} DIFFERS: {} there, {} at node {}; stop selling, keep all data, and report this\n",
        other.node, other.hash, first.hash, first.node
    );
    let of = |digest: &Digest, id| digest.products.iter().find(|product| product.product == id).cloned();
    let mut ids: Vec<u64> =
        first.products.iter().chain(&other.products).map(|product| product.product).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let sides = [of(first, id), of(other, id)];
        if sides[0] != sides[1] {
            let [here, there] = sides.map(|side| side.map_or("none".to_owned(), |product| units(&product)));
            text +=
                &format!("  product {id}: {here} at node {}; {there} at node {}\n", first.node, other.node);
        }
    }
    text
}

fn units(product: &ProductDigest) -> String {
    let units = product.units;
    format!(
        "stock {} free {} held {} sold {} hash {}",
        units.stock, units.free, units.held, units.sold, product.hash
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::digest::Units;

    fn digest() -> Digest {
        let units = Units { stock: 10, free: 7, held: 2, sold: 1 };
        Digest {
            cluster: "c".to_owned(),
            node: 1,
            sequence: 9,
            index: 5,
            time_ms: 1_000,
            hash: "ab".to_owned(),
            reservations: 2,
            totals: units,
            products: vec![ProductDigest { product: 7, units, hash: "cd".to_owned() }],
        }
    }

    #[test]
    fn nodes_agree_on_all_but_who_they_are_and_what_they_let_go_of() {
        let other = Digest { node: 2, index: 0, time_ms: 0, ..digest() };
        assert!(agrees(&digest(), &other));
        assert_eq!(comparison(&digest(), &other), "node 2 agrees\n");
    }

    #[test]
    fn a_difference_is_named_by_product() {
        let mut other = Digest { node: 2, hash: "ef".to_owned(), ..digest() };
        other.products[0].units.held = 3;
        assert!(!agrees(&digest(), &other));
        let text = comparison(&digest(), &other);
        assert!(text.starts_with("node 2 DIFFERS"), "{text}");
        assert!(
            text.contains(
                "product 7: stock 10 free 7 held 2 sold 1 hash cd at node 1; stock 10 free 7 held 3"
            )
        );
        let other = Digest { cluster: "d".to_owned(), ..digest() };
        assert!(comparison(&digest(), &other).contains("ANOTHER CLUSTER"));
    }
}
