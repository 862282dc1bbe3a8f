//! One consumer group as a server keeps it, written from the protocol's page and as plainly as can be.
//!
//! Everything is looked through each time. Deliberately not here: the log, time (ledger time is what a test sets).
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each binary uses a part of it")]

use std::collections::BTreeMap;

use sluice_protocol::consumed::{DeadReply, DeliveryHead, GroupReply, GroupView, MemberReply};
use sluice_protocol::event::{EventKind, EventRecord, EventView, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::response::{Answer, At};
use sluice_protocol::seat::{AckItem, FetchItem, LetterItem, NakItem, SeatItem, StreamItem};
use sluice_protocol::{ProductId, ReservationId, Status, UserId};

/// The number of the group.
pub const GROUP: u32 = 7;

#[derive(Clone, Copy, Debug, Default)]
pub struct LaneState {
    pub cursor: u64,
    pub owner: u64,
    pub since: u64,
    failing: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Letter {
    pub event: EventRecord,
    pub attempts: u32,
    pub cause: u32,
    pub redrive: u64,
}

/// The group, and the stream that it reads.
#[derive(Clone, Debug)]
pub struct Group {
    /// `None`: it does not exist.
    pub name: Option<GroupName>,
    pub terms: GroupTerms,
    pub epoch: u64,
    pub lanes: [LaneState; 64],
    pub members: Vec<u64>,
    pub letters: BTreeMap<u64, Letter>,
    pub redrives: u64,
    /// The event of sequence s is at s - 1.
    pub events: Vec<EventRecord>,
    /// The first sequence that is kept.
    pub first: u64,
    pub now_ms: u64,
    /// Whether anything is acknowledged is for the test to judge: all acknowledgements that counted.
    pub acks: Vec<AckItem>,
    /// Failures that were told: sequence, cause, and whether for good.
    pub naks: Vec<(u64, u32, bool)>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: None,
            terms: GroupTerms::default(),
            epoch: 1,
            lanes: [LaneState::default(); 64],
            members: Vec::new(),
            letters: BTreeMap::new(),
            redrives: 0,
            events: Vec::new(),
            first: 1,
            now_ms: 1_000,
            acks: Vec::new(),
            naks: Vec::new(),
        }
    }
}

impl Group {
    /// A group of this name that has seen nothing.
    pub fn named(name: &str) -> Self {
        Self { name: GroupName::new(name), ..Self::default() }
    }

    fn at(&self) -> At {
        At { index: self.last() + 1, time_ms: self.now_ms }
    }

    fn last(&self) -> u64 {
        self.events.len() as u64
    }

    fn plain(&self, status: Status) -> Answer {
        Answer::plain(self.at(), status)
    }

    /// Something happened to a product.
    pub fn happened(&mut self, product: u64) -> u64 {
        let sequence = self.last() + 1;
        self.events.push(EventRecord::from(EventView {
            sequence,
            index: sequence,
            time_ms: self.now_ms,
            kind: EventKind::Reserved,
            product: ProductId(product),
            user: UserId(1),
            quantity: 1,
            id: ReservationId(u128::from(sequence)),
            detail: 0,
        }));
        sequence
    }

    pub fn lanes_of(&self, member: u64) -> u64 {
        let own = (0..64).filter(|lane| self.lanes[*lane].owner == member);
        if member == 0 { 0 } else { own.fold(0, |mask, lane| mask | 1 << lane) }
    }

    pub fn cursor(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.cursor).min().unwrap()
    }

    /// Gives all lanes out anew, round about.
    fn share_out(&mut self) {
        self.epoch += 1;
        for (nth, lane) in self.lanes.iter_mut().enumerate() {
            let owner = match self.members.len() {
                0 => 0,
                // Those that can stay do.
                count => self.members[nth * count / 64],
            };
            if lane.owner != owner {
                (lane.owner, lane.since) = (owner, self.epoch);
            }
        }
    }

    pub fn join(&mut self, member: u64) -> Answer {
        if !self.members.contains(&member) {
            self.members.push(member);
            self.share_out();
        }
        Answer::grouped(self.at(), GROUP, self.epoch, self.lanes_of(member))
    }

    pub fn leave(&mut self, member: u64) -> Answer {
        if self.members.contains(&member) {
            self.members.retain(|known| *known != member);
            self.share_out();
        }
        self.plain(Status::Done)
    }

    pub fn seek(&mut self, after: u64) -> Answer {
        self.epoch += 1;
        for lane in &mut self.lanes {
            *lane = LaneState { cursor: after, since: self.epoch, failing: None, ..*lane };
        }
        self.plain(Status::Done)
    }

    fn is_known(&self, seat: SeatItem) -> Result<(), Answer> {
        if self.name.is_none() || seat.group() != GROUP {
            return Err(self.plain(Status::UnknownGroup));
        }
        if !self.members.contains(&seat.member()) {
            return Err(Answer::not_member(self.at(), self.epoch, 0));
        }
        Ok(())
    }

    pub fn fetch(&self, item: &FetchItem) -> (DeliveryHead, Vec<EventRecord>) {
        let own = self.lanes_of(item.seat.member());
        let head = |answer, redriven| DeliveryHead::new(answer, self.epoch, own, redriven);
        let after = item.looked_through();
        if let Err(answer) = self.is_known(item.seat) {
            return (head(answer, item.after_redriven()), Vec::new());
        }
        let delivery = |upto| Answer::delivery(self.at(), upto, self.last(), self.first);
        if item.epoch() != self.epoch {
            return (head(delivery(after), item.after_redriven()), Vec::new());
        }
        let is_own = |event: &EventRecord| own & (1 << lane_of(event.product())) != 0;
        let begin = self.lanes.iter().filter(|lane| lane.owner == item.seat.member());
        let begin = begin.map(|lane| lane.cursor).min().unwrap_or(0).max(after);
        if begin + 1 < self.first {
            return (head(Answer::gap(self.at(), self.first), item.after_redriven()), Vec::new());
        }
        let mut letters: Vec<&Letter> =
            self.letters.values().filter(|letter| is_own(&letter.event)).collect();
        letters.retain(|letter| letter.redrive > item.after_redriven());
        letters.sort_by_key(|letter| letter.redrive);
        let mut events: Vec<EventRecord> = Vec::new();
        events.extend(letters.iter().map(|letter| letter.event.delivered(letter.attempts, true)));
        let redriven = letters.last().map_or(item.after_redriven(), |letter| letter.redrive);
        let mut upto = begin;
        for event in &self.events[begin as usize..] {
            if events.len() as u32 >= item.events_max() {
                break;
            }
            upto = event.sequence();
            let lane = &self.lanes[lane_of(event.product()) as usize];
            if is_own(event) && upto > lane.cursor && !self.letters.contains_key(&upto) {
                let failed =
                    lane.failing.filter(|(sequence, _)| *sequence == upto).map_or(0, |known| known.1);
                events.push(event.delivered(failed as u32, false));
            }
        }
        (head(delivery(upto), redriven), events)
    }

    /// Whether a member may speak of these lanes, as of an epoch.
    fn may(&self, seat: SeatItem, epoch: u64, lane: usize) -> bool {
        self.lanes[lane].owner == seat.member() && self.lanes[lane].since <= epoch
    }

    pub fn ack(&mut self, item: &AckItem) -> Answer {
        if let Err(answer) = self.is_known(item.seat) {
            return answer;
        }
        if item.upto() > self.last() {
            return Answer::invalid(
                self.at(),
                sluice_protocol::RefusedField::Sequence,
                item.upto(),
                0,
                self.last(),
            );
        }
        if item.lanes() == 0 {
            let is_redriven = self.letters.get(&item.upto()).is_some_and(|letter| letter.redrive != 0);
            if !is_redriven {
                return self.plain(Status::UnknownDead);
            }
            self.letters.remove(&item.upto());
            return self.plain(Status::Done);
        }
        let asked = (0..64).filter(|lane| item.lanes() & (1 << lane) != 0);
        let (own, foreign): (Vec<usize>, Vec<usize>) =
            asked.partition(|lane| self.may(item.seat, item.epoch(), *lane));
        let counted = own.iter().fold(0, |mask, lane| mask | 1 << lane);
        self.acks.push(AckItem::new(item.seat, item.epoch(), counted, item.upto()));
        for lane in own {
            let lane = &mut self.lanes[lane];
            lane.cursor = lane.cursor.max(item.upto());
            lane.failing = lane.failing.filter(|(sequence, _)| *sequence > item.upto());
        }
        match foreign.is_empty() {
            true => self.plain(Status::Done),
            false => Answer::not_member(self.at(), self.epoch, self.lanes_of(item.seat.member())),
        }
    }

    pub fn nak(&mut self, item: &NakItem) -> Answer {
        if let Err(answer) = self.is_known(item.seat) {
            return answer;
        }
        let event = item.event.view().unwrap();
        let (sequence, nth) = (event.sequence, lane_of(event.product) as usize);
        if !self.may(item.seat, item.epoch(), nth) {
            return Answer::not_member(self.at(), self.epoch, self.lanes_of(item.seat.member()));
        }
        let (at, now_ms) = (self.at(), self.now_ms);
        if let Some(letter) = self.letters.get_mut(&sequence).filter(|letter| letter.redrive != 0) {
            letter.attempts += 1;
            letter.redrive = 0;
            return Answer::parked(at, letter.attempts);
        }
        let lane = &mut self.lanes[nth];
        if sequence <= lane.cursor {
            return Answer::done(at, 0);
        }
        self.naks.push((sequence, item.cause(), item.is_for_good()));
        let before = lane.failing.filter(|(known, _)| *known == sequence).map_or(0, |known| known.1);
        let attempts = before + 1;
        let attempts_max = u64::from(self.terms.attempts_max);
        if item.is_for_good() || (attempts_max != 0 && attempts >= attempts_max) {
            lane.failing = None;
            let (attempts, cause) = (attempts as u32, item.cause());
            let event = item.event.stored();
            self.letters.insert(sequence, Letter { event, attempts, cause, redrive: 0 });
            return Answer::parked(at, attempts);
        }
        lane.failing = Some((sequence, attempts));
        let delay = if item.delay_ms() == 0 { self.terms.retry_ms } else { item.delay_ms() };
        Answer::retried(at, attempts as u32, now_ms + u64::from(delay))
    }

    pub fn redrive(&mut self, sequence: u64) -> Answer {
        self.redrives += 1;
        match self.letters.get_mut(&sequence) {
            Some(letter) => letter.redrive = self.redrives,
            None => return self.plain(Status::UnknownDead),
        }
        self.plain(Status::Done)
    }

    pub fn drop_dead(&mut self, sequence: u64) -> Answer {
        match self.letters.remove(&sequence) {
            Some(_) => self.plain(Status::Done),
            None => self.plain(Status::UnknownDead),
        }
    }

    /// Whether it has this name.
    pub fn find(&self, name: GroupName) -> Result<(), Answer> {
        if self.name == Some(name) { Ok(()) } else { Err(self.plain(Status::UnknownGroup)) }
    }

    pub fn remove(&mut self) -> Answer {
        self.name = None;
        self.members.clear();
        self.share_out();
        self.plain(Status::Done)
    }

    /// Creates or changes it.
    pub fn put(&mut self, name: GroupName, after: u64, terms: GroupTerms) -> Answer {
        if self.name.is_none() {
            self.name = Some(name);
            self.lanes = [LaneState { cursor: after.min(self.last()), ..LaneState::default() }; 64];
        }
        self.terms = terms;
        Answer::grouped(self.at(), GROUP, self.cursor(), 0)
    }

    pub fn list(&self, name: GroupName) -> Vec<GroupReply> {
        let view = GroupView {
            group: GROUP,
            name: self.name.unwrap_or(GroupName::NONE),
            terms: self.terms,
            cursor: self.cursor(),
            epoch: self.epoch,
            members: self.members.len() as u32,
            dead: self.letters.len() as u32,
            failed: self.naks.len() as u64,
            oldest_ms: 0,
            rate_milli: 0,
        };
        match self.name {
            Some(known) if known == name || name == GroupName::NONE => {
                vec![(self.plain(Status::Done), Some(view)).into()]
            }
            _ if name == GroupName::NONE => Vec::new(),
            _ => vec![(self.plain(Status::UnknownGroup), None).into()],
        }
    }

    pub fn list_members(&self) -> Vec<MemberReply> {
        let row = |member: &u64| {
            let own = self.lanes.iter().filter(|lane| lane.owner == *member);
            let cursor = own.map(|lane| lane.cursor).min().unwrap_or(0);
            MemberReply::new(self.plain(Status::Done), *member, self.lanes_of(*member), self.epoch, cursor)
        };
        self.members.iter().map(row).collect()
    }

    pub fn list_dead(&self, item: &LetterItem) -> Vec<DeadReply> {
        let letters = self.letters.range(item.sequence()..).take(item.limit() as usize);
        let row = |(_, letter): (&u64, &Letter)| {
            let event = letter.event.delivered(letter.attempts, letter.redrive != 0);
            DeadReply::new(self.plain(Status::Done), event, self.now_ms, letter.cause, letter.redrive)
        };
        letters.map(row).collect()
    }

    pub fn bounds(&self, item: &StreamItem) -> Answer {
        let at_or_after = |event: &&EventRecord| event.time_ms() >= item.time_ms();
        let found = self.events.iter().find(at_or_after).map_or(self.last() + 1, EventRecord::sequence);
        let found = if item.time_ms() == 0 { 0 } else { found };
        Answer::position(self.at(), self.first, self.last(), found)
    }

    pub fn place(&self, item: &LetterItem) -> Answer {
        let cursor = self.lanes[lane_of(item.product()) as usize].cursor;
        Answer::position(self.at(), item.sequence().saturating_sub(cursor + 1), 120_000, cursor)
    }
}
