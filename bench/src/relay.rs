//! `sluice-bench relay`: how fast events are relayed to NATS JetStream, beside a publisher that promises nothing.
//!
//! The other publisher sends as many messages with the same content to a stream of the same server, as many under way,
//! without headers, and knows nothing of what was stored before. The relay reads its events from a server of Sluice, and
//! acknowledges them there. Deliberately not here: whether each is there once and in order; tests see to that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use clap::Args;
use serde::Serialize;
use sluice_client::{Client, Start, Tailed};
use sluice_outside::Nats as NatsServer;
use sluice_relay::nats::{Nats, Target};
use sluice_relay::{GROUP_DEFAULT, Message, Payload, Relay};

use crate::error::BenchError;
use crate::given::OwnServer;
use crate::machine::Machine;
use crate::measure::median;
use crate::server::sluice::SluiceServer;
use crate::stream::fill::{fill, sale};

/// Messages of the other publisher under way at most: as many as the relay's.
const OUTSTANDING_MAX: usize = 4_096;

/// How often it is looked whether everything is acknowledged.
const POLL: Duration = Duration::from_millis(5);

/// Measure the relay to NATS JetStream.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Events of a round, at least
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Rounds; the median is told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    /// Events of a round.
    events: u64,
    /// Events a second, every round: the relay's, and the other publisher's.
    relayed: Vec<f64>,
    published: Vec<f64>,
    /// Of the medians.
    ratio: f64,
}

impl RelayArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If a server cannot be started or reached, or breaks off.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let sluice = SluiceServer::start(&given.folder, settings)?;
        fill(&mut sale(sluice.address())?, sluice.address(), self.events)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (events, relayed, published) =
            runtime.map_err(BenchError::io("starting a runtime"))?.block_on(self.rounds(&sluice))?;
        let ratio = median(&relayed) / median(&published);
        let report = Report { machine: Machine::here(&given.folder), events, relayed, published, ratio };
        given.tell(&report, tell);
        Ok(())
    }

    async fn rounds(&self, sluice: &SluiceServer) -> Result<(u64, Vec<f64>, Vec<f64>), BenchError> {
        let client = Client::connect(&sluice.url()).await?;
        let payloads = payloads(&client).await?;
        let events = payloads.len() as u64;
        let (mut relayed, mut published) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let nats = NatsServer::start();
            let group = format!("{GROUP_DEFAULT}-{round}");
            relayed.push(relay(&client, &group, &nats, events).await?);
            published.push(events as f64 / publish(&nats, &payloads).await.map_err(broken)?);
        }
        Ok((events, relayed, published))
    }
}

/// Events a second, until a relay has stored these and the group knows it. There may be some more by then.
async fn relay(client: &Client, group: &str, nats: &NatsServer, events: u64) -> Result<f64, BenchError> {
    let target = Target::parse(&nats.url()).map_err(broken)?;
    let relay = Relay::new(client.clone(), Nats::new(target, "bench").map_err(broken)?).group(group);
    let began = Instant::now();
    let acknowledged = async {
        while !matches!(client.group(group).await, Ok(Some(group)) if group.cursor >= events) {
            tokio::time::sleep(POLL).await;
        }
    };
    let tally = relay.run(acknowledged, |note| eprintln!("{note}")).await.map_err(broken)?;
    Ok(tally.events as f64 / began.elapsed().as_secs_f64())
}

/// Seconds until a publisher that promises nothing has stored as much.
async fn publish(nats: &NatsServer, payloads: &[bytes::Bytes]) -> Result<f64, async_nats::Error> {
    let context = jetstream::new(async_nats::connect(nats.url()).await?);
    let config = stream::Config {
        name: "PLAIN".to_owned(),
        subjects: vec!["plain".to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    let began = Instant::now();
    let mut under_way = VecDeque::new();
    for payload in payloads {
        if under_way.len() >= OUTSTANDING_MAX {
            let first: jetstream::context::PublishAckFuture =
                under_way.pop_front().expect("there are so many");
            first.await?;
        }
        under_way.push_back(context.publish("plain", payload.clone()).await?);
    }
    for acked in under_way {
        acked.await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What the relay will send.
async fn payloads(client: &Client) -> Result<Vec<bytes::Bytes>, BenchError> {
    let last = client.stream_bounds().await?.last;
    let mut tail = client.tail(Start::Beginning).await?;
    let mut payloads = Vec::new();
    while tail.after() < last {
        match tail.next(POLL).await? {
            Tailed::Events(events) => {
                payloads.extend(events.iter().map(|event| Payload::Json.write(&Message::Event(*event))));
            }
            gap => return Err(BenchError::Protocol(format!("events are missing: {gap:?}"))),
        }
    }
    Ok(payloads)
}

fn broken(error: impl std::fmt::Display) -> BenchError {
    BenchError::Protocol(error.to_string())
}

/// For people.
fn tell(report: &Report) -> String {
    let rates = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:>12.0}/s")).collect::<String>();
    format!(
        "{}\n\
         \x20 {} events to a stream of NATS JetStream, on file\n\
         \x20   relayed, each once and in order   {}\n\
         \x20   published, and nothing promised   {}\n\
         \x20   ratio of the medians: {:.2}\n",
        report.machine.line(),
        report.events,
        rates(&report.relayed),
        rates(&report.published),
        report.ratio,
    )
}
