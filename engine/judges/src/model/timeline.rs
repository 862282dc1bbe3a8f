//! The committed log replayed: what each command had to be answered, and what was true at every index.
//!
//! An answer names an index and a time, so it is judged where it claims to hold, whenever it is heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_core::ledger::Ledger;
use sluice_core::ledger::settings::Settings;
use sluice_core::replica::disk::{EntryKind, LogEntry};
use sluice_protocol::event::EventView;
use sluice_protocol::response::{At, ProductView};
use sluice_protocol::{Answer, ProductId, ReservationId, UserId};

use super::groups::Group;
use super::state::{Record, State};
use super::turn::{Changed, Told, Turn};
use crate::history::Command;

/// What one entry of the log did.
#[derive(Clone, Debug)]
pub struct Step {
    /// The term it was committed under.
    pub term: u64,
    /// A checksum of its bytes and kind.
    pub checksum: u32,
    /// Ledger time behind it.
    pub time_ms: u64,
    /// The last event behind it.
    pub sequence: u64,
    /// Whether it was committed under another term than its proposer's.
    pub void: bool,
    /// Each command and its answer.
    pub answers: Vec<Told>,
    /// Products that may have changed.
    pub products: Vec<u64>,
    /// Ids whose record may have changed.
    pub ids: Vec<u128>,
    /// Whether consumer groups may have changed.
    pub consumes: bool,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// From the entry at its index.
    InTheLog,
    /// From the state at its index.
    FromState,
    /// It claims nothing.
    Nothing,
}

/// What something was, from each index on at which it changed.
type Changes<T> = Vec<(u64, T)>;

/// See the module.
#[derive(Debug)]
pub struct Timeline {
    state: State,
    /// The entry at index 1 first.
    steps: Vec<Step>,
    products: BTreeMap<u64, Changes<ProductView>>,
    ids: BTreeMap<u128, Changes<Option<Record>>>,
    users: BTreeMap<(u64, u64), Changes<u64>>,
    groups: BTreeMap<u32, Changes<Option<Arc<Group>>>>,
    /// All that happened. Sequence 1 first.
    events: Vec<EventView>,
    /// Where each command stands in the log.
    commands: BTreeMap<Command, Vec<(u64, Answer)>>,
}

/// A checksum of an entry, its kind included.
pub(crate) fn checksum(entry: &LogEntry) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[entry.kind as u8]);
    hasher.update(&entry.data);
    hasher.finalize()
}

fn at_or_before<T>(changes: &[(u64, T)], index: u64) -> Option<&T> {
    let behind = changes.partition_point(|(since, _)| *since <= index);
    behind.checked_sub(1).map(|last| &changes[last].1)
}

impl Timeline {
    /// Before the first entry.
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            steps: Vec::new(),
            products: BTreeMap::new(),
            ids: BTreeMap::new(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            events: Vec::new(),
            commands: BTreeMap::new(),
        }
    }

    /// Replays the next entry.
    ///
    /// # Errors
    /// A sentence, if it is not the next one or cannot be read.
    pub fn push(&mut self, entry: &LogEntry) -> Result<(), String> {
        let index = self.top() + 1;
        if entry.index != index {
            return Err(format!("entry {} was applied after entry {}", entry.index, self.top()));
        }
        let data: &[u8] = if entry.kind == EntryKind::Membership { &[] } else { &entry.data };
        let mut changed = Changed::default();
        let answers = Turn::entry(&mut self.state, &mut changed, index, entry.term, data)
            .map_err(|error| format!("entry {index} cannot be read: {error}"))?;
        self.keep(index, &changed);
        self.events.append(&mut changed.events);
        let void = answers.is_none();
        let answers = answers.unwrap_or_default();
        for (command, answer) in &answers {
            self.commands.entry(*command).or_default().push((index, *answer));
        }
        self.steps.push(Step {
            term: entry.term,
            checksum: checksum(entry),
            time_ms: self.state.now_ms(),
            sequence: self.state.sequence(),
            void,
            answers,
            products: changed.products.into_iter().collect(),
            ids: changed.ids.into_iter().collect(),
            consumes: !changed.groups.is_empty(),
        });
        Ok(())
    }

    fn keep(&mut self, index: u64, changed: &Changed) {
        for product in &changed.products {
            let view = self.state.product_view(*product).expect("a product that changed is there");
            self.products.entry(*product).or_default().push((index, view));
        }
        for id in &changed.ids {
            let record = self.state.records().get(id).copied();
            self.ids.entry(*id).or_default().push((index, record));
        }
        for id in &changed.groups {
            let group = self.state.groups.get(id).cloned();
            self.groups.entry(*id).or_default().push((index, group));
        }
        for user in &changed.users {
            let units = self.state.units().get(user).copied().unwrap_or(0);
            self.users.entry(*user).or_default().push((index, units));
        }
    }

    /// The last index replayed.
    pub fn top(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The state there.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// One entry; `None`: not replayed yet, or index 0.
    pub fn step(&self, index: u64) -> Option<&Step> {
        self.steps.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// Index and ledger time behind an entry.
    pub fn at(&self, index: u64) -> At {
        At { index, time_ms: self.step(index).map_or(0, |step| step.time_ms) }
    }

    /// What happened; `None`: nothing that is replayed.
    pub fn event(&self, sequence: u64) -> Option<&EventView> {
        self.events.get(usize::try_from(sequence.checked_sub(1)?).ok()?)
    }

    /// The first event that some group needs, as far as its terms keep it for the group.
    pub fn floor(&self, index: u64) -> u64 {
        let last = self.step(index).map_or(0, |step| step.sequence);
        self.groups_at(index).map(|group| group.floor(last)).min().unwrap_or(last + 1)
    }

    /// A consumer group as it was.
    pub fn group(&self, id: u32, index: u64) -> Option<&Arc<Group>> {
        at_or_before(self.groups.get(&id)?, index)?.as_ref()
    }

    /// The consumer groups there were.
    pub fn groups_at(&self, index: u64) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.keys().filter_map(move |id| self.group(*id, index))
    }

    /// How much happened.
    pub fn last_event(&self) -> u64 {
        self.events.len() as u64
    }

    /// A product as it was.
    pub fn product(&self, product: u64, index: u64) -> Option<&ProductView> {
        at_or_before(self.products.get(&product)?, index)
    }

    /// The products there were, in the order of their ids.
    pub fn products_from(&self, from: u64, index: u64) -> impl Iterator<Item = &ProductView> {
        self.products.range(from..).filter_map(move |(_, changes)| at_or_before(changes, index))
    }

    /// What had become of an id.
    pub fn record(&self, id: u128, index: u64) -> Option<&Record> {
        at_or_before(self.ids.get(&id)?, index)?.as_ref()
    }

    /// The first index at which there was a record of an id.
    pub fn known_since(&self, id: u128) -> Option<u64> {
        self.ids.get(&id)?.first().map(|(index, _)| *index)
    }

    /// Units of a product that a user had.
    pub fn units(&self, product: u64, user: u64, index: u64) -> u64 {
        self.users
            .get(&(product, user))
            .and_then(|changes| at_or_before(changes, index))
            .copied()
            .unwrap_or(0)
    }

    /// Every command in entries that count, with the indexes and the answers that had to be given.
    pub fn commands(&self) -> &BTreeMap<Command, Vec<(u64, Answer)>> {
        &self.commands
    }

    /// Whether a ledger is what the log up to its index makes, as far as it can be read.
    ///
    /// # Errors
    /// A sentence about the first difference.
    pub fn agrees(&self, ledger: &Ledger) -> Result<(), String> {
        let index = ledger.index();
        let at = self.at(index);
        if ledger.at() != at {
            return Err(format!("the ledger is at {:?}, the log at {at:?}", ledger.at()));
        }
        let sequence = self.step(index).map_or(0, |step| step.sequence);
        if ledger.sequence() != sequence {
            return Err(format!("event {} was the last at index {index}, not {sequence}", ledger.sequence()));
        }
        let mine: Vec<_> = self.products_from(0, index).copied().collect();
        let theirs: Vec<_> = ledger.products_from(ProductId(0)).collect();
        if let Some((mine, theirs)) = mine.iter().zip(&theirs).find(|(mine, theirs)| mine != theirs) {
            return Err(format!("at index {index} a product is {theirs:?}, and should be {mine:?}"));
        }
        if mine.len() != theirs.len() {
            return Err(format!("at index {index} there are {} products, not {}", theirs.len(), mine.len()));
        }
        self.ids_agree(ledger)?;
        self.groups_agree(ledger)?;
        self.buyers_agree(ledger)
    }

    /// Whether a ledger has the right consumer groups.
    ///
    /// # Errors
    /// A sentence about the first difference.
    pub fn groups_agree(&self, ledger: &Ledger) -> Result<(), String> {
        let index = ledger.index();
        let mine: Vec<_> = self.groups_at(index).collect();
        let theirs: Vec<_> = ledger.groups().iter().collect();
        if mine.len() != theirs.len() {
            return Err(format!("at index {index} there are {} groups, not {}", theirs.len(), mine.len()));
        }
        for (mine, theirs) in mine.iter().zip(theirs) {
            mine.agrees(theirs).map_err(|what| format!("at index {index} {what}"))?;
        }
        Ok(())
    }

    fn ids_agree(&self, ledger: &Ledger) -> Result<(), String> {
        let mut theirs = 0;
        ledger.each_known(|_| theirs += 1);
        let mut mine = 0;
        for id in self.ids.keys() {
            self.id_agrees(*id, ledger)?;
            mine += usize::from(self.record(*id, ledger.index()).is_some());
        }
        if mine == theirs {
            return Ok(());
        }
        Err(format!("at index {} there are {theirs} records, and should be {mine}", ledger.index()))
    }

    /// Whether a ledger has the right record of an id.
    ///
    /// # Errors
    /// A sentence about the difference.
    pub fn id_agrees(&self, id: u128, ledger: &Ledger) -> Result<(), String> {
        let at = ledger.at();
        let mine = self.record(id, at.index).map(|record| record.view(id, at.time_ms));
        let theirs = ledger.reservation(ReservationId(id));
        if mine == theirs {
            return Ok(());
        }
        Err(format!("at index {} id {id:032x} is {theirs:?}, and should be {mine:?}", at.index))
    }

    fn buyers_agree(&self, ledger: &Ledger) -> Result<(), String> {
        let index = ledger.index();
        let mut theirs = BTreeMap::new();
        ledger.each_buyer(|product, user, units| {
            theirs.insert((product.0, user.0), units);
        });
        for (product, user) in self.users.keys() {
            let mine = self.units(*product, *user, index);
            let found = theirs.remove(&(*product, *user)).unwrap_or(0);
            if mine != found {
                let user = UserId(*user);
                return Err(format!(
                    "at index {index} user {user} has {found} of product {product}, not {mine}"
                ));
            }
        }
        match theirs.into_iter().next() {
            None => Ok(()),
            Some(((product, user), units)) => Err(format!(
                "at index {index} user {user} has {units} of product {product}, and should have none"
            )),
        }
    }
}
