//! Consumers: groups with keepers, and members that join, fetch, carry out, acknowledge, fail, pause, crash and leave.
//!
//! The members of a group keep their effects in one durable table, as an order system does: effect and cursor in one step,
//! fenced by the epoch. So an event that is delivered twice has its effect once. Deliberately not here: what they do with
//! events (`deliveries`), and other clients.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_protocol::event::EventKind;
use sluice_protocol::group::{GroupName, GroupTerms};
use sluice_protocol::seat::{FetchItem, SeatItem};
use sluice_protocol::{Answer, Kind, ProductId, Status};

use super::talk::Sending;
use crate::coverage::{Coverage, Path};
use crate::plan::{Mode, Plan};
use crate::random::Random;
use crate::world::Request;
use sluice_judges::checkers::groups::Table;
use sluice_judges::consume::Consume;
use sluice_judges::history::{Ask, CallId, Reply};

pub(super) const MS_US: u64 = 1000;

/// Correlations of consumers begin here.
pub(crate) const FIRST: u64 = 1 << 62;

/// The first consumer's number among clients.
const CLIENT_FIRST: usize = 100;

/// What a consumer does when its time has come.
pub(crate) enum Turn {
    /// Nothing, for so long, microseconds.
    Sleep(u64),
    /// It waits for an answer.
    Waits,
    /// It asks.
    Send(Box<Sending>),
}

/// Effects of a group of one number, and where they are fenced.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) table: Table,
    /// By lane: the last event that had its effect or was passed over, and the epoch of who wrote.
    pub(super) lanes: BTreeMap<u32, (u64, u64)>,
    /// Dead letters that had their effect out of order.
    pub(super) again: BTreeSet<u64>,
}

/// A group, whatever numbers it has had.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) name: GroupName,
    pub(super) terms: GroupTerms,
    pub(super) after: u64,
    /// Its number as its keeper knows it.
    pub(super) id: Option<u32>,
    pub(super) stores: BTreeMap<u32, Store>,
    /// Sequences of dead letters, as members were told.
    pub(super) dead: Vec<u64>,
    /// The last event anybody was told of.
    pub(super) last: u64,
}

/// What a member knows of its seat.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) group: u32,
    pub(super) epoch: u64,
    pub(super) lanes: u64,
    pub(super) after: u64,
    pub(super) redriven: u64,
    /// Acknowledged in all lanes that do not wait.
    pub(super) acked: u64,
    /// Lanes that wait for an event to be tried again.
    pub(super) waits: BTreeMap<u32, u64>,
}

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) shop: usize,
    /// Its number; 0: it keeps the group.
    pub(super) number: u64,
    pub(super) target: u64,
    pub(super) seat: Option<Seat>,
    pub(super) outbox: VecDeque<Consume>,
    pub(super) flying: Option<u64>,
    /// When it last failed and waits: fetches until it begins again.
    pub(super) patience: u32,
}

/// A frame that was sent.
#[derive(Debug)]
struct Flying {
    actor: usize,
    asked: Vec<Consume>,
    calls: Vec<CallId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Consumers {
    pub(super) random: Random,
    pub(super) shops: Vec<Shop>,
    pub(super) actors: Vec<Actor>,
    flying: BTreeMap<u64, Flying>,
    correlation: u64,
    pub(super) is_healed: bool,
    /// Frames from this one on are owed an answer.
    healed_from: u64,
}

fn terms(plan: &Plan, shop: u64, random: &mut Random) -> GroupTerms {
    let retry_ms = random.spread(50, 2000) as u32;
    let narrow = shop == 1 && random.chance(1, 2);
    let mut products = GroupTerms::default().products;
    if narrow {
        products[0] = ProductId(1);
        products[1] = ProductId(random.between(1, plan.products));
    }
    GroupTerms {
        kinds: if random.chance(1, 3) { EventKind::Confirmed.bit() | EventKind::Reserved.bit() } else { 0 },
        products,
        attempts_max: random.below(4) as u32,
        retry_ms,
        retry_ms_max: retry_ms * random.between(1, 4) as u32,
        session_ms: random.between(500, 6000) as u32,
        cancel_dead: random.chance(1, 2).then_some(77),
        backlog_max: if random.chance(1, 3) { random.between(5, 120) } else { 0 },
        required_lag_max: if random.chance(1, 4) { random.between(30, 300) } else { 0 },
    }
}

impl Consumers {
    /// The consumers of a run. Small runs have none, and neither have those whose tables fill up.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut random = plan.random("consumers", 0);
        let has_none = plan.mode == Mode::Small || plan.fills_up;
        let shops = if has_none { 0 } else { random.between(1, 3) };
        let mut this = Self {
            shops: Vec::new(),
            actors: Vec::new(),
            flying: BTreeMap::new(),
            correlation: FIRST,
            is_healed: false,
            healed_from: u64::MAX,
            random: plan.random("consumers", 1),
        };
        for shop in 0..shops {
            let name = GroupName::new(["orders", "mails", "counts"][shop as usize]).expect("it is a name");
            let after = if random.chance(1, 3) { u64::MAX } else { 0 };
            let (stores, dead) = (BTreeMap::new(), Vec::new());
            let terms = terms(plan, shop, &mut random);
            this.shops.push(Shop { name, terms, after, id: None, stores, dead, last: 0 });
            for member in 0..=random.between(1, 3) {
                let number = if member == 0 { 0 } else { random.word() | 1 };
                this.actors.push(Actor {
                    shop: shop as usize,
                    number,
                    target: 1,
                    seat: None,
                    outbox: VecDeque::new(),
                    flying: None,
                    patience: 0,
                });
            }
        }
        this
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.actors.len()
    }

    /// What members made of events, by the group's number.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u32, &Table)> {
        self.shops.iter().flat_map(|shop| shop.stores.iter().map(|(id, store)| (*id, &store.table)))
    }

    /// Whether a member that lives has this number.
    pub(crate) fn is_member(&self, number: u64) -> bool {
        self.actors.iter().any(|actor| actor.number == number)
    }

    /// Whether an answer is waited for that changes something.
    pub(crate) fn is_busy(&self) -> bool {
        let changes = |flying: &Flying| !flying.asked.is_empty();
        let mut since = self.flying.range(self.healed_from..).map(|(_, flying)| flying);
        self.shops.iter().any(|shop| shop.id.is_none()) || since.any(changes)
    }

    /// All faults are over: from now on everybody does his best.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        self.healed_from = self.correlation + 1;
        // Each keeper makes sure once more that there is a group.
        self.shops.iter_mut().for_each(|shop| shop.id = None);
    }

    /// What a consumer does now.
    pub(crate) fn due(
        &mut self,
        actor: usize,
        nodes: &[u64],
        running: &[u64],
        coverage: &mut Coverage,
    ) -> Turn {
        if self.actors[actor].flying.is_some() {
            return Turn::Waits;
        }
        if !running.contains(&self.actors[actor].target) {
            self.actors[actor].target = *self.random.pick(nodes);
            return Turn::Sleep(self.random.spread(10, 300) * MS_US);
        }
        let asked = match self.actors[actor].number {
            0 => self.keep(actor),
            _ => self.take_part(actor, coverage),
        };
        match asked {
            Err(delay_us) => Turn::Sleep(delay_us),
            Ok((asked, fetch)) => Turn::Send(Box::new(self.frame(actor, asked, fetch))),
        }
    }

    fn frame(&mut self, actor: usize, asked: Vec<Consume>, fetch: Option<FetchItem>) -> Sending {
        self.correlation += 1;
        let correlation = self.correlation;
        self.actors[actor].flying = Some(correlation);
        let kind = asked.first().map_or(Kind::Fetch, kind);
        let asks = asked.iter().map(|asked| Ask::Consume(*asked)).collect();
        self.flying.insert(correlation, Flying { actor, asked, calls: Vec::new() });
        let budget_ms = self.random.spread(200, 2500) as u32;
        let wait_ms = fetch.map_or(0, |item| item.wait_ms());
        let patience_us = u64::from(budget_ms + wait_ms + 500) * MS_US;
        let request = Request { client: CLIENT_FIRST + actor, correlation, kind, asks, budget_ms, fetch };
        Sending { node: self.actors[actor].target, request, patience_us }
    }

    /// Whoever keeps a group makes it, changes it, moves it, removes it, and sees to its dead letters.
    fn keep(&mut self, actor: usize) -> Result<(Vec<Consume>, Option<FetchItem>), u64> {
        let shop = &mut self.shops[self.actors[actor].shop];
        let put = |shop: &Shop| vec![Consume::Put(shop.name, shop.after, shop.terms)];
        let Some(id) = shop.id else { return Ok((put(shop), None)) };
        if self.is_healed {
            return Err(500 * MS_US);
        }
        let random = &mut self.random;
        let asked = match random.weighted(&[60, 6, 6, 2, 12, 12]) {
            0 => return Err(random.spread(200, 8000) * MS_US),
            1 => {
                shop.terms.attempts_max = random.below(4) as u32;
                shop.terms.backlog_max = random.below(2) * random.between(5, 120);
                put(shop)
            }
            2 => {
                let after = random.between(shop.last.saturating_sub(60), shop.last);
                // It may be carried out long after it was asked.
                let excused = &mut shop.stores.entry(id).or_default().table.excused;
                *excused = after.max(*excused);
                vec![Consume::Seek(shop.name, after)]
            }
            3 => vec![Consume::Remove(shop.name)],
            again => {
                let Some(sequence) = shop.dead.pop() else { return Err(random.spread(200, 4000) * MS_US) };
                let sequence = if random.chance(1, 20) { sequence + 1 } else { sequence };
                vec![if again == 4 { Consume::Redrive(id, sequence) } else { Consume::Drop(id, sequence) }]
            }
        };
        Ok((asked, None))
    }

    fn take_part(
        &mut self,
        at: usize,
        coverage: &mut Coverage,
    ) -> Result<(Vec<Consume>, Option<FetchItem>), u64> {
        let shop = &self.shops[self.actors[at].shop];
        let session_us = u64::from(shop.terms.session_ms) * MS_US;
        if !self.is_healed {
            match self.random.weighted(&[300, 2, 2, 1]) {
                1 => {
                    coverage.hit(Path::ConsumerPaused);
                    return Err(session_us + self.random.spread(100, 4000) * MS_US);
                }
                2 => {
                    coverage.hit(Path::ConsumerDied);
                    self.crash(at);
                    return Err(self.random.spread(1, 4000) * MS_US);
                }
                3 => {
                    let actor = &mut self.actors[at];
                    if let Some(seat) = actor.seat.take() {
                        actor.outbox.clear();
                        return Ok((vec![Consume::Leave(seat.group, actor.number)], None));
                    }
                }
                _ => {}
            }
        }
        let actor = &mut self.actors[at];
        let Some(seat) = actor.seat.as_mut() else {
            return Ok((vec![Consume::Join(shop.name, actor.number)], None));
        };
        if let Some(first) = actor.outbox.front().map(kind)
            && (self.is_healed || self.random.chance(2, 3))
        {
            let mut asked = Vec::new();
            while asked.len() < 8 {
                asked.extend(actor.outbox.pop_front_if(|next| kind(next) == first));
                if actor.outbox.front().is_none_or(|next| kind(next) != first) {
                    break;
                }
            }
            return Ok((asked, None));
        }
        if !seat.waits.is_empty() && actor.patience == 0 {
            seat.waits.clear();
            (seat.after, seat.acked) = (0, 0);
        }
        actor.patience = actor.patience.saturating_sub(1);
        let wait_ms = if seat.waits.is_empty() { self.random.spread(1, 2000) as u32 } else { 30 };
        let item = FetchItem::new(SeatItem::new(seat.group, actor.number), seat.epoch);
        let most = self.random.spread(1, 200) as u32;
        Ok((Vec::new(), Some(item.after(seat.after, seat.redriven).at_most(most).waiting(wait_ms))))
    }

    /// What is not in the table is gone. Half of those who come back have another number.
    fn crash(&mut self, at: usize) {
        let number = self.random.word() | 1;
        let actor = &mut self.actors[at];
        (actor.seat, actor.patience) = (None, 0);
        actor.outbox.clear();
        if number & 2 != 0 {
            actor.number = number;
        }
    }

    /// The judges know the frame by these calls.
    pub(crate) fn sent(&mut self, correlation: u64, calls: Vec<CallId>) {
        if let Some(flying) = self.flying.get_mut(&correlation) {
            flying.calls = calls;
        }
    }

    /// The calls of a frame.
    pub(crate) fn calls(&self, correlation: u64) -> Vec<CallId> {
        self.flying.get(&correlation).map_or_else(Vec::new, |flying| flying.calls.clone())
    }

    /// A frame is not waited for any more. Its answer may still come.
    pub(crate) fn gave_up(&mut self, correlation: u64, nodes: &[u64]) -> Option<(usize, u64)> {
        let flying = self.flying.get(&correlation)?;
        let (at, asked) = (flying.actor, flying.asked.clone());
        if asked.is_empty() {
            self.flying.remove(&correlation);
        }
        let actor = &mut self.actors[at];
        actor.flying.take_if(|current| *current == correlation)?;
        actor.target = *self.random.pick(nodes);
        self.again(at, asked);
        Some((at, self.random.spread(5, 500) * MS_US))
    }

    /// What was not answered is said again.
    fn again(&mut self, at: usize, asked: Vec<Consume>) {
        let repeats = |asked: &Consume| matches!(asked, Consume::Ack(_) | Consume::Nak(_));
        for asked in asked.into_iter().rev().filter(repeats) {
            self.actors[at].outbox.push_front(asked);
        }
    }

    /// Replies have come: who goes on, and when.
    pub(crate) fn heard(
        &mut self,
        correlation: u64,
        replies: &[Reply],
        nodes: &[u64],
        coverage: &mut Coverage,
    ) -> Option<(usize, u64)> {
        let Flying { actor: at, asked, .. } = self.flying.remove(&correlation)?;
        self.actors[at].flying.take_if(|current| *current == correlation)?;
        if let Some(Reply::Delivery(delivery)) = replies.first() {
            let delay_us = self.delivered(at, delivery, nodes, coverage);
            return Some((at, delay_us));
        }
        let mut delay_us = self.random.spread(1, 40) * MS_US;
        for (asked, reply) in asked.into_iter().zip(replies) {
            let Some(answer) = reply.answer() else { continue };
            match answer.status() {
                Some(Status::Busy | Status::NotLeader | Status::Unknown | Status::Full) => {
                    delay_us = self.turned_away(at, &answer, nodes);
                    self.again(at, vec![asked]);
                }
                status => {
                    if status == Some(Status::UnknownGroup) {
                        delay_us = self.random.spread(100, 1000) * MS_US;
                    }
                    self.told(at, &asked, &answer);
                }
            }
        }
        Some((at, delay_us))
    }

    pub(super) fn turned_away(&mut self, at: usize, answer: &Answer, nodes: &[u64]) -> u64 {
        let leader = if answer.status() == Some(Status::NotLeader) { answer.leader() } else { 0 };
        if nodes.contains(&leader) {
            self.actors[at].target = leader;
            return MS_US;
        }
        if self.random.chance(1, 2) {
            self.actors[at].target = *self.random.pick(nodes);
        }
        self.random.spread(20, 400) * MS_US
    }

    /// What became of what was asked.
    fn told(&mut self, at: usize, asked: &Consume, answer: &Answer) {
        let actor = &mut self.actors[at];
        let shop = &mut self.shops[actor.shop];
        let [a, b, c] = answer.numbers();
        match (asked, answer.status()) {
            (Consume::Put(..), Some(Status::Done)) => {
                shop.id = Some(a as u32);
                shop.stores.entry(a as u32).or_default();
            }
            (Consume::Remove(_), _) => (shop.id, shop.dead) = (None, Vec::new()),
            (Consume::Join(..), Some(Status::Done)) => {
                let waits = BTreeMap::new();
                let (group, epoch, lanes) = (a as u32, b, c);
                actor.outbox.clear();
                actor.seat = Some(Seat { group, epoch, lanes, after: 0, redriven: 0, acked: 0, waits });
            }
            (Consume::Nak(item), Some(Status::Parked)) => {
                shop.dead.push(item.event.sequence());
                actor.patience = 0;
            }
            (_, Some(Status::UnknownGroup)) if actor.number == 0 => shop.id = None,
            (_, Some(Status::NotMember | Status::UnknownGroup)) => {
                actor.outbox.clear();
                actor.seat = None;
            }
            _ => {}
        }
    }
}

/// What kind of frame it travels in.
fn kind(asked: &Consume) -> Kind {
    match asked {
        Consume::Put(..) => Kind::PutGroup,
        Consume::Remove(_) => Kind::RemoveGroup,
        Consume::Seek(..) => Kind::SeekGroup,
        Consume::Join(..) => Kind::Join,
        Consume::Leave(..) => Kind::Leave,
        Consume::Ack(_) => Kind::Ack,
        Consume::Nak(_) => Kind::Nak,
        Consume::Redrive(..) => Kind::Redrive,
        Consume::Drop(..) => Kind::DropDead,
    }
}
