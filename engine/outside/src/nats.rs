//! A NATS server of one's own, with JetStream in a temporary folder, on a port of loopback that it keeps.
//!
//! It ends with its handle, and by the system if the thread that started it ends in whatever way: so it is to be started by
//! a thread that stays. Deliberately not here: talking to it, beyond asking whether it is there.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How to get what is missing.
const INSTALL: &str = "apt-get install --no-install-recommends nats-server";

/// Ports below those of which systems choose for outgoing connections: while the server is dead nobody else gets its port.
const PORTS: std::ops::Range<u16> = 10_000..15_000;

/// Spreads the ports at which processes of neighbouring numbers begin.
const PORT_STEP: u16 = 521;

/// Ports that this process has tried.
static PORTS_TRIED: AtomicU16 = AtomicU16::new(0);

/// How long it may take to answer, recovery after a kill included.
const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// How often it is asked.
const POLL: Duration = Duration::from_millis(10);

/// A server of NATS; dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Nats {
    folder: TempDir,
    address: SocketAddr,
    server: Option<Child>,
}

impl Nats {
    /// Starts one that lets everybody in.
    ///
    /// # Panics
    /// If it is not installed, and says how to install it; or if it does not start.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in its configuration.
    ///
    /// # Panics
    /// As [`Nats::start`].
    pub fn start_with(configuration: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("sluice-nats-").tempdir();
        let folder = folder.expect("a test needs a temporary directory");
        let address = free_address();
        let store = folder.path().join("jetstream");
        let lines = format!(
            "listen: \"{address}\"\nlog_file: \"{}\"\njetstream {{ store_dir: \"{}\" }}\n{configuration}\n",
            folder.path().join("log").display(),
            store.display()
        );
        fs::write(folder.path().join("nats.conf"), lines).expect("the folder is new");
        let mut nats = Self { folder, address, server: None };
        nats.restart();
        nats
    }

    /// Where clients connect, as they write it. Stays the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it as a crash would end it: no handler runs. What it has written, the system still has.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().expect("it runs until it is waited for");
        server.wait().expect("it is a child of this process");
    }

    /// Stops it in its tracks, until [`Nats::go_on`].
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same port and data, and waits until it answers.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn restart(&mut self) {
        self.kill();
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.expect("the folder can be written to");
        // It shall not outlive the thread that started it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nats-server", "-c"]).arg(self.folder.path().join("nats.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        assert!(is_installed(), "there is no nats-server: {INSTALL}");
        self.server = Some(command.spawn().expect("setpriv is part of every Linux"));
        let deadline = Instant::now() + READY_TIME_MAX;
        while !self.answers() {
            let ended = self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(Some(_))));
            assert!(!ended && Instant::now() < deadline, "NATS does not start: {}", self.last_words());
            thread::sleep(POLL);
        }
    }

    /// Its first words to whoever connects tell whether JetStream is there.
    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(self.address) else { return false };
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("\"jetstream\":true")
    }

    fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        kill_process(Pid::from_child(server), signal).expect("it runs until it is waited for");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // One that has ended by itself needs neither.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn is_installed() -> bool {
    let found =
        Command::new("nats-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    !matches!(found, Err(error) if error.kind() == ErrorKind::NotFound)
}

/// An address of loopback that nobody listens on; none is given twice by one process.
fn free_address() -> SocketAddr {
    let span = PORTS.end - PORTS.start;
    let from = (std::process::id() as u16).wrapping_mul(PORT_STEP) % span;
    loop {
        let tried = PORTS_TRIED.fetch_add(1, Ordering::Relaxed);
        assert!(tried < span, "no port of {PORTS:?} is free");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + (from + tried) % span));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
