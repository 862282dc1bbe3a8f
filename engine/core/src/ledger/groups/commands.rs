//! What may be asked of groups, one command each, and what each is answered.
//!
//! Groups are made, joined and sought by name, because people do that; all else names the number that a join told, which
//! no later group of the same name has. A command may be sent again because its answer was lost. Only a failed delivery then
//! counts twice, a redrive goes behind later ones, and a seek raises the epoch once more.
//!
//! Deliberately not here: who may ask, and when a member that is silent has left. A leader that misses one says so by the
//! same command as the member would.

use sluice_protocol::event::{EventKind, EventRecord, EventView, lane_of};
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::limits::{MEMBERS_MAX, RETRY_MS_MAX};
use sluice_protocol::{Answer, RefusedField, Status};
use zerocopy::FromBytes;

use super::group::{Failing, Group};
use super::letters::Letter;
use super::terms;
use crate::fault::{self, Mutant};
use crate::ledger::command::{ArchivedAck, ArchivedConsume, ArchivedNak, ArchivedNamed, ArchivedPutGroup};
use crate::ledger::effect::Effects;
use crate::ledger::turn::Turn;

impl<E: Effects> Turn<'_, E> {
    pub(in crate::ledger) fn consume(&mut self, ask: &ArchivedConsume) -> Answer {
        match ask {
            ArchivedConsume::Put(put) => self.put_group(put),
            ArchivedConsume::Remove(named) => self.named(named, Self::remove_group),
            ArchivedConsume::Seek(named) => self.named(named, Self::seek_group),
            ArchivedConsume::Join(named) => self.named(named, Self::join_group),
            ArchivedConsume::Leave(ask) => self.leave_group(ask.group.to_native(), ask.number.to_native()),
            ArchivedConsume::Ack(ask) => self.ack(ask),
            ArchivedConsume::Nak(ask) => self.nak(ask),
            ArchivedConsume::Redrive(ask) => {
                self.on_letter(ask.group.to_native(), ask.number.to_native(), Group::redrive)
            }
            ArchivedConsume::Drop(ask) => {
                self.on_letter(ask.group.to_native(), ask.number.to_native(), Group::drop_letter)
            }
        }
    }

    fn put_group(&mut self, put: &ArchivedPutGroup) -> Answer {
        let (name, terms) = (GroupName::from(put.name), GroupTerms::from(&put.terms));
        if !name.is_sound() {
            return Answer::invalid(self.at, RefusedField::GroupName, 0, 0, 0);
        }
        if let Some((field, value, low, high)) = terms::out_of_range(&terms) {
            return Answer::invalid(self.at, field, value, low, high);
        }
        let groups = &mut self.ledger.groups;
        let found = groups.by_name(name).map(|group| (group.id(), *group.terms()));
        let id = match found {
            Some((id, was)) => {
                if was != terms {
                    groups.change(id).terms = terms;
                    groups.look_who_is_required();
                }
                id
            }
            None => {
                let Some(id) = groups.next_id() else { return self.full() };
                let cursor = put.after.to_native().min(self.ledger.sequence);
                groups.insert(Group::new(id, name, terms, cursor));
                id
            }
        };
        self.grouped(id)
    }

    /// Carries out what names a group and a number.
    fn named(&mut self, ask: &ArchivedNamed, carry_out: fn(&mut Self, u32, u64) -> Answer) -> Answer {
        match self.ledger.groups.by_name(GroupName::from(ask.name)).map(|group| group.id()) {
            Some(id) => carry_out(self, id, ask.number.to_native()),
            None => self.unknown_group(),
        }
    }

    fn remove_group(&mut self, id: u32, _: u64) -> Answer {
        self.ledger.groups.remove(id);
        Answer::done(self.at, 0)
    }

    fn seek_group(&mut self, id: u32, after: u64) -> Answer {
        if after > self.ledger.sequence {
            return self.beyond(after);
        }
        self.ledger.groups.change(id).seek(after);
        self.grouped(id)
    }

    fn join_group(&mut self, id: u32, member: u64) -> Answer {
        if member == 0 {
            return Answer::invalid(self.at, RefusedField::Member, 0, 1, u64::MAX);
        }
        let group = self.group_of(id);
        if !group.has_member(member) {
            if group.members().len() == MEMBERS_MAX {
                return self.full();
            }
            self.ledger.groups.change(id).join(member);
        }
        let group = self.group_of(id);
        Answer::grouped(self.at, id, group.epoch(), group.lanes_of(member))
    }

    fn leave_group(&mut self, id: u32, member: u64) -> Answer {
        let Some(group) = self.ledger.groups.get(id) else { return self.unknown_group() };
        if group.has_member(member) {
            self.ledger.groups.change(id).leave(member);
        }
        Answer::done(self.at, 0)
    }

    fn ack(&mut self, ask: &ArchivedAck) -> Answer {
        let (id, upto) = (ask.group.to_native(), ask.upto.to_native());
        let (member, epoch) = (ask.member.to_native(), ask.epoch.to_native());
        let Some(group) = self.ledger.groups.get(id) else { return self.unknown_group() };
        if upto > self.ledger.sequence {
            return self.beyond(upto);
        }
        let (asked, granted) = (ask.lanes.to_native(), group.granted(member, epoch));
        if asked == 0 {
            return self.ack_letter(id, member, granted, upto);
        }
        let answer = match asked & !granted {
            0 => Answer::done(self.at, 0),
            _ => self.not_member(group, member),
        };
        let lanes = asked & granted;
        if group.would_advance(lanes, upto) || fault::is_on(Mutant::CursorGoesBack) {
            self.ledger.groups.change(id).advance(lanes, upto);
        }
        answer
    }

    /// A dead letter that was delivered again is done with.
    fn ack_letter(&mut self, id: u32, member: u64, granted: u64, sequence: u64) -> Answer {
        let group = self.group_of(id);
        let Some(letter) = group.letter(sequence).filter(|letter| letter.redrive != 0) else {
            return Answer::plain(self.at, Status::UnknownDead);
        };
        if granted >> lane_of(letter.event.product()) & 1 == 0 {
            return self.not_member(group, member);
        }
        self.ledger.groups.change(id).drop_letter(sequence);
        Answer::done(self.at, 0)
    }

    /// A delivery failed.
    fn nak(&mut self, ask: &ArchivedNak) -> Answer {
        let id = ask.group.to_native();
        let Some(group) = self.ledger.groups.get(id) else { return self.unknown_group() };
        let event =
            EventRecord::read_from_bytes(&ask.event).expect("an event's bytes are as many as an event has");
        let (sequence, last) = (event.sequence(), self.ledger.sequence);
        let Some(told) = event.view().filter(|_| (1..=last).contains(&sequence)) else {
            return Answer::invalid(self.at, RefusedField::Event, sequence, 1, last);
        };
        let letter = group.letter(sequence).copied();
        // Of a letter the group has what was delivered; what comes back from outside does not replace it.
        let event = letter.map_or(EventRecord::from(told), |letter| letter.event);
        let (member, lane) = (ask.member.to_native(), lane_of(event.product()));
        if group.granted(member, ask.epoch.to_native()) >> lane & 1 == 0 {
            return self.not_member(group, member);
        }
        if let Some(letter) = letter.filter(|letter| letter.redrive != 0) {
            return self.park(id, &event, letter.attempts.saturating_add(1), ask.cause.to_native());
        }
        if sequence <= group.cursor(lane) {
            return Answer::done(self.at, 0);
        }
        if group.is_dead(sequence) {
            return letter
                .map_or(Answer::done(self.at, 0), |letter| Answer::parked(self.at, letter.attempts));
        }
        let attempts = group.attempts(lane, sequence).saturating_add(1);
        let attempts_max = group.terms().attempts_max;
        let dies = ask.for_good || (attempts_max != 0 && attempts >= attempts_max);
        if dies && (group.letters.has_room() || fault::is_on(Mutant::LetterLost)) {
            return self.park(id, &event, attempts, ask.cause.to_native());
        }
        let delay_ms = match ask.delay_ms.to_native() {
            0 => terms::backoff_ms(group.terms(), attempts),
            delay_ms => u64::from(delay_ms.min(RETRY_MS_MAX)),
        };
        let retry_ms = self.at.time_ms.saturating_add(delay_ms);
        self.ledger.groups.change(id).fail(lane, Failing { sequence, attempts, retry_ms });
        Answer::retried(self.at, attempts, retry_ms)
    }

    /// Gives a delivery up: its event is a dead letter, and what it tells of is cancelled if the terms say so.
    fn park(&mut self, id: u32, event: &EventRecord, attempts: u32, cause: u32) -> Answer {
        let letter = Letter { event: *event, attempts, died_ms: self.at.time_ms, cause, redrive: 0 };
        let group = self.ledger.groups.change(id);
        group.park(letter);
        let reason = group.terms().cancel_dead;
        if let (Some(reason), Some(event)) = (reason, event.view()) {
            self.cancel_dead(&event, reason);
        }
        Answer::parked(self.at, attempts)
    }

    /// Cancels the reservation that an event tells of, as a client would, if it is still held.
    fn cancel_dead(&mut self, event: &EventView, reason: u32) {
        if event.kind != EventKind::Reserved {
            return;
        }
        let Some(slot) = self.ledger.records.find(event.id.0) else { return };
        let record = self.ledger.records.get(slot);
        if !record.is_held_at(self.at.time_ms) {
            return;
        }
        let product = self.ledger.products.get(record.product).id;
        // The bytes come from a client. An id may also be another reservation's by now.
        let told = (event.sequence, event.product.0, event.user.0, event.quantity);
        if told == (record.sequence, product, record.user, u64::from(record.quantity)) {
            self.give_back(slot, reason);
        }
    }

    /// Carries out what names a dead letter.
    fn on_letter(&mut self, id: u32, sequence: u64, carry_out: fn(&mut Group, u64)) -> Answer {
        let Some(group) = self.ledger.groups.get(id) else { return self.unknown_group() };
        if group.letter(sequence).is_none() {
            return Answer::plain(self.at, Status::UnknownDead);
        }
        carry_out(self.ledger.groups.change(id), sequence);
        Answer::done(self.at, 0)
    }

    /// A group that was found.
    fn group_of(&self, id: u32) -> &Group {
        self.ledger.groups.get(id).expect("a group that was found is there")
    }

    /// A group was made, changed or moved.
    fn grouped(&self, id: u32) -> Answer {
        Answer::grouped(self.at, id, self.group_of(id).min_cursor(), 0)
    }

    fn unknown_group(&self) -> Answer {
        Answer::plain(self.at, Status::UnknownGroup)
    }

    fn not_member(&self, group: &Group, member: u64) -> Answer {
        Answer::not_member(self.at, group.epoch(), group.lanes_of(member))
    }

    /// No event has this sequence yet.
    fn beyond(&self, sequence: u64) -> Answer {
        Answer::invalid(self.at, RefusedField::Sequence, sequence, 0, self.ledger.sequence)
    }
}
