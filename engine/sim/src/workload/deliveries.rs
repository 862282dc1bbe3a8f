//! What members of a group do with what they get: effects, acknowledgements, failures.
//!
//! Deliberately not here: when they ask for it (`consumers`).

use std::collections::BTreeMap;

use sluice_core::fault::{self, Mutant};
use sluice_protocol::Status;
use sluice_protocol::event::lane_of;
use sluice_protocol::seat::{AckItem, NakItem, SeatItem};

use super::consumers::{Consumers, MS_US, Seat};
use crate::coverage::{Coverage, Path};
use sluice_judges::consume::Consume;
use sluice_judges::history::Delivery;

impl Consumers {
    /// A fetch is answered. How long until the next step.
    pub(super) fn delivered(
        &mut self,
        at: usize,
        delivery: &Delivery,
        nodes: &[u64],
        coverage: &mut Coverage,
    ) -> u64 {
        let answer = delivery.head.answer;
        let shop = self.actors[at].shop;
        let Some(seat) = self.actors[at].seat.clone() else { return MS_US };
        let [upto, last, _] = answer.numbers();
        match answer.status() {
            Some(Status::Busy | Status::NotLeader | Status::Unknown) => {
                return self.turned_away(at, &answer, nodes);
            }
            Some(Status::Gap) => {
                coverage.hit(Path::GapTold);
                let table = &mut self.shops[shop].stores.entry(seat.group).or_default().table;
                table.excused = table.excused.max(upto - 1);
                if let Some(seat) = &mut self.actors[at].seat {
                    seat.after = upto - 1;
                }
                return MS_US;
            }
            Some(Status::Done) => {}
            _ => {
                self.actors[at].seat = None;
                return 100 * MS_US;
            }
        }
        self.shops[shop].last = self.shops[shop].last.max(last);
        let (epoch, lanes) = (delivery.head.epoch(), delivery.head.lanes());
        if epoch != seat.epoch {
            coverage.hit(Path::EpochChanged);
            let actor = &mut self.actors[at];
            actor.outbox.clear();
            let fresh =
                Seat { epoch, lanes, after: 0, acked: 0, redriven: 0, waits: BTreeMap::new(), ..seat };
            // Somebody who lags may be asked before somebody who knows.
            actor.seat = (epoch > seat.epoch).then_some(fresh);
            return MS_US;
        }
        let Some(seat) = self.carry_out(at, seat, delivery) else {
            coverage.hit(Path::Fenced);
            self.actors[at].seat = None;
            self.actors[at].outbox.clear();
            return MS_US;
        };
        self.actors[at].seat = Some(seat);
        self.random.spread(1, 200) * MS_US
    }

    /// Gives events their effects, and decides what is said of them. `None`: somebody of a later epoch was here.
    fn carry_out(&mut self, at: usize, mut seat: Seat, delivery: &Delivery) -> Option<Seat> {
        let Self { random, shops, actors, is_healed, .. } = self;
        let actor = &mut actors[at];
        let store = shops[actor.shop].stores.entry(seat.group).or_default();
        let (number, epoch) = (SeatItem::new(seat.group, actor.number), seat.epoch);
        let fails_one_in = if *is_healed { 0 } else { 30 };
        let early = fault::is_on(Mutant::CursorBeforeEffect) && random.chance(1, 20);
        let mut held = Vec::new();
        for event in &delivery.events {
            let (sequence, lane) = (event.sequence(), lane_of(event.product()));
            let fails = fails_one_in != 0 && random.chance(1, fails_one_in);
            if seat.waits.contains_key(&lane) && !event.is_redriven() {
                continue;
            }
            if fails {
                let nak = NakItem::new(number, epoch, *event, 9);
                let nak = if random.chance(1, 5) { nak.for_good() } else { nak };
                actor.outbox.push_back(Consume::Nak(nak));
                if !event.is_redriven() {
                    seat.waits.insert(lane, sequence);
                    held.push((lane, sequence - 1));
                    actor.patience = random.between(1, 4) as u32;
                }
                continue;
            }
            let (cursor, writer) = store.lanes.get(&lane).copied().unwrap_or((0, 0));
            if writer > epoch {
                return None;
            }
            if event.is_redriven() {
                store.again.insert(sequence);
                store.table.effects.entry(sequence).or_insert(1);
                actor.outbox.push_back(Consume::Ack(AckItem::new(number, epoch, 0, sequence)));
                store.lanes.insert(lane, (cursor, epoch));
                continue;
            }
            if sequence > cursor {
                // After a seek a dead letter may come in its place once more.
                if !early && !store.again.contains(&sequence) {
                    *store.table.effects.entry(sequence).or_default() += 1;
                }
                store.lanes.insert(lane, (sequence, epoch));
            }
        }
        let [upto, ..] = delivery.head.answer.numbers();
        (seat.after, seat.redriven) = (upto, delivery.head.redriven());
        let waiting = seat.waits.keys().fold(0_u64, |mask, lane| mask | 1 << lane);
        if upto > seat.acked && seat.lanes & !waiting != 0 {
            actor.outbox.push_back(Consume::Ack(AckItem::new(number, epoch, seat.lanes & !waiting, upto)));
            seat.acked = upto;
        }
        for (lane, before) in held {
            actor.outbox.push_back(Consume::Ack(AckItem::new(number, epoch, 1 << lane, before)));
        }
        Some(seat)
    }
}
