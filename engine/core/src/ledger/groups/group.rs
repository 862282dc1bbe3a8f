//! One consumer group: its lanes and members, how far it has come, and what it could not take.
//!
//! Cursors move by acknowledgements and seeks alone. In each lane at most one delivery is known to have failed: the first,
//! since those behind it come again with it. A dead letter is done with as far as deliveries go, and the cursor passes it
//! by later acknowledgements.
//!
//! Deliberately not here: which requests are refused (`commands`), and the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use rkyv::{Archive, Serialize};
use sluice_protocol::ProductId;
use sluice_protocol::consumed::GroupView;
use sluice_protocol::event::{EventRecord, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};

use super::lanes::{LANES, Lane, Member, each, owned, share};
use super::letters::{Letter, Letters};
use crate::fault::{self, Mutant};

/// See the module.
#[derive(Clone, Debug)]
pub struct Group {
    id: u32,
    name: GroupName,
    pub(super) terms: GroupTerms,
    epoch: u64,
    pub(super) lanes: [Lane; LANES],
    /// In the order of joining.
    pub(super) members: Vec<Member>,
    /// By lane.
    pub(super) failing: BTreeMap<u32, Failing>,
    /// Behind a pointer of its own: what changes often is a cursor, and letters are many.
    pub(super) letters: Arc<Letters>,
    failed: u64,
    /// The smallest of all cursors.
    min_cursor: u64,
}

/// The first delivery in a lane that failed and was not acknowledged since. Nothing behind it is delivered before it.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The event's.
    pub sequence: u64,
    /// Deliveries of it that failed.
    pub attempts: u32,
    /// When it is tried again, ledger milliseconds.
    pub retry_ms: u64,
}

/// A member, as those see it who ask who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The member's number.
    pub member: u64,
    /// The epoch at which it took its seat.
    pub since: u64,
    /// Mask of its lanes.
    pub lanes: u64,
    /// Everything up to this sequence is acknowledged in all of them.
    pub cursor: u64,
}

impl Group {
    /// A group without members that wants what comes behind `cursor`.
    pub(super) fn new(id: u32, name: GroupName, terms: GroupTerms, cursor: u64) -> Self {
        let lanes = [Lane { cursor, ..Lane::default() }; LANES];
        Self::with(id, name, terms, lanes, 0, 0)
    }

    /// A group without members, failures or letters, whatever its lanes say.
    pub(super) fn with(
        id: u32,
        name: GroupName,
        terms: GroupTerms,
        lanes: [Lane; LANES],
        epoch: u64,
        failed: u64,
    ) -> Self {
        let mut group = Self {
            id,
            name,
            terms,
            epoch,
            lanes,
            members: Vec::new(),
            failing: BTreeMap::new(),
            letters: Arc::default(),
            failed,
            min_cursor: 0,
        };
        group.look_at_cursors();
        group
    }

    // What may be read.

    /// Its number: never used again.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> GroupName {
        self.name
    }

    /// How it reads.
    pub fn terms(&self) -> &GroupTerms {
        &self.terms
    }

    /// Rises whenever a lane changes hands, and with each seek.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Deliveries that failed, since the group was made.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Mask of the lanes that the member has; 0 if it has no seat.
    pub fn lanes_of(&self, member: u64) -> u64 {
        let mask = owned(&self.lanes, member);
        if fault::is_on(Mutant::TwoOwners) && self.has_member(member) { u64::MAX } else { mask }
    }

    /// Whether the member has a seat.
    pub fn has_member(&self, member: u64) -> bool {
        self.members.iter().any(|seated| seated.number == member)
    }

    /// Its members, in the order of joining.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Seat> {
        self.members.iter().map(|member| {
            let lanes = self.lanes_of(member.number);
            let cursor = self.min_cursor_of(lanes).unwrap_or(self.min_cursor);
            Seat { member: member.number, since: member.since, lanes, cursor }
        })
    }

    /// Everything up to this sequence is acknowledged in the lane.
    ///
    /// # Panics
    /// If there is no such lane; so does [`Group::failing`].
    pub fn cursor(&self, lane: u32) -> u64 {
        self.lanes[lane as usize].cursor
    }

    /// Everything up to this sequence is acknowledged in every lane.
    pub fn min_cursor(&self) -> u64 {
        self.min_cursor
    }

    /// Everything up to this sequence is acknowledged in each of these lanes; `None` if there are none.
    pub fn min_cursor_of(&self, lanes: u64) -> Option<u64> {
        each(lanes).map(|lane| self.cursor(lane)).min()
    }

    /// Whether it has still to take the event in its place.
    #[inline]
    pub fn awaits(&self, event: &EventRecord) -> bool {
        event.sequence() > self.cursor(lane_of(event.product()))
            && self.wants(event)
            && !self.is_dead(event.sequence())
    }

    /// Whether its terms ask for such an event.
    pub fn wants(&self, event: &EventRecord) -> bool {
        (self.terms.kinds == 0 || self.terms.kinds & event.kind_bit() != 0)
            && self.wants_product(event.product())
    }

    fn wants_product(&self, product: ProductId) -> bool {
        let products = &self.terms.products;
        products.contains(&product) || products.iter().all(|wanted| wanted.0 == 0)
    }

    /// Whether the event is a dead letter, or was one: it is not delivered in its place.
    pub fn is_dead(&self, sequence: u64) -> bool {
        self.letters.is_dead(sequence)
    }

    /// What failed first in the lane.
    pub fn failing(&self, lane: u32) -> Option<Failing> {
        assert!((lane as usize) < LANES, "there is no lane {lane}");
        self.failing.get(&lane).copied()
    }

    /// The dead letter of this sequence.
    pub fn letter(&self, sequence: u64) -> Option<&Letter> {
        self.letters.get(sequence)
    }

    /// Dead letters whose sequences are at least this, in their order.
    pub fn letters_from(&self, sequence: u64) -> impl Iterator<Item = &Letter> {
        self.letters.from(sequence)
    }

    /// Dead letters that are to be delivered again in some of the lanes of a mask, whose redrives have later numbers than
    /// `after`; in the order of these.
    pub fn redriven(&self, after: u64, lanes: u64) -> impl Iterator<Item = &Letter> {
        let is_wanted = move |letter: &&Letter| lanes >> lane_of(letter.event.product()) & 1 == 1;
        self.letters.redriven(after).filter(is_wanted)
    }

    /// How it stands. When its oldest event came and how fast it goes, only those know who see events: both are 0.
    pub fn view(&self) -> GroupView {
        GroupView {
            group: self.id,
            name: self.name,
            terms: self.terms,
            cursor: self.min_cursor,
            epoch: self.epoch,
            members: self.members.len() as u32,
            dead: self.letters.len() as u32,
            failed: self.failed,
            oldest_ms: 0,
            rate_milli: 0,
        }
    }

    /// How far behind the last event it is, if reservations of the product have to wait for that.
    pub(super) fn keeps_waiting(&self, product: ProductId, sequence: u64) -> Option<u64> {
        let (most, lag) = (self.terms.required_lag_max, sequence.saturating_sub(self.min_cursor));
        (most != 0 && lag >= most && self.wants_product(product)).then_some(lag)
    }

    /// Mask of the lanes that the member has had at least since this epoch: what it says of them counts.
    pub(super) fn granted(&self, member: u64, epoch: u64) -> u64 {
        let is_late = |lane: &u32| self.lanes[*lane as usize].since > epoch;
        let lanes = self.lanes_of(member);
        if fault::is_on(Mutant::StaleEpochAccepted) {
            return lanes;
        }
        each(lanes).filter(is_late).fold(lanes, |mask, lane| mask & !(1 << lane))
    }

    /// Whether an acknowledgement up to this sequence tells something new of one of these lanes.
    pub(super) fn would_advance(&self, lanes: u64, upto: u64) -> bool {
        each(lanes).any(|lane| self.cursor(lane) < upto)
    }

    /// Failures of an event in its lane so far.
    pub(super) fn attempts(&self, lane: u32, sequence: u64) -> u32 {
        self.failing(lane)
            .filter(|failing| failing.sequence == sequence)
            .map_or(0, |failing| failing.attempts)
    }

    // What changes it.

    /// Gives a member that has none a seat, and lanes.
    pub(super) fn join(&mut self, number: u64) {
        self.epoch += 1;
        self.members.push(Member { number, since: self.epoch });
        share(&mut self.lanes, &self.members, self.epoch);
    }

    /// Takes a member's seat, and shares out its lanes.
    pub(super) fn leave(&mut self, number: u64) {
        self.epoch += 1;
        self.members.retain(|member| member.number != number);
        share(&mut self.lanes, &self.members, self.epoch);
    }

    /// Begins again behind a sequence, in all lanes. What was delivered before this cannot be acknowledged any more.
    pub(super) fn seek(&mut self, after: u64) {
        self.epoch += 1;
        for lane in &mut self.lanes {
            (lane.cursor, lane.since) = (after, self.epoch);
        }
        self.failing.clear();
        Arc::make_mut(&mut self.letters).unmark(u64::MAX);
        self.look_at_cursors();
    }

    /// Moves the cursors of some lanes.
    pub(super) fn advance(&mut self, lanes: u64, upto: u64) {
        for at in each(lanes) {
            let lane = &mut self.lanes[at as usize];
            let back = fault::is_on(Mutant::CursorGoesBack);
            lane.cursor = if back { upto } else { lane.cursor.max(upto) };
            if self.failing.get(&at).is_some_and(|failing| failing.sequence <= upto) {
                self.failing.remove(&at);
            }
        }
        self.look_at_cursors();
        if self.letters.has_marks(self.min_cursor) {
            Arc::make_mut(&mut self.letters).unmark(self.min_cursor);
        }
    }

    /// Counts a failure that is to be tried again. If an earlier event of the lane is, that comes first, and no more than
    /// the count remains of this one.
    pub(super) fn fail(&mut self, lane: u32, failing: Failing) {
        self.failed += 1;
        if self.failing(lane).is_none_or(|first| first.sequence >= failing.sequence) {
            self.failing.insert(lane, failing);
        }
    }

    /// Counts a failure that was the last one.
    pub(super) fn park(&mut self, letter: Letter) {
        self.failed += 1;
        let sequence = letter.event.sequence();
        // Wherever it failed: a member that makes its events up may have named another lane before.
        self.failing.retain(|_, failing| failing.sequence != sequence);
        let letters = Arc::make_mut(&mut self.letters);
        if fault::is_on(Mutant::LetterLost) {
            match letters.get(sequence) {
                Some(_) => return letters.remove(sequence, u64::MAX),
                None if !letters.has_room() => return,
                None => {}
            }
        }
        letters.park(letter);
    }

    /// Has a dead letter delivered again.
    pub(super) fn redrive(&mut self, sequence: u64) {
        Arc::make_mut(&mut self.letters).redrive(sequence);
    }

    /// Removes a dead letter that is there.
    pub(super) fn drop_letter(&mut self, sequence: u64) {
        let letter = self.letter(sequence).expect("a letter is dropped when it was found");
        let cursor = self.cursor(lane_of(letter.event.product()));
        Arc::make_mut(&mut self.letters).remove(sequence, cursor);
    }

    fn look_at_cursors(&mut self) {
        self.min_cursor = self.lanes.iter().map(|lane| lane.cursor).min().unwrap_or(0);
    }
}
