//! The log on disk: sled's tree, and what must be added to it so that nothing acknowledged is ever lost.
//!
//! sled's flush does not sync (on Linux it is sync_file_range), its blob files are never synced, it reuses segments on
//! the belief that written is durable, it truncates silently at a damaged record, and it may panic or hang on a
//! damaged file. Each rule below answers one of these; docs/STORAGE.md tells which and how it was found.
//!
//! Relies on the caller holding the data directory's lock. Deliberately not here: the choice of what goes into a batch
//! (see `plan`), the checks (see `scan`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use sluice_core::fault::Mutant;
use sluice_core::replica::disk::Append;

use super::backend::{begin_creation, open_fence};
use super::fence::Mark;
use super::guard::{self, GuardError};
use super::keeper::{Keeper, Kept};
use super::plan::{Book, Step};
use super::record::{self, STATE_KEY};
use super::scan::{self, Sound};
use super::{Appended, LogStore, Options, Recovered, StoreError};
use crate::failpoint::{self, Point};
use crate::files::{sync_dir, sync_tree};

/// Fixed at creation. A leaf above a quarter of it would go to a blob file: 20 items of 64 KiB stay below.
const SEGMENT_LEN: usize = 8 << 20;

/// sled's page cache. The log is written, hardly ever read: the leaf at each end is all that must be warm.
const CACHE_BYTES: u64 = 32 << 20;

/// Unix counts a file's blocks in this unit, whatever the file system's own.
const STAT_BLOCK_LEN: u64 = 512;

/// The names within the data directory.
pub(super) const STORE_DIR: &str = "wal";
const STORE_DIR_ASIDE: &str = "wal.tmp";

/// What sled writes into its `conf` for our settings, without the checksum behind it. It accepts a damaged one with
/// a warning, so we compare it ourselves.
const CONF_TEXT: &str = "segment_size: 8388608\nuse_compression: false\nversion: 0.34\n";
const _: () = assert!(SEGMENT_LEN == 8_388_608);

/// The log store on sled.
pub struct SledStore {
    db: sled::Db,
    dir: PathBuf,
    db_file: PathBuf,
    /// Our own descriptor on sled's file, opened before sled's first write, so that no write error can pass it by.
    sync: File,
    keeper: Keeper,
    book: Book,
    unchecked_bytes: u64,
}

impl SledStore {
    /// Makes an empty log in `data_dir`. Durable on return. What a crashed earlier call left behind is completed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there is a log already that was used, [`StoreError::Lost`] if there must have been
    /// one because the data directory has its identity; those of the file system and of sled.
    pub fn create(data_dir: &Path) -> Result<(), StoreError> {
        let dir = data_dir.join(STORE_DIR);
        let aside = data_dir.join(STORE_DIR_ASIDE);
        begin_creation(data_dir, &dir)?;
        if dir.exists() {
            return Ok(());
        }
        let io = |e| StoreError::io(&aside, "creating the log", e);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io)?;
        }
        let db = config(&aside).open().map_err(|e| StoreError::sled(&aside, "creating the log", e))?;
        db.flush().map_err(|e| StoreError::sled(&aside, "creating the log", e))?;
        failpoint::reach(Point::CreateLog);
        drop(db);
        await_release(&aside.join("db")).map_err(io)?;
        sync_tree(&aside).map_err(io)?;
        failpoint::check(Point::CreateLogRename).map_err(io)?;
        fs::rename(&aside, &dir).map_err(io)?;
        failpoint::check(Point::CreateLogRenamed).map_err(io)?;
        sync_dir(data_dir).map_err(io)
    }

    /// Opens the log in `data_dir` and reads all of it.
    ///
    /// # Errors
    /// [`StoreError`] unless everything that was acknowledged is there, as it was written. Nothing is deleted or
    /// repaired, except that sled's unfinished `*.generating` files go, which would keep it from opening.
    pub fn open(data_dir: &Path, options: Options) -> Result<(Self, Recovered), StoreError> {
        let dir = data_dir.join(STORE_DIR);
        let db_file = dir.join("db");
        let fence = open_fence(data_dir)?;
        failpoint::reach(Point::StartFence);
        check_files(&dir, &db_file)?;
        let mark = fence.mark();
        let (in_dir, in_file) = (dir.clone(), db_file.clone());
        let (db, sync, sound) =
            guard::run(options.open_timeout, move || open_and_scan(&in_dir, &in_file, &mark))
                .map_err(|e| refused(&db_file, &e))??;
        let Sound { book, recovered, mark } = sound;
        let mut store = Self {
            db,
            dir,
            db_file,
            sync,
            keeper: Keeper::new(fence, mark, options.clock),
            book,
            unchecked_bytes: 0,
        };
        // What recovery read is durable now, whether it was acknowledged or not: from here on it counts.
        store.keeper.write_fence()?;
        failpoint::reach(Point::StartFenced);
        Ok((store, recovered))
    }

    fn try_append(&mut self, append: &Append) -> Result<Appended, StoreError> {
        let mut pending = self.book.begin(append);
        if let Some(keep) = self.book.cut_by(append) {
            self.keeper.draw_back(keep)?;
        }
        let mut done = Appended::default();
        while let Some(step) = self.book.next(&mut pending) {
            done.bytes += self.write_step(&step)?;
            done.fsync += self.keeper.sync(&self.sync, &self.db_file)?;
            failpoint::reach(Point::LogSynced);
            if !step.removes.is_empty() {
                failpoint::reach(Point::LogCompacted);
            }
        }
        self.keeper.write_fence_if_due()?;
        self.unchecked_bytes += done.bytes;
        if self.unchecked_bytes >= SEGMENT_LEN as u64 {
            self.unchecked_bytes = 0;
            check_no_blobs(&self.dir)?;
        }
        done.first_index = self.book.first_index();
        done.last_index = self.book.state().end_index;
        let meta = self.sync.metadata().map_err(|e| StoreError::io(&self.db_file, "reading its size", e))?;
        done.disk_bytes = meta.blocks() * STAT_BLOCK_LEN;
        Ok(done)
    }

    fn write_step(&mut self, step: &Step<'_>) -> Result<u64, StoreError> {
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for index in &step.removes {
            batch.remove(&record::key(*index));
        }
        let mark = &mut self.keeper.mark;
        let end_moved = mark.index != step.state.end_index || step.state.base == step.state.end_index;
        mark.step = step.state.step;
        mark.compact_to = step.state.compact_to;
        if step.entries.is_empty() {
            let record = record::encode_state(&step.state);
            bytes += record.len() as u64;
            batch.insert(&STATE_KEY, record);
            if end_moved {
                *mark = Mark { index: step.state.end_index, term: 0, entry_crc: 0, ..*mark };
            }
        }
        for entry in step.entries {
            let (record, crc) = record::encode_entry(entry, &step.state);
            bytes += record.len() as u64;
            batch.insert(&record::key(entry.index), record);
            *mark = Mark { index: entry.index, term: entry.term, entry_crc: crc, ..*mark };
        }
        if !step.removes.is_empty() {
            failpoint::reach(Point::LogCompact);
        }
        failpoint::check(Point::LogWrite).map_err(|e| StoreError::io(&self.db_file, "writing the log", e))?;
        let sled = |e| StoreError::sled(&self.db_file, "writing the log", e);
        self.db.apply_batch(batch).map_err(sled)?;
        failpoint::reach(Point::LogBuffered);
        self.db.flush().map_err(sled)?;
        Ok(bytes)
    }
}

impl Kept for SledStore {
    fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }
}

impl LogStore for SledStore {
    fn append(&mut self, step: &Append) -> Result<Appended, StoreError> {
        self.unless_poisoned(|store| store.try_append(step))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.unless_poisoned(|store| store.keeper.write_fence())
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.unless_poisoned(|store| {
            store.keeper.write_fence()?;
            check_no_blobs(&store.dir)
        })?;
        let db_file = self.db_file.clone();
        drop(self);
        await_release(&db_file).map_err(|e| StoreError::io(&db_file, "letting go of the log", e))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // Letting go of sled writes what it still buffers. After a failure nothing may be written any more: one handle
        // stays for good, and with it the buffers and sled's lock, until the process ends.
        if self.keeper.is_poisoned() {
            std::mem::forget(self.db.clone());
        }
    }
}

fn config(dir: &Path) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .segment_size(SEGMENT_LEN)
        .cache_capacity(CACHE_BYTES)
        .use_compression(false)
        .flush_every_ms(None)
}

/// Waits until sled's lock is gone. A thread of its pool may hold the file for a moment longer than the database, and
/// whoever opened it then would be told that it is in use.
fn await_release(db_file: &Path) -> io::Result<()> {
    let file = File::open(db_file)?;
    retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map_err(io::Error::from)
}

/// What sled would replace without a word: a missing or damaged file is a loss, not a fresh start.
fn check_files(dir: &Path, db_file: &Path) -> Result<(), StoreError> {
    if !dir.is_dir() {
        return Err(StoreError::lost(dir, "the directory is missing"));
    }
    if failpoint::is_on(Mutant::SettingsUnchecked) {
        return Ok(());
    }
    let conf = dir.join("conf");
    let crc = crc32fast::hash(CONF_TEXT.as_bytes()).to_le_bytes();
    let expected = [CONF_TEXT.as_bytes(), crc.as_slice()].concat();
    match fs::read(&conf) {
        Ok(found) if found == expected => {}
        Ok(_) => {
            return Err(StoreError::damaged(&conf, "it does not hold the settings of the log's creation"));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::lost(&conf, "the file is missing"));
        }
        Err(e) => return Err(StoreError::io(&conf, "reading sled's settings", e)),
    }
    match fs::metadata(db_file) {
        Ok(meta) if meta.len() > 0 => check_no_blobs(dir),
        Ok(_) => Err(StoreError::lost(db_file, "the file is empty")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::lost(db_file, "the file is missing"))
        }
        Err(e) => Err(StoreError::io(db_file, "reading its size", e)),
    }
}

/// Blob files are never synced by sled, so there must be none.
fn check_no_blobs(dir: &Path) -> Result<(), StoreError> {
    let blobs = dir.join("blobs");
    let mut found = fs::read_dir(&blobs).map_err(|e| StoreError::io(&blobs, "listing blob files", e))?;
    if found.next().is_some() {
        return Err(StoreError::damaged(&blobs, "there are blob files, which are never synced"));
    }
    Ok(())
}

fn open_and_scan(dir: &Path, db_file: &Path, mark: &Mark) -> Result<(sled::Db, File, Sound), StoreError> {
    let io = |e| StoreError::io(dir, "syncing before the log is opened", e);
    remove_unfinished(dir).map_err(io)?;
    sync_tree(dir).map_err(io)?;
    let sync = OpenOptions::new()
        .read(true)
        .write(true)
        .open(db_file)
        .map_err(|e| StoreError::io(db_file, "opening the log", e))?;
    let db = match config(dir).open() {
        Ok(db) => db,
        Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
            return Err(StoreError::Locked { file: db_file.to_path_buf() });
        }
        Err(e) => return Err(StoreError::sled(db_file, "opening the log", e)),
    };
    failpoint::reach(Point::StartOpened);
    let records = db.iter().map(|pair| pair.map_err(|e| e.to_string()));
    let sound = scan::scan(records, mark).map_err(|refusal| refusal.of(db_file, record::FORMAT))?;
    failpoint::check(Point::StartScanned)
        .and_then(|()| sync_tree(dir))
        .map_err(|e| StoreError::io(dir, "syncing after the log was opened", e))?;
    Ok((db, sync, sound))
}

/// A crash while sled writes its snapshot leaves `snap.*.generating`, which sled later takes for a whole one.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        let unfinished = item.file_name().to_string_lossy().ends_with(".generating");
        if unfinished && !failpoint::is_on(Mutant::LeftoversOpened) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

fn refused(file: &Path, error: &GuardError) -> StoreError {
    match error {
        GuardError::Panicked(message) => StoreError::damaged(file, format!("sled gave up on it ({message})")),
        GuardError::TimedOut(limit) => StoreError::damaged(
            file,
            format!("reading it did not end within {limit:?} (raise the limit if the log is merely large)"),
        ),
        GuardError::NoThread(reason) => {
            StoreError::io(file, "starting a thread to read it", io::Error::other(reason.clone()))
        }
    }
}
