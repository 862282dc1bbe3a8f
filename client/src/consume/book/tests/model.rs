//! All of the bookkeeping at random, with lost replies, other members, restarts: what must never happen is checked against
//! what the application did.

use std::collections::{BTreeSet, HashMap, HashSet};

use proptest::prelude::*;
use sluice_protocol::seat::AckItem;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Happen(Vec<u64>),
    Fetch { is_lost: bool },
    Look,
    Take { max: usize, see: usize },
    Ack { nth: usize },
    AckThrough { back: u64 },
    Nak { nth: usize, for_good: bool },
    Drop { nth: usize },
    AckRound { is_lost: bool },
    NakRound { is_lost: bool },
    Pass { ms: u64 },
    Sweep,
    OtherComes,
    OtherGoes,
    SeatIsLost,
    Redrive,
}

fn act() -> impl Strategy<Value = Act> {
    let lost = prop::bool::weighted(0.2);
    prop_oneof![
        4 => proptest::collection::vec(1..12_u64, 1..8).prop_map(Act::Happen),
        4 => lost.prop_map(|is_lost| Act::Fetch { is_lost }),
        1 => Just(Act::Look),
        6 => (1..8_usize, 0..9_usize).prop_map(|(max, see)| Act::Take { max, see }),
        8 => any::<usize>().prop_map(|nth| Act::Ack { nth }),
        1 => (0..5_u64).prop_map(|back| Act::AckThrough { back }),
        2 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(nth, for_good)| Act::Nak { nth, for_good }),
        1 => any::<usize>().prop_map(|nth| Act::Drop { nth }),
        4 => lost.prop_map(|is_lost| Act::AckRound { is_lost }),
        3 => lost.prop_map(|is_lost| Act::NakRound { is_lost }),
        2 => (1..2_000_u64).prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::Sweep),
        1 => Just(Act::OtherComes),
        1 => Just(Act::OtherGoes),
        1 => Just(Act::SeatIsLost),
        1 => Just(Act::Redrive),
    ]
}

/// What the application has done, as it remembers it.
#[derive(Default)]
struct Memory {
    /// Deliveries in hand.
    held: Vec<Held>,
    /// Sheets whose events it has not all seen: the first that it has not.
    unseen: Option<(Arc<Sheet>, usize)>,
    done: HashSet<u64>,
    /// Delivered, and neither failed nor taken away since.
    standing: HashSet<u64>,
    /// Failed and not done since, by lane.
    failed: HashMap<usize, BTreeSet<u64>>,
    redriven: HashSet<u64>,
}

impl Memory {
    /// An event comes into its hands.
    fn sees(&mut self, held: Held) {
        let event = held.sheet.events[held.at];
        let (sequence, lane) = (held.sequence(), lane_index(&event));
        if event.is_redriven {
            assert!(self.redriven.contains(&sequence), "{sequence} was never redriven");
        } else {
            assert!(self.standing.insert(sequence), "{sequence} is delivered twice");
            let first = self.failed.get(&lane).and_then(|failed| failed.first().copied());
            assert!(first.is_none_or(|first| sequence <= first), "{sequence} overtakes {first:?}");
        }
        self.held.push(held);
    }

    fn is_done(&mut self, held: &Held) {
        let event = held.sheet.events[held.at];
        self.done.insert(held.sequence());
        if !event.is_redriven {
            self.failed.entry(lane_index(&event)).or_default().remove(&held.sequence());
        }
    }

    fn has_failed(&mut self, held: &Held) {
        let event = held.sheet.events[held.at];
        if !event.is_redriven {
            self.standing.remove(&held.sequence());
            self.failed.entry(lane_index(&event)).or_default().insert(held.sequence());
        }
    }
}

struct Run {
    table: Table,
    memory: Memory,
}

impl Run {
    fn do_(&mut self, act: &Act) {
        match act {
            Act::Happen(products) => self.table.happened(products),
            Act::Fetch { is_lost } => self.fetch(*is_lost),
            Act::Look => {
                let (item, sent) = self.table.book.fetch(true, 1023, 0);
                let (head, events) = self.table.group.fetch(&item);
                let next = self.table.book.delivered(&head, &events, &sent);
                self.go_on(next);
            }
            Act::Take { max, see } => self.take(*max, *see),
            Act::Ack { nth } => self.verdict(*nth, |_, held| held.ack(), Memory::is_done),
            Act::AckThrough { back } => self.ack_through(*back),
            Act::Nak { nth, for_good } => {
                self.verdict(*nth, |table, held| table.nak(held, *for_good), Memory::has_failed);
            }
            Act::Drop { nth } => {
                let drop = |table: &mut Table, held: &Held| {
                    table.book.failed(&held.sheet, held.at, Verdict::Dropped, table.now)
                };
                self.verdict(*nth, drop, Memory::has_failed);
            }
            Act::AckRound { is_lost } => self.ack_round(*is_lost),
            Act::NakRound { is_lost } => self.nak_round(*is_lost),
            Act::Pass { ms } => self.table.pass(Duration::from_millis(*ms)),
            Act::Sweep => self.sweep(),
            Act::OtherComes => drop(self.table.group.join(OTHER)),
            Act::OtherGoes => drop(self.table.group.leave(OTHER)),
            Act::SeatIsLost => drop(self.table.group.leave(ME)),
            Act::Redrive => {
                let dead = self.table.group.letters.iter().find(|(_, letter)| letter.redrive == 0);
                if let Some(sequence) = dead.map(|(sequence, _)| *sequence) {
                    self.table.group.redrive(sequence);
                    self.memory.redriven.insert(sequence);
                }
            }
        }
        self.notes();
    }

    fn fetch(&mut self, is_lost: bool) {
        let (item, sent) = self.table.book.fetch(false, 5, 0);
        let (head, events) = self.table.group.fetch(&item);
        if !is_lost {
            let next = self.table.book.delivered(&head, &events, &sent);
            self.go_on(next);
        }
    }

    fn go_on(&mut self, next: Next) {
        if next == Next::Join {
            let [_, epoch, lanes] = self.table.group.join(ME).numbers();
            self.table.book.moved(epoch, lanes);
        }
        // What was taken away may come again; whose it is, is as the book knows it.
        let gone = |held: &Held| held.sheet.is(held.at, Slot::Fenced);
        let (taken, kept) = std::mem::take(&mut self.memory.held).into_iter().partition(gone);
        self.memory.held = kept;
        let taken: Vec<Held> = taken;
        for held in &taken {
            self.memory.standing.remove(&held.sequence());
        }
        let lanes = self.table.book.seat.lanes;
        self.memory.failed.retain(|lane, _| lanes & (1 << lane) != 0);
        let lost = |sequence: &u64| {
            let event = &self.table.group.events[*sequence as usize - 1];
            lanes & (1 << lane_of(event.product())) == 0
        };
        self.memory.standing.retain(|sequence| !lost(sequence));
    }

    fn take(&mut self, max: usize, see: usize) {
        if self.memory.unseen.is_none() {
            self.memory.unseen = self.table.book.take(max, self.table.now).map(|sheet| (sheet, 0));
        }
        for _ in 0..see {
            let Some((sheet, at)) = self.memory.unseen.take() else { return };
            if at == sheet.events.len() {
                return;
            }
            self.memory.unseen = Some((Arc::clone(&sheet), at + 1));
            if sheet.turn(at, Slot::Fresh, Slot::Out) {
                self.memory.sees(Held { sheet, at });
            }
        }
    }

    fn verdict(
        &mut self,
        nth: usize,
        say: impl Fn(&mut Table, &Held) -> bool,
        remember: impl Fn(&mut Memory, &Held),
    ) {
        if self.memory.held.is_empty() {
            return;
        }
        let nth = nth % self.memory.held.len();
        let held = self.memory.held.swap_remove(nth);
        if say(&mut self.table, &held) {
            remember(&mut self.memory, &held);
        }
    }

    fn ack_through(&mut self, back: u64) {
        let upto = (self.table.group.events.len() as u64).saturating_sub(back);
        self.table.book.ack_through(upto);
        let done = |held: &Held| held.sheet.is(held.at, Slot::Done);
        let (done, kept): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.memory.held).into_iter().partition(done);
        self.memory.held = kept;
        done.iter().for_each(|held| self.memory.is_done(held));
    }

    fn ack_round(&mut self, is_lost: bool) {
        for item in self.table.book.acks() {
            self.check(&item);
            let answer = self.table.group.ack(&item);
            if !is_lost {
                self.table.book.acked(&item, &answer);
            }
        }
    }

    /// Nothing is acknowledged before it is done, by this application or whoever had the lane before.
    fn check(&self, item: &AckItem) {
        let group = &self.table.group;
        for event in &group.events[..item.upto() as usize] {
            let (sequence, nth) = (event.sequence(), lane_of(event.product()) as usize);
            if item.lanes() & (1 << nth) == 0 || group.lanes[nth].cursor >= sequence {
                continue;
            }
            let is_own = group.lanes[nth].owner == ME && group.lanes[nth].since <= item.epoch();
            let is_done = self.memory.done.contains(&sequence) || group.letters.contains_key(&sequence);
            assert!(is_done || !is_own, "{sequence} is acknowledged and not done");
        }
    }

    fn nak_round(&mut self, is_lost: bool) {
        for item in self.table.book.naks() {
            let answer = self.table.group.nak(&item);
            let heard = Some(&answer).filter(|_| !is_lost);
            self.table.book.nakked(&item, heard, self.table.now);
        }
    }

    fn sweep(&mut self) {
        self.table.book.sweep(self.table.now);
        let late = |held: &Held| held.sheet.is(held.at, Slot::Failed);
        let (late, kept): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.memory.held).into_iter().partition(late);
        self.memory.held = kept;
        late.iter().for_each(|held| self.memory.has_failed(held));
    }

    fn notes(&mut self) {
        while let Some(note) = self.table.book.note() {
            let Note::Parked { event, .. } = note else { panic!("{note:?}") };
            let lane = lane_of(event.product) as usize;
            self.memory.failed.entry(lane).or_default().remove(&event.sequence);
        }
    }

    /// With a server that answers and an application that works, everything comes to its end.
    fn finish(&mut self) {
        self.table.group.leave(OTHER);
        for _ in 0..400 {
            self.fetch(false);
            self.take(usize::MAX, 1_000);
            while !self.memory.held.is_empty() {
                self.verdict(0, |_, held| held.ack(), Memory::is_done);
            }
            self.nak_round(false);
            self.ack_round(false);
            self.table.pass(Duration::from_secs(3));
            self.notes();
        }
        assert_eq!(self.table.group.cursor(), self.table.group.events.len() as u64, "something is left");
        assert!(self.table.group.letters.values().all(|letter| letter.redrive == 0), "a letter is left");
        assert_eq!((self.table.book.open, self.table.book.is_flushed()), (0, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_acknowledged_before_it_is_done_nothing_is_skipped_and_order_is_kept(
        acts in proptest::collection::vec(act(), 1..120),
        window in 1..30_usize,
    ) {
        let mut run = Run { table: Table::with_window(window), memory: Memory::default() };
        acts.iter().for_each(|act| run.do_(act));
        run.finish();
    }
}
