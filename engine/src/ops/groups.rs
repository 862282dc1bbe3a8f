//! Consumer groups as the leader sees them: how far each is behind, and whether that is too far.
//!
//! There are at most 64 groups, so each may have time series of its own. On a node that does not lead there are none: it
//! would tell the same later, and what the rates are it does not know. Deliberately not here: single members.

use std::fmt::Result;

use parking_lot::Mutex;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use serde::{Deserialize, Serialize};
use sluice_protocol::consumed::GroupView;

const MILLIS_PER_SECOND: f64 = 1e3;

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupStats {
    /// Its name.
    pub group: String,
    /// Everything up to this sequence is acknowledged.
    pub cursor: u64,
    /// Events behind that.
    pub lag: u64,
    /// Age of the oldest of them; 0 if there is none. Of one that memory does not have any more it is the time since
    /// the group last moved here, which is less.
    pub oldest_seconds: f64,
    /// Sequences acknowledged a second, smoothed.
    pub acknowledged_per_second: f64,
    /// Deliveries that failed since the group was made.
    pub failed: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Members with a seat.
    pub members: u64,
    /// The oldest is older than it may be.
    pub late: bool,
}

/// Watches groups from survey to survey.
#[derive(Debug)]
pub(crate) struct GroupWatch {
    alarm_ms: u64,
    /// Of each group that is behind: its number, where it stands, since when.
    behind: Vec<(u32, u64, u64)>,
    /// Groups that are late, as it was last told.
    late: Vec<u32>,
}

impl GroupWatch {
    /// A group is late whose oldest event is older than this.
    pub(crate) fn new(alarm_ms: u64) -> Self {
        Self { alarm_ms, behind: Vec::new(), late: Vec::new() }
    }

    /// Looks at all groups, and tells the log which have become late, or are late no more.
    pub(crate) fn look(&mut self, groups: &[GroupView], last: u64, now_ms: u64) -> Vec<GroupStats> {
        let before = std::mem::take(&mut self.behind);
        let mut stats = Vec::with_capacity(groups.len());
        let mut late = Vec::new();
        for view in groups {
            let lag = last.saturating_sub(view.cursor);
            let stood =
                before.iter().find(|(group, cursor, _)| (*group, *cursor) == (view.group, view.cursor));
            let since_ms = stood.map_or(now_ms, |(.., since_ms)| *since_ms);
            let age_ms = match (lag, view.oldest_ms) {
                (0, _) => 0,
                (_, 0) => now_ms.saturating_sub(since_ms),
                (_, oldest_ms) => now_ms.saturating_sub(oldest_ms),
            };
            if lag > 0 {
                self.behind.push((view.group, view.cursor, since_ms));
            }
            let group = GroupStats {
                group: view.name.to_string(),
                cursor: view.cursor,
                lag,
                oldest_seconds: age_ms as f64 / MILLIS_PER_SECOND,
                acknowledged_per_second: view.rate_milli as f64 / MILLIS_PER_SECOND,
                failed: view.failed,
                dead_letters: u64::from(view.dead),
                members: u64::from(view.members),
                late: age_ms > self.alarm_ms,
            };
            if group.late {
                late.push(view.group);
            }
            self.tell(view.group, &group);
            stats.push(group);
        }
        self.late = late;
        stats
    }

    fn tell(&self, number: u32, stats: &GroupStats) {
        let (group, lag, seconds) = (&stats.group, stats.lag, stats.oldest_seconds);
        match (self.late.contains(&number), stats.late) {
            (false, true) => tracing::warn!(group, lag, seconds, "a consumer group is late"),
            (true, false) => tracing::info!(group, lag, "a consumer group is late no more"),
            _ => {}
        }
    }
}

/// The last that was seen of them.
#[derive(Debug, Default)]
pub struct GroupsCell(Mutex<Vec<GroupStats>>);

/// Name, help, and how it is read.
type Row = (&'static str, &'static str, fn(&GroupStats) -> f64);

const ROWS: [Row; 7] = [
    ("sluice_group_lag_events", "Events that the group has not acknowledged.", |group| group.lag as f64),
    (
        "sluice_group_oldest_seconds",
        "Age of the oldest event that the group has not acknowledged.",
        |group| group.oldest_seconds,
    ),
    (
        "sluice_group_acknowledged_per_second",
        "Sequences that the group acknowledges a second, smoothed.",
        |group| group.acknowledged_per_second,
    ),
    ("sluice_group_failed_deliveries", "Deliveries to the group that failed since it was made.", |group| {
        group.failed as f64
    }),
    ("sluice_group_dead_letters", "Dead letters of the group.", |group| group.dead_letters as f64),
    ("sluice_group_members", "Members of the group with a seat.", |group| group.members as f64),
    ("sluice_group_late", "Whether the group's oldest event is older than stream.alarm_age.", |group| {
        f64::from(u8::from(group.late))
    }),
];

impl GroupsCell {
    /// Replaces what is shown.
    pub fn set(&self, groups: Vec<GroupStats>) {
        *self.0.lock() = groups;
    }

    /// What is shown.
    pub fn get(&self) -> Vec<GroupStats> {
        self.0.lock().clone()
    }

    /// Writes the metrics of all groups.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let groups = self.get();
        for (name, help, read) in ROWS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for group in &groups {
                family.encode_family(&[("group", group.group.as_str())])?.encode_gauge(&read(group))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::group::{GroupName, GroupTerms};

    use super::*;

    fn view(cursor: u64, oldest_ms: u64) -> GroupView {
        GroupView {
            group: 3,
            name: GroupName::new("orders").unwrap(),
            terms: GroupTerms::default(),
            cursor,
            epoch: 1,
            members: 2,
            dead: 1,
            failed: 4,
            oldest_ms,
            rate_milli: 1_500,
        }
    }

    #[test]
    fn a_group_is_late_by_its_oldest_event() {
        let mut watch = GroupWatch::new(10_000);
        let mut late = |cursor, oldest_ms, now_ms| {
            let stats = watch.look(&[view(cursor, oldest_ms)], 9, now_ms).remove(0);
            (stats.lag, stats.oldest_seconds, stats.late)
        };
        assert_eq!(late(9, 0, 50_000), (0, 0.0, false));
        assert_eq!(late(7, 49_000, 50_000), (2, 1.0, false));
        assert_eq!(late(7, 49_000, 59_001), (2, 10.001, true));
        assert_eq!(late(9, 0, 60_000), (0, 0.0, false));
    }

    #[test]
    fn a_group_whose_oldest_event_is_only_in_files_is_late_once_it_has_stood_still() {
        let mut watch = GroupWatch::new(10_000);
        let mut late = |cursor, now_ms| watch.look(&[view(cursor, 0)], 9, now_ms).remove(0).late;
        assert!(!late(5, 50_000) && !late(5, 60_000) && late(5, 60_001));
        assert!(!late(6, 60_500) && late(6, 70_501));
    }
}
