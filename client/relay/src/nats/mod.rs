//! NATS JetStream: one stream that is a copy of the events, each message stored only directly behind its predecessor.
//!
//! | | |
//! |---|---|
//! | subject | `<prefix>.<kind>.<product>`, such as `sluice.reserved.42`; `<prefix>.gap` for events that are kept no more |
//! | `Nats-Msg-Id` | `<source>-<sequence>`; of a gap `<source>-gap-<last>` |
//! | `Nats-Expected-Last-Sequence` | the place of its predecessor in the stream |
//! | `Nats-Expected-Last-Msg-Id` | the id of its predecessor; not of the first that is sent over a connection or after a trouble |
//! | `Nats-Expected-Stream` | the stream's name |
//! | `Sluice-Source` | the cluster's id, or the name it was given |
//! | `Sluice-Sequence` | the event's; of a gap the last |
//! | `Sluice-Index`, `Sluice-Time` | the log index, and the ledger time in milliseconds; not of a gap |
//!
//! A message is refused if the last one in the stream has another place or another id than it expects. Either alone would not
//! do while several are under way: the place of one that was refused may be taken by somebody else's, and then the next would
//! find its predecessor where it should be; and ids are forgotten by servers that start again, while places are not.
//!
//! # The rooms
//! - [`Target`]: where the servers are, and as whom
//! - `settings`: what may be set, and what is allowed
//! - `connection`: one connection, which is never mended but made anew
//! - `stream`: the stream itself: made, checked, its end found
//! - `line`: what is under way
//! - `error`: what can be wrong
//!
//! Deliberately not here: changing a stream that exists. Whoever made it had reasons.

mod connection;
mod error;
mod line;
mod settings;
mod stream;
mod target;

use async_nats::header::HeaderMap;
use async_nats::jetstream::message::PublishMessage;

use crate::destination::{Destination, DestinationError};
use crate::json::kind_name;
use crate::message::Message;
use connection::Connection;
pub use error::NatsError;
use line::{Line, Sent};
use settings::Settings;
pub use settings::{
    DUPLICATE_WINDOW_DEFAULT, DUPLICATE_WINDOW_MIN, STREAM_DEFAULT, SUBJECT_PREFIX_DEFAULT, SettingError,
};
pub use target::{Target, TargetError};

/// Headers of each message.
pub const HEADER_SOURCE: &str = "Sluice-Source";
/// See [`HEADER_SOURCE`].
pub const HEADER_SEQUENCE: &str = "Sluice-Sequence";
/// See [`HEADER_SOURCE`].
pub const HEADER_INDEX: &str = "Sluice-Index";
/// See [`HEADER_SOURCE`].
pub const HEADER_TIME: &str = "Sluice-Time";

/// A stream of JetStream as a destination.
#[derive(Debug)]
pub struct Nats {
    target: Target,
    settings: Settings,
    /// `None`: the next look makes one.
    connection: Option<Connection>,
    /// The place in the stream of the message that was sent last, or that was found there.
    last: u64,
    /// The id of the message that was sent last, if one was since the stream was looked at.
    last_id: Option<String>,
    line: Line,
}

impl Nats {
    async fn look(&mut self) -> Result<Option<u64>, NatsError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target).await?,
        };
        let end = stream::end(&connection.context, &self.settings).await?;
        self.connection = Some(connection);
        (self.last, self.last_id) = (end.last, None);
        Ok(end.stored)
    }

    async fn send(&mut self, message: &Message) -> Result<(), NatsError> {
        let connection = self.connection.as_ref().ok_or(NatsError::Lost("not connected".to_owned()))?;
        let id = self.id(message);
        let mut publish = PublishMessage::build()
            .payload(self.settings.payload.write(message))
            .headers(self.headers(message))
            .message_id(&id)
            .expected_stream(&self.settings.stream)
            .expected_last_sequence(self.last);
        if let Some(last_id) = self.last_id.replace(id) {
            publish = publish.expected_last_message_id(last_id);
        }
        let subject = self.subject(message);
        let ack = connection.context.send_publish(subject, publish).await.map_err(NatsError::Publish)?;
        self.last += 1;
        self.line.push(Sent::new(message.sequence(), self.last, ack));
        Ok(())
    }

    fn subject(&self, message: &Message) -> String {
        let prefix = &self.settings.subject_prefix;
        match message {
            Message::Event(event) => format!("{prefix}.{}.{}", kind_name(event.kind), event.product),
            Message::Gap { .. } => format!("{prefix}.gap"),
        }
    }

    fn id(&self, message: &Message) -> String {
        let (source, sequence) = (&self.settings.source, message.sequence());
        match message {
            Message::Event(_) => format!("{source}-{sequence}"),
            Message::Gap { .. } => format!("{source}-gap-{sequence}"),
        }
    }

    fn headers(&self, message: &Message) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_SOURCE, self.settings.source.as_str());
        headers.insert(HEADER_SEQUENCE, message.sequence().to_string());
        if let Message::Event(event) = message {
            headers.insert(HEADER_INDEX, event.index.to_string());
            headers.insert(HEADER_TIME, event.time_ms.to_string());
        }
        headers
    }

    /// After any trouble the connection is made anew, so that what it still had to send does not come later.
    fn failed(&mut self, error: NatsError) -> DestinationError {
        self.connection = None;
        self.line.clear();
        error.into()
    }
}

impl Destination for Nats {
    async fn resume(&mut self) -> Result<Option<u64>, DestinationError> {
        self.line.clear();
        self.look().await.map_err(|error| self.failed(error))
    }

    async fn publish(&mut self, message: &Message) -> Result<(), DestinationError> {
        self.send(message).await.map_err(|error| self.failed(error))
    }

    async fn stored(&mut self) -> Result<u64, DestinationError> {
        let Some(connection) = &mut self.connection else { return std::future::pending().await };
        let stored = tokio::select! {
            biased;
            stored = self.line.stored(&self.settings.stream) => stored,
            lost = connection.lost() => Err(lost),
        };
        stored.map_err(|error| self.failed(error))
    }

    fn outstanding(&self) -> usize {
        self.line.len()
    }
}
