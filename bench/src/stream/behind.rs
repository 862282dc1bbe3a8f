//! What a group costs a sale that nobody reads for: the same load with it and without it, in turns on one server.
//!
//! The group is made at the beginning, so that it is as far behind as there are events; a member takes a seat, is
//! delivered something, and does nothing more. Then it is removed again. Deliberately not here: how it ever gets there.

use std::time::Duration;

use serde::Serialize;
use sluice_client::{Client, Consumer, GroupOutcome, Start};

use super::fill::{fill, sale};
use super::take::{BATCH, over};
use super::{GROUP, StreamArgs, runtime};
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::measure::median;
use crate::server::sluice::SluiceServer;
use crate::speech::sluice::SluiceSpeech;

/// Measurements are that much shorter than the others: as fast as they go, they would fill the memory.
const SHARE: f64 = 0.2;

/// Not measured, at the beginning of each.
const WARM_UP: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Behind {
    /// Events that the group lacked when it was measured for the first time.
    pub events: u64,
    /// Reservations a second, every round: without a group, and with one that stands still.
    pub without: Vec<f64>,
    /// See above.
    pub with: Vec<f64>,
    /// Median with ÷ median without.
    pub ratio: f64,
}

impl StreamArgs {
    pub(super) fn behind(&self) -> Result<Behind, BenchError> {
        let OwnServer { given, settings } = &self.server;
        let server = SluiceServer::start(&given.folder, settings)?;
        let mut speech = sale(server.address())?;
        fill(&mut speech, server.address(), self.behind)?;
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect(&server.url()))?;
        let (mut lacked, mut without, mut with) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            // Each is first as often as the other: what a server holds grows from one measurement to the next.
            for is_with in [round % 2 == 1, round % 2 == 0] {
                if !is_with {
                    without.push(self.reserved(&server, &mut speech)?);
                    continue;
                }
                // On a runtime that nobody drives meanwhile the consumer does nothing at all.
                let consumer = runtime.block_on(stand_still(&client))?;
                lacked.push(runtime.block_on(lacking(&client))?);
                with.push(self.reserved(&server, &mut speech)?);
                runtime.block_on(leave(&client, consumer))?;
            }
        }
        let ratio = median(&with) / median(&without);
        Ok(Behind { events: lacked[0], without, with, ratio })
    }

    fn reserved(&self, server: &SluiceServer, speech: &mut SluiceSpeech) -> Result<f64, BenchError> {
        let plan = Plan {
            pace: Pace::Closed,
            connections: 16,
            frame: 1024,
            pipeline: 2,
            warm_up: WARM_UP,
            measure: Duration::from_secs_f64(self.seconds * SHARE),
        };
        Ok(drive(speech, server.address(), &plan, None, &mut |_| {})?.rate)
    }
}

/// A group at the beginning, and a member that was delivered something.
async fn stand_still(client: &Client) -> Result<Consumer, BenchError> {
    let mut consumer = client.consume(GROUP).start(Start::Beginning).open().await?;
    // Not acknowledged: it stays where it is.
    for consumed in consumer.next_batch(BATCH).await.ok_or_else(over)?? {
        super::take::delivery(consumed)?.defer();
    }
    Ok(consumer)
}

/// Events that the group has not acknowledged.
async fn lacking(client: &Client) -> Result<u64, BenchError> {
    let group = client.group(GROUP).await?.ok_or_else(over)?;
    let last = client.stream_bounds().await?.last;
    Ok(last - group.cursor)
}

/// Ends both.
async fn leave(client: &Client, consumer: Consumer) -> Result<(), BenchError> {
    let removed = client.remove_group(GROUP).await?;
    drop(consumer);
    match removed {
        GroupOutcome::Done { .. } => Ok(()),
        other => Err(BenchError::Protocol(format!("the group was not removed: {other:?}"))),
    }
}
