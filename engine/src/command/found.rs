//! `sluice init` and `sluice join`: from an empty data directory to a node that `sluice serve` starts.

use std::time::{Duration, Instant};

use clap::Args;

use super::exit::Exit;
use super::output::{self, Failure};
use super::time::parse_span;
use super::told::Fact::{Number, Text};
use super::told::Told;
use crate::config::{Config, ConfigArgs};
use crate::datadir::Identity;
use crate::node::{self, FoundError};

/// Make the data directory of a new cluster of one node.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Make the data directory of a new node of a cluster. It learns the log, and votes once it is promoted.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Where nodes of the cluster are: their ports for peers
    #[arg(long, value_name = "HOST:PORT,…", env = "SLUICE_CLUSTER", value_delimiter = ',', required = true)]
    cluster: Vec<String>,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    deadline: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl InitArgs {
    pub(super) fn run(&self) -> Exit {
        let made = load(&self.config).and_then(|config| {
            let identity = node::found(&config)?;
            Ok(made("made", &config, &identity))
        });
        output::finish(made, self.json)
    }
}

impl JoinArgs {
    pub(super) fn run(&self) -> Exit {
        let made = load(&self.config).and_then(|config| {
            if config.peers.listen.is_none() {
                let why = "a node of a cluster needs a port for its peers: --peer-listen (peers.listen)";
                return Err(Failure::new(Exit::Usage, "usage", why));
            }
            let identity = node::join(&config, &self.cluster, Instant::now() + self.deadline)?;
            let next = format!("sluice serve, then: sluice node promote {}", identity.node.0);
            Ok(made("joined", &config, &identity).fact("next", Text(next)))
        });
        output::finish(made, self.json)
    }
}

fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    Config::load(args).map_err(|errors| Failure::new(Exit::Usage, "usage", errors.to_string()))
}

fn made(outcome: &'static str, config: &Config, identity: &Identity) -> Told {
    Told::yes(outcome)
        .fact("cluster", Text(identity.cluster.to_string()))
        .fact("node", Number(identity.node.0))
        .fact("data", Text(config.node.data.display().to_string()))
}

impl From<FoundError> for Failure {
    fn from(error: FoundError) -> Self {
        let (exit, code) = match &error {
            FoundError::Unreachable { .. } => (Exit::Unavailable, "unavailable"),
            FoundError::Refused(_) => (Exit::Refused, "refused"),
            FoundError::Exists { .. } => (Exit::Refused, "exists"),
            FoundError::Random(_) => (Exit::Internal, "internal"),
            FoundError::DataDir(_) | FoundError::Log(_) | FoundError::Snapshot(_) | FoundError::Book(_) => {
                (Exit::DataRefused, "data_refused")
            }
        };
        Self::new(exit, code, error.to_string())
    }
}
