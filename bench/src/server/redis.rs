//! `redis-server`, from the system's packages.
//!
//! Everything is switched off that a stock engine on Redis would not need while it sells: no dumps, no rewriting of
//! its file. Deliberately not here: what is asked of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use super::Owned;
use crate::error::BenchError;
use crate::line::connect;
use crate::process::Process;
use crate::speech::redis::call;

/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is asked meanwhile.
const START_POLL: Duration = Duration::from_millis(10);

/// What an answer of Redis stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Memory only: what was sold is forgotten in a crash.
    Memory,
    /// appendfsync always: on disk before it is said, as with Sluice.
    Always,
}

/// A Redis of our own.
#[derive(Debug)]
pub struct RedisServer {
    child: Owned,
    address: SocketAddr,
    _data: TempDir,
}

impl RedisServer {
    /// Starts one with its data in a new folder below `parent`, and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub fn start(parent: &Path, durability: Durability) -> Result<Self, BenchError> {
        let data =
            TempDir::with_prefix_in("redis-bench-", parent).map_err(BenchError::io("making a folder"))?;
        let address = free_port()?;
        let appendonly = if durability == Durability::Always { "yes" } else { "no" };
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args([
                "--appendonly",
                appendonly,
                "--appendfsync",
                "always",
                "--auto-aof-rewrite-percentage",
                "0",
            ])
            .args(["--daemonize", "no", "--loglevel", "warning", "--logfile", ""])
            .arg("--dir")
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|_| BenchError::NoRedis("redis-server"))?;
        let mut server = Self { child: Owned(child), address, _data: data };
        let began = Instant::now();
        while !server.answers() {
            if began.elapsed() > START_TIMEOUT || !matches!(server.child.0.try_wait(), Ok(None)) {
                let said = server.child.last_words();
                return Err(BenchError::NotStarted { program: "redis-server".to_owned(), said });
            }
            std::thread::sleep(START_POLL);
        }
        Ok(server)
    }

    fn answers(&self) -> bool {
        connect(self.address).and_then(|mut stream| call(&mut stream, &["PING"])).is_ok()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What runs it.
    pub fn process(&self) -> Process {
        Process::new(self.child.0.id())
    }
}

/// Its version, as it says.
///
/// # Errors
/// If it is not installed.
pub fn version() -> Result<String, BenchError> {
    let output = Command::new("redis-server").arg("--version").output();
    let output = output.map_err(|_| BenchError::NoRedis("redis-server"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned())
}

/// A port that nobody listens on at this moment: Redis cannot choose one itself and say which.
fn free_port() -> Result<SocketAddr, BenchError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::io("looking for a port"))?;
    listener.local_addr().map_err(BenchError::io("looking for a port"))
}
