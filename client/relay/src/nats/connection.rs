//! One connection to the servers of NATS. When it breaks it has ended: a new one knows what the stream has.
//!
//! The crate below would mend it by itself, and would then wait for acknowledgements that do not come any more.
//! Deliberately not here: what is sent over it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;

use super::error::NatsError;
use super::target::Target;

/// How long a server has for anything: to answer, to store a message, to let it in.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Acknowledgements that the crate below lets be outstanding: more than a relay does.
const ACKS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) context: Context,
    /// Why it ended, once it has.
    trouble: watch::Receiver<Option<String>>,
}

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, NatsError> {
        let mut options = ConnectOptions::new();
        if let Some(path) = &target.credentials {
            let unreadable = |source| NatsError::Credentials { path: path.clone(), source };
            options = options.credentials_file(path).await.map_err(unreadable)?;
        }
        if let Some((user, password)) = target.user() {
            options = options.user_and_password(user, password);
        }
        let (tell, trouble) = watch::channel(None);
        let tell = Arc::new(tell);
        let client = options
            .name("sluice relay")
            .connection_timeout(ANSWER_TIME)
            .request_timeout(Some(ANSWER_TIME))
            .max_reconnects(1)
            .event_callback(move |event| {
                let tell = Arc::clone(&tell);
                async move {
                    if let Some(trouble) = trouble_in(&event) {
                        tell.send_replace(Some(trouble));
                    }
                }
            })
            .connect(&target.servers[..])
            .await
            .map_err(|error| match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    NatsError::NotAllowed { target: target.to_string() }
                }
                _ => NatsError::Unreachable { target: target.to_string(), source: error },
            })?;
        let context = ContextBuilder::new().timeout(ANSWER_TIME).max_ack_inflight(ACKS_MAX).build(client);
        Ok(Self { context, trouble })
    }

    /// Waits until it has ended, and says why.
    pub(super) async fn lost(&mut self) -> NatsError {
        let trouble = self.trouble.wait_for(Option::is_some).await;
        let words = trouble.ok().and_then(|trouble| trouble.clone());
        NatsError::Lost(words.unwrap_or_else(|| "it ended".to_owned()))
    }
}

/// What is wrong, if the event says that something is.
fn trouble_in(event: &Event) -> Option<String> {
    match event {
        Event::Disconnected | Event::Closed => Some("the server is gone".to_owned()),
        Event::ServerError(error) => Some(error.to_string()),
        Event::ClientError(error) => Some(error.to_string()),
        _ => None,
    }
}
