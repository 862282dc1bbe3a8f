//! An order system in one page: keeps a table of orders, exactly as Sluice has sold them, whoever crashes when.
//!
//! `cargo run -p sluice-postgres --example orders -- sluice://127.0.0.1:7400 postgres://shop@127.0.0.1/shop [group]`
//! as often as you like, in several terminals at once. Then look: `SELECT state, count(*) FROM sluice_orders GROUP BY state`.

use sluice_client::Client;
use sluice_postgres::orders::Orders;
use sluice_postgres::{HandOff, News};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(servers), Some(database)) = (arguments.next(), arguments.next()) else {
        return Err("give it sluice://… and postgres://…".into());
    };
    let group = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let client = Client::builder().name("orders").connect(&servers).await?;
    let hand_off =
        HandOff::new(&client, database.parse()?, group, Orders::default()).observe(|news| match news {
            News::Connected => println!("PostgreSQL is there"),
            News::Committed { done, repeated } => println!("{done} events, {repeated} known already"),
            News::Lost { why } => println!("PostgreSQL is lost: {why}; goes on when it is back"),
            News::Gap { from, to } => println!("{from} to {to} are kept no more: look into the books"),
            other => println!("{other:?}"),
        });
    let counts = hand_off
        .run(async {
            // What cannot be waited for never stops it.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    println!("{counts:?}");
    Ok(())
}
