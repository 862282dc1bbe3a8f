//! An order system in one page: reads the stream of events, prints what was sold, and goes on where it stood.
//!
//! Start a server with `cargo run --release -- serve`, then as often as you like, in several terminals at once:
//! `cargo run -p sluice-client --example consumer [sluice://host:7400] [group]`

use sluice_client::{Client, Consumed, Delivery, EventKind, Start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "sluice://127.0.0.1:7400".to_owned());
    let group = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let client = Client::builder().name("consumer").connect(&url).await?;
    let mut consumer = client.consume(&group).start(Start::Beginning).open().await?;
    loop {
        let consumed = tokio::select! {
            consumed = consumer.next() => consumed,
            _ = tokio::signal::ctrl_c() => break,
        };
        match consumed {
            None => return Ok(()),
            Some(Ok(Consumed::Event(delivery))) => carry_out(delivery),
            Some(Ok(Consumed::Gap { from, to })) => println!("{from} to {to} are kept no more"),
            Some(Ok(news)) => println!("{news:?}"),
            Some(Err(error)) if error.is_passing() => println!("{error}; goes on"),
            Some(Err(error)) => return Err(error.into()),
        }
    }
    // What was carried out is told, and the others of the group go on at once.
    consumer.close().await?;
    Ok(())
}

/// Here an order system would keep the event's sequence with what it did, in one transaction, and do nothing if it has
/// that sequence already: then each event counts once, though it may come twice.
fn carry_out(delivery: Delivery) {
    let event = delivery.event();
    if event.kind == EventKind::Confirmed {
        println!(
            "#{} sold: {} of product {} to user {}",
            event.sequence, event.quantity, event.product, event.user
        );
    }
    if delivery.ack().is_err() {
        println!("another member has it now");
    }
}
