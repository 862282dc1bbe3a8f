//! What a fetch brought, and what it means: events, lanes that moved, events that are kept no more.
//!
//! After lanes have moved everything is looked through again from where the group stands. What the application has in
//! hand of lanes that stayed is passed over; what it has not seen comes again, so that it is forgotten first.

use sluice_protocol::Status;
use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::event::EventRecord;
use sluice_protocol::seat::{FetchItem, SeatItem};

use super::{Book, LANE_COUNT, Note, lane_index};
use crate::consume::error::ConsumeError;
use crate::consume::sheet::{Event, Slot};
use crate::outcome::Invalid;

/// A fetch that was sent, and what was known when it was.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    number: u64,
    after: u64,
    is_look: bool,
    confirmed: [u64; LANE_COUNT],
}

/// What to do after a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on.
    On,
    /// The seat is gone.
    Join,
    /// An event was damaged, and is asked for again after a while.
    Later,
    /// There is nothing to go on with.
    Over,
}

impl Book {
    pub(crate) fn seat_item(&self) -> SeatItem {
        SeatItem::new(self.seat.group, self.seat.member)
    }

    /// The fetch to send now: of what follows, or, as a sign of life, only a look at whether lanes have moved.
    pub(crate) fn fetch(&mut self, is_look: bool, events_max: u32, wait_ms: u32) -> (FetchItem, Sent) {
        self.fetches += 1;
        let confirmed = std::array::from_fn(|lane| self.lanes[lane].confirmed);
        let sent = Sent { number: self.fetches, after: self.looked, is_look, confirmed };
        // An epoch that is not the group's is answered at once, without events.
        let (epoch, wait_ms) = if is_look { (0, 0) } else { (self.seat.epoch, wait_ms) };
        let item = FetchItem::new(self.seat_item(), epoch)
            .after(self.looked, self.redriven_upto)
            .at_most(events_max)
            .waiting(wait_ms);
        (item, sent)
    }

    /// Reads the reply to a fetch.
    pub(crate) fn delivered(&mut self, head: &DeliveryHead, events: &[EventRecord], sent: &Sent) -> Next {
        let [a, b, _] = head.answer.numbers();
        match head.answer.status() {
            Some(Status::Done) => {}
            Some(Status::Gap) => return self.skip(a, sent),
            Some(Status::NotMember) if b == 0 => return Next::Join,
            Some(Status::NotMember) => {
                self.moved(a, b);
                return Next::On;
            }
            Some(Status::UnknownGroup) => return Next::Over,
            Some(Status::Invalid) => {
                let refused = Invalid::read(&head.answer).map(ConsumeError::Refused);
                self.notes.extend(refused.map(Note::Error));
                return Next::Over;
            }
            _ => return Next::Later,
        }
        self.is_stale = false;
        if (head.epoch(), head.lanes()) != (self.seat.epoch, self.seat.lanes) {
            self.moved(head.epoch(), head.lanes());
            return Next::On;
        }
        if sent.is_look {
            return Next::On;
        }
        self.accept(head, a, events, sent)
    }

    fn accept(&mut self, head: &DeliveryHead, upto: u64, events: &[EventRecord], sent: &Sent) -> Next {
        for record in events {
            let Some(event) = Event::read(record) else { return self.damaged() };
            if event.is_redriven {
                self.accept_redriven(event, sent);
            } else if event.view.sequence > self.looked {
                self.accept_event(event, sent);
                self.looked = event.view.sequence;
            }
        }
        self.looked = self.looked.max(upto);
        self.redriven_upto = head.redriven();
        self.redriven_gone.retain(|(_, fetch)| *fetch >= sent.number);
        self.damaged = None;
        self.wake();
        Next::On
    }

    fn accept_event(&mut self, event: Event, sent: &Sent) {
        let (nth, sequence) = (lane_index(&event), event.view.sequence);
        if self.seat.lanes & (1 << nth) == 0 {
            return;
        }
        if sequence <= self.lanes[nth].taken_upto {
            if sequence > sent.confirmed[nth] {
                return;
            }
            // It was acknowledged before it was asked for: the group was moved back to before it.
            self.lose(nth);
        }
        self.lanes[nth].queued(sequence);
        self.ready.push_back(event);
    }

    fn accept_redriven(&mut self, event: Event, sent: &Sent) {
        let sequence = event.view.sequence;
        let is_open = self.redriven.iter().any(|open| open.sequence() == sequence)
            || self.redriven_ready.iter().any(|event| event.view.sequence == sequence);
        let is_gone =
            self.redriven_gone.iter().any(|(gone, fetch)| *gone == sequence && *fetch >= sent.number);
        if !is_open && !is_gone {
            self.redriven_ready.push_back(event);
        }
    }

    /// What is before `first` is kept no more.
    fn skip(&mut self, first: u64, sent: &Sent) -> Next {
        self.is_stale = false;
        let to = first.saturating_sub(1);
        // Where the group stood is a bound as long as nobody has moved it back.
        let floor = if self.floor < to { self.floor } else { 0 };
        let from = sent.after.max(floor) + 1;
        if from <= to && to > self.looked {
            self.tell(Note::Gap { from, to });
        }
        self.looked = self.looked.max(to);
        self.wake();
        Next::On
    }

    /// An event is not what it should be. It is asked for again at once; if that does not help, the application hears
    /// of it, once.
    fn damaged(&mut self) -> Next {
        let after = self.looked;
        match self.damaged {
            Some((known, told)) if known == after => {
                self.damaged = Some((after, true));
                if !told {
                    self.tell(Note::Error(ConsumeError::Damaged { after }));
                }
                self.wake();
                Next::Later
            }
            _ => {
                self.damaged = Some((after, false));
                self.wake();
                Next::On
            }
        }
    }

    /// Lanes have moved: the group has another epoch, in which these are the member's.
    pub(crate) fn moved(&mut self, epoch: u64, lanes: u64) {
        self.collect();
        for nth in 0..LANE_COUNT {
            if lanes & (1 << nth) == 0 {
                self.lose(nth);
            } else {
                self.open -= self.lanes[nth].forget_waiting();
            }
        }
        self.moved_redriven(lanes);
        self.ready.clear();
        (self.seat.epoch, self.seat.lanes) = (epoch, lanes);
        (self.looked, self.is_stale, self.damaged) = (0, false, None);
        self.tally.progress.notify_waiters();
        self.wake();
    }

    /// Dead letters that are delivered again go with the lane of their product.
    fn moved_redriven(&mut self, lanes: u64) {
        let mut lost = (0, false, false);
        self.redriven.retain(|open| {
            let is_kept = lanes & (1 << lane_index(open.event())) != 0;
            let is_seen = !open.is(Slot::Fresh) || open.failure.is_some();
            if is_kept && is_seen {
                return true;
            }
            lost.0 += 1;
            lost.1 |= open.is(Slot::Done);
            lost.2 |= open.fence();
            false
        });
        self.open -= lost.0;
        self.lost_acks |= lost.1;
        self.lost_deliveries |= lost.2;
        self.redriven_ready.clear();
        self.redriven_upto = 0;
    }

    /// A lane goes to another member, or begins again before what is in hand.
    fn lose(&mut self, nth: usize) {
        let lane = std::mem::take(&mut self.lanes[nth]);
        self.open -= lane.open.len();
        self.lost_acks |= lane.is_owed() || lane.open.iter().any(|open| open.is(Slot::Done));
        for open in &lane.open {
            self.lost_deliveries |= open.fence();
        }
    }
}
