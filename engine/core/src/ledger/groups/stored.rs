//! A group's bytes in an image, and the way back.
//!
//! Each section holds one group, so that none is longer than the dead letters of one. As everywhere in an image nothing is
//! believed: what loads is a group that commands could have made.
//!
//! Deliberately not here: sections (`image`, `load`).

use std::sync::Arc;

use rkyv::{Archive, Serialize};
use sluice_protocol::event::{EVENT_LEN, EventRecord};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::limits::{GROUP_NAME_MAX, GROUPS_MAX, MEMBERS_MAX, RETRY_MS_MAX};
use zerocopy::{FromBytes, IntoBytes};

use super::Groups;
use super::group::{ArchivedFailing, Failing, Group};
use super::lanes::{ArchivedLane, ArchivedMember, LANES, Lane, Member, NOBODY, owned};
use super::letters::{Letter, Letters};
use super::terms;
use crate::ledger::ImageError::{self, Damaged};
use crate::ledger::command::LoggedTerms;
use crate::ledger::load::COUNT_MAX;

/// One group, or the table alone if there is none.
#[derive(Archive, Serialize)]
pub(in crate::ledger) struct GroupRows {
    pub(in crate::ledger) index: u64,
    pub(in crate::ledger) first: u32,
    /// Groups in the image.
    len: u32,
    /// The last number that was given.
    last_id: u32,
    rows: Vec<StoredGroup>,
}

#[derive(Archive, Serialize)]
struct StoredGroup {
    id: u32,
    name: [u8; GROUP_NAME_MAX],
    terms: LoggedTerms,
    epoch: u64,
    lanes: [Lane; LANES],
    members: Vec<Member>,
    failing: Vec<StoredFailing>,
    letters: Vec<StoredLetter>,
    /// Sequences of letters that are gone and not passed.
    gone: Vec<u64>,
    redrives: u64,
    failed: u64,
}

#[derive(Archive, Serialize)]
struct StoredFailing {
    lane: u32,
    failing: Failing,
}

#[derive(Archive, Serialize)]
struct StoredLetter {
    event: [u8; EVENT_LEN],
    attempts: u32,
    died_ms: u64,
    cause: u32,
    redrive: u64,
}

/// What groups of an image may not go beyond.
#[derive(Clone, Copy)]
pub(in crate::ledger) struct Bounds {
    /// The last event.
    pub(in crate::ledger) sequence: u64,
    /// Ledger time, milliseconds.
    pub(in crate::ledger) now_ms: u64,
}

impl Groups {
    /// Whether there is anything to be told of groups: one, or a number that may not be given again.
    pub(in crate::ledger) fn is_used(&self) -> bool {
        self.last_id != 0
    }

    /// The image's sections of groups.
    pub(in crate::ledger) fn sections(self, index: u64) -> impl Iterator<Item = GroupRows> + Send + 'static {
        let count = if self.is_used() { self.rows.len().max(1) } else { 0 };
        (0..count).map(move |at| GroupRows {
            index,
            first: at as u32,
            len: self.rows.len() as u32,
            last_id: self.last_id,
            rows: self.rows.get(at).map(|group| StoredGroup::from(&**group)).into_iter().collect(),
        })
    }

    /// Adds what a section holds. The caller has checked its place.
    pub(in crate::ledger) fn load(
        &mut self,
        section: &ArchivedGroupRows,
        bounds: Bounds,
    ) -> Result<(), ImageError> {
        let (len, last_id) = (section.len.to_native() as usize, section.last_id.to_native());
        if last_id == 0 || len > GROUPS_MAX || (self.is_used() && self.last_id != last_id) {
            return Err(Damaged("its sections of groups contradict each other"));
        }
        // One section has one group. Only a table without any is a section without one.
        if section.rows.len() != len.min(1) || self.rows.len() + section.rows.len() > len {
            return Err(Damaged("a section has not the groups that it should have"));
        }
        self.last_id = last_id;
        for row in section.rows.iter() {
            let group = row.restore(bounds)?;
            let is_next = self.rows.last().is_none_or(|last| last.id() < group.id());
            if !is_next || !(1..=last_id).contains(&group.id()) || self.by_name(group.name()).is_some() {
                return Err(Damaged("two groups have one name, or a number that was not given"));
            }
            self.rows.push(Arc::new(group));
        }
        self.look_who_is_required();
        Ok(())
    }
}

impl ArchivedGroupRows {
    /// Groups in the whole image.
    pub(in crate::ledger) fn len(&self) -> u32 {
        self.len.to_native()
    }
}

impl From<&Group> for StoredGroup {
    fn from(group: &Group) -> Self {
        let failing = group.failing.iter();
        Self {
            id: group.id(),
            name: group.name().bytes(),
            terms: LoggedTerms::from(group.terms()),
            epoch: group.epoch(),
            lanes: group.lanes,
            members: group.members.clone(),
            failing: failing.map(|(&lane, &failing)| StoredFailing { lane, failing }).collect(),
            letters: group.letters_from(0).map(StoredLetter::from).collect(),
            gone: group.letters.gone().collect(),
            redrives: group.letters.redrives(),
            failed: group.failed(),
        }
    }
}

impl From<&Letter> for StoredLetter {
    fn from(letter: &Letter) -> Self {
        let mut event = [0; EVENT_LEN];
        event.copy_from_slice(letter.event.as_bytes());
        let Letter { attempts, died_ms, cause, redrive, .. } = *letter;
        Self { event, attempts, died_ms, cause, redrive }
    }
}

impl ArchivedStoredGroup {
    /// The group of these bytes, if it is one that commands could have made.
    fn restore(&self, bounds: Bounds) -> Result<Group, ImageError> {
        let (name, terms) = (GroupName::from(self.name), GroupTerms::from(&self.terms));
        let reasons = (self.terms.cancels_dead, self.terms.cancel_reason.to_native());
        if !name.is_sound() || terms::out_of_range(&terms).is_some() || (!reasons.0 && reasons.1 != 0) {
            return Err(Damaged("a group's name or terms are out of their range"));
        }
        let (epoch, failed) = (self.epoch.to_native(), self.failed.to_native());
        if [epoch, failed, self.redrives.to_native()].into_iter().any(|count| count > COUNT_MAX) {
            return Err(Damaged("a group counts further than any log goes"));
        }
        let lanes = std::array::from_fn(|at| Lane::from(&self.lanes[at]));
        let mut group = Group::with(self.id.to_native(), name, terms, lanes, epoch, failed);
        group.members = self.members.iter().map(Member::from).collect();
        if !group.is_shared_out() || lanes.iter().any(|lane| lane.cursor > bounds.sequence) {
            return Err(Damaged("a group's lanes are not as they are shared out"));
        }
        self.restore_letters(&mut group, bounds)?;
        self.restore_failing(&mut group, bounds)?;
        Ok(group)
    }

    fn restore_letters(&self, group: &mut Group, bounds: Bounds) -> Result<(), ImageError> {
        let refused = Damaged("a group's dead letters are not what failed deliveries leave");
        let mut letters = Vec::with_capacity(self.letters.len());
        for letter in self.letters.iter() {
            letters.push(letter.restore(bounds).ok_or(refused)?);
        }
        let gone = self.gone.iter().map(|sequence| sequence.to_native());
        let letters = Letters::restore(letters.into_iter(), gone.clone(), self.redrives.to_native());
        group.letters = Arc::new(letters.ok_or(refused)?);
        let passed = group.min_cursor();
        if gone.clone().any(|sequence| sequence <= passed || sequence > bounds.sequence) {
            return Err(refused);
        }
        Ok(())
    }

    fn restore_failing(&self, group: &mut Group, bounds: Bounds) -> Result<(), ImageError> {
        let latest_ms = bounds.now_ms.saturating_add(u64::from(RETRY_MS_MAX));
        for row in self.failing.iter() {
            let (lane, failing) = (row.lane.to_native(), Failing::from(&row.failing));
            let is_next = group.failing.last_key_value().is_none_or(|(last, _)| *last < lane);
            let is_open = (lane as usize) < LANES
                && (group.cursor(lane) + 1..=bounds.sequence).contains(&failing.sequence)
                && !group.is_dead(failing.sequence);
            if !is_next || !is_open || failing.attempts == 0 || failing.retry_ms > latest_ms {
                return Err(Damaged("what fails in a group's lanes is not what failed deliveries leave"));
            }
            group.failing.insert(lane, failing);
        }
        Ok(())
    }
}

impl ArchivedStoredLetter {
    fn restore(&self, bounds: Bounds) -> Option<Letter> {
        let event = EventRecord::read_from_bytes(&self.event).ok()?;
        // Nothing but what it tells: the rest is what one delivery knew.
        let is_plain = event.view().is_some_and(|view| EventRecord::from(view) == event);
        let (attempts, died_ms) = (self.attempts.to_native(), self.died_ms.to_native());
        let is_past = (1..=bounds.sequence).contains(&event.sequence()) && died_ms <= bounds.now_ms;
        (is_plain && is_past && attempts != 0).then_some(Letter {
            event,
            attempts,
            died_ms,
            cause: self.cause.to_native(),
            redrive: self.redrive.to_native(),
        })
    }
}

impl Group {
    /// Whether lanes and members are as joining and leaving make them.
    fn is_shared_out(&self) -> bool {
        let members = &self.members;
        let counts = || members.iter().map(|member| owned(&self.lanes, member.number).count_ones());
        let is_known = |member: &Member| member.number != NOBODY && member.since <= self.epoch();
        let began = |lane: &Lane| {
            let owner = members.iter().find(|member| member.number == lane.owner);
            owner.map_or(0, |owner| owner.since)
        };
        members.len() <= MEMBERS_MAX
            && members.iter().all(is_known)
            && members.is_sorted_by(|one, next| one.since < next.since)
            && members.first().is_none_or(|first| first.since != 0)
            && members
                .iter()
                .enumerate()
                .all(|(at, member)| members[..at].iter().all(|other| other.number != member.number))
            && counts().sum::<u32>() == if members.is_empty() { 0 } else { LANES as u32 }
            && counts().max().unwrap_or(0) - counts().min().unwrap_or(0) <= 1
            && self.lanes.iter().all(|lane| (began(lane)..=self.epoch()).contains(&lane.since))
            && (!members.is_empty() || self.lanes.iter().all(|lane| lane.owner == NOBODY))
    }
}

impl From<&ArchivedLane> for Lane {
    fn from(lane: &ArchivedLane) -> Self {
        Self { cursor: lane.cursor.to_native(), owner: lane.owner.to_native(), since: lane.since.to_native() }
    }
}

impl From<&ArchivedMember> for Member {
    fn from(member: &ArchivedMember) -> Self {
        Self { number: member.number.to_native(), since: member.since.to_native() }
    }
}

impl From<&ArchivedFailing> for Failing {
    fn from(failing: &ArchivedFailing) -> Self {
        Self {
            sequence: failing.sequence.to_native(),
            attempts: failing.attempts.to_native(),
            retry_ms: failing.retry_ms.to_native(),
        }
    }
}
