//! What members of consumer groups get, and what becomes of it: a delivery is exactly what its group, as it was at the
//! delivery's index, has for that member; and in the end each wanted event has its effect exactly once.
//!
//! Lanes, epochs, cursors and dead letters are the model's: a real group that differs is noticed where it is applied.
//! Deliberately not here: whether an event is what happened (`stream`).

use std::collections::BTreeMap;

use sluice_protocol::Status;
use sluice_protocol::event::{EventRecord, LANES, lane_of};

use super::setup::violation;
use super::{Violation, stream};
use crate::history::Delivery;
use crate::model::{Group, Timeline};

/// What consumers of a group made of its events, in a store of their own.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// How often each event had its effect.
    pub effects: BTreeMap<u64, u32>,
    /// Up to here some may lack theirs: the group was moved, or told of a gap.
    pub excused: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Groups {
    /// Deliveries and effects looked at.
    pub checks: u64,
}

impl Groups {
    /// A node answers a fetch.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn delivered(
        &mut self,
        node: u64,
        delivery: &Delivery,
        stream: &mut stream::Stream,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        self.checks += 1;
        let Delivery { item, head, events } = delivery;
        let at = head.answer.at();
        let (seat, status) = (item.seat, head.answer.status());
        if head.answer.status_byte() >= Status::Busy as u8 {
            return Ok(());
        }
        if at.index > timeline.top() || timeline.at(at.index) != at {
            return violation!("groups", "node {node} delivers as of {at:?}, which is not so");
        }
        events.iter().try_for_each(|event| stream.look(node, "delivers", event, timeline))?;
        let group = match seat.group() {
            0 => None,
            id => match timeline.group(id, at.index) {
                None if status == Some(Status::UnknownGroup) => return Ok(()),
                None => return violation!("groups", "node {node}: {head:?} of group {id}, which is none"),
                Some(group) => Some(&**group),
            },
        };
        let is_member = group.is_none_or(|group| group.has_member(seat.member()));
        if !is_member || status == Some(Status::NotMember) {
            return if is_member == (status != Some(Status::NotMember)) {
                Ok(())
            } else {
                violation!("groups", "node {node}: {head:?} to {item:?}; a member: {is_member}")
            };
        }
        let (epoch, lanes) =
            group.map_or((0, u64::MAX), |group| (group.epoch, group.lanes_of(seat.member())));
        if (head.epoch(), head.lanes()) != (epoch, lanes) {
            return violation!(
                "groups",
                "node {node}: {head:?} to {item:?}; it is epoch {epoch}, lanes {lanes:x}"
            );
        }
        let [told, last, first] = head.answer.numbers();
        if status == Some(Status::Gap) {
            return stream.begins(node, told);
        }
        stream.begins(node, first)?;
        let happened = timeline.step(at.index).map_or(0, |step| step.sequence);
        // A node that lags may be asked for what comes behind all that it knows.
        if last > happened || told > last.max(item.looked_through()) {
            return violation!("groups", "node {node}: {head:?}, and event {happened} was the last");
        }
        if epoch != item.epoch() {
            return match events.is_empty() {
                true => Ok(()),
                false => violation!("groups", "node {node} delivers to epoch {}: {head:?}", item.epoch()),
            };
        }
        complete(node, delivery, group, lanes, timeline)
    }

    /// In the end: what was acknowledged has had its effect, once.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn quiet<'a>(
        &mut self,
        tables: impl Iterator<Item = (u32, &'a Table)>,
        timeline: &Timeline,
    ) -> Result<(), Violation> {
        for (id, table) in tables {
            if let Some((sequence, count)) = table.effects.iter().find(|(_, count)| **count != 1) {
                return violation!("groups", "event {sequence} had its effect {count} times in group {id}");
            }
            let Some(group) = timeline.group(id, timeline.top()) else { continue };
            let from = table.excused.max(group.began) + 1;
            for event in (from..=timeline.last_event()).filter_map(|sequence| timeline.event(sequence)) {
                self.checks += 1;
                let is_due = group.wants(event) && !group.was_dead.contains(&event.sequence);
                let cursor = group.lanes[lane_of(event.product) as usize].cursor;
                if !is_due || event.sequence > cursor || table.effects.contains_key(&event.sequence) {
                    continue;
                }
                return violation!(
                    "groups",
                    "event {} is acknowledged in group {id}, and never had its effect",
                    event.sequence
                );
            }
        }
        Ok(())
    }
}

/// Whether nothing is in a delivery that is not the member's, and nothing of it is left out.
fn complete(
    node: u64,
    delivery: &Delivery,
    group: Option<&Group>,
    lanes: u64,
    timeline: &Timeline,
) -> Result<(), Violation> {
    let Delivery { item, head, events } = delivery;
    let own = (0..LANES).filter(|lane| lanes >> lane & 1 == 1);
    let begins =
        group.map_or(0, |group| own.map(|lane| group.lanes[lane as usize].cursor).min().unwrap_or(0));
    let (after, [upto, ..]) = (item.looked_through().max(begins), head.answer.numbers());
    let (again, in_place): (Vec<&EventRecord>, Vec<&EventRecord>) =
        events.iter().partition(|event| event.is_redriven());
    let mine = (after + 1..=upto).filter_map(|sequence| timeline.event(sequence));
    let mine = mine.filter(|event| group.is_none_or(|group| group.delivers(event, lanes)));
    let right: Vec<u64> = mine.map(|event| event.sequence).collect();
    let got: Vec<u64> = in_place.iter().map(|event| event.sequence()).collect();
    if got != right {
        return violation!(
            "groups",
            "node {node} delivers {got:?} between {after} and {upto}, and it should be {right:?}: {item:?}"
        );
    }
    let Some(group) = group else { return Ok(()) };
    let failed = |event: &EventRecord| match group.letters.get(&event.sequence()) {
        Some(letter) => letter.attempts,
        None => {
            let failing = group.failing.get(&lane_of(event.product()));
            failing.filter(|failing| failing.0 == event.sequence()).map_or(0, |failing| failing.1)
        }
    };
    if let Some(event) = events.iter().find(|event| u32::from(event.attempts()) != failed(event).min(255)) {
        return violation!(
            "groups",
            "node {node} says that event {} failed {} times",
            event.sequence(),
            event.attempts()
        );
    }
    let is_again = |event: &&&EventRecord| {
        let letter = group.letters.get(&event.sequence());
        letter
            .is_none_or(|letter| letter.redrive <= item.after_redriven() || letter.redrive > head.redriven())
    };
    match again.iter().find(is_again) {
        None => Ok(()),
        Some(event) => {
            violation!("groups", "node {node} redelivers event {}: nobody asked", event.sequence())
        }
    }
}
