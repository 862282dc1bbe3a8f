//! A run made by hand: three nodes, real ledgers, and whatever the test tells the judges.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_core::ledger::Ledger;
use sluice_core::ledger::command::{Batch, Group};
use sluice_core::ledger::effect::Ignore;
use sluice_core::replica::disk::{Append, EntryKind, HardState, LogEntry};
use sluice_judges::checkers::{Checkers, Setup, Violation};
use sluice_judges::history::{Ask, Call, CallId, Reply};
use sluice_protocol::request::{IdItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms};
use sluice_protocol::response::{At, ProductReply, ReservationReply};
use sluice_protocol::{Answer, ProductId, ReservationId, Status, UserId};

use super::Log;

pub const NODES: [u64; 3] = [1, 2, 3];

/// Terms that put few conditions.
pub const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false };

pub struct Run {
    pub checkers: Checkers,
    /// What node 1 has applied, and the log.
    pub log: Log,
    /// What the others have applied.
    pub others: BTreeMap<u64, Ledger>,
    pub now_us: u64,
    pub client: u32,
}

pub type Verdict = Result<(), Violation>;

/// The checker that found something.
#[track_caller]
pub fn found(verdict: Verdict, checker: &str) {
    match verdict {
        Ok(()) => panic!("{checker} should have found something"),
        Err(violation) => {
            assert_eq!(violation.checker, checker, "{violation}");
            assert!(violation.what.len() > 20, "{violation}");
        }
    }
}

impl Run {
    pub fn new() -> Self {
        Self::with(Setup { search: true, digest_every: 1, ..Setup::new(&NODES) })
    }

    pub fn with(setup: Setup) -> Self {
        let settings = setup.settings;
        let mut checkers = Checkers::new(setup);
        for node in NODES {
            let hard_state = Some(HardState { term: 1, vote: 1, commit: 0 });
            checkers.durable(node, &Append { hard_state, ..Append::default() }).expect("a vote");
        }
        checkers.became_leader(1, 1).expect("the first leader");
        Self {
            checkers,
            log: Log::with(settings),
            others: NODES[1..].iter().map(|node| (*node, Ledger::new(settings, *node))).collect(),
            now_us: 1_000_000,
            client: 1,
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now_us += ms * 1000;
        self.log.now_ms += ms;
    }

    pub fn append(entry: &LogEntry) -> Append {
        let hard_state = HardState { term: entry.term, vote: 1, commit: entry.index - 1 };
        Append { hard_state: Some(hard_state), entries: vec![entry.clone()], compact_to: 0, reset: None }
    }

    pub fn durable(&mut self, node: u64, entry: &LogEntry) -> Verdict {
        self.checkers.durable(node, &Self::append(entry))
    }

    /// Node 1 applies an entry. Its answers.
    pub fn lead(&mut self, entry: &LogEntry) -> Result<Vec<Answer>, Violation> {
        let answers = self.log.apply(entry);
        self.checkers.applied(1, entry, &self.log.ledger)?;
        Ok(answers)
    }

    /// Another node applies it.
    pub fn follow(&mut self, node: u64, entry: &LogEntry) -> Verdict {
        let ledger = self.others.get_mut(&node).expect("node 2 or 3");
        ledger.apply(entry.index, entry.term, &entry.data, &mut Ignore).expect("it can be read");
        self.checkers.applied(node, entry, ledger)
    }

    /// An entry is made durable and applied everywhere. Its answers.
    pub fn commit(&mut self, groups: Vec<Group>) -> Vec<Answer> {
        let entry = self.log.entry(groups);
        self.commit_entry(&entry)
    }

    pub fn commit_entry(&mut self, entry: &LogEntry) -> Vec<Answer> {
        for node in NODES {
            self.durable(node, entry).expect("a sound step");
        }
        let answers = self.lead(entry).expect("a sound entry");
        for node in &NODES[1..] {
            self.follow(*node, entry).expect("a sound entry");
        }
        answers
    }

    pub fn ask(&mut self, ask: Ask) -> CallId {
        self.now_us += 10;
        let sent_us = self.now_us;
        self.checkers.sent(Call { client: self.client, node: 1, ask, sent_us, heard: None })
    }

    pub fn hear(&mut self, call: CallId, answer: Answer) -> Verdict {
        self.hear_reply(call, Reply::Plain(answer))
    }

    pub fn hear_reply(&mut self, call: CallId, reply: Reply) -> Verdict {
        self.now_us += 10;
        self.checkers.heard(call, self.now_us, reply)
    }

    /// Asks for a change, in an entry of its own, and hears the answer.
    pub fn carry_out(&mut self, ask: Ask) -> Answer {
        let call = self.ask(ask);
        let answer = self.commit(vec![group(&ask)])[0];
        self.hear(call, answer).expect("an honest answer");
        answer
    }

    pub fn put(&mut self, product: u64, stock: u64, terms: Terms) -> Answer {
        self.carry_out(Ask::Put(PutProductItem::new(ProductId(product), Some(stock), terms)))
    }

    pub fn reserve(&mut self, id: u128, product: u64, user: u64, quantity: u32) -> Answer {
        self.carry_out(reserve(id, product, user, quantity))
    }

    pub fn confirm(&mut self, id: u128) -> Answer {
        self.carry_out(Ask::Confirm(IdItem::new(ReservationId(id))))
    }

    pub fn cancel(&mut self, id: u128) -> Answer {
        self.carry_out(Ask::Cancel(IdItem::new(ReservationId(id))))
    }

    pub fn resolve(&mut self, id: u128) -> Answer {
        self.carry_out(Ask::Resolve(IdItem::new(ReservationId(id))))
    }

    pub fn restock(&mut self, id: u128, product: u64, quantity: u32) -> Answer {
        let item = StockItem::new(ReservationId(id), ProductId(product), quantity);
        self.carry_out(Ask::Restock(item))
    }

    /// Where node 1 stands.
    pub fn at(&self) -> At {
        self.log.ledger.at()
    }

    pub fn read_product(&self, product: u64) -> ProductReply {
        match self.log.ledger.product(ProductId(product)) {
            Some(view) => (Answer::done(self.at(), 0), Some(view)).into(),
            None => (Answer::plain(self.at(), Status::UnknownProduct), None).into(),
        }
    }

    pub fn read_reservation(&self, id: u128) -> ReservationReply {
        match self.log.ledger.reservation(ReservationId(id)) {
            Some((state, view)) => (Answer::found(self.at(), state), Some(view)).into(),
            None => (Answer::plain(self.at(), Status::UnknownReservation), None).into(),
        }
    }

    /// What somebody hears off the log for whom there is too little.
    pub fn shortage(&self, product: u64) -> Answer {
        self.log.ledger.standing(ProductId(product)).expect("it is there").shortage(self.at())
    }

    pub fn tokens(&self) -> Vec<(u64, u64)> {
        let products = self.log.ledger.products_from(ProductId(0));
        products.filter(|view| !view.terms.unlimited).map(|view| (view.product.0, view.free)).collect()
    }

    pub fn quiet(&mut self) -> Verdict {
        let tokens = self.tokens();
        self.quiet_with(&tokens)
    }

    pub fn quiet_with(&mut self, tokens: &[(u64, u64)]) -> Verdict {
        let mut nodes = vec![(1, &self.log.ledger)];
        nodes.extend(self.others.iter().map(|(node, ledger)| (*node, ledger)));
        self.checkers.quiet(&nodes, tokens)
    }

    pub fn finish(self) -> Verdict {
        self.checkers.finish().map(|_| ())
    }
}

/// An entry of a term and index, with a batch of its own.
pub fn entry_of(index: u64, term: u64, groups: Vec<Group>) -> LogEntry {
    let batch = Batch { proposer_term: term, stamp_ms: super::START_MS, groups };
    LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::from(batch.encode()) }
}

pub fn reserve(id: u128, product: u64, user: u64, quantity: u32) -> Ask {
    Ask::Reserve(ReserveItem::new(ReservationId(id), ProductId(product), UserId(user), quantity))
}

pub fn retry(id: u128, product: u64, user: u64, quantity: u32) -> Ask {
    let mut item = ReserveItem::new(ReservationId(id), ProductId(product), UserId(user), quantity);
    item.attempt = 1;
    Ask::Reserve(item)
}

pub fn query(id: u128) -> Ask {
    Ask::QueryReservation(IdItem::new(ReservationId(id)))
}

pub fn query_product(product: u64) -> Ask {
    Ask::QueryProduct(ProductItem::new(ProductId(product)))
}

/// The command of a request.
pub fn group(ask: &Ask) -> Group {
    use sluice_core::ledger::command::{Cancel, ChangeStock, Put, Reserve};
    let change = |item: &StockItem| ChangeStock {
        id: item.id().0,
        product: item.product().0,
        quantity: item.quantity(),
    };
    match ask {
        Ask::Reserve(item) => Group::Reserve(vec![Reserve {
            id: item.id().0,
            product: item.product().0,
            user: item.user().0,
            quantity: item.quantity(),
        }]),
        Ask::Confirm(item) => Group::Confirm(vec![item.id().0]),
        Ask::Cancel(item) => Group::Cancel(vec![Cancel { id: item.id().0, reason: item.reason() }]),
        Ask::Resolve(item) => Group::Resolve(vec![item.id().0]),
        Ask::Put(item) => Group::Put(vec![Put::from(item)]),
        Ask::Restock(item) => Group::Restock(vec![change(item)]),
        Ask::WriteOff(item) => Group::WriteOff(vec![change(item)]),
        Ask::Seal(item) => Group::Seal(vec![item.product().0]),
        Ask::Consume(_) => panic!("what is asked of groups is made elsewhere"),
        Ask::QueryReservation(_) | Ask::QueryProduct(_) | Ask::List(_) => panic!("reads are not in the log"),
    }
}
