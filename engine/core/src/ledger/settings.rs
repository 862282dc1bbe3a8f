//! What every replica of one ledger must agree on. Carried by the first image of the ledger, which
//! is made once for a cluster, so it cannot differ between nodes.

use rkyv::{Archive, Deserialize, Serialize};

/// How far one entry may move ledger time forward, milliseconds (Δ). A single mad stamp costs a minute.
pub const ADVANCE_MS_MAX: u64 = 60_000;

/// Holds that one entry may expire on behalf of time alone. An entry makes fewer holds than this, so sweeping keeps up.
pub const SWEEP_MAX: usize = 2048;

/// Holds that one entry may expire on behalf of its commands, those of [`COMMAND_SWEEP_MIN`] not counted: what is due of
/// a product is swept before a command is refused, and of a great sale that can be millions at once. A command for which
/// this is not enough hears `Busy`, which claims nothing.
pub const COMMANDS_SWEEP_MAX: usize = 4096;

/// Holds that each command may expire in any case. Every hold has a unit, so whoever asks for no more units than this is
/// never kept from units that are due, whatever else stands in the entry.
pub const COMMAND_SWEEP_MIN: usize = 4;

/// When to try again after such a `Busy`, milliseconds: sweeps take tens of entries for a hundred thousand holds.
pub const SWEEP_RETRY_MS: u32 = 20;

/// Outcomes that one entry may forget. An entry makes fewer records than this, so forgetting keeps up.
pub const FORGET_MAX: usize = 4096;

/// When to try again after a `Full`, milliseconds: records are forgotten as ledger time passes.
pub const FULL_RETRY_MS: u32 = 1000;

/// Products that a ledger may have.
pub const PRODUCTS_MAX: usize = 1 << 20;

/// Agreed settings of a ledger.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Records (reservations in any state, restocks, write-offs, fences) that may exist at a time. Beyond it
    /// new ids are answered `Full`. Of ids that never took a unit (refused, fenced) there may be half as many
    /// ([`Settings::dead_max`]).
    pub records_max: u32,
    /// How long the outcome of an id is remembered after it was cancelled, expired, refused, fenced or applied,
    /// ledger milliseconds. Held and confirmed reservations are remembered for as long as their product exists.
    pub retention_ms: u64,
}

impl Settings {
    /// Ids that may be remembered although they never took a unit. Anybody can make those at no cost, as many as he likes; the
    /// other half of the table is kept for those who take something.
    pub fn dead_max(&self) -> u32 {
        self.records_max.div_ceil(2)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { records_max: 16_000_000, retention_ms: 24 * 3600 * 1000 }
    }
}
