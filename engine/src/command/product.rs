//! `sluice product …`: what is sold, on which terms, and how much of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args, Subcommand};
use sluice_client::{
    Client, Product, ProductId, PutOutcome, ReservationId, SealOutcome, StockChange, StockOutcome, Terms,
};

use super::exit::Exit;
use super::output::Failure;
use super::remote::RemoteArgs;
use super::time::{When, parse_span, parse_when};
use super::told::Fact::{Flag, Limit, Number, Span, Text, Time, Units};
use super::told::{Facts, Told, insufficient, invalid, name_of, unforeseen};

/// How long a hold lasts unless somebody says otherwise: the fifteen minutes that shops give for payment.
const HOLD_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// What is sold.
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// Create a product, or change the terms of one that exists
    Put(PutArgs),
    /// Show a product
    Show(OneArgs),
    /// List products in the order of their ids
    List(ListArgs),
    /// Add stock
    Restock(StockArgs),
    /// Remove free stock
    WriteOff(StockArgs),
    /// Promise that no stock will ever be added, which makes "sold out" final
    Seal(OneArgs),
}

impl ProductCommand {
    pub(super) fn run(&self) -> Exit {
        match self {
            Self::Put(args) => args.remote.run(async |client| args.put(&client).await),
            Self::Show(args) => args.remote.run(async |client| {
                let product = client.product(args.product).await?;
                Ok(product.as_ref().map_or_else(|| unknown(args.product), show_told))
            }),
            Self::List(args) => args.remote.run(async |client| args.list(&client).await),
            Self::Restock(args) => {
                args.remote.run(async |client| Ok(args.told(&client.restock_with(args.change()).await?)))
            }
            Self::WriteOff(args) => {
                args.remote.run(async |client| Ok(args.told(&client.write_off_with(args.change()).await?)))
            }
            Self::Seal(args) => {
                args.remote.run(async |client| Ok(seal_told(args.product, &client.seal(args.product).await?)))
            }
        }
    }
}

/// Which product.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The product
    product: ProductId,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// A product and its terms.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("supply").required(true).args(["stock", "unlimited", "keep_stock"])))]
pub struct PutArgs {
    /// The product
    product: ProductId,
    /// Units at creation; a put never changes them afterwards
    #[arg(long, value_name = "UNITS")]
    stock: Option<u64>,
    /// No stock to run out of
    #[arg(long)]
    unlimited: bool,
    /// Only change terms; those that are not given stay as they are
    #[arg(long)]
    keep_stock: bool,
    /// Units that one user may have, held and confirmed together; 0 = no limit [default: 0]
    #[arg(long, value_name = "UNITS")]
    per_user_limit: Option<u32>,
    /// How long units are held for payment [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    hold: Option<Duration>,
    /// When the sale opens: never (that is, open from the start), +10m, 2026-11-27T20:00Z [default: never]
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    opens: Option<When>,
    /// When the sale closes: never, +2h, 2026-11-28T20:00Z [default: never]
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    closes: Option<When>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl PutArgs {
    async fn put(&self, client: &Client) -> Result<Told, Failure> {
        let outcome = if self.keep_stock {
            // Read first: the protocol replaces all terms at once. Somebody else's change in between is lost,
            // which two administrators at one product have to agree on anyway.
            let Some(product) = client.product(self.product).await? else {
                return Ok(unknown(self.product));
            };
            client.change_terms(self.product, self.terms(product.terms)).await?
        } else {
            let terms = Terms {
                opens_ms: 0,
                closes_ms: 0,
                per_user_limit: 0,
                hold_ms: millis(HOLD_DEFAULT),
                unlimited: self.unlimited,
            };
            client.put_product(self.product, self.stock.unwrap_or(0), self.terms(terms)).await?
        };
        Ok(put_told(self.product, &outcome))
    }

    /// What was given, and otherwise `before`.
    fn terms(&self, before: Terms) -> Terms {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        Terms {
            opens_ms: self.opens.map_or(before.opens_ms, |when| when.ms(now_ms)),
            closes_ms: self.closes.map_or(before.closes_ms, |when| when.ms(now_ms)),
            per_user_limit: self.per_user_limit.unwrap_or(before.per_user_limit),
            hold_ms: self.hold.map_or(before.hold_ms, millis),
            unlimited: before.unlimited,
        }
    }
}

/// What does not fit is far beyond what a server allows: it will say so, and what it allows.
fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

fn put_told(product: ProductId, outcome: &PutOutcome) -> Told {
    let told = match *outcome {
        PutOutcome::Done { sequence: 0, at } => Told::yes("unchanged").at(at),
        PutOutcome::Done { sequence, at } => Told::yes("done").fact("sequence", Number(sequence)).at(at),
        PutOutcome::StockDiffers { stock_at_creation, at } => {
            Told::no("stock_differs").fact("stock_at_creation", Units(stock_at_creation)).at(at)
        }
        PutOutcome::UnknownProduct { at } => Told::no("unknown_product").at(at),
        PutOutcome::Invalid(refused) => invalid(&refused),
        _ => unforeseen(outcome),
    };
    told.about(vec![("product", Number(product.0))])
}

fn seal_told(product: ProductId, outcome: &SealOutcome) -> Told {
    let told = match *outcome {
        SealOutcome::Sealed { sequence: 0, at } => Told::yes("unchanged").at(at),
        SealOutcome::Sealed { sequence, at } => Told::yes("sealed").fact("sequence", Number(sequence)).at(at),
        SealOutcome::UnknownProduct { at } => Told::no("unknown_product").at(at),
        SealOutcome::Invalid(refused) => invalid(&refused),
        _ => unforeseen(outcome),
    };
    told.about(vec![("product", Number(product.0))])
}

fn unknown(product: ProductId) -> Told {
    Told::no("unknown_product").fact("product", Number(product.0))
}

fn show_told(product: &Product) -> Told {
    let told = Told::yes("product").at(product.at);
    let terms = [
        ("per_user_limit", Limit(u64::from(product.terms.per_user_limit))),
        ("hold", Span(u64::from(product.terms.hold_ms))),
        ("opens", Time(product.terms.opens_ms)),
        ("closes", Time(product.terms.closes_ms)),
        ("earliest_return", Time(product.earliest_return_ms)),
    ];
    row(product).into_iter().chain(terms).fold(told, |told, (name, fact)| told.fact(name, fact))
}

/// A product in a list.
fn row(product: &Product) -> Facts {
    vec![
        ("product", Number(product.product.0)),
        ("stock", Units(product.stock)),
        ("free", Units(product.free)),
        ("held", Units(product.held)),
        ("sold", Units(product.sold)),
        ("unlimited", Flag(product.terms.unlimited)),
        ("sealed", Flag(product.sealed)),
    ]
}

/// Which products.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The first id wanted
    #[arg(long, value_name = "PRODUCT", default_value_t = ProductId(0))]
    from: ProductId,
    /// At most this many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ListArgs {
    async fn list(&self, client: &Client) -> Result<Told, Failure> {
        let mut rows = Vec::new();
        let mut from = Some(self.from);
        let mut left = self.limit.unwrap_or(u64::MAX);
        while let Some(first) = from.filter(|_| left > 0) {
            let page_max = u64::from(Client::PAGE_MAX).min(left) as u32;
            let page = client.list_products(first, page_max).await?;
            left -= page.len() as u64;
            from = page.last().and_then(|last| last.product.0.checked_add(1)).map(ProductId);
            rows.extend(page.iter().map(row));
        }
        Ok(Told::yes("done").list("products", rows))
    }
}

/// How much to add or remove.
#[derive(Debug, Args)]
pub struct StockArgs {
    /// The product
    product: ProductId,
    /// How many units
    units: u32,
    /// The change's id, 32 hexadecimal digits; the same id never counts twice [default: a new one]
    #[arg(long)]
    id: Option<ReservationId>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl StockArgs {
    fn change(&self) -> StockChange {
        let change = StockChange::new(self.product, self.units);
        self.id.map_or(change, |id| change.id(id))
    }

    fn told(&self, outcome: &StockOutcome) -> Told {
        let told = match *outcome {
            StockOutcome::Done { id, sequence, repeated, at } => Told::yes("done")
                .fact("id", Text(id.to_string()))
                .fact("sequence", Number(sequence))
                .fact("repeated", Flag(repeated))
                .at(at),
            StockOutcome::Insufficient { free, held, earliest_return_ms, at } => {
                insufficient(free, held, earliest_return_ms).at(at)
            }
            StockOutcome::Sealed { at } => Told::no("sealed").at(at),
            StockOutcome::UnknownProduct { at } => Told::no("unknown_product").at(at),
            StockOutcome::RefusedEarlier { with, at } => {
                Told::no("refused_earlier").fact("with", Text(name_of(with))).at(at)
            }
            StockOutcome::IdConflict { at } => Told::no("id_conflict").at(at),
            StockOutcome::Fenced { at } => Told::no("fenced").at(at),
            StockOutcome::Invalid(refused) => invalid(&refused),
            _ => unforeseen(outcome),
        };
        told.about(vec![("product", Number(self.product.0)), ("quantity", Units(u64::from(self.units)))])
    }
}
