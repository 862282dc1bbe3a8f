//! The stream: what the ledger did, on its way to consumers.
//!
//! Every replica applies the same entries, so every replica makes the same events. The newest are kept in memory, in the
//! blocks in which they were made; all of them go to the shell's files, from where older ones are read again. Nothing is
//! kept twice that the log could not make again.
//!
//! - `block`: the events of one round of applies
//! - `tail`: the newest blocks, written by the replica, read by net threads
//! - `census`: how many events there are of each kind; `place`: how many of them are ahead of one, and how fast they go
//! - `fetch`: which of them a member of a group gets
//! - `seats`: when members were last heard
//!
//! The shell's duties: carry out [`crate::replica::Actions::stream`] in its order, and tell by [`Tail::written`] how far its
//! files can be read; tell by [`Tail::keep_from`] what they keep. Deliberately not here: cursors, which are the ledger's.

mod block;
mod census;
mod fetch;
mod place;
mod seats;
mod tail;

use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_protocol::consumed::{GroupRecord, GroupView};
use sluice_protocol::event::EventRecord;

pub use self::block::Block;
pub(crate) use self::fetch::{Fetch, Fetched};
use self::place::Rates;
pub(crate) use self::place::place;
pub(crate) use self::seats::Seats;
pub use self::tail::{Bounds, Tail};
use crate::fault::{self, Mutant};
use crate::ledger::groups::{Group, Groups};

/// What the shell does with events, in this order.
#[derive(Clone, Debug)]
pub enum StreamStep {
    /// These follow upon the last.
    Append(Arc<Block>),
    /// The state was replaced by a snapshot: the next event has this sequence, and those before it are not known here.
    Reset(u64),
}

/// What net threads see of the stream.
#[derive(Debug)]
pub struct Stream {
    /// The newest events.
    pub tail: Tail,
    groups: ArcSwap<Groups>,
    pub(crate) seats: Seats,
    pub(crate) rates: Rates,
}

impl Stream {
    /// A stream without events or groups.
    pub(crate) fn new(tail: Tail) -> Self {
        Self {
            tail,
            groups: ArcSwap::from_pointee(Groups::default()),
            seats: Seats::default(),
            rates: Rates::default(),
        }
    }

    /// The groups as of what is applied here.
    pub fn groups(&self) -> Arc<Groups> {
        self.groups.load_full()
    }

    /// The first sequence that some group still needs, as far as its terms keep it for the group. Whatever is before may go.
    pub fn floor(&self) -> u64 {
        let last = self.tail.last();
        if fault::is_on(Mutant::FloorIgnored) {
            return last + 1;
        }
        let needs = |group: &Arc<Group>| match group.terms().backlog_max {
            0 => group.min_cursor(),
            most => group.min_cursor().max(last.saturating_sub(most)),
        };
        self.groups.load().iter().map(needs).min().unwrap_or(last) + 1
    }

    /// Publishes the groups of a ledger that took the place of another: versions are counted anew. Replica thread only.
    pub(crate) fn replace_groups(&self, groups: &Groups) {
        self.groups.store(Arc::new(groups.clone()));
    }

    /// Publishes the groups if they have changed. Replica thread only.
    pub(crate) fn set_groups(&self, groups: &Groups) {
        if self.groups.load().version() != groups.version() {
            self.groups.store(Arc::new(groups.clone()));
        }
    }

    /// All groups, completed by what only the leader knows.
    pub fn survey(&self) -> Vec<GroupView> {
        self.groups().iter().map(|group| self.measured(group.view())).collect()
    }

    /// Completes what the ledger tells of a group by what only the leader knows: how old its oldest open event is, and how
    /// fast it goes.
    pub(crate) fn measure(&self, record: GroupRecord) -> GroupRecord {
        self.measured(record.into()).into()
    }

    fn measured(&self, view: GroupView) -> GroupView {
        let oldest = self.tail.from(view.cursor + 1, 1).unwrap_or_default();
        let oldest_ms = oldest
            .first()
            .and_then(|block| block.from(view.cursor + 1).first())
            .map_or(0, EventRecord::time_ms);
        GroupView { oldest_ms, rate_milli: self.rates.milli(view.group), ..view }
    }
}
