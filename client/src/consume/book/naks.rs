//! Deliveries that failed: what the server is told, and when they are handed out again.
//!
//! Of a lane only the first that has failed is told and handed out again: what is behind it must wait for it anyway, and a
//! group counts the failures of one event of a lane at a time. Dead letters that are delivered again wait for nothing.

use std::sync::Arc;
use std::time::Duration;

use sluice_protocol::Status;
use sluice_protocol::response::Answer;
use sluice_protocol::seat::NakItem;
use tokio::time::Instant;

use super::lane::{Open, Stage};
use super::{Book, Note, Verdict, lane_index};
use crate::consume::delivery::CAUSE_TIMED_OUT;
use crate::consume::sheet::{Sheet, Slot};

/// Failed deliveries that are told at a time.
const NAKS_MAX: usize = 256;

/// How long a delivery waits whose failure the server did not want to know.
const UNTOLD: Duration = Duration::from_secs(1);

/// Where an event stands that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Lane(usize, usize),
    Redriven(usize),
}

impl Book {
    /// A delivery is given back. `false`: it was taken away before.
    pub(crate) fn failed(&mut self, sheet: &Arc<Sheet>, at: usize, verdict: Verdict, now: Instant) -> bool {
        if !sheet.turn(at, Slot::Out, Slot::Failed) {
            return false;
        }
        let event = &sheet.events[at];
        let nth = lane_index(event);
        let is_this = |open: &Open| open.at == at && Arc::ptr_eq(&open.sheet, sheet);
        let place = match event.is_redriven {
            true => self.redriven.iter().position(is_this).map(Place::Redriven),
            false => self.lanes[nth].find(sheet, at).map(|open| Place::Lane(nth, open)),
        };
        if let Some(place) = place {
            self.fail(place, verdict, now);
        }
        self.wake();
        place.is_some()
    }

    fn fail(&mut self, place: Place, verdict: Verdict, now: Instant) {
        match place {
            Place::Lane(nth, open) => self.open -= self.lanes[nth].fail(open, verdict, now),
            Place::Redriven(at) => self.redriven[at].fail(verdict, now),
        }
    }

    pub(super) fn place(&mut self, place: Place) -> &mut Open {
        match place {
            Place::Lane(nth, open) => &mut self.lanes[nth].open[open],
            Place::Redriven(at) => &mut self.redriven[at],
        }
    }

    /// All that have failed and whose turn it is: the first of each lane, and dead letters.
    fn failing(&self) -> impl Iterator<Item = (Place, Stage)> {
        let lanes = self.lanes.iter().enumerate();
        let first = lanes.filter_map(|(nth, lane)| {
            let open = lane.failing()?;
            Some((Place::Lane(nth, open), lane.open[open].failure?))
        });
        let redriven = self.redriven.iter().enumerate();
        let letters = redriven.filter(|(_, open)| !open.is(Slot::Done));
        first.chain(letters.filter_map(|(at, open)| Some((Place::Redriven(at), open.failure?))))
    }

    /// Those that are to be handed out again by now.
    pub(super) fn due(&self, now: Instant, max: usize) -> Vec<Place> {
        let is_due = |stage: &Stage| matches!(stage, Stage::Waiting(at) if *at <= now);
        self.failing().filter(|(_, stage)| is_due(stage)).map(|(place, _)| place).take(max).collect()
    }

    /// When the next one is to be handed out again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = |stage| match stage {
            Stage::Waiting(at) => Some(at),
            _ => None,
        };
        self.failing().filter_map(|(_, stage)| due(stage)).min()
    }

    /// The failures to tell the server now.
    pub(crate) fn naks(&mut self) -> Vec<NakItem> {
        if self.is_stale {
            return Vec::new();
        }
        let told = |(place, stage)| match stage {
            Stage::ToTell(Verdict::Failed { delay_ms, cause, for_good }) => {
                Some((place, delay_ms, cause, for_good))
            }
            _ => None,
        };
        let to_tell: Vec<_> = self.failing().filter_map(told).take(NAKS_MAX).collect();
        let (seat, epoch) = (self.seat_item(), self.seat.epoch);
        let item = |(place, delay_ms, cause, for_good)| {
            let open = self.place(place);
            open.failure = Some(Stage::Telling(Verdict::Failed { delay_ms, cause, for_good }));
            let item = NakItem::new(seat, epoch, open.event().record(), cause).after(delay_ms);
            if for_good { item.for_good() } else { item }
        };
        to_tell.into_iter().map(item).collect()
    }

    /// The server has answered; `None`: it may not have heard.
    pub(crate) fn nakked(&mut self, item: &NakItem, answer: Option<&Answer>, now: Instant) {
        let Some(place) = self.told(item) else { return };
        let Some(Stage::Telling(verdict)) = self.place(place).failure else { return };
        let at = answer.map(Answer::at).unwrap_or_default();
        let [attempts, retry_ms, _] = answer.map(Answer::numbers).unwrap_or_default();
        let stage = match answer.and_then(Answer::status) {
            Some(Status::Parked) => {
                let event = self.place(place).event().view;
                self.tell(Note::Parked { event, attempts });
                None
            }
            // Late: the group has passed it.
            Some(Status::UnknownDead) => None,
            Some(Status::Done) if attempts == 0 => None,
            Some(Status::Done) => {
                let delay = Duration::from_millis(retry_ms.saturating_sub(at.time_ms));
                self.count_attempts(place, attempts);
                Some(Stage::Waiting(now + delay))
            }
            Some(Status::NotMember) => {
                self.is_stale = true;
                Some(Stage::ToTell(verdict))
            }
            Some(Status::Invalid) => Some(Stage::Waiting(now + UNTOLD)),
            _ => Some(Stage::ToTell(verdict)),
        };
        match (stage, place) {
            (Some(stage), place) => self.place(place).failure = Some(stage),
            (None, Place::Lane(nth, open)) => {
                self.lanes[nth].open[open].turn(Slot::Failed, Slot::Done);
            }
            // It must not be acknowledged: somebody may have it delivered again by now.
            (None, Place::Redriven(at)) => {
                self.redriven.remove(at);
                self.open -= 1;
            }
        }
        self.collect();
        self.wake();
    }

    /// Where the event of an item stands.
    fn told(&self, item: &NakItem) -> Option<Place> {
        let event = crate::consume::sheet::Event::read(&item.event)?;
        let sequence = event.view.sequence;
        if event.is_redriven {
            return self.redriven.iter().position(|open| open.sequence() == sequence).map(Place::Redriven);
        }
        let nth = lane_index(&event);
        self.lanes[nth].find_sequence(sequence).map(|open| Place::Lane(nth, open))
    }

    /// The next delivery tells how many have failed.
    fn count_attempts(&mut self, place: Place, attempts: u64) {
        let (tally, home) = (Arc::clone(&self.tally), self.home.clone());
        let open = self.place(place);
        let mut event = *open.event();
        event.attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
        let sheet = Arc::new(Sheet::new(vec![event], tally, home));
        // It stays as it was, in nobody's hands, until it is handed out again.
        sheet.turn(0, Slot::Fresh, Slot::Failed);
        (open.sheet, open.at) = (sheet, 0);
    }

    /// Looks for deliveries that nobody has answered for too long: they have failed. The time of each counts from when
    /// this first saw it in the application's hands.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let mut late = Vec::new();
        let after = self.redeliver_after;
        for (nth, lane) in self.lanes.iter_mut().enumerate() {
            for (at, open) in lane.open.iter_mut().enumerate() {
                if is_late(open, now, after) {
                    late.push(Place::Lane(nth, at));
                }
            }
        }
        let redriven = self.redriven.iter_mut().enumerate();
        late.extend(
            redriven.filter_map(|(at, open)| is_late(open, now, after).then_some(Place::Redriven(at))),
        );
        for place in &late {
            let verdict = Verdict::Failed { delay_ms: 0, cause: CAUSE_TIMED_OUT, for_good: false };
            if self.place(*place).turn(Slot::Out, Slot::Failed) {
                self.lost_deliveries = true;
                self.fail(*place, verdict, now);
            }
        }
        if !late.is_empty() {
            self.wake();
        }
    }
}

fn is_late(open: &mut Open, now: Instant, after: Duration) -> bool {
    open.is(Slot::Out) && *open.out_since.get_or_insert(now) + after <= now
}
