//! Scenes: runs of the real server under real clients, recorded from the first call to the last.
//!
//! A scene begins on some tree and ends by a signal. Another can begin where one was cut, which makes the second loss of
//! power. Deliberately not here: where scenes are cut (see `plan`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use sluice_client::{ReservationId, State};
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::draw::Draw;
use super::judge::{address_of, serve};
use super::load::{self, HOLD_MS, Heard, Load};
use super::oracle::Oracle;
use super::record::{Event, Told, events};
use super::trace;
use super::tree::Tree;

/// Uses the recordings that are here instead of making new ones.
const RECORDINGS: &str = "SLUICE_POWER_RECORDINGS";

/// The recordings of a test: gone when it passes, kept when it fails, so that it can be repeated.
pub struct Recordings {
    dir: PathBuf,
    made: Option<TempDir>,
}

impl Recordings {
    pub fn of_this_run() -> Self {
        let given = env::var_os(RECORDINGS).map(PathBuf::from);
        let made = given.is_none().then(|| tempfile::tempdir().unwrap());
        let dir = given.unwrap_or_else(|| made.as_ref().unwrap().path().to_owned());
        Self { dir, made }
    }
}

impl Drop for Recordings {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(made) = self.made.take()
        {
            eprintln!("{RECORDINGS}={}", made.keep().display());
        }
    }
}

/// Outcomes that clients have heard when a scene ends under load.
const ANSWERS_BEFORE_THE_END: usize = 40;

/// How a scene ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signal to stop, when all has been answered.
    Stop,
    /// A signal to stop, while clients work.
    StopUnderLoad,
    /// SIGKILL, while clients work.
    Kill,
}

/// See the module.
pub struct Scene {
    pub name: String,
    pub base: Tree,
    /// What is known before it begins.
    pub before: Oracle,
    pub events: Vec<Event>,
    /// As its files were in the end, all that was not synced included.
    pub left: Tree,
    /// What is known in the end.
    pub after: Oracle,
}

/// What a scene is made of.
pub struct Script {
    pub name: String,
    pub orders: usize,
    pub puts: usize,
    pub ending: Ending,
}

/// A directory that is lost with the machine's power: writing images to a disk would only wear it.
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Recordings {
    /// Plays a script on a tree, or takes what was recorded of it before.
    pub fn record(&self, script: &Script, base: Tree, before: Oracle, draw: &mut Draw) -> Scene {
        let name = script.name.clone();
        let load = Load {
            seed: draw.next(),
            ids_from: u128::from(draw.next() | 1 << 63) << 64,
            orders: script.orders,
            puts: script.puts,
            hold_ms_from: HOLD_MS.max(before.hold_ms_max() + 1),
            ask: before.open_ids().collect(),
        };
        let (trace, root) = (self.dir.join(format!("{name}.trace")), self.dir.join(format!("{name}.root")));
        let mut played = None;
        if !trace.exists() {
            let dir = in_memory();
            play(script, &load, &base, &before, &trace, dir.path());
            fs::write(&root, dir.path().to_str().unwrap()).unwrap();
            played = Some(dir);
        }
        let (calls, moments) = trace::read(&trace);
        let root = PathBuf::from(fs::read_to_string(&root).unwrap());
        let Told { events, left, is_certain } = events(&calls, &moments, &root, &base);
        if let Some(dir) = played.filter(|_| is_certain) {
            let found = Tree::load(dir.path());
            assert_eq!(
                left.fingerprint(&[]),
                found.fingerprint(&[]),
                "{name}: the trace is not all that happened"
            );
        }
        let after = known(&before, &events);
        Scene { name, base, before, events, left, after }
    }
}

fn known(before: &Oracle, events: &[Event]) -> Oracle {
    let mut oracle = before.clone();
    for event in events {
        if let Event::Said(said) = event {
            said.iter().for_each(|said| oracle.hear(said));
        }
    }
    oracle
}

/// Runs the server under strace and clients against it.
fn play(script: &Script, load: &Load, base: &Tree, before: &Oracle, trace: &Path, root: &Path) {
    base.store(root);
    let mut command = trace::recorder(trace);
    command.arg(env!("CARGO_BIN_EXE_sluice"));
    let mut traced = Traced(serve(command, root).spawn().expect("this test needs strace: install it"));
    let url = match address_of(&mut traced.0) {
        Some(address) => format!("sluice://{address}"),
        None => panic!("{}: the server does not serve", script.name),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = Heard::new(|_| {});
    runtime.block_on(LocalSet::new().run_until(load::run(&url, load, &heard)));
    let heard = if script.ending == Ending::Stop {
        traced.signal(Signal::TERM);
        heard.take()
    } else {
        let signal = if script.ending == Ending::Kill { Signal::KILL } else { Signal::TERM };
        let more = runtime.block_on(LocalSet::new().run_until(end_under_load(&url, load, &traced, signal)));
        [heard.take(), more].concat()
    };
    let code = traced.0.wait().unwrap().code();
    assert!(script.ending == Ending::Kill || code == Some(0), "{}: it stops with {code:?}", script.name);
    let (calls, moments) = trace::read(trace);
    let oracle = known(before, &events(&calls, &moments, root, base).events);
    for (id, state) in heard {
        assert!(
            oracle.says(id, state),
            "{}: a client heard of {id} as {state:?}, the trace did not",
            script.name
        );
    }
}

/// More clients, and the signal when they are at work.
async fn end_under_load(
    url: &str,
    load: &Load,
    traced: &Traced,
    signal: Signal,
) -> Vec<(ReservationId, State)> {
    let more = Load {
        ids_from: load.ids_from + (1 << 48),
        hold_ms_from: load.hold_ms_from + 1_000_000,
        orders: 100_000,
        ask: Vec::new(),
        ..load.clone()
    };
    let server = traced.server();
    let heard = Heard::new(move |count| {
        if count == ANSWERS_BEFORE_THE_END {
            kill_process(server, signal).unwrap();
        }
    });
    let recorder = Pid::from_child(&traced.0);
    let gone = tokio::task::spawn_blocking(move || {
        // Only looked at: whoever owns it takes its exit code.
        waitid(WaitId::Pid(recorder), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    });
    tokio::select! {
        () = load::run(url, &more, &heard) => {}
        gone = gone => gone.unwrap(),
    }
    heard.take()
}

/// strace and, below it, the server.
struct Traced(Child);

impl Traced {
    fn server(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = fs::read_to_string(children).unwrap();
        Pid::from_raw(children.trim().parse().expect("it has one child")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.server(), signal).unwrap();
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            // strace ends with what it watches. Both fail if that ends by itself just now.
            let _ = kill_process(self.server(), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}
