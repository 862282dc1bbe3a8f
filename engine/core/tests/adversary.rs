//! A node against everything at once: random frames, retries, crashes between any two steps, time; and an oracle that
//! believes nothing but the answers and the log.
//!
//! What is held against each other: each answer with the state of a second ledger that replays the log, at the very
//! index the answer names; all answers about one id with each other and with the final ledger; the gate's tokens with
//! the ledger's free units once nothing is in flight. Deliberately not here: other nodes, sockets.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{START_MS, TERMS, TestNode, item};
use proptest::prelude::*;
use proptest::sample::select;
use sluice_core::ledger::Ledger;
use sluice_core::ledger::effect::Ignore;
use sluice_core::ledger::settings::Settings;
use sluice_core::session::Ask;
use sluice_protocol::request::{IdItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms};
use sluice_protocol::{Answer, Kind, ProductId, ReservationId, State, Status};

/// Changes of stock have ids of their own range, so that the generator makes conflicts only where it means to.
const STOCK_IDS: u128 = 1 << 64;
const PRODUCTS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Each: which intention, product, user, quantity. A known intention is retried as it was.
    Reserve(Vec<(u8, u64, u64, u32)>),
    Named(Kind, Vec<u8>),
    Stock(Kind, u8, u64, u32),
    /// A product's limit and hold time change.
    Terms(u64, u32, u32),
    Seal(u64),
    Read(u64),
    Drive,
    Sync(usize),
    Pass(u64),
    Snapshot,
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let order = (any::<u8>(), 1..=PRODUCTS + 1, 0..5_u64, 1..4_u32);
    let product = || 1..=PRODUCTS;
    prop_oneof![
        8 => proptest::collection::vec(order, 1..6).prop_map(Step::Reserve),
        6 => (select(vec![Kind::Confirm, Kind::Cancel, Kind::Resolve]), proptest::collection::vec(any::<u8>(), 1..4))
            .prop_map(|(kind, ids)| Step::Named(kind, ids)),
        2 => (select(vec![Kind::Restock, Kind::WriteOff]), any::<u8>(), product(), 1..4_u32)
            .prop_map(|(kind, id, product, quantity)| Step::Stock(kind, id, product, quantity)),
        1 => (product(), 0..4_u32, select(vec![500_u32, 1000, 60_000]))
            .prop_map(|(product, limit, hold_ms)| Step::Terms(product, limit, hold_ms)),
        1 => (0..40 * PRODUCTS).prop_map(|product| Step::Seal(product + 1)),
        1 => product().prop_map(Step::Read),
        6 => Just(Step::Drive),
        6 => (0..4_usize).prop_map(Step::Sync),
        3 => select(vec![1_u64, 100, 500, 1001, 70_000]).prop_map(Step::Pass),
        1 => Just(Step::Snapshot),
        1 => (0..4_usize).prop_map(Step::Crash),
    ]
}

/// What was sent in a frame that is not answered yet.
#[derive(Clone, Debug)]
enum Sent {
    Reserves(Vec<ReserveItem>),
    Named(Kind, Vec<u128>),
    Stock(u128),
    Other(usize),
}

struct Adversary {
    node: TestNode,
    /// By correlation; those of earlier lives are gone.
    open: BTreeMap<u64, Sent>,
    /// What each intention asked for, once it was sent.
    intentions: BTreeMap<u128, ReserveItem>,
    /// Ids whose frames a crash swallowed: anything may have become of them.
    in_doubt: BTreeSet<u128>,
    told: BTreeMap<u128, Vec<(Kind, Answer)>>,
    log: BTreeMap<u64, (u64, bytes::Bytes)>,
}

impl Adversary {
    fn new() -> Self {
        let mut node = TestNode::new();
        for product in 1..=PRODUCTS {
            let limit = if product == 1 { 0 } else { 2 };
            node.put(product, 6, Terms { per_user_limit: limit, hold_ms: 1000, ..TERMS });
        }
        let (open, intentions) = (BTreeMap::new(), BTreeMap::new());
        let (in_doubt, told) = (BTreeSet::new(), BTreeMap::new());
        let mut adversary = Self { node, open, intentions, in_doubt, told, log: BTreeMap::new() };
        adversary.keep_log();
        adversary
    }

    /// Everything that was ever durable, though snapshots may have let it go.
    fn keep_log(&mut self) {
        for entry in &self.node.disk.entries {
            let kept = self.log.insert(entry.index, (entry.term, entry.data.clone()));
            let same = kept.is_none_or(|kept| kept == (entry.term, entry.data.clone()));
            assert!(same, "a durable entry was replaced: index {}", entry.index);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Reserve(orders) => self.reserve(orders),
            Step::Named(kind, ids) => {
                let ids: Vec<u128> = ids.iter().map(|id| u128::from(*id % 32) + 1).collect();
                let items: Vec<_> = ids.iter().map(|id| IdItem::new(ReservationId(*id))).collect();
                let ask = match kind {
                    Kind::Confirm => Ask::Confirm(&items),
                    Kind::Cancel => Ask::Cancel(&items),
                    _ => Ask::Resolve(&items),
                };
                let correlation = self.node.send(*kind, ask);
                self.open.insert(correlation, Sent::Named(*kind, ids));
            }
            Step::Stock(kind, id, product, quantity) => {
                let id = STOCK_IDS + u128::from(*id % 16);
                let items = [StockItem::new(ReservationId(id), ProductId(*product), *quantity)];
                let ask = if *kind == Kind::Restock { Ask::Restock(&items) } else { Ask::WriteOff(&items) };
                let correlation = self.node.send(*kind, ask);
                self.open.insert(correlation, Sent::Stock(id));
            }
            Step::Terms(product, limit, hold_ms) => {
                let terms = Terms { per_user_limit: *limit, hold_ms: *hold_ms, ..TERMS };
                let items = [PutProductItem::new(ProductId(*product), None, terms)];
                let correlation = self.node.send(Kind::PutProduct, Ask::Put(&items));
                self.open.insert(correlation, Sent::Other(1));
            }
            Step::Seal(product) => {
                let correlation =
                    self.node.send(Kind::Seal, Ask::Seal(&[ProductItem::new(ProductId(*product))]));
                self.open.insert(correlation, Sent::Other(1));
            }
            Step::Read(product) => {
                let items = [ProductItem::new(ProductId(*product))];
                let correlation = self.node.send(Kind::QueryProduct, Ask::Products(&items));
                self.open.insert(correlation, Sent::Other(1));
            }
            Step::Drive => {
                self.node.desk.expire(self.node.now);
                self.node.drive();
            }
            Step::Sync(steps) => self.node.sync_some(*steps),
            Step::Pass(ms) => self.node.pass(*ms),
            Step::Snapshot => self.node.replica.want_snapshot(),
            Step::Crash(steps) => self.crash(*steps),
        }
        self.keep_log();
        self.listen();
    }

    fn reserve(&mut self, orders: &[(u8, u64, u64, u32)]) {
        let items: Vec<ReserveItem> = orders
            .iter()
            .map(|(id, product, user, quantity)| {
                let id = u128::from(*id % 32) + 1;
                let known = self.intentions.get(&id).copied();
                let mut item = known.unwrap_or_else(|| item(id, *product, *user, *quantity));
                item.attempt = u8::from(known.is_some());
                self.intentions.insert(id, item);
                item
            })
            .collect();
        let correlation = self.node.send(Kind::Reserve, Ask::Reserve(&items));
        self.open.insert(correlation, Sent::Reserves(items));
    }

    /// Some of what was ordered reached the disk, and nobody heard of it.
    fn crash(&mut self, synced: usize) {
        self.node.sync_silently(synced);
        self.keep_log();
        for sent in std::mem::take(&mut self.open).into_values() {
            match sent {
                Sent::Reserves(items) => self.in_doubt.extend(items.iter().map(|item| item.id().0)),
                Sent::Named(_, ids) => self.in_doubt.extend(ids),
                Sent::Stock(_) | Sent::Other(_) => {}
            }
        }
        self.node = TestNode::recover(self.node.disk.clone(), self.node.now.wall_ms);
        self.node.settle();
    }

    fn listen(&mut self) {
        for reply in std::mem::take(&mut self.node.replies) {
            let sent = self.open.remove(&reply.caller.correlation).expect("a frame is answered once");
            let mut answers = Vec::new();
            reply.answers.each(|told| answers.extend_from_slice(told));
            let (kind, ids): (Kind, Vec<u128>) = match sent {
                Sent::Reserves(items) => (Kind::Reserve, items.iter().map(|item| item.id().0).collect()),
                Sent::Named(kind, ids) => (kind, ids),
                Sent::Stock(id) => (Kind::Restock, vec![id]),
                Sent::Other(len) => {
                    assert_eq!(answers.len(), len);
                    continue;
                }
            };
            assert_eq!(answers.len(), ids.len());
            for (id, answer) in ids.into_iter().zip(answers) {
                self.told.entry(id).or_default().push((kind, answer));
            }
        }
    }

    /// Nothing comes any more: everything is answered and nothing is left over.
    fn quieten(&mut self) {
        self.node.settle();
        self.keep_log();
        self.listen();
        // Beyond every budget.
        self.node.pass(20_000);
        self.node.settle();
        self.keep_log();
        self.listen();
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        assert_eq!((self.node.desk.away(), self.node.desk.counts().parked), (0, 0));
        assert!(self.node.replica.is_quiet());
        let gate = self.node.gate().expect("a voter alone leads");
        for product in 1..=PRODUCTS {
            let view = self.node.replica.ledger().product(ProductId(product)).unwrap();
            let lane = gate.lane(ProductId(product)).unwrap();
            assert_eq!((lane.tokens.free(), lane.tokens.debt()), (view.free, 0), "product {product}");
            assert_eq!(view.stock, view.free + view.held + view.sold);
        }
    }

    /// Holds every answer against the log, and all answers about an id against each other.
    fn judge(&self) {
        let mut off_log = BTreeMap::<u64, Vec<(ReserveItem, Answer)>>::new();
        for (id, told) in &self.told {
            self.agree(*id, told);
            let Some(item) = self.intentions.get(id) else { continue };
            let recorded = self.node.replica.ledger().reservation(ReservationId(*id));
            for (kind, answer) in told {
                let is_refusal = (16..48).contains(&(answer.status().unwrap() as u8));
                let is_in_log = recorded.is_some_and(|(state, _)| state == State::Refused);
                if *kind == Kind::Reserve && is_refusal && !is_in_log {
                    off_log.entry(answer.at().index).or_default().push((*item, *answer));
                }
            }
        }
        let mut replay = Ledger::new(Settings::default(), 4711);
        for (index, (term, data)) in &self.log {
            replay.apply(*index, *term, data, &mut Ignore).unwrap();
            for (item, answer) in off_log.remove(index).unwrap_or_default() {
                holds_at(&replay, &item, &answer);
            }
        }
        assert!(off_log.is_empty(), "answers name indices that never were: {off_log:?}");
        assert_eq!(replay.digest(), self.node.replica.ledger().digest());
    }

    fn agree(&self, id: u128, told: &[(Kind, Answer)]) {
        let recorded = self.node.replica.ledger().reservation(ReservationId(id));
        let state = recorded.map_or(State::None, |(state, _)| state);
        let heard = |status: Status| told.iter().filter(move |(_, answer)| answer.status() == Some(status));
        assert!(heard(Status::Reserved).count() <= 1, "{id} was reserved twice: {told:?}");
        if heard(Status::Reserved).next().is_some() {
            assert_eq!(heard(Status::Fenced).count(), 0, "{id} was reserved and is dead: {told:?}");
            assert!(
                !matches!(state, State::None | State::Fenced | State::Refused),
                "{id} {state:?}: {told:?}"
            );
        }
        for (status, only) in [
            (Status::Confirmed, State::Confirmed),
            (Status::AlreadyConfirmed, State::Confirmed),
            (Status::Cancelled, State::Cancelled),
            (Status::Fenced, State::Fenced),
            (Status::Done, State::Applied),
            (Status::Expired, State::Expired),
        ] {
            let is_final = heard(status).next().is_none() || state == only;
            assert!(is_final, "{id} is {state:?} after {status:?}: {told:?}");
        }
        for (_, answer) in heard(Status::Already) {
            let settled = !matches!(answer.state(), State::Held | State::Expired);
            assert!(!settled || answer.state() == state, "{id} is {state:?} after {answer:?}");
        }
        // Definitely not done, and nobody asked in any other way.
        let nothing = |answer: &Answer| {
            matches!(answer.status(), Some(Status::Busy | Status::NotLeader | Status::UnknownReservation))
        };
        if !self.in_doubt.contains(&id) && told.iter().all(|(_, answer)| nothing(answer)) {
            assert_eq!(state, State::None, "{id} was done after all: {told:?}");
        }
    }
}

/// Whether a refusal that is not in the log was true of the state at its index.
fn holds_at(ledger: &Ledger, item: &ReserveItem, answer: &Answer) {
    let at = ledger.at();
    assert_eq!(answer.at(), at, "an answer names an index and the time of another");
    let standing = ledger.standing(item.product());
    let is_settled = standing.is_none_or(|standing| standing.is_settled_at(at.time_ms));
    let units = u64::from(item.quantity());
    let has = ledger.user_units(item.product(), item.user());
    match answer.status().unwrap() {
        Status::UnknownProduct => assert!(standing.is_none()),
        Status::Insufficient => {
            let standing = standing.unwrap();
            assert_eq!((answer.free(), answer.held()), (standing.free, standing.held), "{item:?}");
            assert!(is_settled && standing.free < units, "{item:?} heard {answer:?} of {standing:?}");
        }
        Status::SoldOut => {
            let standing = standing.unwrap();
            assert!(standing.sealed && standing.free == 0 && standing.held == 0, "{standing:?}");
        }
        Status::LimitReached => {
            let limit = u64::from(standing.unwrap().per_user_limit);
            assert_eq!((answer.limit(), answer.user_has()), (limit, has), "{item:?}");
            assert!(is_settled && has + units > limit, "{item:?} heard {answer:?}");
        }
        // The log told it, and a later attempt under the same id was told something else.
        Status::Fenced | Status::IdConflict => {}
        other => panic!("{item:?} heard {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_is_ever_contradicted(steps in proptest::collection::vec(step(), 1..200)) {
        let mut adversary = Adversary::new();
        for step in &steps {
            adversary.take(step);
        }
        adversary.quieten();
        adversary.judge();
    }
}

#[test]
fn the_oracle_notices_a_refusal_that_was_not_true() {
    let mut adversary = Adversary::new();
    let at = adversary.node.replica.ledger().at();
    adversary.intentions.insert(1, item(1, 1, 1, 1));
    adversary.told.insert(1, vec![(Kind::Reserve, Answer::insufficient(at, 5, 1, START_MS))]);
    adversary.quieten();
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| adversary.judge()));
    assert!(judged.is_err());
}
