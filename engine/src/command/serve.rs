//! `sluice serve`: from a configuration to a running node, and from a signal to a stopped one.
//!
//! What people and supervisors see of a node's life: one line on standard output once it can serve, systemd's
//! notifications, log lines on standard error, an exit code. Deliberately not here: what a node is made of.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::Args;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::exit::Exit;
use super::output;
use crate::config::{Config, ConfigArgs};
use crate::failpoint::{self, Point};
use crate::node::{FoundError, Node, NodeError, RecoveryError};
use crate::ops::server::OpsError;

/// Run a node.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Announce the addresses as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeArgs {
    pub(super) fn run(&self) -> Exit {
        let config = match Config::load(&self.config) {
            Ok(config) => config,
            Err(errors) => return output::complain(&errors.to_string(), Exit::Usage),
        };
        log_to_stderr(&config.node.log_filter);
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return output::complain(&format!("cannot start: {error}"), Exit::Internal),
        };
        let node = match Node::start(&config) {
            Ok(node) => node,
            Err(error) => return output::complain(&error.to_string(), exit_of(&error)),
        };
        match runtime.block_on(self.watch(&node)) {
            Ok(which) => tracing::info!(signal = which, "stopping: what is in flight is finished first"),
            Err(error) => tracing::error!(%error, "stopping: signals cannot be waited for"),
        }
        notify(NotifyState::Stopping);
        node.stop();
        tracing::info!("stopped");
        Exit::Done
    }

    /// Announces the node once it can serve, and waits for the signal to stop. Its name is returned.
    async fn watch(&self, node: &Node) -> io::Result<&'static str> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let health = Arc::clone(node.health());
        // Ends with the node at the latest: one that stops is never ready.
        let mut ready = tokio::task::spawn_blocking(move || health.wait_until_up());
        let mut waiting = true;
        loop {
            tokio::select! {
                is_ready = &mut ready, if waiting => {
                    waiting = false;
                    if is_ready.expect("waiting does not panic") {
                        self.announce(node);
                    }
                }
                _ = terminate.recv() => return Ok("SIGTERM"),
                _ = interrupt.recv() => return Ok("SIGINT"),
            }
        }
    }

    fn announce(&self, node: &Node) {
        failpoint::reach(Point::StartReady);
        let (cluster, id) = node.identity();
        let url = format!("sluice://{}", node.address());
        let ops = format!("http://{}", node.ops_address());
        let data = node.data().display().to_string();
        let peers = node.peer_address().map(|address| address.to_string());
        let line = if self.json {
            let (cluster, node) = (cluster.to_string(), id.0);
            let object = json!({
                "url": url, "ops": ops, "peers": peers, "data": data, "cluster": cluster, "node": node,
            });
            format!("{object}\n")
        } else {
            let peers = peers.map(|peers| format!(", peers {peers}")).unwrap_or_default();
            format!("sluice {} serves {url}, ops {ops}{peers}, data {data}\n", env!("CARGO_PKG_VERSION"))
        };
        output::print(&line, Exit::Done);
        tracing::info!(%url, %ops, %data, %cluster, node = id.0, "serving");
        notify(NotifyState::Ready);
    }
}

/// The data directory is code 4, unless all that is wrong with it is a full disk; what the configuration can mend is code 2.
fn exit_of(error: &NodeError) -> Exit {
    match error {
        NodeError::Recovery(RecoveryError::Found(FoundError::Random(_)))
        | NodeError::Ops(OpsError::Start(_))
        | NodeError::Thread(_) => Exit::Internal,
        NodeError::Recovery(error) if error.is_disk_full() => Exit::Internal,
        NodeError::Recovery(_) => Exit::DataRefused,
        NodeError::Listen { .. }
        | NodeError::ListenForPeers { .. }
        | NodeError::Ops(OpsError::Listen { .. })
        | NodeError::Descriptors(_) => Exit::Usage,
    }
}

fn log_to_stderr(filter: &str) {
    let filter = EnvFilter::try_new(filter).expect("the configuration has checked the filter");
    // There is another subscriber only if a program has set its own before it came here: that one is to be kept.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// Tells systemd, if it is there.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the supervisor cannot be notified");
    }
}
