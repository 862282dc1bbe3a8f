//! Where tests break this crate on purpose: stages of an apply at which the shell may end the process, and known
//! bugs that can be switched on, so that it is known which check would find them (docs/TESTING.md, "Bug bank").
//!
//! Without the feature `failpoints`, which no build for users has, every function here is empty. Deliberately not
//! here: the choice of what fails. The shell or a test makes it; this crate reads no environment.

#[cfg(feature = "failpoints")]
use std::sync::OnceLock;
#[cfg(feature = "failpoints")]
use std::sync::atomic::{AtomicBool, Ordering};

/// A stage of what the replica does with entries that were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of them is applied.
    Committed,
    /// They are applied, and nobody can see it.
    Applied,
    /// The board shows it; nothing has been answered.
    Published,
}

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $mutant:ident = $name:literal;)*) => {
        /// A known bug. Those of the shell stand here too, so that there is one list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant { $($(#[doc = $what])+ $mutant,)* }

        /// Every mutant, its name, and what it does.
        #[cfg(feature = "failpoints")]
        pub const MUTANTS: &[(Mutant, &str, &str)] = &[$((Mutant::$mutant, $name, concat!($($what),+)),)*];
    };
}

mutants! {
    /// The replica believes a step to be durable as soon as it is ordered: answers come before the sync.
    AnswerAtAppend = "answer_at_append";
    /// The log thread reports a step as durable before it writes it.
    ReportBeforeWrite = "report_before_write";
    /// The fence is never moved forward.
    FenceNeverWritten = "fence_never_written";
    /// What has expired is not swept before a request is refused: one too few.
    RefuseBeforeSweep = "refuse_before_sweep";
    /// The token of a reservation that the ledger refused is not given back: one too few.
    TokenKept = "token_kept";
    /// A unit that was taken without a token is not debited: the gate admits what is not there.
    TokenNotDebited = "token_not_debited";
    /// A retry is refused like a first attempt, off the log, so that its refusal is not remembered.
    RetryOffTheLog = "retry_off_the_log";
    /// The applied index is published before the notices.
    IndexBeforeNotices = "index_before_notices";
    /// A no is said from units that are only set aside in the gate.
    GateSaysNo = "gate_says_no";
    /// The user's units are not given back when a hold ends.
    LimitNotGivenBack = "limit_not_given_back";
    /// The log is compacted up to the newest snapshot, not the older one.
    CompactToNewest = "compact_to_newest";
    /// An id that comes with another payload hears the outcome of the first.
    ConflictUnnoticed = "conflict_unnoticed";
    /// A hold counts until it is swept, not until its deadline.
    HeldUntilSwept = "held_until_swept";
    /// An expired hold of which the payer was told can be confirmed later.
    ExpiryNotSettled = "expiry_not_settled";
    /// Cancelling an id that was never used leaves no trace, so that the reservation still works.
    NoTombstone = "no_tombstone";
    /// An entry proposed in another term is applied.
    TermUnchecked = "term_unchecked";
    /// What sled left unfinished is not removed before it opens.
    LeftoversOpened = "leftovers_opened";
    /// sled's settings are not compared with ours.
    SettingsUnchecked = "settings_unchecked";
    /// The fence is not compared with the log when it is opened.
    FenceNotChecked = "fence_not_checked";
    /// A refusal of the log is not remembered, so that the id may take units later.
    RefusalForgotten = "refusal_forgotten";
    /// A change of stock is not remembered, so that a retry makes it again.
    RestockForgotten = "restock_forgotten";
    /// An id that has an outcome is not put into the filter of known ids.
    KnownIdForgotten = "known_id_forgotten";
    /// Events that retention has dropped are passed over in silence.
    GapHidden = "gap_hidden";
    /// A thread takes units from its own stripe only: the last ones are out of reach.
    StripesNotSwept = "stripes_not_swept";
    /// Ledger time follows a proposer's clock that was set back.
    TimeFalls = "time_falls";
    /// Ledger time follows a proposer's clock however far it jumps.
    TimeJumps = "time_jumps";
    /// Answers leave the replica before the board shows what they rest on.
    AnswerBeforePublish = "answer_before_publish";
    /// A data directory gets its identity before its first snapshot.
    IdentityFirst = "identity_first";
    /// A no is said without a read round: a deposed leader's "sold out" may be stale.
    NoWithoutRound = "no_without_round";
    /// All read rounds have one name: the answer to an old one confirms a new one.
    RoundReused = "round_reused";
    /// What must follow a sync leaves before it: votes and acknowledgements of what may be lost.
    AcknowledgeBeforeSync = "acknowledge_before_sync";
    /// The vote is not stored: a node that restarts votes again in the same term.
    VoteForgotten = "vote_forgotten";
    /// The gate opens before the new leader's own entry is applied.
    GateBeforeNoOp = "gate_before_no_op";
    /// Proposals are matched by index alone: after a change of leader they hear of another entry's commands.
    IndexWithoutTerm = "index_without_term";
    /// A leader that is deposed says of what it had proposed that it will not happen.
    ProposedRefused = "proposed_refused";
    /// The ids of what has ended are not found again after a snapshot was loaded.
    IdsNotInSnapshot = "ids_not_in_snapshot";
    /// A confirmed reservation keeps its deadline: its units are freed when that comes.
    ConfirmedExpires = "confirmed_expires";
    /// A voter that has just started votes at once.
    QuarantineSkipped = "quarantine_skipped";
    /// A node whose disk was wiped is taken for the one it was.
    WipedDiskAccepted = "wiped_disk_accepted";
    /// A node that has lost what it acknowledged is listened to.
    LostStateAccepted = "lost_state_accepted";
    /// A node that was removed is listened to.
    RemovedAccepted = "removed_accepted";
    /// A sync that failed is taken for one that did not.
    DiskFailureIgnored = "disk_failure_ignored";
    /// The names in a directory are not made durable: a rename may be undone by a power cut.
    DirectoryNotSynced = "directory_not_synced";
    /// The order in which ids will be forgotten depends on the hash seed: replicas differ where no answer shows it.
    StateDiverges = "state_diverges";
    /// A node that does not lead answers reads from its own state at once.
    FollowerReadUnasked = "follower_read_unasked";
    /// A node's ask for a read round is served by one that had started before it came.
    AskJoinsStartedRound = "ask_joins_started_round";
    /// A node that leads no more keeps what only a leader may look at, and takes it for a read.
    SuspectTakenForRead = "suspect_taken_for_read";
    /// An acknowledgement that comes late moves the cursor back.
    CursorGoesBack = "cursor_goes_back";
    /// What a member acknowledges counts although its lane was another's meanwhile, or was sought elsewhere.
    StaleEpochAccepted = "stale_epoch_accepted";
    /// A member keeps the lanes that were given to another.
    TwoOwners = "two_owners";
    /// A dead letter is forgotten where there is no room for it, or where its second delivery fails too.
    LetterLost = "letter_lost";
    /// An id keeps the answer that the order system is behind.
    QueueingRemembered = "queueing_remembered";
    /// A consumer notes that an event is done before it is, and dies in between. No code of the service's.
    CursorBeforeEffect = "cursor_before_effect";
    /// Delivery begins one event late, behind what a member's lanes have acknowledged.
    EventPassedOver = "event_passed_over";
    /// Retention asks no group what it needs.
    FloorIgnored = "floor_ignored";
    /// Events read from files are taken for others that come later.
    ColdBlockMistaken = "cold_block_mistaken";
    /// Events behind the recovered ledger stay in the files. Of the simulated files only.
    EventsNotCut = "events_not_cut";
    /// Of the recovered ledger's events the last is cut too. Of the simulated files only.
    EventsCutShort = "events_cut_short";
}

#[cfg(feature = "failpoints")]
static HOOK: OnceLock<fn(Stage)> = OnceLock::new();

#[cfg(feature = "failpoints")]
static ON: [AtomicBool; MUTANTS.len()] = [const { AtomicBool::new(false) }; MUTANTS.len()];

/// Has a function called at each stage. The first call counts.
#[cfg(feature = "failpoints")]
pub fn watch(hook: fn(Stage)) {
    let _ = HOOK.set(hook);
}

/// Switches a bug on. Whether there is one of that name.
#[cfg(feature = "failpoints")]
pub fn switch_on(name: &str) -> bool {
    switch(name, true)
}

/// Switches a bug on or off, in all threads. Whether there is one of that name.
#[cfg(feature = "failpoints")]
pub fn switch(name: &str, on: bool) -> bool {
    let found = MUTANTS.iter().find(|(_, known, _)| *known == name);
    found.is_some_and(|(mutant, ..)| {
        ON[*mutant as usize].store(on, Ordering::Relaxed);
        true
    })
}

/// Tells that a stage is reached.
#[inline(always)]
pub(crate) fn reach(stage: Stage) {
    #[cfg(feature = "failpoints")]
    if let Some(hook) = HOOK.get() {
        hook(stage);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = stage;
}

/// Whether this bug is switched on.
#[inline(always)]
pub fn is_on(mutant: Mutant) -> bool {
    #[cfg(feature = "failpoints")]
    return ON[mutant as usize].load(Ordering::Relaxed);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = mutant;
        false
    }
}
