//! Switches on the known bugs that the bug bank wants (`sluice_core::fault`), so that it can see which check fails.

/// Reads SLUICE_MUTANTS, names with commas between them. Without the feature `failpoints` there is nothing to switch on.
pub(super) fn arm() {
    #[cfg(feature = "failpoints")]
    {
        #[allow(clippy::disallowed_methods, reason = "the test reads the environment, not the crate")]
        let names = std::env::var("SLUICE_MUTANTS").unwrap_or_default();
        // Names of the shell's bugs are known here too, and change nothing.
        for name in names.split(',').filter(|name| !name.is_empty()) {
            assert!(sluice_core::fault::switch_on(name), "there is no mutant {name:?}");
        }
    }
}
