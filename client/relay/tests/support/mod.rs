//! A server of Sluice, a server of NATS, relays between them, and what must be true of the stream.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, stream::Stream};
use sluice_client::{CancelOutcome, Client, ConfirmOutcome, EventView, ReserveOutcome, Start, Tailed, Terms};
use sluice_engine::testing::Server;
use sluice_outside::Nats as NatsServer;
use sluice_relay::nats::{Nats, Target};
use sluice_relay::{Note, Relay, RelayError, Tally, event_json, kind_name};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes: it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

const PRODUCTS: u64 = 11;

/// Waits for what must come true.
pub async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_true().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// A server of Sluice, and whoever buys there.
pub struct Shop {
    pub server: Server,
    pub client: Client,
}

impl Shop {
    pub async fn open() -> Self {
        Self::on(Server::start()).await
    }

    pub async fn on(server: Server) -> Self {
        let client = Client::builder().deadline(PATIENCE).connect(&server.url()).await.unwrap();
        let terms =
            Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };
        for product in 1..=PRODUCTS {
            assert!(client.put_product(product, 1_000_000, terms).await.unwrap().is_done());
        }
        Self { server, client }
    }

    /// So many reservations, of which every third is confirmed and every third cancelled.
    pub async fn sell(&self, count: u64) {
        let mut buyers = Vec::new();
        for buyer in 0..8 {
            let client = self.client.clone();
            buyers.push(tokio::spawn(async move {
                for nth in (buyer..count).step_by(8) {
                    let reserved = client.reserve(1 + nth % PRODUCTS, 1 + nth, 1).await.unwrap();
                    let ReserveOutcome::Reserved { id, .. } = reserved else { panic!("{reserved:?}") };
                    match nth % 3 {
                        0 => assert!(matches!(
                            client.confirm(id).await.unwrap(),
                            ConfirmOutcome::Confirmed { .. }
                        )),
                        1 => {
                            let cancelled = client.cancel(id, 3).await.unwrap();
                            assert!(matches!(cancelled, CancelOutcome::Cancelled { .. }), "{cancelled:?}");
                        }
                        _ => {}
                    }
                }
            }));
        }
        for buyer in buyers {
            buyer.await.unwrap();
        }
    }

    /// All events there are, as somebody sees them who only looks.
    pub async fn events(&self) -> Vec<EventView> {
        let last = self.last().await;
        let mut tail = self.client.tail(Start::Beginning).await.unwrap();
        let mut events = Vec::new();
        while tail.after() < last {
            match tail.next(POLL).await.unwrap() {
                Tailed::Events(more) => events.extend(more),
                gap => panic!("{gap:?}"),
            }
        }
        events
    }

    pub async fn last(&self) -> u64 {
        self.client.stream_bounds().await.unwrap().last
    }

    pub async fn cursor(&self, group: &str) -> u64 {
        self.client.group(group).await.unwrap().map_or(0, |group| group.cursor)
    }
}

/// Where relays of a test go.
pub fn destination(nats: &NatsServer) -> Nats {
    // As short as it may be: what keeps messages from being stored twice is not this.
    let shortest = sluice_relay::nats::DUPLICATE_WINDOW_MIN;
    let nats = Nats::new(Target::parse(&nats.url()).unwrap(), "shop").unwrap();
    nats.duplicate_window(shortest).unwrap()
}

/// A relay at work, and what it told.
pub struct Running {
    pub notes: Arc<Mutex<Vec<String>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Tally, RelayError>>,
}

impl Running {
    pub fn start(relay: Relay<Nats>) -> Self {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&notes);
        let (stop, stopped) = oneshot::channel();
        let tell = move |note: Note<'_>| {
            eprintln!("{note}");
            told.lock().unwrap().push(note.to_string());
        };
        let stopped = async {
            // Nobody stops a relay whose handle was forgotten.
            let _ = stopped.await;
        };
        let work = async {
            let worked = relay.run(stopped, tell).await;
            eprintln!("{worked:?}");
            worked
        };
        Self { notes, stop, task: tokio::spawn(work) }
    }

    pub fn told(&self, words: &str) -> bool {
        self.notes.lock().unwrap().iter().any(|note| note.contains(words))
    }

    pub async fn stop(self) -> Tally {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap()
    }

    /// Ends it in the midst of whatever it does.
    pub async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Why it ended by itself.
    pub async fn ended(self) -> RelayError {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap_err()
    }
}

pub async fn jetstream(nats: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

pub async fn stream(nats: &NatsServer) -> Stream {
    jetstream(nats).await.get_stream("SLUICE").await.unwrap()
}

/// Waits until the stream of the relay has something up to this sequence.
pub async fn has_upto(nats: &NatsServer, sequence: u64) {
    let jetstream = jetstream(nats).await;
    until("the stream to have everything", async || {
        let Ok(stream) = jetstream.get_stream("SLUICE").await else { return false };
        // Behind it there may be something that somebody published by hand.
        match stream.get_last_raw_message_by_subject("sluice.*.*").await {
            Ok(message) => sequence_of(&message) >= Some(sequence),
            Err(_) => false,
        }
    })
    .await;
}

pub fn sequence_of(message: &StreamMessage) -> Option<u64> {
    header(message, "Sluice-Sequence")?.parse().ok()
}

pub fn header<'a>(message: &'a StreamMessage, name: &str) -> Option<&'a str> {
    message.headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// All messages that are in the stream.
pub async fn messages(stream: &Stream) -> Vec<StreamMessage> {
    let state = stream.get_info().await.unwrap().state;
    let mut messages = Vec::new();
    for place in state.first_sequence.max(1)..=state.last_sequence {
        // One that was deleted is not there.
        messages.extend(stream.get_raw_message(place).await.ok());
    }
    messages
}

/// That the stream has each of these events once, in their order, and nothing else.
pub fn is_copy(messages: &[StreamMessage], events: &[EventView]) {
    let sequences: Vec<u64> = messages.iter().filter_map(sequence_of).collect();
    let wanted: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let differs = sequences.iter().zip(&wanted).position(|(got, wanted)| got != wanted);
    let around = differs.map(|at| &sequences[at.saturating_sub(2)..(at + 3).min(sequences.len())]);
    assert_eq!((sequences.len(), around), (wanted.len(), None), "not a copy");
    for (message, event) in messages.iter().zip(events) {
        let id = format!("shop-{}", event.sequence);
        let subject = format!("sluice.{}.{}", kind_name(event.kind), event.product);
        assert_eq!((message.subject.as_str(), header(message, "Nats-Msg-Id")), (&subject[..], Some(&id[..])));
        let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(payload, event_json(event));
        assert_eq!(header(message, "Sluice-Index"), Some(event.index.to_string().as_str()));
        assert_eq!(header(message, "Sluice-Time"), Some(event.time_ms.to_string().as_str()));
    }
}
