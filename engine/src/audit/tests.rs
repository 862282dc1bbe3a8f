//! A small sale that is consistent, and one lie at a time: the audit must name each.
//!
//! An auditor that no lie has failed is not to be trusted.

use sluice_client::{At, ProductId, ReservationId, State, Status, UserId};

use super::{Account, Books, Found, Promise, Purpose, Said, Shelf, Ticket};

const PRODUCT: ProductId = ProductId(9);
const HOLD_MS: u64 = 1000;
const PROMISE: Promise = Promise { stock: 3, per_user_limit: 1, hold_ms: HOLD_MS as u32 };

/// When the books are read.
const END: At = At { index: 90, time_ms: 9_000 };

/// An account and the books that belong to it. Sequences 1 and 2 are the product's own events.
struct Sale {
    account: Account,
    books: Books,
}

fn at(index: u64) -> At {
    At { index, time_ms: index * 100 }
}

fn held(sequence: u64, index: u64) -> (Said, At) {
    (Said::Held { sequence, deadline_ms: index * 100 + HOLD_MS, first: true }, at(index))
}

fn no(status: Status, figures: (u64, u64), index: u64) -> (Said, At) {
    (Said::Refused { status, figures: Some(figures) }, at(index))
}

impl Sale {
    /// Three units, one a user: one is sold, one cancelled and sold to the next, one expired and paid late; others
    /// are refused, killed, or get no answer.
    fn consistent() -> Self {
        let mut sale = Self { account: Account::default(), books: Books::default() };
        sale.account.product(PRODUCT, PROMISE);
        let paid = sale.id(1, &[held(3, 10), (Said::Confirmed { sequence: 6, first: true }, at(14))]);
        sale.account.confirm_sent(paid);
        sale.found(paid, State::Confirmed, 6, 1_400);
        let cancelled = sale.id(2, &[held(4, 10), (Said::Cancelled { sequence: 7, first: true }, at(15))]);
        sale.account.cancel_sent(cancelled);
        sale.found(cancelled, State::Cancelled, 7, 1_500);
        let late = sale.id(3, &[held(5, 11), (Said::Expired { sequence: 10, settled: false }, at(25))]);
        sale.account.confirm_sent(late);
        sale.account.told(late, Said::Confirmed { sequence: 11, first: true }, at(30));
        sale.found(late, State::Confirmed, 11, 3_000);
        let next = sale.id(4, &[held(8, 16), (Said::Confirmed { sequence: 9, first: true }, at(20))]);
        sale.account.confirm_sent(next);
        sale.found(next, State::Confirmed, 9, 2_000);
        sale.id(5, &[no(Status::Insufficient, (0, 2), 14)]);
        sale.id(1, &[no(Status::LimitReached, (1, 1), 14)]);
        let dead = sale.id(6, &[(Said::Dead, at(40))]);
        sale.account.kill_sent(dead);
        sale.found(dead, State::Fenced, 0, 4_000);
        sale.id(7, &[(Said::Nothing, At::default())]);
        let expired = sale.id(8, &[]);
        sale.found(expired, State::Expired, 12, 2_900);
        sale.id(9, &[no(Status::SoldOut, (0, 0), 50)]);
        sale.books.shelves = vec![Shelf { product: PRODUCT, stock: 3, free: 0, held: 0, sold: 3, at: END }];
        sale
    }

    fn id(&mut self, user: u64, said: &[(Said, At)]) -> Ticket {
        let id = ReservationId(100 + self.books.found.len() as u128);
        let ticket = self.account.ask(id, PRODUCT, UserId(user), 1, Purpose::Reserve);
        said.iter().for_each(|(said, at)| self.account.told(ticket, *said, *at));
        self.books.found.push(None);
        ticket
    }

    fn found(&mut self, ticket: Ticket, state: State, sequence: u64, ended_ms: u64) {
        let ask = self.account.asked(ticket);
        let (product, user, quantity) = match state {
            State::Fenced => (ProductId(0), UserId(0), 0),
            _ => (ask.product, ask.user, ask.quantity),
        };
        let found = Found { state, product, user, quantity, sequence, deadline_ms: 0, ended_ms, at: END };
        self.books.found[ticket.0 as usize] = Some(Box::new(found));
    }

    /// What the engine says of the nth id.
    fn of(&mut self, nth: usize) -> &mut Found {
        self.books.found[nth].as_mut().unwrap()
    }

    /// The nth answer of the sale.
    fn said(&mut self, nth: usize) -> &mut Said {
        &mut self.account.statements[nth].said
    }

    fn contradictions(mut self) -> Vec<&'static str> {
        self.account.judge(&self.books).kept.iter().map(|contradiction| contradiction.what).collect()
    }
}

#[test]
fn a_consistent_sale_passes_whole() {
    let mut sale = Sale::consistent();
    let findings = sale.account.judge(&sale.books);
    assert_eq!(findings.contradicted, 0, "{:?}", findings.kept);
    assert_eq!((findings.ids, findings.answers, findings.refusals), (10, 14, 3));
    assert_eq!((findings.oversold(), findings.shelves[0].sold), (0, 3));
}

/// What is told or found otherwise than it was, and what the audit must say to it.
type Lie = (&'static str, fn(&mut Sale));

const LIES: &[Lie] = &[
    ("it was told that it took units, and the engine does not know it", |sale| sale.books.found[0] = None),
    ("it was told to be held, and took nothing", |sale| {
        sale.account.statements.remove(3);
        sale.of(1).state = State::Refused;
    }),
    ("it was told to be confirmed, and is not, or under another sequence", |sale| {
        sale.of(0).state = State::Expired;
    }),
    ("it was told to be confirmed, and is not, or under another sequence", |sale| sale.of(0).sequence = 20),
    ("it was told to be cancelled, and is not, or under another sequence", |sale| {
        sale.of(1).state = State::Confirmed;
    }),
    ("it was told to have expired for good, and has not, or under another sequence", |sale| {
        *sale.said(5) = Said::Expired { sequence: 10, settled: true };
    }),
    ("it was told to be dead, and lives", |sale| sale.found(Ticket(6), State::Expired, 13, 1_000)),
    ("it was told to be dead, and the engine does not know it", |sale| sale.books.found[6] = None),
    ("it was told that it took nothing, and it did", |sale| sale.found(Ticket(4), State::Held, 13, 0)),
    ("it was told that it took nothing, and it did", |sale| sale.found(Ticket(7), State::Held, 13, 0)),
    ("it was told that it took units, and that it took none", |sale| {
        sale.account.told(Ticket(0), Said::Dead, at(60));
    }),
    ("its hold was told under two sequences", |sale| {
        let again = Said::Held { sequence: 13, deadline_ms: 2_000, first: false };
        sale.account.told(Ticket(0), again, at(12));
    }),
    ("its hold was told with two deadlines", |sale| {
        let again = Said::Held { sequence: 3, deadline_ms: 2_001, first: false };
        sale.account.told(Ticket(0), again, at(12));
    }),
    ("it was told to be held after its deadline", |sale| {
        let again = Said::Held { sequence: 3, deadline_ms: 2_000, first: false };
        sale.account.told(Ticket(0), again, at(20));
    }),
    ("it was told to have expired before its deadline", |sale| {
        sale.account.statements[5].at = at(12);
    }),
    ("its hold ended before it began", |sale| {
        *sale.said(1) = Said::Confirmed { sequence: 2, first: true };
        sale.of(0).sequence = 2;
    }),
    ("its deadline is not its time and the hold time", |sale| {
        *sale.said(0) = Said::Held { sequence: 3, deadline_ms: 1_999, first: true };
    }),
    ("it was refused although enough was free", |sale| {
        *sale.said(9) = Said::Refused { status: Status::Insufficient, figures: Some((1, 1)) };
    }),
    ("it was refused for a limit that it did not reach", |sale| {
        *sale.said(10) = Said::Refused { status: Status::LimitReached, figures: Some((2, 2)) };
    }),
    ("it was refused for a reason that it never gave", |sale| {
        *sale.said(9) = Said::Refused { status: Status::UnknownProduct, figures: None };
    }),
    ("the engine has it with another product, user or quantity", |sale| sale.of(0).user = UserId(77)),
    ("it is confirmed, and nobody confirmed it", |sale| sale.account.asks[0].confirm_sent = false),
    ("it is cancelled, and nobody cancelled it", |sale| sale.account.asks[1].cancel_sent = false),
    ("it is dead, and nobody killed it", |sale| sale.account.asks[6].kill_sent = false),
    ("it expired at another time than its deadline", |sale| {
        sale.account.told(Ticket(8), Said::Held { sequence: 2, deadline_ms: 2_800, first: false }, at(18));
    }),
    ("it is held after its deadline, or until another one", |sale| {
        sale.found(Ticket(8), State::Held, 12, 0);
        sale.of(8).deadline_ms = END.time_ms;
    }),
    ("two events have one sequence", |sale| sale.of(8).sequence = 11),
    ("a later sequence has an earlier log index", |sale| sale.account.statements[8].at = at(13)),
    ("more units were taken at a time than there were", |sale| {
        let one_more = sale.id(20, &[held(5_000, 70)]);
        sale.found(one_more, State::Held, 5_000, 0);
        sale.of(10).deadline_ms = 70 * 100 + HOLD_MS + END.time_ms;
    }),
    ("a user had more units at a time than the limit", |sale| {
        sale.account.asks[3].user = UserId(1);
        sale.of(3).user = UserId(1);
    }),
    ("it was refused with figures that were never true at that index", |sale| {
        // All three were still held at that index.
        sale.account.statements[9].at = at(11);
    }),
    ("it was refused with figures that were never true at that index", |sale| {
        *sale.said(9) = Said::Refused { status: Status::Insufficient, figures: Some((0, 1)) };
    }),
    ("its user never had the units it was refused for", |sale| {
        sale.account.statements[10].at = at(5);
    }),
    ("stock is not free + held + sold", |sale| sale.books.shelves[0].free = 1),
    ("stock is not what was put in, less what was written off", |sale| {
        sale.books.shelves[0].stock = 4;
        sale.books.shelves[0].free = 1;
    }),
    ("sold is not the sum of the confirmed reservations", |sale| {
        sale.books.shelves[0].sold = 2;
        sale.books.shelves[0].free = 1;
    }),
    ("held is not the sum of the held reservations", |sale| {
        sale.books.shelves[0].held = 1;
        sale.books.shelves[0].sold = 2;
    }),
];

#[test]
fn every_lie_is_named() {
    for (at, (what, lie)) in LIES.iter().enumerate() {
        let mut sale = Sale::consistent();
        lie(&mut sale);
        let named = sale.contradictions();
        assert!(named.contains(what), "lie {at}, {what:?}: the audit said {named:?}");
    }
}

#[test]
fn units_beyond_the_stock_are_counted() {
    let mut sale = Sale::consistent();
    for user in [30, 31] {
        let one_more = sale.id(user, &[held(5_000 + user, 70)]);
        sale.found(one_more, State::Held, 5_000 + user, 0);
    }
    assert_eq!(sale.account.judge(&sale.books).oversold(), 2);
}
