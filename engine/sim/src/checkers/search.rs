//! Linearizability once more.
use super::Violation;
use crate::history::Call;
use crate::model::Timeline;
use sluice_core::ledger::settings::Settings;

/// See the module.
#[derive(Debug, Default)]
pub struct Search {
    /// Partitions searched.
    pub checks: u64,
}
impl Search {
    /// # Errors
    /// [`Violation`]
    pub fn run(
        &mut self,
        _calls: &[Call],
        _timeline: &Timeline,
        _settings: Settings,
    ) -> Result<(), Violation> {
        Ok(())
    }
}
