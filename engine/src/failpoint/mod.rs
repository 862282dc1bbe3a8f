//! Fail points: named places at which a test can end this process, return an error, or make it wait.
//!
//! One list, with a sentence for each; `tests/failpoints.rs` goes through it, so a point that is added here is exercised.
//! Only a build with the feature `failpoints` reads `SLUICE_FAILPOINTS` (see `plan`). No build for users has it: there
//! every function here is empty. docs/TESTING.md says how to use and how to add one.
//!
//! Deliberately not here: what must hold after a death. The audit judges that.

#[cfg(feature = "failpoints")]
mod plan;

use std::io;

use sluice_core::fault::Mutant;

/// When a point is met. The number is the most hits worth waiting for: so many come within a second or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While clients are served.
    Serving(u64),
    /// While the log is written.
    Logging(u64),
    /// While a snapshot is saved.
    Saving(u64),
    /// While a data directory is made, once.
    Creating,
    /// At a start on a directory that was in use, once.
    Starting,
    /// At a clean stop, once.
    Stopping,
}

/// What an error at a point does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Nothing that can fail is there.
    Impossible,
    /// It ends, with this code.
    Ends(i32),
    /// It goes on.
    GoesOn,
}

/// What is known of a point.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// The point.
    pub point: Point,
    /// Its name, by which it is chosen.
    pub name: &'static str,
    /// When it is met.
    pub when: When,
    /// What an error there does.
    pub on_error: OnError,
    /// Where it is, in a sentence.
    pub what: &'static str,
}

macro_rules! points {
    ($($(#[doc = $what:literal])+ $point:ident = $name:literal, $when:expr, $on_error:expr;)*) => {
        /// A place in the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point { $($(#[doc = $what])+ $point,)* }

        /// Every point there is, in the order of [`Point`].
        #[cfg(feature = "failpoints")]
        pub const POINTS: &[Fact] = &[$(Fact {
            point: Point::$point,
            name: $name,
            when: $when,
            on_error: $on_error,
            what: concat!($($what),+),
        },)*];
    };
}

/// The exit code of a node that gave up its log.
#[cfg(feature = "failpoints")]
const GAVE_UP: OnError = OnError::Ends(70);

/// The exit code of a start that was refused.
#[cfg(feature = "failpoints")]
const REFUSED: OnError = OnError::Ends(4);

points! {
    /// Bytes were read from a client, and not looked at.
    NetRead = "net.read", When::Serving(600), OnError::Impossible;
    /// A whole frame was decoded; the desk has not seen it.
    NetFrame = "net.frame", When::Serving(600), OnError::Impossible;
    /// The gate has set units aside; the flight is not in the replica's queue.
    DeskAdmitted = "desk.admitted", When::Serving(600), OnError::Impossible;
    /// The flight is in the replica's queue; the replica is not awake.
    DeskQueued = "desk.queued", When::Serving(600), OnError::Impossible;
    /// The replica has taken a flight from its queue.
    ReplicaTaken = "replica.taken", When::Serving(600), OnError::Impossible;
    /// Entries are proposed; the log thread has not heard of them.
    ReplicaOrdered = "replica.ordered", When::Serving(200), OnError::Impossible;
    /// Entries are committed, and none of them is applied.
    ApplyCommitted = "apply.committed", When::Serving(200), OnError::Impossible;
    /// Entries are applied, and nothing of it is published.
    ApplyApplied = "apply.applied", When::Serving(200), OnError::Impossible;
    /// The board shows what was applied; no answer has left the replica.
    ApplyPublished = "apply.published", When::Serving(200), OnError::Impossible;
    /// A flight has its answers; its net thread does not have it.
    ReplySettled = "reply.settled", When::Serving(600), OnError::Impossible;
    /// A reply is about to be written to its socket.
    ReplyWrite = "reply.write", When::Serving(600), OnError::Impossible;
    /// Half of the replies that wait for a socket is written.
    ReplyHalf = "reply.half", When::Serving(600), OnError::Impossible;
    /// A reply is written.
    ReplyWritten = "reply.written", When::Serving(600), OnError::Impossible;

    /// A step is about to be written to the log.
    LogWrite = "log.write", When::Logging(200), GAVE_UP;
    /// A step is in sled's buffer, or half of its frame in the segment.
    LogBuffered = "log.buffered", When::Logging(200), OnError::Impossible;
    /// A step is written, and not synced.
    LogSync = "log.sync", When::Logging(200), GAVE_UP;
    /// A step is synced; the replica has not heard of it.
    LogSynced = "log.synced", When::Logging(200), OnError::Impossible;
    /// A step that lets go of entries which are in snapshots is about to be written.
    LogCompact = "log.compact", When::Logging(6), OnError::Impossible;
    /// Such a step is durable; the replica has not heard of it.
    LogCompacted = "log.compacted", When::Logging(6), OnError::Impossible;
    /// The fence is about to be written.
    FenceWrite = "fence.write", When::Logging(6), GAVE_UP;
    /// Half of a fence slot is written.
    FenceHalf = "fence.half", When::Logging(6), OnError::Impossible;
    /// The fence is written, and not synced.
    FenceSync = "fence.sync", When::Logging(6), GAVE_UP;
    /// The fence is synced.
    FenceSynced = "fence.synced", When::Logging(6), OnError::Impossible;

    /// An image of the ledger is taken; the snapshot thread does not have it.
    SnapshotFrozen = "snapshot.frozen", When::Saving(4), OnError::Impossible;
    /// Half of a section is written.
    SnapshotSection = "snapshot.section", When::Saving(12), OnError::GoesOn;
    /// The whole file is written, and not synced.
    SnapshotSync = "snapshot.sync", When::Saving(4), OnError::GoesOn;
    /// The file is synced, and not renamed.
    SnapshotRename = "snapshot.rename", When::Saving(4), OnError::GoesOn;
    /// The file has its name; the directory is not synced.
    SnapshotRenamed = "snapshot.renamed", When::Saving(4), OnError::GoesOn;
    /// The snapshot is durable; the one it replaces is not deleted.
    SnapshotDelete = "snapshot.delete", When::Saving(4), OnError::Impossible;
    /// The older ones are deleted; the replica has not heard of the new one.
    SnapshotSaved = "snapshot.saved", When::Saving(4), OnError::Impossible;

    /// Events are about to be written.
    EventsWrite = "events.write", When::Logging(100), GAVE_UP;
    /// Half of what is written at a time is in its segment, and an event torn.
    EventsHalf = "events.half", When::Logging(100), OnError::Impossible;
    /// A segment of events has its name and its header, and nothing of it is synced.
    EventsSegment = "events.segment", When::Logging(12), GAVE_UP;
    /// Events are written, and not synced.
    EventsSync = "events.sync", When::Logging(12), GAVE_UP;
    /// It is noted down which events are dropped; their file is there.
    EventsDrop = "events.drop", When::Logging(4), OnError::GoesOn;

    /// The directory is made; the one above it is not synced.
    CreateDir = "create.dir", When::Creating, REFUSED;
    /// The directory is locked, and holds nothing else.
    CreateLocked = "create.locked", When::Creating, OnError::Impossible;
    /// The fence is written aside, and not renamed.
    CreateFence = "create.fence", When::Creating, REFUSED;
    /// The fence has its name; the directory is not synced.
    CreateFenceRenamed = "create.fence_renamed", When::Creating, REFUSED;
    /// sled has made its files aside, and nothing of them is synced; or the first segment is whole aside.
    CreateLog = "create.log", When::Creating, OnError::Impossible;
    /// A segment is all zeros aside, and neither synced whole nor renamed. Only of a log in segments.
    SegmentRename = "segment.rename", When::Creating, REFUSED;
    /// A segment has its name; its directory is not synced. Only of a log in segments.
    SegmentRenamed = "segment.renamed", When::Creating, REFUSED;
    /// The log is whole aside, and not renamed.
    CreateLogRename = "create.log_rename", When::Creating, REFUSED;
    /// The log has its name; the directory is not synced.
    CreateLogRenamed = "create.log_renamed", When::Creating, REFUSED;
    /// The snapshots' directory is made; the one above it is not synced.
    CreateSnapshots = "create.snapshots", When::Creating, REFUSED;
    /// The first snapshot is there; the identity is not begun.
    CreateIdentity = "create.identity", When::Creating, REFUSED;
    /// The identity is written aside and synced, and not renamed.
    CreateIdentityRename = "create.identity_rename", When::Creating, REFUSED;
    /// The identity has its name; the directory is not synced.
    CreateIdentityRenamed = "create.identity_renamed", When::Creating, REFUSED;
    /// The directory is whole; nothing is opened.
    CreateDone = "create.done", When::Creating, OnError::Impossible;

    /// The count of starts is written aside and synced, and not renamed.
    BootRename = "boot.rename", When::Starting, REFUSED;
    /// The count of starts has its name; the directory is not synced.
    BootRenamed = "boot.renamed", When::Starting, REFUSED;
    /// The directory is locked and its identity read.
    StartLocked = "start.locked", When::Starting, OnError::Impossible;
    /// The fence was read; the log is not open.
    StartFence = "start.fence", When::Starting, OnError::Impossible;
    /// sled has opened the log, or its segments are synced; no record was read.
    StartOpened = "start.opened", When::Starting, OnError::Impossible;
    /// Every record was checked; what recovery wrote is not synced.
    StartScanned = "start.scanned", When::Starting, REFUSED;
    /// The fence stands where the log ends.
    StartFenced = "start.fenced", When::Starting, OnError::Impossible;
    /// What interrupted saves left is removed; no snapshot was read.
    StartSnapshots = "start.snapshots", When::Starting, OnError::Impossible;
    /// The ledger is loaded from its snapshot; nothing is replayed.
    StartLoaded = "start.loaded", When::Starting, OnError::Impossible;
    /// The files of events were looked at, and nothing is cut off.
    EventsCut = "events.cut", When::Starting, REFUSED;
    /// What the log will make again is cut off; the names that are gone are not synced.
    EventsCutDone = "events.cut_done", When::Starting, OnError::Impossible;
    /// The replica is made; no thread runs.
    StartReplica = "start.replica", When::Starting, OnError::Impossible;
    /// Everything is replayed and the gate is open; nobody was told.
    StartReady = "start.ready", When::Starting, OnError::Impossible;

    /// The signal to stop was heard.
    StopBegun = "stop.begun", When::Stopping, OnError::Impossible;
    /// Everything in flight is answered; the log is open.
    StopDrained = "stop.drained", When::Stopping, OnError::Impossible;
    /// The log is about to be closed.
    StopClose = "stop.close", When::Stopping, OnError::Impossible;
    /// The log is closed; the process is about to end.
    StopClosed = "stop.closed", When::Stopping, OnError::Impossible;
}

#[cfg(feature = "failpoints")]
pub use plan::VARIABLE;

/// Reads the plan and has the core's stages watched. First thing of a node.
#[inline(always)]
pub(crate) fn begin() {
    #[cfg(feature = "failpoints")]
    plan::begin();
}

/// The process is at this point: it may end here, or wait.
#[inline(always)]
pub(crate) fn reach(point: Point) {
    reach_with(point, || {});
}

/// As [`reach`]; a process that ends here does `last` before it does.
#[inline(always)]
pub(crate) fn reach_with(point: Point, last: impl FnOnce()) {
    #[cfg(feature = "failpoints")]
    plan::reach(point, last);
    #[cfg(not(feature = "failpoints"))]
    let _ = (point, last);
}

/// As [`reach`], before a call that can fail: the error is that call's.
#[inline(always)]
pub(crate) fn check(point: Point) -> io::Result<()> {
    check_with(point, || {})
}

/// Both of [`check`] and [`reach_with`].
#[inline(always)]
pub(crate) fn check_with(point: Point, last: impl FnOnce()) -> io::Result<()> {
    #[cfg(feature = "failpoints")]
    return plan::check(point, last);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = (point, last);
        Ok(())
    }
}

/// Whether a known bug is switched on ([`sluice_core::fault`]).
#[inline(always)]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    begin();
    sluice_core::fault::is_on(mutant)
}
