//! A PostgreSQL of one's own: an empty database in a temporary folder, reached by a unix socket in it.
//!
//! Nothing is shared with others that run on the machine, so many tests may each have one. It ends with its handle, and by
//! the system if the thread that started it ends in whatever way: so it is to be started by a thread that stays. It runs as
//! the user `postgres` where the test runs as root, which PostgreSQL refuses. Deliberately not here: talking to it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// How to get what is missing.
const INSTALL: &str = "apt-get install --no-install-recommends postgresql";

/// Where Debian keeps each version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The user that it runs as under root.
const USER: &str = "postgres";

/// Part of the name of its socket; nobody listens on this port.
const PORT: u16 = 5432;

/// How long it may take to answer, recovery after a kill included.
const READY_TIME_MAX: Duration = Duration::from_secs(120);

/// How long it may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);

/// A running PostgreSQL; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Postgres {
    /// Starts one that syncs as a real one does.
    ///
    /// # Panics
    /// If it is not installed, and says how to install it; or if it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, each as `name=value`.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> Self {
        let programs = programs().unwrap_or_else(|| panic!("there is no PostgreSQL: {INSTALL}"));
        let folder = tempfile::Builder::new().prefix("sluice-postgres-").tempdir();
        let folder = folder.expect("a test needs a temporary directory");
        if geteuid().is_root() {
            let (user, group) = user().unwrap_or_else(|| panic!("there is no user {USER}: {INSTALL}"));
            chown(folder.path(), Some(user), Some(group)).expect("root may give its folder away");
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut postgres = Self { folder, programs, settings, server: None };
        let made = postgres
            .command("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username",
                USER,
                "--pgdata",
            ])
            .arg(postgres.data())
            .stdout(postgres.log())
            .status()
            .expect("initdb can be run");
        assert!(made.success(), "initdb failed: {}", postgres.last_words());
        postgres.restart();
        postgres
    }

    /// Where clients connect, as they write it. Stays the same after a restart.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@/postgres?host={}&port={PORT}", self.folder.path().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{PORT}"))
    }

    /// Kills all of its processes, as a loss of power would end them but for what the disk forgets.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = Pid::from_child(&server);
        // It stands still meanwhile, so that it makes no more of them. All may have ended by themselves.
        let _ = kill_process(pid, Signal::STOP);
        let children = children(pid);
        for process in [pid].iter().chain(&children) {
            let _ = kill_process(*process, Signal::KILL);
        }
        server.wait().expect("it is a child of this process");
        // The next one does not start while any of these still has the memory that they shared.
        let deadline = Instant::now() + STOP_TIME_MAX;
        while children.iter().any(|child| is_alive(*child)) {
            assert!(Instant::now() < deadline, "processes of PostgreSQL outlive a SIGKILL");
            thread::sleep(POLL);
        }
    }

    /// Starts it again on the same data, and waits until it answers.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn restart(&mut self) {
        self.kill();
        let settings = self.settings.iter().flat_map(|setting| ["-c", setting.as_str()]);
        let server = self
            .command("postgres")
            .args(["-c", "listen_addresses=", "-c", &format!("port={PORT}"), "-k"])
            .arg(self.folder.path())
            .arg("-D")
            .arg(self.data())
            .args(settings)
            .stdout(self.log())
            .spawn();
        self.server = Some(server.expect("postgres can be run"));
        let deadline = Instant::now() + READY_TIME_MAX;
        while !self.answers() {
            let ended = self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(Some(_))));
            assert!(!ended && Instant::now() < deadline, "PostgreSQL does not start: {}", self.last_words());
            thread::sleep(POLL);
        }
    }

    fn answers(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command
            .args(["--quiet", "--username", USER, "--host"])
            .arg(self.folder.path())
            .arg("--port")
            .arg(PORT.to_string());
        command.status().is_ok_and(|status| status.success())
    }

    /// One of its programs, run by whom it accepts and for as long as the thread that starts it lives.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
        }
        command.args(["--pdeathsig", "KILL"]).arg(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stderr(self.log());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> File {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        log.expect("a file in a folder of its own")
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Ends it in its own way, which leaves nothing behind in the system.
    fn stop(&mut self) -> io::Result<()> {
        let Some(server) = &mut self.server else { return Ok(()) };
        kill_process(Pid::from_child(server), Signal::QUIT)?;
        let deadline = Instant::now() + STOP_TIME_MAX;
        while server.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        if server.try_wait()?.is_some() {
            self.server = None;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.stop().is_err() || self.server.is_some() {
            self.kill();
        }
    }
}

/// The folder of the newest version's programs, or that of the search path.
fn programs() -> Option<PathBuf> {
    let is_whole =
        |folder: &Path| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).is_file());
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let folders = versions.into_iter().map(|version| version.join("bin"));
    let searched = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
    folders.chain(searched.into_iter().flatten()).find(|folder| is_whole(folder))
}

/// Number of the user that PostgreSQL runs as, and of its group.
fn user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(USER))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A process that has ended has no memory any more, though nobody may have asked what became of it.
fn is_alive(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn children(pid: Pid) -> Vec<Pid> {
    let number = pid.as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}
