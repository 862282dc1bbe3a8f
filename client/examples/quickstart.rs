//! A sale in one page: put a product on sale, reserve, confirm, look.
//!
//! Start a server with `cargo run --release -- serve`, then:
//! `cargo run -p sluice-client --example quickstart [sluice://host:7400]`

use std::time::Duration;

use sluice_client::{Client, Error, Reserve, ReserveOutcome, Terms, fresh_id};

const PRODUCT: u64 = 7;
const USER: u64 = 4242;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "sluice://127.0.0.1:7400".to_owned());
    let client = Client::builder().name("quickstart").deadline(Duration::from_secs(2)).connect(&url).await?;
    println!("connected; a ping takes {:?}", client.ping().await?);

    // A hundred units, one per user, held for a quarter of an hour until they are paid for.
    let terms = Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 1, hold_ms: 900_000, unlimited: false };
    println!("put: {:?}", client.put_product(PRODUCT, 100, terms).await?);

    // The id is ours and would be kept with the order, so that the order can always find out what became of it.
    let id = fresh_id();
    match client.reserve_with(Reserve::new(PRODUCT, USER, 1).fresh_id(id)).await {
        Ok(ReserveOutcome::Reserved { deadline_ms, .. }) => {
            println!("reserved {id} until {deadline_ms}");
            println!("paid: {:?}", client.confirm(id).await?);
        }
        Ok(refused) => println!("no, for good: {refused:?}"),
        Err(Error::Unresolved { id }) => println!("later: {:?}", client.resolve(id).await?),
        Err(error) => println!("nothing was done: {error}"),
    }

    if let Some(product) = client.product(PRODUCT).await? {
        println!("{} free, {} held, {} sold of {}", product.free, product.held, product.sold, product.stock);
    }
    Ok(())
}
