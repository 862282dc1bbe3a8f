//! What a campaign has been through: every fault that happened, every status that was answered, every rare path that was
//! taken. The one list of their names is here.

use std::collections::BTreeMap;
use std::fmt;

use sluice_protocol::Status;

macro_rules! paths {
    ($($(#[doc = $what:literal])+ $path:ident = $name:literal, $demanded:literal;)*) => {
        /// Something that may happen in a run and should, in some.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Path { $($(#[doc = $what])+ $path,)* }

        /// Every path, its name, and whether a campaign that never took it has failed.
        pub const PATHS: &[(Path, &str, bool)] = &[$((Path::$path, $name, $demanded),)*];
    };
}

paths! {
    /// A process was killed.
    Crash = "fault: crash", true;
    /// All processes were killed at once.
    CrashAll = "fault: all crash", true;
    /// A process was stopped in order.
    Stop = "fault: stop", true;
    /// Processes were restarted one after the other.
    Rolling = "fault: rolling restart", true;
    /// A process stood still.
    Pause = "fault: pause", true;
    /// A process made several ticks at once.
    TickBurst = "fault: tick burst", true;
    /// The network was split in two.
    Partition = "fault: partition", true;
    /// Messages went one way only.
    OneWay = "fault: one-way partition", true;
    /// A partition came and went.
    Flapping = "fault: flapping partition", true;
    /// The leader was cut off.
    LeaderAlone = "fault: leader cut off", true;
    /// A leader stood still while others elected another, and what it was sent before came after.
    Stale = "fault: stale leader", true;
    /// Messages between hosts were lost, repeated and late.
    BadNet = "fault: bad net", true;
    /// A host's links were slow.
    SlowLink = "fault: slow link", true;
    /// Clients' requests and replies were lost and late.
    BadClients = "fault: bad client links", true;
    /// A disk was slow.
    SlowDisk = "fault: slow disk", true;
    /// A write or a sync failed.
    DiskError = "fault: EIO", true;
    /// A disk was nearly full.
    DiskFull = "fault: ENOSPC", true;
    /// Snapshots could not be saved.
    SnapshotError = "fault: snapshot not saved", true;
    /// A clock jumped.
    ClockJump = "fault: clock jump", true;
    /// A clock ran faster or slower.
    ClockDrift = "fault: clock drift", true;
    /// Bits flipped on a disk.
    Rot = "fault: bit rot", true;
    /// A disk was wiped, and its node started again.
    Wipe = "fault: wiped disk", true;
    /// A disk was set back to an earlier copy.
    Rollback = "fault: rolled back disk", true;
    /// A second process ran on a copy of a disk.
    Clone = "fault: cloned disk", true;
    /// A disk said that it had synced, and had not.
    Lie = "fault: lying sync", true;
    /// A snapshot was asked for.
    SnapshotAsked = "snapshot asked for", true;

    /// A message was lost by chance.
    MessageLost = "message lost", true;
    /// A message arrived twice.
    MessageTwice = "message twice", true;
    /// A message strayed.
    MessageStrayed = "message strayed", true;
    /// A crash took a part of what was written and not synced.
    Torn = "unsynced writes lost", true;
    /// Steps that waited for the disk were written as one.
    Merged = "steps merged", true;

    /// Events were delivered to a member.
    Delivered = "events delivered", true;
    /// An event was delivered whose delivery had failed before.
    Retried = "failed delivery tried again", true;
    /// A dead letter was delivered again.
    Redelivered = "dead letter delivered again", true;
    /// A member was told that events are kept no more.
    GapTold = "gap told to a member", true;
    /// A member heard that lanes had moved.
    EpochChanged = "member heard of a new epoch", true;
    /// A member found that somebody of a later epoch had written.
    Fenced = "member fenced by a later epoch", true;
    /// A member stood still for longer than its session.
    ConsumerPaused = "member silent beyond its session", true;
    /// A member died.
    ConsumerDied = "member crashed", true;
    /// Retention let go of events.
    EventsDropped = "events dropped", true;
    /// Events were missing in a node's files when it started.
    EventsMissing = "events missing on a node", true;
    /// Older events were read from files.
    ColdRead = "events read from files", true;
    /// Events were asked of files that do not have them.
    ColdMissing = "events that files do not have", true;

    /// A leader was elected.
    Elected = "leader elected", true;
    /// A node lost its leadership while requests were in flight.
    DeposedInFlight = "leader change with requests in flight", true;
    /// An entry was applied by the node that had proposed it, after it had been deposed.
    LateCommit = "late commit after deposition", true;
    /// Entries of a log were replaced.
    Truncated = "conflicting suffix truncated", true;
    /// Requests in doubt saw the term change.
    DoubtAcrossTerms = "read round across a term change", true;
    /// A snapshot was saved.
    SnapshotSaved = "snapshot saved", true;
    /// A snapshot was installed.
    Installed = "snapshot installed", true;
    /// A snapshot was installed while requests were in flight.
    InstalledUnderLoad = "snapshot install under load", true;
    /// A snapshot's chunk was read from a disk.
    ChunkSent = "snapshot chunk sent", true;
    /// A chunk was asked for of a snapshot that is not there any more.
    ChunkGone = "snapshot chunk gone", false;
    /// A node that does not lead answered a read.
    FollowerRead = "read answered by a follower", true;
    /// An ask for a read round was not answered in time.
    AskRepeated = "ask for a round lost and repeated", true;
    /// Another node began to lead while an ask was under way.
    AskRedirected = "leader change with an ask under way", true;
    /// A replica compared its digest with another's.
    Compared = "digests compared", true;
    /// An id was resolved while its reservation was still on its way.
    ResolvedInFlight = "resolve of an in-flight id", true;
    /// A reply came after its client had given up.
    LateReply = "reply after its client's time-out", true;
    /// A client followed a hint to the leader.
    HintFollowed = "hint to the leader followed", true;

    /// A learner was added.
    Added = "learner added", true;
    /// A learner became a voter.
    Promoted = "learner promoted", true;
    /// That happened while requests were in flight.
    PromotedUnderLoad = "promote under load", true;
    /// A node was removed.
    Removed = "node removed", true;
    /// A voter was replaced.
    Replaced = "voter replaced", true;
    /// A change of membership was refused.
    ChangeRefused = "membership change refused", true;
    /// A leadership was handed over.
    Transferred = "leadership transferred", true;
    /// A node that had just started was asked for its vote.
    Quarantine = "vote asked of a node that just started", true;

    /// A disk was refused.
    DiskRefused = "disk refused", true;
    /// A damaged snapshot was passed over.
    OlderSnapshot = "older snapshot used", true;
    /// A process was told that it belongs elsewhere.
    RefusedOtherCluster = "refused: other cluster", false;
    /// A process was told that its disk is another.
    RefusedIncarnation = "refused: other incarnation", true;
    /// A process was told that a later one is known.
    RefusedSuperseded = "refused: superseded", true;
    /// A process was told that it has lost what it acknowledged.
    RefusedLostState = "refused: lost state", true;
    /// A process ended because its removal was applied.
    EndedRemoved = "ended: removed", true;
    /// A process ended because its disk failed.
    EndedDisk = "ended: disk failed", true;
}

/// Counts. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    paths: Vec<u64>,
    statuses: BTreeMap<u8, u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { paths: vec![0; PATHS.len()], statuses: BTreeMap::new() }
    }
}

impl Coverage {
    /// It happened.
    pub fn hit(&mut self, path: Path) {
        self.paths[path as usize] += 1;
    }

    /// A client heard it.
    pub fn heard(&mut self, status: u8) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// How often it happened.
    pub fn count(&self, path: Path) -> u64 {
        self.paths[path as usize]
    }

    /// Adds another run's.
    pub fn absorb(&mut self, other: &Self) {
        for (mine, theirs) in self.paths.iter_mut().zip(&other.paths) {
            *mine += theirs;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }

    /// Everything, by name.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let statuses = Status::ALL.iter().map(|status| {
            (format!("status: {status:?}"), self.statuses.get(&(*status as u8)).copied().unwrap_or(0))
        });
        let paths = PATHS.iter().zip(&self.paths).map(|((_, name, _), count)| ((*name).to_owned(), *count));
        paths.chain(statuses).collect()
    }

    /// What a campaign should have been through, and was not.
    pub fn missing(&self) -> Vec<String> {
        let optional: Vec<&str> =
            PATHS.iter().filter(|(.., demanded)| !demanded).map(|(_, name, _)| *name).collect();
        let never = self.rows().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name);
        never.filter(|name| !optional.contains(&name.as_str())).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "  {name:<44} {count:>12}")?;
        }
        Ok(())
    }
}
