//! Honest runs of any shape pass: many clients at once, answers late or lost, retries, refusals off the log. A judge who
//! accuses the innocent is as useless as one who sees nothing.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod by_hand;

use by_hand::run::{NODES, Run, TERMS, group};
use proptest::prelude::*;
use sluice_core::ledger::settings::Settings;
use sluice_judges::checkers::{Setup, Tally};
use sluice_judges::history::{Ask, CallId, Reply};
use sluice_protocol::request::{
    IdItem, ListItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms,
};
use sluice_protocol::response::{ProductReply, ReservationReply};
use sluice_protocol::{Answer, ProductId, ReservationId, Status, UserId};

/// A generator of little quality and no dependencies.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

struct Crowd {
    run: Run,
    random: Random,
    /// Sent, and neither proposed nor answered.
    open: Vec<(CallId, Ask)>,
    /// Answered, and not heard.
    under_way: Vec<(CallId, Reply)>,
    used: Vec<(u128, u64, u64, u32)>,
    next_id: u128,
}

impl Crowd {
    fn ask(&mut self) -> Ask {
        let product = 1 + self.random.below(2);
        let id = match self.random.below(3) {
            0 if self.next_id > 1 => 1 + u128::from(self.random.below(self.next_id as u64)),
            _ => self.next_id,
        };
        self.next_id = self.next_id.max(id + 1);
        let item = IdItem::new(ReservationId(id));
        let stock = StockItem::new(ReservationId(id), ProductId(product), 1 + self.random.below(2) as u32);
        match self.random.below(20) {
            0..=7 => self.reserve(id, product),
            8..=9 => Ask::Confirm(item),
            10 => Ask::Cancel(item),
            11 => Ask::Resolve(item),
            12 => Ask::Restock(stock),
            13 => Ask::WriteOff(stock),
            14 => {
                let per_user_limit = self.random.below(3) as u32 * 2;
                let hold_ms = 20 + self.random.below(3) as u32 * 10;
                let terms = Terms { per_user_limit, hold_ms, ..TERMS };
                Ask::Put(PutProductItem::new(ProductId(product), Some(4), terms))
            }
            15 if self.random.below(20) == 0 => Ask::Seal(ProductItem::new(ProductId(product))),
            16 => Ask::List(ListItem::new(ProductId(self.random.below(4)), 1 + self.random.below(3) as u32)),
            17 | 15 => Ask::QueryProduct(ProductItem::new(ProductId(product))),
            _ => Ask::QueryReservation(item),
        }
    }

    /// A first attempt, or the same once more.
    fn reserve(&mut self, id: u128, product: u64) -> Ask {
        let before = self.used.iter().find(|(used, ..)| *used == id).copied();
        let (.., product, user, quantity) =
            before.unwrap_or_else(|| (id, product, self.random.below(3), 1 + self.random.below(2) as u32));
        let mut item = ReserveItem::new(ReservationId(id), ProductId(product), UserId(user), quantity);
        item.attempt = u8::from(before.is_some());
        self.used.push((id, product, user, quantity));
        Ask::Reserve(item)
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..=4 => {
                let ask = self.ask();
                self.run.client = self.random.below(5) as u32;
                let call = self.run.ask(ask);
                self.open.push((call, ask));
            }
            5..=6 => self.commit(),
            7 => self.read(),
            8 => {
                let ms = self.random.below(12);
                self.run.pass(ms);
            }
            _ => {
                for _ in 0..self.random.below(4).min(self.under_way.len() as u64) {
                    let at = self.random.below(self.under_way.len() as u64) as usize;
                    let (call, reply) = self.under_way.swap_remove(at);
                    if self.random.below(12) != 0 {
                        self.run.hear_reply(call, reply).unwrap();
                    }
                }
            }
        }
    }

    /// Some of what is open goes into an entry; some is told that it does not, or forgotten.
    fn commit(&mut self) {
        let mut taken = Vec::new();
        for (call, ask) in std::mem::take(&mut self.open) {
            match self.random.below(12) {
                0..=6 if ask.verb().is_some() => taken.push((call, ask)),
                7 => self.under_way.push((call, Reply::Plain(Answer::not_leader(2)))),
                8 => {}
                _ => self.open.push((call, ask)),
            }
        }
        let answers = self.run.commit(taken.iter().map(|(_, ask)| group(ask)).collect());
        for ((call, _), answer) in taken.into_iter().zip(answers) {
            let answer = if self.random.below(15) == 0 { Answer::unknown() } else { answer };
            self.under_way.push((call, Reply::Plain(answer)));
        }
    }

    /// Answers off the log, from the state as it is.
    fn read(&mut self) {
        for (call, ask) in std::mem::take(&mut self.open) {
            match self.answer_of(&ask) {
                Some(reply) => self.under_way.push((call, reply)),
                None => self.open.push((call, ask)),
            }
        }
    }

    fn answer_of(&self, ask: &Ask) -> Option<Reply> {
        let (ledger, at) = (&self.run.log.ledger, self.run.at());
        match ask {
            Ask::QueryReservation(item) => {
                let reply: ReservationReply = self.run.read_reservation(item.id().0);
                Some(Reply::Reservation(reply))
            }
            Ask::QueryProduct(item) => Some(Reply::Product(self.run.read_product(item.product().0))),
            Ask::List(item) => {
                let page = ledger.products_from(item.from()).take(item.limit() as usize);
                let page = page.map(|view| ProductReply::from((Answer::done(at, 0), Some(view))));
                Some(Reply::Page(page.collect()))
            }
            Ask::Reserve(item) if item.attempt == 0 && ledger.reservation(item.id()).is_none() => {
                let Some(standing) = ledger.standing(item.product()) else {
                    return Some(Reply::Plain(Answer::plain(at, Status::UnknownProduct)));
                };
                let short = !standing.suffices(u64::from(item.quantity()));
                short.then(|| Reply::Plain(standing.shortage(at)))
            }
            _ => None,
        }
    }

    /// Everything is answered; what is in doubt is resolved.
    fn settle(mut self) -> Tally {
        while !self.open.is_empty() {
            self.read();
            self.commit();
        }
        self.run.pass(1);
        // Where there is no room, nothing can be settled.
        if self.run.log.ledger.settings().records_max > 1000 {
            self.run.checkers.healed(self.run.now_us);
        }
        for (call, reply) in std::mem::take(&mut self.under_way) {
            self.run.hear_reply(call, reply).unwrap();
        }
        for id in 1..self.next_id {
            self.run.resolve(id);
        }
        self.run.quiet().unwrap();
        self.run.checkers.finish().unwrap()
    }
}

fn crowd(seed: u64, steps: u64, settings: Settings) -> Tally {
    let setup = Setup { search: true, digest_every: 16, settings, ..Setup::new(&NODES) };
    let mut crowd = Crowd {
        run: Run::with(setup),
        random: Random(seed | 1),
        open: Vec::new(),
        under_way: Vec::new(),
        used: Vec::new(),
        next_id: 1,
    };
    crowd.run.put(1, 4, TERMS);
    for _ in 0..steps {
        crowd.step();
    }
    crowd.settle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(60), failure_persistence: None, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_crowd_is_acquitted(seed in any::<u64>()) {
        let tally = crowd(seed, 250, Settings::default());
        prop_assert!(tally.checks["search"] > 0);
        prop_assert!(tally.checks["search undecided"] == 0, "{tally:?}");
    }

    #[test]
    fn so_is_one_whose_ids_are_forgotten(seed in any::<u64>(), retention_ms in 0_u64..200) {
        crowd(seed, 250, Settings { retention_ms, ..Settings::default() });
    }

    #[test]
    fn and_one_for_whom_there_is_no_room(seed in any::<u64>(), records_max in 1_u32..20) {
        crowd(seed, 250, Settings { records_max, ..Settings::default() });
    }
}
