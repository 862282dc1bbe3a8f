//! The stream of JetStream: made if there is none, checked if there is, and its end found.
//!
//! All of it is asked of the stream's leader, never of a copy that may be behind. A leader that is none any more can still
//! answer; then its answer is old, and what is sent on the strength of it is refused.
//! Deliberately not here: publishing.

use async_nats::jetstream::context::{Context, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Info, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, ErrorCode};

use super::error::{Mismatch, NatsError};
use super::settings::Settings;
use super::{HEADER_SEQUENCE, HEADER_SOURCE};

/// Messages of somebody else, or deleted ones, that are looked at from the end on: some published by hand are passed over,
/// and a stream of others is noticed.
const FOREIGN_MAX: u64 = 1_000;

/// Where a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The place of its last message, whoever's that is.
    pub(super) last: u64,
    /// Everything of the source up to this sequence is in it.
    pub(super) stored: Option<u64>,
}

/// See the module.
pub(super) async fn end(context: &Context, settings: &Settings) -> Result<End, NatsError> {
    let stream = open(context, settings).await?;
    let info = stream.cached_info();
    check(info, settings)?;
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if info.state.messages == 0 {
        return Ok(End { last, stored: None });
    }
    let lowest = first.max(last.saturating_sub(FOREIGN_MAX - 1)).max(1);
    let mut other = None;
    for place in (lowest..=last).rev() {
        let message = match stream.get_raw_message(place).await {
            Ok(message) => message,
            Err(error) => match error.kind() {
                jetstream::stream::RawMessageErrorKind::NoMessageFound => continue,
                _ => return Err(NatsError::Ask(error.into())),
            },
        };
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str());
        let source = header(HEADER_SOURCE);
        if source == Some(settings.source.as_str()) {
            let sequence = header(HEADER_SEQUENCE).and_then(|text| text.parse().ok());
            return Ok(End { last, stored: Some(sequence.ok_or(NatsError::Unreadable { place })?) });
        }
        other = other.or_else(|| source.map(str::to_owned));
    }
    if other.is_none() && lowest <= first.max(1) {
        // All there is was looked at, and nobody relays there.
        return Ok(End { last, stored: None });
    }
    Err(NatsError::Foreign { stream: settings.stream.clone(), source_wanted: settings.source.clone(), other })
}

async fn open(context: &Context, settings: &Settings) -> Result<Stream, NatsError> {
    match context.get_stream(&settings.stream).await {
        Ok(stream) => return Ok(stream),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            _ => return Err(NatsError::Ask(error.into())),
        },
    }
    let config = Config {
        name: settings.stream.clone(),
        subjects: vec![settings.subjects()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        duplicate_window: settings.duplicate_window,
        num_replicas: settings.replicas,
        description: Some("Events of Sluice, in the order of their sequences".to_owned()),
        ..Config::default()
    };
    context.create_stream(config).await.map_err(|error| match error.kind() {
        // Another relay makes the same one, or there is no leader yet.
        CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => NatsError::Ask(error.into()),
        _ => NatsError::NotMade { stream: settings.stream.clone(), source: error.into() },
    })
}

/// A stream that would not hold what it is given, or would hold something else, is not used.
fn check(info: &Info, settings: &Settings) -> Result<(), NatsError> {
    let config = &info.config;
    let subjects = settings.subjects();
    let mismatch = if config.subjects != [subjects.as_str()] {
        Mismatch::Subjects { got: config.subjects.join(", "), wanted: subjects }
    } else if config.retention != RetentionPolicy::Limits {
        Mismatch::Retention
    } else if config.no_ack {
        Mismatch::NoAck
    } else if config.sealed
        || config.mirror.is_some()
        || config.sources.as_ref().is_some_and(|list| !list.is_empty())
    {
        Mismatch::NotWritable
    } else {
        return Ok(());
    };
    Err(NatsError::Mismatch { stream: settings.stream.clone(), mismatch })
}
