//! A server in a process of its own: the real binary on a real data directory, to be killed and started again.
//!
//! The process never outlives its owner: it is killed when the handle is dropped, and by the system if the thread that
//! started it ends in whatever way. So it is to be started by a thread that stays. [`cluster`] starts several that are one
//! cluster, [`view`] tells how they are. Deliberately not here: a server inside the process ([`crate::testing`]).

pub mod cluster;
pub mod view;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use thiserror::Error;
use tokio::sync::oneshot;

/// Ports below the range from which systems choose the port of an outgoing connection: while the server is dead, no
/// client's attempt to connect can happen to take its port.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Ports tried before giving up; each of them would have to be taken.
const PORTS_TRIED_MAX: u16 = 64;

/// Spreads the ports at which processes of neighbouring numbers begin.
const PORT_STEP: u16 = 521;

/// Ports that this process has tried. None is tried twice: a server that is dead for a moment, and is to be started
/// again on its port, must not find another of ours there.
static PORTS_TRIED: AtomicU16 = AtomicU16::new(0);

/// How often an ending process is looked at.
const EXIT_POLL: Duration = Duration::from_millis(2);

/// An address on loopback that nobody listens on. Looked at because a refusal costs a process; another may still take it
/// in between.
///
/// # Errors
/// [`LaunchError::NoPort`].
pub fn free_address() -> Result<SocketAddr, LaunchError> {
    let span = PORTS.end - PORTS.start;
    // Several programs that do this at once begin at different ports.
    let from = (std::process::id() as u16).wrapping_mul(PORT_STEP) % span;
    for _ in 0..PORTS_TRIED_MAX {
        let step = PORTS_TRIED.fetch_add(1, Ordering::Relaxed) % span;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + (from + step) % span));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(LaunchError::NoPort)
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `sluice` binary.
    pub binary: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Where its standard error goes; later launches append.
    pub log: PathBuf,
    /// Where it listens for clients. Its ops port is any free one.
    pub listen: SocketAddr,
    /// More flags of `sluice serve`.
    pub flags: Vec<String>,
    /// More variables in its environment.
    pub variables: Vec<(String, String)>,
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The process could not be started.
    #[error("cannot start {binary}: {source}")]
    Spawn {
        /// What was to be started.
        binary: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It ended before it served.
    #[error("the server ended before it served ({status}); its last words are in {log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Where it said why.
        log: PathBuf,
    },
    /// It did not serve in time.
    #[error("the server does not serve after {} s; its words so far are in {log}", .waited.as_secs())]
    Late {
        /// How long that was.
        waited: Duration,
        /// Where it said why.
        log: PathBuf,
    },
    /// A command that makes or changes a cluster failed.
    #[error("`sluice {command}` failed ({status}): {words}")]
    Command {
        /// Which.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// The nodes became no cluster.
    #[error("the cluster does not come to be: {0}")]
    Cluster(String),
    /// No port could be listened on.
    #[error("no free port was found among {PORTS_TRIED_MAX} of them on 127.0.0.1")]
    NoPort,
}

/// See the module.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    launch: Launch,
    /// Kept open, so that the server can always announce itself.
    announcements: Option<ChildStdout>,
}

impl ServerProcess {
    /// Starts the server; it may not serve yet.
    ///
    /// # Errors
    /// [`LaunchError::Spawn`].
    pub fn start(launch: &Launch) -> Result<Self, LaunchError> {
        let spawn = |source| LaunchError::Spawn { binary: launch.binary.clone(), source };
        let log: File = OpenOptions::new().create(true).append(true).open(&launch.log).map_err(spawn)?;
        let mut command = Command::new(&launch.binary);
        command.args(["serve", "--json", "--ops", "127.0.0.1:0", "--data"]).arg(&launch.data);
        command.arg("--listen").arg(launch.listen.to_string()).args(&launch.flags);
        command.envs(launch.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        #[expect(
            unsafe_code,
            reason = "what runs between fork and exec is unsafe to name; it is one system call"
        )]
        // SAFETY: between fork and exec only one system call is made, which allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().map_err(spawn)?;
        let announcements = child.stdout.take();
        Ok(Self { child, launch: launch.clone(), announcements })
    }

    /// Starts a server on some free port of loopback and waits until it serves.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn start_anywhere(launch: &Launch, patience: Duration) -> Result<Self, LaunchError> {
        for _ in 0..PORTS_TRIED_MAX {
            let listen = free_address()?;
            let mut server = Self::start(&Launch { listen, ..launch.clone() })?;
            match server.ready(patience).await {
                Err(LaunchError::Ended { .. }) if TcpListener::bind(listen).is_err() => {}
                ready => return ready.map(|()| server),
            }
        }
        Err(LaunchError::NoPort)
    }

    /// Waits until it says that it serves.
    ///
    /// # Errors
    /// [`LaunchError::Ended`] or [`LaunchError::Late`].
    ///
    /// # Panics
    /// If it was waited for before.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), LaunchError> {
        let announcements = self.announcements.take().expect("a server is waited for once");
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let mut reader = BufReader::new(announcements);
            let announced = matches!(reader.read_line(&mut line), Ok(bytes) if bytes > 0);
            // Nobody listens any more if it took too long.
            let _ = sender.send((announced, reader.into_inner()));
        });
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok((true, announcements))) => {
                self.announcements = Some(announcements);
                Ok(())
            }
            Ok(_) => Err(self.last_words()),
            Err(_) => Err(LaunchError::Late { waited: patience, log: self.launch.log.clone() }),
        }
    }

    /// What to say of a process that has closed its standard output, which it does by ending.
    fn last_words(&mut self) -> LaunchError {
        match self.child.wait() {
            Ok(status) => LaunchError::Ended { status, log: self.launch.log.clone() },
            Err(source) => LaunchError::Spawn { binary: self.launch.binary.clone(), source },
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system's words.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it ends by itself, which it must be about to do.
    ///
    /// # Errors
    /// The system's words, or that it did not end in time; then it is killed.
    pub fn wait(mut self, patience: Duration) -> io::Result<ExitStatus> {
        let by = Instant::now() + patience;
        loop {
            match self.ended_by(by)? {
                Some(status) => return Ok(status),
                None => thread::sleep(EXIT_POLL),
            }
        }
    }

    /// Waits until it ends by itself, while other tasks of this thread go on.
    ///
    /// # Errors
    /// The system's words, or that it did not end in time; then it is killed.
    pub async fn ended(mut self, patience: Duration) -> io::Result<ExitStatus> {
        let by = Instant::now() + patience;
        loop {
            match self.ended_by(by)? {
                Some(status) => return Ok(status),
                None => tokio::time::sleep(EXIT_POLL).await,
            }
        }
    }

    /// How it ended, if it has; an error if it has not and it is too late.
    fn ended_by(&mut self, by: Instant) -> io::Result<Option<ExitStatus>> {
        match self.child.try_wait()? {
            None if Instant::now() >= by => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not end in time"))
            }
            status => Ok(status),
        }
    }

    /// Asks it to stop. What comes of it, [`ServerProcess::ended`] tells.
    ///
    /// # Errors
    /// The system's words.
    pub fn ask_to_stop(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in its tracks, until [`ServerProcess::resume`]: to others it looks dead, and it does not know.
    ///
    /// # Errors
    /// The system's words.
    pub fn pause(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The system's words.
    pub fn resume(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("sluice://{}", self.launch.listen)
    }

    /// What it was started with: starting it again continues with the same data on the same port.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Kills it as a power cut would: no handler runs. When this returns it is dead.
    ///
    /// # Errors
    /// The system's words.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        match status.signal() {
            Some(_) => Ok(()),
            None => Err(io::Error::other(format!("the server had ended by itself: {status}"))),
        }
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// The system's words, or that it did not end in time; then it is killed.
    pub fn terminate(self, patience: Duration) -> io::Result<ExitStatus> {
        self.ask_to_stop()?;
        self.wait(patience)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // One that has ended by itself needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
