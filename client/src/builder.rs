//! The settings of a client, and how it is made.
//!
//! Deliberately not here: defaults that a server decides (limits of frames); those come with its welcome.

use std::sync::Arc;
use std::time::Duration;

use sluice_protocol::limits::{BUDGET_MS_MAX, CLIENT_NAME_MAX, CREDENTIALS_MAX};

use crate::client::Client;
use crate::connection::Common;
use crate::dial::{Dial, Tcp};
use crate::error::Error;
use crate::greet::OwnCluster;
use crate::reads::ReadFrom;
use crate::retry::Jitter;
use crate::router::Router;
use crate::url;

/// How long a call has unless it is set.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(1);

/// How long resolving what is in doubt may take, behind the deadline, unless it is set.
pub const RESOLVE_BUDGET_DEFAULT: Duration = Duration::from_secs(3);

/// How late a reply may be before its connection is given up, unless it is set.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(1);

/// How long [`Builder::connect`] waits for the first connection unless it is set.
pub const CONNECT_DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// The shortest that any of these may be.
pub(crate) const TIME_MIN: Duration = Duration::from_millis(1);

/// The longest: no server may be asked to keep trying for longer.
pub(crate) const TIME_MAX: Duration = Duration::from_millis(BUDGET_MS_MAX as u64);

/// Connections of one client.
pub const CONNECTIONS_MAX: usize = 64;

/// What the client calls itself unless it is told otherwise.
const NAME_DEFAULT: &str = concat!("sluice-client ", env!("CARGO_PKG_VERSION"));

/// Settings of a client.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    name: String,
    credentials: Vec<u8>,
    connections: usize,
    read_from: ReadFrom,
    deadline: Duration,
    resolve_budget: Duration,
    patience: Duration,
    connect_deadline: Duration,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            name: NAME_DEFAULT.to_owned(),
            credentials: Vec::new(),
            connections: 1,
            read_from: ReadFrom::Leader,
            deadline: DEADLINE_DEFAULT,
            resolve_budget: RESOLVE_BUDGET_DEFAULT,
            patience: PATIENCE_DEFAULT,
            connect_deadline: CONNECT_DEADLINE_DEFAULT,
        }
    }

    /// What the client calls itself in the server's log; at most 64 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the client identifies itself with; at most 4096 bytes; empty where none is asked for.
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }

    /// How many connections to the leader calls are spread over, 1 to 64. Fewer make fuller frames; more help when
    /// one connection keeps a core of this machine busy.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Who answers reads of reservations and products: the leader unless it is set. [`ReadFrom::Any`] opens one more
    /// connection to each server of the URL, if there are several.
    pub fn read_from(mut self, whom: ReadFrom) -> Self {
        self.read_from = whom;
        self
    }

    /// How long a call has: 1 ms to 60 s. Its retries are made within it. The server is given a little less,
    /// so that its last word arrives in time.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How much longer than its deadline a call may take to find out what became of it, if its reply was lost.
    pub fn resolve_budget(mut self, budget: Duration) -> Self {
        self.resolve_budget = budget;
        self
    }

    /// How late a reply may be before the connection is given up and made anew. With several addresses a server
    /// that answers nothing at all is left much earlier, as soon as another one leads.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long [`Builder::connect`] waits for a server that leads.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// Makes the client and waits until a server that leads has greeted it. Afterwards the client keeps itself
    /// connected to whoever leads.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Setting`]; [`Error::Disconnected`] if nobody answers; [`Error::NotLeader`] if the
    /// server does not lead; [`Error::Handshake`] or [`Error::Fault`] if somebody answers who is no Sluice server
    /// that speaks this client's version; with several addresses [`Error::NoServer`] with all of this.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self, url: &str) -> Result<Client, Error> {
        self.connect_over(Arc::new(Tcp), url).await
    }

    pub(crate) async fn connect_over(self, dial: Arc<dyn Dial>, url: &str) -> Result<Client, Error> {
        let addresses = url::parse(url)?;
        self.check()?;
        let common = Common {
            name: self.name,
            credentials: self.credentials,
            patience: self.patience,
            dial,
            router: Router::new(addresses.clone()),
            cluster: OwnCluster::default(),
            jitter: Jitter::new(),
        };
        let readers = match self.read_from {
            ReadFrom::Any if addresses.len() > 1 => addresses,
            ReadFrom::Any | ReadFrom::Leader => Vec::new(),
        };
        let client = Client::start(common, self.connections, readers, self.deadline, self.resolve_budget);
        client.with_deadline(self.connect_deadline).ping().await?;
        Ok(client)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |setting, got: String, allowed| Err(Error::Setting { setting, got, allowed });
        if self.name.len() > CLIENT_NAME_MAX {
            return refuse("name", format!("{} bytes long", self.name.len()), "at most 64 bytes");
        }
        if self.credentials.len() > CREDENTIALS_MAX {
            let got = format!("{} bytes long", self.credentials.len());
            return refuse("credentials", got, "at most 4096 bytes");
        }
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            return refuse("connections", self.connections.to_string(), "1 to 64");
        }
        let durations = [
            ("deadline", self.deadline),
            ("resolve_budget", self.resolve_budget),
            ("patience", self.patience),
            ("connect_deadline", self.connect_deadline),
        ];
        for (setting, duration) in durations {
            if !(TIME_MIN..=TIME_MAX).contains(&duration) {
                return refuse(setting, format!("{duration:?}"), "1 ms to 60 s");
            }
        }
        Ok(())
    }
}
