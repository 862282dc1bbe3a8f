//! A real server inside a test: its own data directory, free ports on loopback, everything else as in production.
//!
//! For the tests and examples of this repository, the client's documentation among them. Deliberately not here: killing.
//! A test that kills starts the binary.

use std::net::SocketAddr;

use crate::config::{Config, ConfigArgs};
use crate::node::Node;

/// A running server; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Server {
    node: Option<Node>,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts a server.
    ///
    /// # Panics
    /// If it cannot be started: then the test cannot be run.
    pub fn start() -> Self {
        Self::start_with(|config| config)
    }

    /// Starts a server with other settings.
    ///
    /// # Panics
    /// If it cannot be started, or the settings are wrong.
    pub fn start_with(change: impl FnOnce(ConfigArgs) -> ConfigArgs) -> Self {
        let data = tempfile::tempdir().expect("a test needs a temporary directory");
        let args = ConfigArgs::default()
            .with("node.data", data.path().join("data").display())
            .with("node.listen", "127.0.0.1:0")
            .with("ops.listen", "127.0.0.1:0")
            .with("log.disk_free_min", "0");
        let config = Config::load(&change(args)).expect("the test's settings are valid");
        let node = Node::start(&config).expect("a server starts on an empty directory and free ports");
        Self { node: Some(node), _data: data }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.node().address()
    }

    /// Where operators look.
    pub fn ops_address(&self) -> SocketAddr {
        self.node().ops_address()
    }

    /// Where clients connect, as they write it.
    pub fn url(&self) -> String {
        format!("sluice://{}", self.address())
    }

    /// The node.
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("there is a node until the server is dropped")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }
}
