//! Power loss: a recorded run is cut at many points, and of what was not yet synced an arbitrary part is missing.
//!
//! A child appends under strace, which records every write, with its bytes, and every sync. From that the files are
//! rebuilt as they might be after a power cut: what a sync covered is there, and of the rest each 4 KiB page is there or
//! not. Every image must open, with everything that had been acknowledged. Needs strace and takes half a minute:
//! `cargo test -p sluice-engine --test wal_power -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod wal_support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sluice_engine::wal::SledStore;
use tempfile::TempDir;
use wal_support::{ACKNOWLEDGED, after, close, copy_dir, open, same, say, workload};

const DIR_VARIABLE: &str = "SLUICE_TEST_DATA_DIR";
const READY: &str = "ready";
const APPENDS: u64 = 120;
/// Large enough for several segments to be filled, and freed ones to be used again.
const LEN_MAX: u64 = 40_000;
const PAGE_LEN: usize = 4096;
/// Images in one run.
const IMAGES: usize = 500;

/// What the trace shows, in order. Calls have a beginning and an end: a sync covers what had ended when it began.
enum Event {
    Began(usize, Call),
    Ended(usize),
    Acknowledged(u64),
}

enum Call {
    Write { file: String, at: usize, bytes: Vec<u8> },
    SetLen { file: String, len: usize },
    Sync { file: String },
}

impl Call {
    fn file(&self) -> &str {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } | Self::Sync { file } => file,
        }
    }
}

#[test]
fn child_appends_and_is_watched() {
    let Some(dir) = env::var_os(DIR_VARIABLE).map(PathBuf::from) else { return };
    let (mut store, _) = open(&dir).unwrap();
    say(READY);
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    for number in 0..APPENDS {
        store.append(&workload(number, LEN_MAX)).unwrap();
        say(&format!("{ACKNOWLEDGED}{number}"));
    }
    // No clean stop.
    std::process::exit(0);
}

#[test]
#[ignore = "needs strace and half a minute"]
fn whatever_unsynced_part_is_missing_nothing_acknowledged_is() {
    let (base, events) = record();
    let mut draw = Draw(env::var("SLUICE_TEST_SEED").map_or(0x5eed, |seed| seed.parse().unwrap()));
    let mut files = files_of(base.path());
    let mut pending: BTreeMap<usize, &Call> = BTreeMap::new();
    let mut ended: Vec<usize> = Vec::new();
    let mut covers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut acknowledged = 0;
    let every = (events.len() / IMAGES).max(1);
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Began(id, Call::Sync { file }) => {
                let covered = ended.iter().copied().filter(|id| pending[id].file() == file).collect();
                covers.insert(*id, covered);
            }
            Event::Began(id, call) => {
                pending.insert(*id, call);
            }
            Event::Ended(id) => match covers.remove(id) {
                Some(covered) => {
                    for id in covered {
                        // Two syncs at a time may cover the same write.
                        if let Some(call) = pending.remove(&id) {
                            carry_out(&mut files, call, |_| true);
                            ended.retain(|e| *e != id);
                        }
                    }
                }
                None => ended.push(*id),
            },
            Event::Acknowledged(number) => acknowledged = number + 1,
        }
        if draw.below(every) == 0 {
            let image = base_and(&base, &files, &pending, &mut draw);
            let found = open(image.path());
            let (store, found) =
                found.unwrap_or_else(|e| panic!("event {number}, {acknowledged} acknowledged: {e}"));
            assert!(
                same(&found, &after(acknowledged, LEN_MAX))
                    || same(&found, &after(acknowledged + 1, LEN_MAX)),
                "event {number}: {acknowledged} were acknowledged, and the log ends at {:?}",
                found.entries.last().map(|e| e.index)
            );
            close(store);
        }
    }
    assert_eq!(acknowledged, APPENDS);
}

/// The files as they may be after a power cut now: each pending call has reached the disk whole, in part, or not at
/// all.
fn base_and(
    base: &TempDir,
    files: &BTreeMap<String, Vec<u8>>,
    pending: &BTreeMap<usize, &Call>,
    draw: &mut Draw,
) -> TempDir {
    let image = in_memory();
    let mut files = files.clone();
    let manner = draw.below(4);
    for call in pending.values() {
        match manner {
            0 => {}
            1 => carry_out(&mut files, call, |_| true),
            2 => {
                let whole = draw.below(2) == 0;
                carry_out(&mut files, call, |_| whole);
            }
            _ => carry_out(&mut files, call, |_| draw.below(2) == 0),
        }
    }
    copy_dir(base.path(), image.path());
    for (name, bytes) in files {
        fs::write(image.path().join(name), bytes).unwrap();
    }
    image
}

/// Carries a call out on the files, page by page where `reached` says so.
fn carry_out(files: &mut BTreeMap<String, Vec<u8>>, call: &Call, mut reached: impl FnMut(usize) -> bool) {
    match call {
        Call::Sync { .. } => {}
        Call::SetLen { file, len } => {
            if reached(0) {
                files.get_mut(file).unwrap().resize(*len, 0);
            }
        }
        Call::Write { file, at, bytes } => {
            let target = files.get_mut(file).unwrap();
            let mut from = 0;
            while from < bytes.len() {
                let page = (at + from) / PAGE_LEN;
                let to = bytes.len().min((page + 1) * PAGE_LEN - at);
                if reached(page) {
                    target.resize(target.len().max(at + to), 0);
                    target[at + from..at + to].copy_from_slice(&bytes[from..to]);
                }
                from = to;
            }
        }
    }
}

/// The files that the store writes to while it appends.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    ["wal/db", "wal.fence"]
        .iter()
        .map(|name| ((*name).to_owned(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs the child under strace: the files when it began, and what it did from then on.
fn record() -> (TempDir, Vec<Event>) {
    let dir = tempfile::tempdir().unwrap();
    SledStore::create(dir.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let trace = out.path().join("trace");
    let mut child = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-xx",
            "-s",
            "20000000",
            "-e",
            "trace=pwrite64,ftruncate,fdatasync,fsync,write",
            "-o",
        ])
        .arg(&trace)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "child_appends_and_is_watched", "--nocapture"])
        .env(DIR_VARIABLE, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs strace: install it");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(READY)));
    let base = in_memory();
    copy_dir(dir.path(), base.path());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(lines.count(), usize::try_from(APPENDS).unwrap());
    assert!(child.wait().unwrap().success());
    (base, parse(&trace, dir.path()))
}

fn parse(trace: &Path, dir: &Path) -> Vec<Event> {
    let prefix = format!("{}/", dir.to_str().unwrap());
    let mut events = Vec::new();
    let mut ready = false;
    let mut unfinished: BTreeMap<String, usize> = BTreeMap::new();
    for (id, line) in BufReader::new(fs::File::open(trace).unwrap()).lines().enumerate() {
        let line = line.unwrap();
        let (thread, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("<...") {
            events.extend(unfinished.remove(thread).map(Event::Ended));
            continue;
        }
        let Some((name, arguments)) = text.split_once('(') else { continue };
        if name == "write" {
            let said =
                arguments.split('"').nth(1).map(|hex| String::from_utf8_lossy(&decode(hex)).into_owned());
            let said = said.unwrap_or_default();
            ready |= said.trim().ends_with(READY);
            if let Some((_, number)) = said.trim().rsplit_once(ACKNOWLEDGED) {
                events.push(Event::Acknowledged(number.parse().unwrap()));
            }
            continue;
        }
        let path = arguments.split(['<', '>']).nth(1).map(decode).unwrap_or_default();
        let path = String::from_utf8(path).unwrap();
        let Some(file) = path.strip_prefix(&prefix).filter(|_| ready) else { continue };
        events.push(Event::Began(id, call(name, arguments, file)));
        if text.ends_with("<unfinished ...>") {
            unfinished.insert(thread.to_owned(), id);
        } else {
            assert!(!text.contains(" = -1 "), "{name} failed");
            events.push(Event::Ended(id));
        }
    }
    events
}

fn call(name: &str, arguments: &str, file: &str) -> Call {
    let file = file.to_owned();
    let number = |text: &str| {
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    };
    match name {
        "pwrite64" => {
            let mut parts = arguments.splitn(3, '"').skip(1);
            let bytes = decode(parts.next().unwrap());
            let at = number(parts.next().unwrap().split(',').nth(2).unwrap());
            Call::Write { file, at, bytes }
        }
        "ftruncate" => Call::SetLen { file, len: number(arguments.rsplit_once(", ").unwrap().1) },
        _ => Call::Sync { file },
    }
}

/// The bytes of `\x61\x62…`.
fn decode(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

/// A small generator, so that a failing run can be had again: SLUICE_TEST_SEED.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}
