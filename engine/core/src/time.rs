//! Time as this crate knows it: numbers that the shell read from its clocks.

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment {
    /// Milliseconds that only ever grow, from an arbitrary start: for deadlines.
    pub mono_ms: u64,
    /// Milliseconds since 1970, steered so that a jump of the system's clock does not become a jump here: for
    /// stamps, and to see whether a sale may have opened.
    pub wall_ms: u64,
}
