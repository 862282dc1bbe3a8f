//! Intentions, drawn from the seed.

use std::collections::VecDeque;

use sluice_protocol::request::{
    IdItem, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms,
};
use sluice_protocol::{ProductId, ReservationId, UserId};

use super::{Job, Stage};
use crate::clock::START_MS;
use crate::plan::{Mode, Plan};
use crate::random::Random;
use sluice_judges::history::Ask;

const SECOND_US: u64 = 1_000_000;

/// Users who buy again and again.
const BOTS: u64 = 3;

/// What is sold: product, stock at creation, terms.
pub(crate) fn goods(plan: &Plan) -> Vec<(u64, u64, Terms)> {
    let small = plan.mode == Mode::Small;
    (1..=plan.products)
        .map(|product| {
            let mut random = plan.random("goods", product);
            let unlimited = !small && product > 2 && random.chance(1, 6);
            let stock = match (small, product) {
                (true, _) => random.between(1, 4),
                (false, 1) => random.between(5, 60),
                (false, _) => random.spread(3, 2000),
            };
            let span_ms = plan.span_us / 1000;
            let opens = !small && product > 1 && random.chance(1, 4);
            let closes = !small && product > 1 && random.chance(1, 5);
            let opens_ms = if opens { START_MS + random.below(span_ms / 2) } else { 0 };
            let closes_ms = if closes { START_MS + span_ms / 2 + random.below(span_ms / 2 + 1) } else { 0 };
            let per_user_limit = (random.below(2) * random.between(1, 4)) as u32;
            let terms = Terms {
                opens_ms,
                closes_ms,
                per_user_limit,
                hold_ms: random.spread(300, 20_000) as u32,
                unlimited,
            };
            (product, if unlimited { 0 } else { stock }, terms)
        })
        .collect()
}

/// All jobs of a run, in the order in which they begin.
pub(super) fn draw(plan: &Plan, fault_times_us: &[u64]) -> Vec<Job> {
    let mut jobs: Vec<Job> = goods(plan)
        .into_iter()
        .map(|(product, stock, terms)| {
            let item = PutProductItem::new(ProductId(product), Some(stock), terms);
            Job::new(0, product, VecDeque::from([Stage { after_us: 0, ask: Ask::Put(item) }]))
        })
        .collect();
    let mut ids: Vec<ReserveItem> = Vec::new();
    let count = plan.cut.jobs.unwrap_or(plan.jobs).min(plan.jobs);
    for number in 0..count {
        let mut random = plan.random("job", number as u64);
        let begins_us = arrival(&mut random, plan, fault_times_us);
        let client = random.below(plan.clients as u64) as usize;
        // Several buyers in one frame.
        let flock = if random.chance(1, 8) { random.between(2, 12) } else { 1 };
        let first = jobs.len();
        for member in 0..flock {
            let stages = intention(plan, &mut random, &mut ids, flock > 1);
            let mut new = Job::new(client, begins_us, stages);
            if member > 0 {
                jobs[first].flock.push(first + member as usize);
                new.begins_us = u64::MAX;
            }
            jobs.push(new);
        }
    }
    jobs
}

/// Half of the jobs begin around faults: that is where requests in flight matter.
fn arrival(random: &mut Random, plan: &Plan, fault_times_us: &[u64]) -> u64 {
    let spread_us = random.below(plan.span_us);
    if fault_times_us.is_empty() || random.chance(1, 2) {
        return spread_us;
    }
    let at_us = *random.pick(fault_times_us);
    (at_us + random.below(4 * SECOND_US)).saturating_sub(SECOND_US).min(plan.span_us)
}

fn reserve(plan: &Plan, random: &mut Random) -> ReserveItem {
    let id = (u128::from(random.word()) << 64) | u128::from(random.word() | 1);
    let hot = random.chance(1, 2);
    let product = if hot { 1 } else { random.between(1, plan.products) };
    let user = if random.chance(1, 4) { random.between(1, BOTS) } else { random.between(1, 300) };
    let quantity = if random.chance(3, 4) { 1 } else { random.between(1, 5) as u32 };
    ReserveItem::new(ReservationId(id), ProductId(product), UserId(user), quantity)
}

/// What one client wants, step by step.
fn intention(plan: &Plan, random: &mut Random, ids: &mut Vec<ReserveItem>, buys: bool) -> VecDeque<Stage> {
    let soon = |random: &mut Random| random.spread(1000, SECOND_US);
    let small = plan.mode == Mode::Small;
    let kind = if buys { 0 } else { random.weighted(&[70, 4, 3, 6, 5, 1, 3, 2, 6, 2]) };
    let known = |random: &mut Random, ids: &[ReserveItem]| match ids.is_empty() {
        true => ReservationId(random.word().into()),
        false => random.pick(ids).id(),
    };
    let product = ProductId(if random.chance(1, 30) { 0 } else { random.between(1, plan.products + 1) });
    let id = ReservationId(u128::from(random.word()) << 60 | u128::from(random.word()));
    let quantity = if random.chance(1, 30) { 0 } else { random.between(1, 6) as u32 };
    let mut asks: Vec<(u64, Ask)> = Vec::new();
    match kind {
        0 => {
            let item = reserve(plan, random);
            ids.push(item);
            asks.push((0, Ask::Reserve(item)));
            asks.extend(afterwards(item.id(), random, small));
        }
        1 if !ids.is_empty() => {
            // An id that is somebody else's, with another payload; first whatever it was is made final.
            let other = *random.pick(ids);
            let product = ProductId(random.between(1, plan.products));
            let item = ReserveItem::new(other.id(), product, other.user(), other.quantity() + 1);
            asks.push((0, Ask::Resolve(IdItem::new(other.id()))));
            asks.push((0, Ask::Reserve(item)));
        }
        2 => {
            // Cancelled before it was bought.
            let item = reserve(plan, random);
            ids.push(item);
            asks.push((0, Ask::Cancel(IdItem::with_reason(item.id(), 7))));
            asks.push((soon(random), Ask::Reserve(item)));
        }
        3 => asks.push((0, Ask::Restock(StockItem::new(id, product, quantity)))),
        4 => asks.push((0, Ask::WriteOff(StockItem::new(id, product, quantity)))),
        5 if random.chance(1, 4) => asks.push((0, Ask::Seal(ProductItem::new(product)))),
        6 => asks.push((0, Ask::Put(new_terms(plan, random)))),
        7 => asks.push((0, Ask::Resolve(IdItem::new(known(random, ids))))),
        8 => {
            asks.push((0, Ask::QueryReservation(IdItem::new(known(random, ids)))));
            asks.push((soon(random), Ask::QueryProduct(ProductItem::new(product))));
        }
        _ => {
            let limit = random.below(12) as u32;
            asks.push((0, Ask::List(ListItem::new(ProductId(random.below(3)), limit))));
        }
    }
    asks.into_iter().map(|(after_us, ask)| Stage { after_us, ask }).collect()
}

/// What follows upon a reservation.
fn afterwards(id: ReservationId, random: &mut Random, small: bool) -> Vec<(u64, Ask)> {
    let item = IdItem::new(id);
    let longest_us = if small { 2 * SECOND_US } else { 20 * SECOND_US };
    let later_us = random.spread(1000, longest_us);
    let soon_us = random.spread(100, 200_000);
    match random.weighted(&[35, 20, 15, 8, 6, 6, 5, 5]) {
        0 => vec![(later_us, Ask::Confirm(item))],
        // Never paid: it expires.
        1 => Vec::new(),
        2 => vec![(later_us, Ask::Cancel(item))],
        3 => vec![(later_us, Ask::Confirm(item)), (soon_us, Ask::Confirm(item))],
        4 => vec![(later_us, Ask::Confirm(item)), (soon_us, Ask::Cancel(item))],
        5 => vec![(later_us, Ask::Cancel(item)), (soon_us, Ask::Confirm(item))],
        6 => vec![(soon_us, Ask::Resolve(item)), (later_us, Ask::QueryReservation(item))],
        // Paid around the deadline, whenever that is.
        _ => vec![(longest_us, Ask::Confirm(item)), (soon_us, Ask::QueryReservation(item))],
    }
}

fn new_terms(plan: &Plan, random: &mut Random) -> PutProductItem {
    let goods = goods(plan);
    let (product, stock, terms) = *random.pick(&goods);
    let hold_ms = random.spread(300, 20_000) as u32;
    let per_user_limit = random.below(5) as u32;
    match random.below(5) {
        // As it was, or with another stock: refused.
        0 => PutProductItem::new(ProductId(product), Some(stock + random.below(2)), terms),
        1 => PutProductItem::new(ProductId(product + plan.products * random.below(2)), None, terms),
        _ => PutProductItem::new(ProductId(product), None, Terms { hold_ms, per_user_limit, ..terms }),
    }
}
