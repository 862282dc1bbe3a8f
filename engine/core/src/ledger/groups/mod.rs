//! Consumer groups: who reads the stream of events, how far each has come, and what it could not take.
//!
//! All of it is decided in the log, like stock: a cursor that was acknowledged stays so whoever leads, and two members
//! that believe in one lane are told apart by an epoch. A group stands behind an [`Arc`] and is copied when it is changed
//! while somebody holds it, so that an image, or a thread that delivers events, has all groups for a pointer each.
//!
//! The map, in the order of reading:
//! - `commands`: what may be asked, and when it changes nothing
//! - `group`: one group; `terms`: which terms make sense; `lanes`: how lanes are shared out; `letters`: dead letters
//! - `stored`: a group's bytes in an image, and the way back
//!
//! Deliberately not here: events. The ledger keeps none, it only counts them; whoever delivers them asks a group what it
//! wants.

mod commands;
mod group;
mod lanes;
mod letters;
mod stored;
mod terms;

use std::sync::Arc;

use sluice_protocol::ProductId;
use sluice_protocol::group::GroupName;
use sluice_protocol::limits::GROUPS_MAX;

pub use group::{Failing, Group, Seat};
pub use letters::Letter;
pub(super) use stored::{ArchivedGroupRows, Bounds};

/// Dead letters that a group may have. Behind it a delivery that fails for good is tried again instead.
pub const DEAD_MAX: usize = 10_000;

/// All groups, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    rows: Vec<Arc<Group>>,
    /// The last number that was given. None is given twice.
    last_id: u32,
    version: u64,
    /// Whether any group may keep reservations waiting.
    is_required: bool,
}

impl Groups {
    /// The group of this number.
    pub fn get(&self, id: u32) -> Option<&Arc<Group>> {
        self.place(id).map(|at| &self.rows[at])
    }

    /// The group of this name.
    pub fn by_name(&self, name: GroupName) -> Option<&Arc<Group>> {
        self.iter().find(|group| group.name() == name)
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.rows.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Rises with each change of any group. No part of the state: a loaded ledger counts from 0 again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The place in line of a reservation of the product, if a group keeps it waiting: one behind all events that the
    /// slowest such group has not acknowledged. `sequence` is the last event's.
    #[inline]
    pub(super) fn queue(&self, product: ProductId, sequence: u64) -> Option<u64> {
        if !self.is_required {
            return None;
        }
        let lags = self.iter().filter_map(|group| group.keeps_waiting(product, sequence));
        lags.max().map(|lag| lag + 1)
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.rows.binary_search_by_key(&id, |group| group.id()).ok()
    }

    /// A group that was found, to be changed.
    fn change(&mut self, id: u32) -> &mut Group {
        self.version += 1;
        let at = self.place(id).expect("a group is changed when it was found");
        Arc::make_mut(&mut self.rows[at])
    }

    /// The number of another group; `None` if there may be none.
    fn next_id(&self) -> Option<u32> {
        (self.rows.len() < GROUPS_MAX).then(|| self.last_id.checked_add(1)).flatten()
    }

    /// Adds a group that has the next number.
    fn insert(&mut self, group: Group) {
        self.version += 1;
        self.last_id = group.id();
        self.rows.push(Arc::new(group));
        self.look_who_is_required();
    }

    fn remove(&mut self, id: u32) {
        self.version += 1;
        self.rows.retain(|group| group.id() != id);
        self.look_who_is_required();
    }

    /// After terms have changed.
    fn look_who_is_required(&mut self) {
        self.is_required = self.rows.iter().any(|group| group.terms().required_lag_max != 0);
    }
}
