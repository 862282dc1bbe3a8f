//! `sluice serve`, the binary next to this one.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::Owned;
use crate::error::BenchError;
use crate::process::Process;

/// A node of our own.
#[derive(Debug)]
pub struct SluiceServer {
    child: Owned,
    address: SocketAddr,
    /// Its data, if that goes with it.
    _data: Option<TempDir>,
}

impl SluiceServer {
    /// Starts a node with its data in a new folder below `parent`, and waits until it serves. `settings` are flags
    /// of `sluice serve`.
    ///
    /// # Errors
    /// If there is no binary, or it does not start.
    pub fn start(parent: &Path, settings: &[String]) -> Result<Self, BenchError> {
        let data = folder(parent)?;
        let server = Self::start_on(&data.path().join("data"), settings)?;
        Ok(Self { _data: Some(data), ..server })
    }

    /// Starts a node on the data of an earlier one, and waits until it serves.
    ///
    /// # Errors
    /// As [`start`](SluiceServer::start).
    pub fn start_on(data: &Path, settings: &[String]) -> Result<Self, BenchError> {
        let binary = binary()?;
        let child = Command::new(&binary)
            .args([
                "serve",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--ops",
                "127.0.0.1:0",
                "--log-filter",
                "warn",
            ])
            .arg("--data")
            .arg(data)
            .args(settings)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(BenchError::io("starting sluice serve"))?;
        let mut child = Owned(child);
        let mut line = String::new();
        let stdout = child.0.stdout.take().expect("it was asked for");
        // Silence is told from words by their not being JSON.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(url) = said["url"].as_str() else {
            let said = child.last_words();
            return Err(BenchError::NotStarted { program: binary.display().to_string(), said });
        };
        Ok(Self { child, address: resolve(url)?, _data: None })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect, as they write it.
    pub fn url(&self) -> String {
        format!("sluice://{}", self.address)
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        // One that cannot be killed has ended; dropping waits for it.
        let _ = self.child.0.kill();
    }

    /// What runs it.
    pub fn process(&self) -> Process {
        Process::new(self.child.0.id())
    }
}

/// A folder for servers' data, gone when it is dropped.
///
/// # Errors
/// Those of the file system.
pub fn folder(parent: &Path) -> Result<TempDir, BenchError> {
    TempDir::with_prefix_in("sluice-bench-", parent).map_err(BenchError::io("making a folder"))
}

/// The address in `sluice://host:port`.
///
/// # Errors
/// If it is written otherwise, or the host is not known.
pub fn resolve(url: &str) -> Result<SocketAddr, BenchError> {
    let address = || BenchError::Address(url.to_owned());
    let host = url.strip_prefix("sluice://").ok_or_else(address)?;
    host.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(address)
}

/// The server's binary: built together with this one, it lies next to it.
///
/// # Errors
/// If it does not, or nobody knows where this one is.
pub fn binary() -> Result<PathBuf, BenchError> {
    let here = std::env::current_exe().map_err(BenchError::io("looking for this program"))?;
    let binary = here.with_file_name("sluice");
    if binary.exists() { Ok(binary) } else { Err(BenchError::NoServer(binary)) }
}
