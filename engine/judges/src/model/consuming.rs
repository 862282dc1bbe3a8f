//! What is asked of consumer groups, and what it does.

use std::sync::Arc;

use sluice_core::ledger::groups::DEAD_MAX;
use sluice_core::ledger::settings::FULL_RETRY_MS;
use sluice_protocol::event::{EventKind, EventView, LANES, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::limits::{GROUPS_MAX, MEMBERS_MAX, RETRY_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN};
use sluice_protocol::response::RefusedField;
use sluice_protocol::seat::{AckItem, NakItem};
use sluice_protocol::{Answer, State as Standing, Status};

use super::groups::{Group, Letter};
use super::turn::Turn;
use crate::consume::Consume;

impl Turn<'_> {
    /// Carries out what is asked of a group.
    pub(super) fn consume(&mut self, asked: &Consume) -> Answer {
        let found = match asked {
            Consume::Put(name, after, terms) => return self.put_group(*name, *after, *terms),
            Consume::Remove(name) | Consume::Seek(name, _) | Consume::Join(name, _) => {
                self.state.groups.values().find(|group| group.name == *name).map(|group| group.id)
            }
            Consume::Leave(id, _) | Consume::Redrive(id, _) | Consume::Drop(id, _) => Some(*id),
            Consume::Ack(item) => Some(item.seat.group()),
            Consume::Nak(item) => Some(item.seat.group()),
        };
        let Some(id) = found.filter(|id| self.state.groups.contains_key(id)) else {
            return Answer::plain(self.at, Status::UnknownGroup);
        };
        self.changed.groups.insert(id);
        match asked {
            Consume::Put(..) => unreachable!("it was answered above"),
            Consume::Remove(_) => {
                self.state.groups.remove(&id);
                Answer::done(self.at, 0)
            }
            Consume::Seek(_, after) => self.seek(id, *after),
            Consume::Join(_, member) => self.join(id, *member),
            Consume::Leave(_, member) => {
                let group = self.group(id);
                if group.has_member(*member) {
                    group.seat(*member, false);
                }
                Answer::done(self.at, 0)
            }
            Consume::Ack(item) => self.ack(id, item),
            Consume::Nak(item) => self.nak(id, item),
            Consume::Redrive(_, sequence) | Consume::Drop(_, sequence) => {
                let group = self.group(id);
                if !group.letters.contains_key(sequence) {
                    return Answer::plain(self.at, Status::UnknownDead);
                }
                if matches!(asked, Consume::Drop(..)) {
                    group.remove_letter(*sequence);
                } else {
                    group.redrives += 1;
                    let number = group.redrives;
                    group.letters.get_mut(sequence).expect("it was just seen").redrive = number;
                }
                Answer::done(self.at, 0)
            }
        }
    }

    fn group(&mut self, id: u32) -> &mut Group {
        Arc::make_mut(self.state.groups.get_mut(&id).expect("it was just seen"))
    }

    fn put_group(&mut self, name: GroupName, after: u64, terms: GroupTerms) -> Answer {
        if !name.is_sound() {
            return Answer::invalid(self.at, RefusedField::GroupName, 0, 0, 0);
        }
        if let Some((field, value, low, high)) = refused(&terms) {
            return Answer::invalid(self.at, field, value, low, high);
        }
        let found = self.state.groups.values().find(|group| group.name == name).map(|group| group.id);
        let id = match found {
            Some(id) => {
                self.group(id).terms = terms;
                id
            }
            None if self.state.groups.len() == GROUPS_MAX => return Answer::full(self.at, FULL_RETRY_MS),
            None => {
                self.state.last_group += 1;
                let id = self.state.last_group;
                let cursor = after.min(self.state.sequence);
                self.state.groups.insert(id, Arc::new(Group::new(id, name, terms, cursor)));
                id
            }
        };
        self.changed.groups.insert(id);
        Answer::grouped(self.at, id, self.state.groups[&id].cursor(), 0)
    }

    fn seek(&mut self, id: u32, after: u64) -> Answer {
        if after > self.state.sequence {
            return Answer::invalid(self.at, RefusedField::Sequence, after, 0, self.state.sequence);
        }
        let group = self.group(id);
        group.epoch += 1;
        let epoch = group.epoch;
        group.lanes.iter_mut().for_each(|lane| (lane.cursor, lane.since) = (after, epoch));
        group.failing.clear();
        group.gone.clear();
        Answer::grouped(self.at, id, after, 0)
    }

    fn join(&mut self, id: u32, member: u64) -> Answer {
        if member == 0 {
            return Answer::invalid(self.at, RefusedField::Member, 0, 1, u64::MAX);
        }
        let group = self.group(id);
        if !group.has_member(member) {
            if group.members.len() == MEMBERS_MAX {
                return Answer::full(self.at, FULL_RETRY_MS);
            }
            group.seat(member, true);
        }
        let (epoch, lanes) = (group.epoch, group.lanes_of(member));
        Answer::grouped(self.at, id, epoch, lanes)
    }

    fn ack(&mut self, id: u32, item: &AckItem) -> Answer {
        let (at, last) = (self.at, self.state.sequence);
        let (member, epoch, upto) = (item.seat.member(), item.epoch(), item.upto());
        if upto > last {
            return Answer::invalid(at, RefusedField::Sequence, upto, 0, last);
        }
        let group = self.group(id);
        let stranger = Answer::not_member(at, group.epoch, group.lanes_of(member));
        if item.lanes() == 0 {
            let letter = group.letters.get(&upto).filter(|letter| letter.redrive > 0);
            let Some(letter) = letter else { return Answer::plain(at, Status::UnknownDead) };
            if !group.may_speak(member, epoch, lane_of(letter.event.product)) {
                return stranger;
            }
            group.remove_letter(upto);
            return Answer::done(at, 0);
        }
        let mut answer = Answer::done(at, 0);
        for lane in (0..LANES).filter(|lane| item.lanes() >> lane & 1 == 1) {
            if !group.may_speak(member, epoch, lane) {
                answer = stranger;
                continue;
            }
            let cursor = &mut group.lanes[lane as usize].cursor;
            *cursor = upto.max(*cursor);
            if group.failing.get(&lane).is_some_and(|(sequence, ..)| *sequence <= upto) {
                group.failing.remove(&lane);
            }
        }
        let passed = group.cursor();
        group.gone.retain(|sequence| *sequence > passed);
        answer
    }

    fn nak(&mut self, id: u32, item: &NakItem) -> Answer {
        let (at, last) = (self.at, self.state.sequence);
        let sequence = item.event.sequence();
        let Some(told) = item.event.view().filter(|_| (1..=last).contains(&sequence)) else {
            return Answer::invalid(at, RefusedField::Event, sequence, 1, last);
        };
        let group = self.group(id);
        let letter = group.letters.get(&sequence).copied();
        let event = letter.map_or(told, |letter| letter.event);
        let lane = lane_of(event.product);
        if !group.may_speak(item.seat.member(), item.epoch(), lane) {
            return Answer::not_member(at, group.epoch, group.lanes_of(item.seat.member()));
        }
        let is_again = letter.is_some_and(|letter| letter.redrive > 0);
        if !is_again && (sequence <= group.lanes[lane as usize].cursor || group.gone.contains(&sequence)) {
            return Answer::done(at, 0);
        }
        if let Some(letter) = letter.filter(|_| !is_again) {
            return Answer::parked(at, letter.attempts);
        }
        let before = match letter {
            Some(letter) => letter.attempts,
            None => group.failing.get(&lane).filter(|first| first.0 == sequence).map_or(0, |first| first.1),
        };
        group.failed += 1;
        let attempts = before + 1;
        let dies = item.is_for_good() || (1..=attempts).contains(&group.terms.attempts_max);
        if is_again || (dies && group.letters.len() + group.gone.len() < DEAD_MAX) {
            let letter = Letter { event, attempts, died_ms: at.time_ms, cause: item.cause(), redrive: 0 };
            group.letters.insert(sequence, letter);
            group.was_dead.insert(sequence);
            group.failing.retain(|_, (failing, ..)| *failing != sequence);
            if let Some(reason) = group.terms.cancel_dead {
                self.cancel_dead(&event, reason);
            }
            return Answer::parked(at, attempts);
        }
        let delay_ms = match item.delay_ms() {
            0 => (1..attempts.min(64)).fold(u64::from(group.terms.retry_ms), |delay_ms, _| {
                (2 * delay_ms).min(u64::from(group.terms.retry_ms_max))
            }),
            delay_ms => u64::from(delay_ms.min(RETRY_MS_MAX)),
        };
        let retry_ms = at.time_ms + delay_ms;
        if group.failing.get(&lane).is_none_or(|(first, ..)| *first >= sequence) {
            group.failing.insert(lane, (sequence, attempts, retry_ms));
        }
        Answer::retried(at, attempts, retry_ms)
    }

    /// Cancels what a dead letter tells of, if it is held as it says.
    fn cancel_dead(&mut self, event: &EventView, reason: u32) {
        let Some(record) = self.state.records.get_mut(&event.id.0) else { return };
        let told = (event.sequence, event.product.0, event.user.0, event.quantity);
        let held = (record.sequence, record.product, record.user, u64::from(record.quantity));
        let is_held = record.state == Standing::Held && !record.is_due(self.at.time_ms);
        if event.kind == EventKind::Reserved && is_held && told == held {
            record.reason = reason;
            self.end_hold(event.id.0, Standing::Cancelled, self.at.time_ms);
        }
    }

    /// The place in line of a reservation that a group keeps waiting.
    pub(super) fn queue(&self, product: u64) -> Option<u64> {
        let last = self.state.sequence;
        let lags = self.state.groups.values().filter_map(|group| {
            let (most, lag) = (group.terms.required_lag_max, last - group.cursor());
            (most > 0 && lag >= most && group.wants_product(product.into())).then_some(lag)
        });
        lags.max().map(|lag| lag + 1)
    }
}

/// What is wrong with terms: the field, its value, and what is allowed.
fn refused(terms: &GroupTerms) -> Option<(RefusedField, u64, u64, u64)> {
    let kinds = EventKind::all();
    if terms.kinds & !kinds != 0 {
        return Some((RefusedField::EventKinds, u64::from(terms.kinds), 0, u64::from(kinds)));
    }
    let rows = [
        (RefusedField::SessionMs, terms.session_ms, SESSION_MS_MIN, SESSION_MS_MAX),
        (RefusedField::RetryMs, terms.retry_ms, 1, RETRY_MS_MAX),
        (RefusedField::RetryMs, terms.retry_ms_max, terms.retry_ms, RETRY_MS_MAX),
    ];
    let wrong = rows.into_iter().find(|(_, value, low, high)| value < low || value > high)?;
    Some((wrong.0, u64::from(wrong.1), u64::from(wrong.2), u64::from(wrong.3)))
}
