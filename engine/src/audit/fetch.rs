//! Reads the engine's books: what became of every id, and where every product stands.
//!
//! Deliberately not here: what they should say.

use std::sync::Arc;

use sluice_client::{At, Client, Error, Product, ProductId, Reservation, ReservationId, State, UserId};
use tokio::task::JoinSet;

/// Reads that wait for their answers at a time. They share frames.
const READS_AT_A_TIME: usize = 2048;

/// What the engine says of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it stands.
    pub state: State,
    /// Which product.
    pub product: ProductId,
    /// For whom.
    pub user: UserId,
    /// How many units.
    pub quantity: u32,
    /// The sequence of the event that made it what it is; 0 if that event is still to come.
    pub sequence: u64,
    /// When the hold ends, ledger milliseconds; 0 if not held.
    pub deadline_ms: u64,
    /// When it stopped being held, ledger milliseconds; 0 while held.
    pub ended_ms: u64,
    /// When this held.
    pub at: At,
}

impl From<Reservation> for Found {
    fn from(read: Reservation) -> Self {
        Self {
            state: read.state,
            product: read.product,
            user: read.user,
            quantity: read.quantity,
            sequence: read.sequence,
            deadline_ms: read.deadline_ms,
            ended_ms: read.ended_ms,
            at: read.at,
        }
    }
}

/// Where a product stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// Which.
    pub product: ProductId,
    /// All units.
    pub stock: u64,
    /// Those that can be reserved.
    pub free: u64,
    /// Those held.
    pub held: u64,
    /// Those sold.
    pub sold: u64,
    /// When this held.
    pub at: At,
}

impl From<Product> for Shelf {
    fn from(read: Product) -> Self {
        let Product { product, stock, free, held, sold, at, .. } = read;
        Self { product, stock, free, held, sold, at }
    }
}

impl Shelf {
    /// All that an event can change.
    fn sums(&self) -> (ProductId, u64, u64, u64, u64) {
        (self.product, self.stock, self.free, self.held, self.sold)
    }
}

/// Everything read.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// For each id, in the order asked for; `None` if the engine knows nothing of it.
    pub found: Vec<Option<Box<Found>>>,
    /// The products that exist of those asked for.
    pub shelves: Vec<Shelf>,
}

/// Reads all of it, again until no product has changed meanwhile. So whoever changes things must have stopped; holds that
/// end only delay it.
///
/// Not until everything is of one index: an idle node moves its index once a second, by time alone, and a long reading
/// would never end.
///
/// # Errors
/// No answer came within the client's deadline.
pub async fn fetch(client: &Client, ids: &[ReservationId], products: &[ProductId]) -> Result<Books, Error> {
    let ids: Arc<[ReservationId]> = ids.into();
    let mut before = read_shelves(client, products).await?;
    loop {
        let mut found = vec![None; ids.len()];
        read_ids(client, &ids, &mut found).await?;
        let shelves = read_shelves(client, products).await?;
        let same = before.len() == shelves.len()
            && before.iter().zip(&shelves).all(|(before, after)| before.sums() == after.sums());
        if same {
            return Ok(Books { found, shelves });
        }
        before = shelves;
    }
}

async fn read_shelves(client: &Client, products: &[ProductId]) -> Result<Vec<Shelf>, Error> {
    let mut shelves = Vec::new();
    for product in products {
        shelves.extend(client.product(*product).await?.map(Shelf::from));
    }
    Ok(shelves)
}

async fn read_ids(
    client: &Client,
    ids: &Arc<[ReservationId]>,
    into: &mut [Option<Box<Found>>],
) -> Result<(), Error> {
    let mut readers = JoinSet::new();
    for reader in 0..READS_AT_A_TIME.min(ids.len()) {
        let (client, ids) = (client.clone(), Arc::clone(ids));
        readers.spawn(async move {
            let mut read = Vec::new();
            for at in (reader..ids.len()).step_by(READS_AT_A_TIME) {
                if let Some(reservation) = client.reservation(ids[at]).await? {
                    read.push((at, Box::new(Found::from(reservation))));
                }
            }
            Ok::<_, Error>(read)
        });
    }
    while let Some(read) = readers.join_next().await {
        for (at, found) in read.expect("a reader neither panics nor is aborted")? {
            into[at] = Some(found);
        }
    }
    Ok(())
}
