//! A new node, when the log no longer reaches back: it gets a snapshot.
//!
//! When the file comes and how long it is, is seen in the node's own folder. Deliberately not here: how it is sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::CatchUpArgs;
use super::steady::{Seen, Steady};
use crate::error::BenchError;
use crate::line::connect;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// Small enough that the log of the reservations is not kept.
const OFTEN: &str = "8MiB";

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Newcomer {
    /// The snapshot's bytes.
    pub snapshot_bytes: u64,
    /// From its first byte on the new node to its last.
    pub transfer_seconds: f64,
    /// From the start of the new node until it has all that was committed a moment before.
    pub start_to_complete_seconds: f64,
    /// Without it.
    pub before: Seen,
    /// From its start on.
    pub meanwhile: Seen,
}

impl CatchUpArgs {
    pub(super) fn newcomer(&self) -> Result<Newcomer, BenchError> {
        let mut cluster = self.cluster(OFTEN)?;
        let mut speech = SluiceSpeech::new(Workload::new(Kind::Hot));
        speech.prepare(&mut connect(cluster.address(cluster.leader()?))?)?;
        self.fill(&cluster, &mut speech)?;
        let leader = cluster.leader()?;
        let steady = Steady::start(cluster.address(leader), speech, self.rate);
        std::thread::sleep(super::BEFORE);
        let (before, speech) = steady.finish()?;
        let steady = Steady::start(cluster.address(leader), speech, self.rate);
        let arrival = Arrival::watch(cluster.next_data());
        let began = Instant::now();
        let id = cluster.add()?;
        cluster.caught_up(id)?;
        let start_to_complete_seconds = began.elapsed().as_secs_f64();
        let (meanwhile, _) = steady.finish()?;
        let (snapshot_bytes, transfer) = arrival.finish().ok_or(BenchError::NoSnapshot)?;
        let transfer_seconds = transfer.as_secs_f64();
        Ok(Newcomer { snapshot_bytes, transfer_seconds, start_to_complete_seconds, before, meanwhile })
    }
}

/// Watches a file come.
#[derive(Debug)]
struct Arrival {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Option<(u64, Duration)>>,
}

impl Arrival {
    fn watch(data: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut bytes, mut first, mut last) = (0, None, None);
            while !is_over.load(Ordering::Relaxed) {
                let now = received(&data.join("snapshots"));
                if now > bytes {
                    let at = Instant::now();
                    (bytes, first, last) = (now, first.or(Some(at)), Some(at));
                }
                std::thread::sleep(LOOK);
            }
            Some((bytes, last?.duration_since(first?)))
        });
        Self { over, thread }
    }

    /// Its bytes and how long they took; `None` if nothing came.
    fn finish(self) -> Option<(u64, Duration)> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("watching a folder does not panic")
    }
}

/// Bytes of the longest file that comes from a peer. What was received keeps its name until the log begins with it.
fn received(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let is_it = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("received-");
    let len = |entry: fs::DirEntry| entry.metadata().map_or(0, |about| about.len());
    entries.flatten().filter(is_it).map(len).max().unwrap_or(0)
}
