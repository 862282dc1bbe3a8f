//! An order system that takes all events there are, through the client crate, and acknowledges each.
//!
//! Its own work with an event is nothing: what is measured is the way there. Deliberately not here: where the server has
//! the events.

use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_client::{Client, Consumed, Delivery, Start};

use super::{GROUP, fill, runtime};
use crate::error::BenchError;
use crate::process::Process;
use crate::server::sluice::SluiceServer;

/// Events that it takes at a time.
pub(super) const BATCH: usize = 1024;

/// How long nothing may come while something should.
const PATIENCE: Duration = Duration::from_secs(30);

/// One consumer that took everything.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Taken {
    /// Events, each delivered and acknowledged.
    pub events: u64,
    /// From before the group is made until the last acknowledgement is known to count.
    pub seconds: f64,
    /// Events a second.
    pub rate: f64,
    /// Processor time for each event, microseconds: the server's and the consumer's.
    pub server_us: Option<f64>,
    /// See above.
    pub consumer_us: Option<f64>,
}

/// A stopwatch for one.
#[derive(Debug)]
pub(super) struct Taking {
    processes: [Process; 2],
    cpu_before: [Option<f64>; 2],
    began: Instant,
}

impl Taking {
    pub(super) fn begin(server: Process) -> Self {
        let processes = [server, Process::new(std::process::id())];
        let cpu_before = processes.map(|process| process.cpu_seconds());
        Self { processes, cpu_before, began: Instant::now() }
    }

    pub(super) fn end(self, events: u64) -> Taken {
        let seconds = self.began.elapsed().as_secs_f64();
        let used = |at: usize| {
            let (after, before) = (self.processes[at].cpu_seconds(), self.cpu_before[at]);
            after.zip(before).map(|(after, before)| (after - before) * 1e6 / events as f64)
        };
        let (server_us, consumer_us) = (used(0), used(1));
        Taken { events, seconds, rate: events as f64 / seconds, server_us, consumer_us }
    }
}

/// Makes a group at the beginning and takes everything that is there now.
///
/// # Errors
/// If the server breaks off, does not deliver for a while, or does not have all of it any more.
pub fn take(server: &SluiceServer) -> Result<Taken, BenchError> {
    runtime()?.block_on(async {
        let client = Client::connect(&server.url()).await?;
        let bounds = client.stream_bounds().await?;
        let bar = fill::bar(bounds.last, "delivering");
        let taking = Taking::begin(server.process());
        let mut consumer = client.consume(GROUP).start(Start::Beginning).open().await?;
        let mut events = 0;
        while events < bounds.last {
            let next = tokio::time::timeout(PATIENCE, consumer.next_batch(BATCH)).await;
            let batch = next.map_err(|_| BenchError::Undelivered(PATIENCE))?;
            for consumed in batch.ok_or_else(over)?? {
                delivery(consumed)?.ack().map_err(sluice_client::ConsumeError::from)?;
                events += 1;
            }
            bar.set_position(events);
        }
        consumer.flush().await?;
        let taken = taking.end(events);
        bar.finish_and_clear();
        consumer.close().await?;
        Ok(taken)
    })
}

/// What was consumed, if it is an event.
pub(crate) fn delivery(consumed: Consumed) -> Result<Delivery, BenchError> {
    match consumed {
        Consumed::Event(delivery) => Ok(delivery),
        news => Err(BenchError::Protocol(format!("there is something else than an event: {news:?}"))),
    }
}

/// A consumer that nobody closed has ended.
pub(crate) fn over() -> BenchError {
    BenchError::Protocol("the consumer has ended".to_owned())
}
