//! Consumer groups once more: lists, and sums over all of them.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::ledger::command::{Ack, Consume, Nak};
use sluice_core::ledger::groups::{DEAD_MAX, Group};
use sluice_protocol::event::{EventKind, EventRecord, EventView, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::limits::{GROUPS_MAX, MEMBERS_MAX, RETRY_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN};
use zerocopy::FromBytes;

use super::*;

#[derive(Clone, Copy, Default)]
struct Lane {
    cursor: u64,
    owner: u64,
    since: u64,
}

#[derive(Clone, Copy)]
struct Letter {
    event: EventView,
    attempts: u32,
    died_ms: u64,
    cause: u32,
    redrive: u64,
}

pub(super) struct Consumers {
    id: u32,
    name: GroupName,
    terms: GroupTerms,
    epoch: u64,
    lanes: Vec<Lane>,
    /// Number, and the epoch of joining.
    members: Vec<(u64, u64)>,
    /// By lane: sequence, attempts, when it is tried again.
    failing: BTreeMap<usize, (u64, u32, u64)>,
    letters: BTreeMap<u64, Letter>,
    /// Letters that are gone before every lane had passed them.
    gone: BTreeSet<u64>,
    redrives: u64,
    failed: u64,
}

impl Consumers {
    fn cursor(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.cursor).min().unwrap()
    }

    fn lanes_of(&self, member: u64) -> Vec<usize> {
        (0..64).filter(|at| member != 0 && self.lanes[*at].owner == member).collect()
    }

    fn mask_of(&self, member: u64) -> u64 {
        self.lanes_of(member).iter().map(|at| 1 << at).sum()
    }

    fn may_speak(&self, member: u64, epoch: u64, lane: usize) -> bool {
        self.lanes_of(member).contains(&lane) && self.lanes[lane].since <= epoch
    }

    /// Those who have most keep one lane more than the others, if not all can have as many. Members keep their lowest lanes,
    /// and get the lowest of what is free, in the order of joining.
    fn share_out(&mut self) {
        self.epoch += 1;
        let mut kept: Vec<(u64, Vec<usize>)> =
            self.members.iter().map(|(number, _)| (*number, self.lanes_of(*number))).collect();
        let mut rooms = Vec::new();
        for (at, (_, lanes)) in kept.iter().enumerate() {
            let ahead = |(other, theirs): (usize, &(u64, Vec<usize>))| {
                theirs.1.len() > lanes.len() || (theirs.1.len() == lanes.len() && other < at)
            };
            let ahead = kept.iter().enumerate().filter(|other| ahead(*other)).count();
            rooms.push(64 / kept.len() + usize::from(ahead < 64 % kept.len()));
        }
        for ((_, lanes), room) in kept.iter_mut().zip(&rooms) {
            lanes.truncate(*room);
        }
        let mut free: Vec<usize> =
            (0..64).filter(|at| !kept.iter().any(|(_, lanes)| lanes.contains(at))).collect();
        for ((_, lanes), room) in kept.iter_mut().zip(&rooms) {
            lanes.extend(free.drain(..room - lanes.len()));
        }
        for at in 0..64 {
            let owner = kept.iter().find(|(_, lanes)| lanes.contains(&at)).map_or(0, |(number, _)| *number);
            if self.lanes[at].owner != owner {
                self.lanes[at] = Lane { owner, since: self.epoch, ..self.lanes[at] };
            }
        }
    }

    fn wants(&self, product: u64) -> bool {
        let wanted: Vec<u64> =
            self.terms.products.iter().map(|product| product.0).filter(|wanted| *wanted != 0).collect();
        wanted.is_empty() || wanted.contains(&product)
    }

    fn remove_letter(&mut self, sequence: u64) {
        let letter = self.letters.remove(&sequence).unwrap();
        if self.lanes[lane_of(letter.event.product) as usize].cursor < sequence {
            self.gone.insert(sequence);
        }
    }
}

/// Whether terms are refused, and how.
fn refused(terms: &GroupTerms) -> Option<(RefusedField, u64, u64, u64)> {
    let (retry_ms, longest_ms) = (u64::from(terms.retry_ms), u64::from(terms.retry_ms_max));
    let (session_ms, most_ms) = (u64::from(terms.session_ms), u64::from(RETRY_MS_MAX));
    if terms.kinds & !0b1_1111_1110 != 0 {
        Some((RefusedField::EventKinds, u64::from(terms.kinds), 0, 0b1_1111_1110))
    } else if session_ms < u64::from(SESSION_MS_MIN) || session_ms > u64::from(SESSION_MS_MAX) {
        Some((RefusedField::SessionMs, session_ms, u64::from(SESSION_MS_MIN), u64::from(SESSION_MS_MAX)))
    } else if retry_ms == 0 || retry_ms > most_ms {
        Some((RefusedField::RetryMs, retry_ms, 1, most_ms))
    } else if longest_ms < retry_ms || longest_ms > most_ms {
        Some((RefusedField::RetryMs, longest_ms, retry_ms, most_ms))
    } else {
        None
    }
}

impl Model {
    pub(super) fn consume(&mut self, item: &Consume) -> Answer {
        let numbered = |number| self.groups.iter().position(|group| group.id == number);
        let named = |name| self.groups.iter().position(|group| group.name == GroupName::from(name));
        let unknown = Answer::plain(self.at, Status::UnknownGroup);
        let found = match item {
            Consume::Put(put) => return self.put_group(put.name.into(), put.after, put.terms),
            Consume::Remove(item) | Consume::Seek(item) | Consume::Join(item) => named(item.name),
            Consume::Leave(item) | Consume::Redrive(item) | Consume::Drop(item) => numbered(item.group),
            Consume::Ack(item) => numbered(item.group),
            Consume::Nak(item) => numbered(item.group),
        };
        let Some(at) = found else { return unknown };
        match item {
            Consume::Put(_) => unreachable!("it was answered above"),
            Consume::Remove(_) => {
                self.groups.remove(at);
                Answer::done(self.at, 0)
            }
            Consume::Seek(item) => self.seek(at, item.number),
            Consume::Join(item) => self.join(at, item.number),
            Consume::Leave(item) => {
                let group = &mut self.groups[at];
                if group.members.iter().any(|(number, _)| *number == item.number) {
                    group.members.retain(|(number, _)| *number != item.number);
                    group.share_out();
                }
                Answer::done(self.at, 0)
            }
            Consume::Ack(item) => self.ack(at, item),
            Consume::Nak(item) => self.nak(at, item),
            Consume::Redrive(item) | Consume::Drop(item)
                if !self.groups[at].letters.contains_key(&item.number) =>
            {
                Answer::plain(self.at, Status::UnknownDead)
            }
            Consume::Redrive(item) => {
                let group = &mut self.groups[at];
                group.redrives += 1;
                group.letters.get_mut(&item.number).unwrap().redrive = group.redrives;
                Answer::done(self.at, 0)
            }
            Consume::Drop(item) => {
                self.groups[at].remove_letter(item.number);
                Answer::done(self.at, 0)
            }
        }
    }

    fn put_group(
        &mut self,
        name: GroupName,
        after: u64,
        terms: sluice_core::ledger::command::LoggedTerms,
    ) -> Answer {
        let terms = GroupTerms {
            kinds: terms.kinds,
            products: terms.products.map(ProductId),
            attempts_max: terms.attempts_max,
            retry_ms: terms.retry_ms,
            retry_ms_max: terms.retry_ms_max,
            session_ms: terms.session_ms,
            cancel_dead: terms.cancels_dead.then_some(terms.cancel_reason),
            backlog_max: terms.backlog_max,
            required_lag_max: terms.required_lag_max,
        };
        if !name.is_sound() {
            return self.invalid(RefusedField::GroupName, 0, 0, 0);
        }
        if let Some((field, value, low, high)) = refused(&terms) {
            return self.invalid(field, value, low, high);
        }
        if let Some(group) = self.groups.iter_mut().find(|group| group.name == name) {
            group.terms = terms;
            return Answer::grouped(self.at, group.id, group.cursor(), 0);
        }
        if self.groups.len() == GROUPS_MAX {
            return Answer::full(self.at, FULL_RETRY_MS);
        }
        self.last_group += 1;
        let cursor = after.min(self.sequence);
        self.groups.push(Consumers {
            id: self.last_group,
            name,
            terms,
            epoch: 0,
            lanes: vec![Lane { cursor, ..Lane::default() }; 64],
            members: Vec::new(),
            failing: BTreeMap::new(),
            letters: BTreeMap::new(),
            gone: BTreeSet::new(),
            redrives: 0,
            failed: 0,
        });
        Answer::grouped(self.at, self.last_group, cursor, 0)
    }

    fn seek(&mut self, at: usize, after: u64) -> Answer {
        if after > self.sequence {
            return self.invalid(RefusedField::Sequence, after, 0, self.sequence);
        }
        let group = &mut self.groups[at];
        group.epoch += 1;
        for lane in &mut group.lanes {
            *lane = Lane { cursor: after, since: group.epoch, ..*lane };
        }
        group.failing.clear();
        group.gone.clear();
        Answer::grouped(self.at, group.id, after, 0)
    }

    fn join(&mut self, at: usize, member: u64) -> Answer {
        if member == 0 {
            return self.invalid(RefusedField::Member, 0, 1, u64::MAX);
        }
        let group = &mut self.groups[at];
        if !group.members.iter().any(|(number, _)| *number == member) {
            if group.members.len() == MEMBERS_MAX {
                return Answer::full(self.at, FULL_RETRY_MS);
            }
            group.members.push((member, group.epoch + 1));
            group.share_out();
        }
        Answer::grouped(self.at, group.id, group.epoch, group.mask_of(member))
    }

    fn ack(&mut self, at: usize, item: &Ack) -> Answer {
        if item.upto > self.sequence {
            return self.invalid(RefusedField::Sequence, item.upto, 0, self.sequence);
        }
        let group = &mut self.groups[at];
        let stranger = Answer::not_member(self.at, group.epoch, group.mask_of(item.member));
        if item.lanes == 0 {
            let Some(letter) = group.letters.get(&item.upto).filter(|letter| letter.redrive > 0) else {
                return Answer::plain(self.at, Status::UnknownDead);
            };
            if !group.may_speak(item.member, item.epoch, lane_of(letter.event.product) as usize) {
                return stranger;
            }
            group.remove_letter(item.upto);
            return Answer::done(self.at, 0);
        }
        let mut answer = Answer::done(self.at, 0);
        for lane in (0..64).filter(|lane| item.lanes >> lane & 1 == 1) {
            if !group.may_speak(item.member, item.epoch, lane) {
                answer = stranger;
                continue;
            }
            if group.lanes[lane].cursor < item.upto {
                group.lanes[lane].cursor = item.upto;
            }
            if group.failing.get(&lane).is_some_and(|(sequence, ..)| *sequence <= item.upto) {
                group.failing.remove(&lane);
            }
        }
        let passed = group.cursor();
        group.gone.retain(|sequence| *sequence > passed);
        answer
    }

    fn nak(&mut self, at: usize, item: &Nak) -> Answer {
        let record = EventRecord::read_from_bytes(&item.event).unwrap();
        let Some(mut event) =
            record.view().filter(|event| event.sequence > 0 && event.sequence <= self.sequence)
        else {
            return self.invalid(RefusedField::Event, record.sequence(), 1, self.sequence);
        };
        let (group, sequence) = (&mut self.groups[at], event.sequence);
        let letter = group.letters.get(&sequence).copied();
        event = letter.map_or(event, |letter| letter.event);
        let lane = lane_of(event.product) as usize;
        if !group.may_speak(item.member, item.epoch, lane) {
            return Answer::not_member(self.at, group.epoch, group.mask_of(item.member));
        }
        let redriven = letter.is_some_and(|letter| letter.redrive > 0);
        if !redriven && (sequence <= group.lanes[lane].cursor || group.gone.contains(&sequence)) {
            return Answer::done(self.at, 0);
        }
        if let Some(letter) = letter.filter(|_| !redriven) {
            return Answer::parked(self.at, letter.attempts);
        }
        group.failed += 1;
        let before = match (letter, group.failing.get(&lane)) {
            (Some(letter), _) => letter.attempts,
            (None, Some((failing, attempts, _))) if *failing == sequence => *attempts,
            _ => 0,
        };
        let (attempts, limit) = (before + 1, group.terms.attempts_max);
        let is_last = redriven || item.for_good || (limit > 0 && attempts >= limit);
        if is_last && (redriven || group.letters.len() + group.gone.len() < DEAD_MAX) {
            let (died_ms, cause) = (self.at.time_ms, item.cause);
            group.letters.insert(sequence, Letter { event, attempts, died_ms, cause, redrive: 0 });
            group.failing.retain(|_, (failing, ..)| *failing != sequence);
            if let Some(reason) = group.terms.cancel_dead {
                self.cancel_dead(&event, reason);
            }
            return Answer::parked(self.at, attempts);
        }
        let mut delay_ms = u64::from(item.delay_ms.min(RETRY_MS_MAX));
        if delay_ms == 0 {
            delay_ms = u64::from(group.terms.retry_ms);
            for _ in 1..attempts.min(100) {
                delay_ms = (delay_ms * 2).min(u64::from(group.terms.retry_ms_max));
            }
        }
        let retry_ms = self.at.time_ms + delay_ms;
        if group.failing.get(&lane).is_none_or(|(first, ..)| *first >= sequence) {
            group.failing.insert(lane, (sequence, attempts, retry_ms));
        }
        Answer::retried(self.at, attempts, retry_ms)
    }

    fn cancel_dead(&mut self, event: &EventView, reason: u32) {
        let Some(outcome) = self.outcomes.get(&event.id.0).copied() else { return };
        let is_it = event.kind == EventKind::Reserved
            && outcome.state == State::Held
            && outcome.time_ms > self.at.time_ms
            && outcome.sequence == event.sequence
            && (outcome.product, outcome.user) == (event.product.0, event.user.0)
            && u64::from(outcome.quantity) == event.quantity;
        if is_it {
            self.give_back(event.id.0, Change::Cancelled { reason }, State::Cancelled, self.at.time_ms);
            self.outcomes.get_mut(&event.id.0).unwrap().reason = reason;
        }
    }

    /// What somebody hears whom a group keeps waiting.
    pub(super) fn queue(&self, product: u64) -> Option<Answer> {
        let waits = self.groups.iter().filter(|group| {
            let most = group.terms.required_lag_max;
            most > 0 && self.sequence - group.cursor() >= most && group.wants(product)
        });
        let slowest = waits.map(Consumers::cursor).min()?;
        Some(Answer::queueing(self.sequence - slowest + 1, 0))
    }

    /// Whether what may be read of groups is what this says.
    pub(crate) fn compare_groups<'a>(&self, groups: impl Iterator<Item = &'a Group>) {
        let groups: Vec<&Group> = groups.collect();
        assert_eq!(groups.len(), self.groups.len());
        for (group, mine) in groups.into_iter().zip(&self.groups) {
            self.compare_group(group, mine);
        }
    }

    fn compare_group(&self, group: &Group, mine: &Consumers) {
        let view = group.view();
        assert_eq!((group.id(), group.name(), *group.terms()), (mine.id, mine.name, mine.terms));
        assert_eq!((view.cursor, view.epoch, view.failed), (mine.cursor(), mine.epoch, mine.failed));
        assert_eq!((view.members as usize, view.dead as usize), (mine.members.len(), mine.letters.len()));
        for (seat, (number, since)) in group.members().zip(&mine.members) {
            let cursor = mine.lanes_of(*number).iter().map(|at| mine.lanes[*at].cursor).min().unwrap();
            assert_eq!((seat.member, seat.since, seat.cursor), (*number, *since, cursor));
            assert_eq!((seat.lanes, group.lanes_of(*number)), (mine.mask_of(*number), seat.lanes));
        }
        for lane in 0..64 {
            assert_eq!(group.cursor(lane), mine.lanes[lane as usize].cursor);
            let failing = group.failing(lane).map(|it| (it.sequence, it.attempts, it.retry_ms));
            assert_eq!(failing, mine.failing.get(&(lane as usize)).copied());
        }
        for sequence in 0..=self.sequence {
            let dead = mine.letters.contains_key(&sequence) || mine.gone.contains(&sequence);
            assert_eq!(group.is_dead(sequence), dead, "event {sequence}");
        }
        let letters = group.letters_from(0).map(|letter| {
            let event = letter.event.view().unwrap();
            (event, letter.attempts, letter.died_ms, letter.cause, letter.redrive)
        });
        let mine_all = mine.letters.values();
        let mine_all = mine_all.map(|it| (it.event, it.attempts, it.died_ms, it.cause, it.redrive));
        assert_eq!(letters.collect::<Vec<_>>(), mine_all.collect::<Vec<_>>());
        let mut again: Vec<u64> = mine.letters.values().map(|it| it.redrive).filter(|it| *it > 0).collect();
        again.sort_unstable();
        assert_eq!(group.redriven(0, u64::MAX).map(|it| it.redrive).collect::<Vec<_>>(), again);
    }
}
