//! `sluice relay`: hands the stream on to a message broker, until it is told to stop.
//!
//! Deliberately not here: what is promised, and how it is kept ([`sluice_relay`]).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};
use sluice_client::Client;
use sluice_relay::nats::{Nats, STREAM_DEFAULT, SUBJECT_PREFIX_DEFAULT, SettingError, Target, TargetError};
use sluice_relay::{DestinationError, GROUP_DEFAULT, Note, Payload, Relay, RelayError, Tally};

use super::exit::Exit;
use super::output::{self, Failure};
use super::remote::RemoteArgs;
use super::signals::stopped;
use super::time::parse_span;

/// Publish all events to a message broker, each once and in order.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Where to: nats://[user:password@]host:4222[,host2…], or tls://…
    #[arg(long, value_name = "URL", env = "SLUICE_RELAY_TO", hide_env_values = true)]
    to: String,
    /// File with the credentials of a user of NATS
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Consumer group that remembers how far it is; made if there is none. One for each destination
    #[arg(long, value_name = "NAME", default_value = GROUP_DEFAULT)]
    group: String,
    /// Stream of JetStream; made if there is none, never changed
    #[arg(long, value_name = "NAME", default_value = STREAM_DEFAULT)]
    stream: String,
    /// What subjects begin with; the kind and the product follow, between dots
    #[arg(long, value_name = "PREFIX", default_value = SUBJECT_PREFIX_DEFAULT)]
    subject_prefix: String,
    /// How events are written
    #[arg(long, value_enum, default_value = "json")]
    payload: PayloadArg,
    /// Tells these messages from those of other clusters; the cluster's id unless it is given
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How long a stream that is made knows messages by their ids
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_span)]
    duplicate_window: Duration,
    /// How many servers of NATS keep a stream that is made
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PayloadArg {
    /// One object, as `sluice tail --json` prints it
    Json,
    /// The 80 bytes of the event
    Binary,
}

impl RelayArgs {
    pub(super) fn run(&self) -> Exit {
        let as_json = self.remote.is_json();
        // What is wrong on the command line is said before anybody is asked.
        match Target::parse(&self.to) {
            Ok(target) => self.remote.run_lines(async |client| self.relay(client, target, as_json).await),
            Err(error) => output::finish(Err(error.into()), as_json),
        }
    }

    async fn relay(&self, client: Client, target: Target, as_json: bool) -> Result<Exit, Failure> {
        let destination = self.destination(&client, target)?;
        let relay = Relay::new(client, destination).group(&self.group);
        let stop = stopped().map_err(|error| Failure::new(Exit::Internal, "internal", error.to_string()))?;
        let tally = relay.run(stop, |note| tell(&note, as_json)).await?;
        let line = if as_json { line(&progress("stopped", &tally)) } else { format!("stopped: {tally}\n") };
        Ok(output::print(&line, Exit::Done))
    }

    fn destination(&self, client: &Client, target: Target) -> Result<Nats, Failure> {
        let target = match &self.creds {
            Some(path) => target.credentials(path),
            None => target,
        };
        let source = match &self.source {
            Some(name) => name.clone(),
            None => client.cluster().expect("a client that was connected knows its cluster").to_string(),
        };
        let payload = match self.payload {
            PayloadArg::Json => Payload::Json,
            PayloadArg::Binary => Payload::Binary,
        };
        let nats = Nats::new(target, source)?.payload(payload);
        let nats = nats.stream(&self.stream)?.subject_prefix(&self.subject_prefix)?;
        Ok(nats.duplicate_window(self.duplicate_window)?.replicas(self.replicas)?)
    }
}

/// Programs read one object a line on standard output, people everything but the end on standard error.
fn tell(note: &Note<'_>, as_json: bool) {
    if !as_json {
        output::complain(&note.to_string(), Exit::Done);
        return;
    }
    let object = match note {
        Note::Waits => json!({ "relay": "waits" }),
        Note::Begins { after, .. } => json!({ "relay": "begins", "after": after }),
        Note::MovedBack { from, to } => json!({ "relay": "moved_back", "from": from, "to": to }),
        Note::Gap { from, to } => json!({ "relay": "gap", "from": from, "to": to }),
        Note::Progress(tally) => progress("progress", tally),
        Note::Trouble { error, pause } => {
            json!({ "relay": "trouble", "message": error.to_string(), "pause_ms": pause.as_millis() as u64 })
        }
        other => json!({ "relay": "note", "message": other.to_string() }),
    };
    // Whoever reads no more is told no more; what is published is not for them.
    let _ = output::try_print(&line(&object));
}

fn progress(word: &str, tally: &Tally) -> Json {
    json!({
        "relay": word, "events": tally.events, "known": tally.known, "gaps": tally.gaps,
        "restarts": tally.restarts, "stored": tally.stored,
    })
}

fn line(object: &Json) -> String {
    format!("{object}\n")
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Self::new(Exit::Usage, "usage", error.to_string())
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Self::new(Exit::Usage, "usage", error.to_string())
    }
}

/// A relay ends by itself only if somebody has to change something.
impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Call(error) => error.into(),
            RelayError::Destination(DestinationError::Final(error)) => {
                Self::new(Exit::Usage, "destination", error.to_string())
            }
            RelayError::Filtered { .. } | RelayError::Ahead { .. } => {
                Self::new(Exit::Usage, "usage", error.to_string())
            }
            other => Self::new(Exit::Unavailable, "unavailable", other.to_string()),
        }
    }
}
