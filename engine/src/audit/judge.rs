//! Holds each id's answers against what became of it, and every product's figures against its ids.
//!
//! Each rule is one line: what was said, what was found, and what it means if the two do not fit. Deliberately not
//! here: what was true *while* the sale ran, which takes the order of all events (`history`).

use std::fmt;

use sluice_client::{ProductId, ReservationId, State, Status};

use super::fetch::{Books, Found, Shelf};
use super::history::History;
use super::said::Said;
use super::{Account, Ask, Promise, Purpose, Statement, Ticket};

/// Contradictions that are kept with their evidence; the others are counted.
const KEPT_MAX: usize = 10;

/// Something that was said and is not so.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The id it is about; 0 if it is about a product.
    pub id: ReservationId,
    /// What is wrong.
    pub what: &'static str,
    /// What was asked, said and found.
    pub evidence: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.id, self.what, self.evidence)
    }
}

/// One product, as its ids and the engine have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfFinding {
    /// What the engine says.
    pub shelf: Shelf,
    /// Units of confirmed reservations, counted id by id.
    pub sold: u64,
    /// Units of held reservations, counted id by id.
    pub held: u64,
    /// The most units beyond the stock that were taken at any moment.
    pub oversold: u64,
}

/// What the audit found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Ids looked up.
    pub ids: usize,
    /// Answers checked.
    pub answers: usize,
    /// Refusals whose figures were checked against the order of all events.
    pub refusals: usize,
    /// Contradictions found.
    pub contradicted: usize,
    /// The first of them.
    pub kept: Vec<Contradiction>,
    /// Each product.
    pub shelves: Vec<ShelfFinding>,
}

impl Findings {
    pub(super) fn add(&mut self, id: ReservationId, what: &'static str, evidence: impl FnOnce() -> String) {
        self.contradicted += 1;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Contradiction { id, what, evidence: evidence() });
        }
    }

    /// Units beyond the stock, over all products.
    pub fn oversold(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.oversold).sum()
    }
}

impl Account {
    /// Judges every answer by the engine's books, which were read after the last of them.
    ///
    /// # Panics
    /// If the books were not read for the ids of this account.
    pub fn judge(&mut self, books: &Books) -> Findings {
        assert_eq!(books.found.len(), self.asks.len(), "the books were read for every id");
        // Stable: the answers of one id stay in the order in which they were given.
        self.statements.sort_by_key(|statement| statement.ticket);
        let mut findings =
            Findings { ids: self.asks.len(), answers: self.statements.len(), ..Findings::default() };
        let mut rest = self.statements.as_slice();
        for (at, (ask, found)) in self.asks.iter().zip(&books.found).enumerate() {
            let ticket = Ticket(at as u32);
            let (said, others) = rest.split_at(rest.partition_point(|one| one.ticket <= ticket));
            rest = others;
            let found = found.as_deref();
            let promise = self.products.get(&ask.product);
            if let Some(what) = first_contradiction(ask, said, found, promise) {
                findings.add(ask.id, what, || format!("{ask:?}\n    said {said:?}\n    found {found:?}"));
            }
        }
        let history = History::new(self, books);
        for shelf in &books.shelves {
            let finding = self.judge_shelf(*shelf, books, &history, &mut findings);
            findings.shelves.push(finding);
        }
        history.judge(self, &mut findings);
        findings
    }

    fn judge_shelf(
        &self,
        shelf: Shelf,
        books: &Books,
        history: &History,
        findings: &mut Findings,
    ) -> ShelfFinding {
        let mine = |state: State, purpose: Purpose| {
            let asks = self.asks.iter().zip(&books.found);
            let is_it = move |(ask, found): &(&Ask, &Option<Box<Found>>)| {
                ask.product == shelf.product
                    && ask.purpose == purpose
                    && found.as_ref().is_some_and(|found| found.state == state)
            };
            asks.filter(is_it).map(|(ask, _)| u64::from(ask.quantity)).sum::<u64>()
        };
        let sold = mine(State::Confirmed, Purpose::Reserve);
        let held = mine(State::Held, Purpose::Reserve);
        let created = self.products.get(&shelf.product).map_or(0, |promise| promise.stock);
        let stock = created + mine(State::Applied, Purpose::Restock);
        let stock = stock.saturating_sub(mine(State::Applied, Purpose::WriteOff));
        let rules = [
            (shelf.stock == shelf.free + shelf.held + shelf.sold, "stock is not free + held + sold"),
            (shelf.stock == stock, "stock is not what was put in, less what was written off"),
            (shelf.sold == sold, "sold is not the sum of the confirmed reservations"),
            (shelf.held == held, "held is not the sum of the held reservations"),
        ];
        for (_, what) in rules.into_iter().filter(|(holds, _)| !holds) {
            findings.add(ReservationId(0), what, || {
                format!("{shelf:?}; the ids give stock {stock}, held {held}, sold {sold}")
            });
        }
        let oversold = history.oversold(shelf.product).max(sold.saturating_sub(shelf.stock));
        ShelfFinding { shelf, sold, held, oversold }
    }
}

/// What is wrong with the answers of one id, if anything is.
fn first_contradiction(
    ask: &Ask,
    said: &[Statement],
    found: Option<&Found>,
    promise: Option<&Promise>,
) -> Option<&'static str> {
    if let Some(what) = among_themselves(said) {
        return Some(what);
    }
    if let Some(what) = said.iter().find_map(|one| against_found(one, found)) {
        return Some(what);
    }
    if let Some(what) = said.iter().find_map(|one| by_itself(ask, one, promise)) {
        return Some(what);
    }
    found.and_then(|found| found_itself(ask, said, found))
}

/// The hold that an id was told of: sequence and deadline.
pub(super) fn hold_of(said: &[Statement]) -> Option<(u64, u64)> {
    said.iter().find_map(|one| match one.said {
        Said::Held { sequence, deadline_ms, .. } => Some((sequence, deadline_ms)),
        _ => None,
    })
}

/// Whether all answers of one id agree.
fn among_themselves(said: &[Statement]) -> Option<&'static str> {
    let yes = said.iter().any(|one| one.said.claims_effect());
    let no = said.iter().any(|one| !one.said.claims_effect());
    if yes && no {
        return Some("it was told that it took units, and that it took none");
    }
    let (sequence, deadline_ms) = hold_of(said)?;
    said.iter().find_map(|one| match one.said {
        Said::Held { sequence: other, .. } if other != sequence => {
            Some("its hold was told under two sequences")
        }
        Said::Held { deadline_ms: other, .. } if other != deadline_ms => {
            Some("its hold was told with two deadlines")
        }
        Said::Held { first: false, .. } if one.at.time_ms >= deadline_ms => {
            Some("it was told to be held after its deadline")
        }
        Said::Expired { .. } if one.at.time_ms < deadline_ms => {
            Some("it was told to have expired before its deadline")
        }
        Said::Confirmed { sequence: other, .. }
        | Said::Cancelled { sequence: other, .. }
        | Said::Expired { sequence: other, .. }
            if other <= sequence =>
        {
            Some("its hold ended before it began")
        }
        _ => None,
    })
}

/// Whether an answer fits what became of the id.
fn against_found(one: &Statement, found: Option<&Found>) -> Option<&'static str> {
    let Some(found) = found else {
        return match one.said {
            Said::Refused { .. } | Said::Nothing => None,
            Said::Dead => Some("it was told to be dead, and the engine does not know it"),
            _ => Some("it was told that it took units, and the engine does not know it"),
        };
    };
    let same = |sequence| sequence == found.sequence || found.sequence == 0;
    let (fits, what) = match one.said {
        Said::Held { .. } => (
            matches!(found.state, State::Held | State::Confirmed | State::Cancelled | State::Expired),
            "it was told to be held, and took nothing",
        ),
        Said::Confirmed { sequence, .. } => (
            found.state == State::Confirmed && same(sequence),
            "it was told to be confirmed, and is not, or under another sequence",
        ),
        Said::Cancelled { sequence, .. } => (
            found.state == State::Cancelled && same(sequence),
            "it was told to be cancelled, and is not, or under another sequence",
        ),
        Said::Expired { sequence, settled } => (
            found.state == State::Expired && same(sequence)
                || (found.state == State::Confirmed && !settled && sequence < found.sequence),
            "it was told to have expired for good, and has not, or under another sequence",
        ),
        Said::Applied { sequence, .. } => (
            found.state == State::Applied && same(sequence),
            "it was told to have changed the stock, and has not, or under another sequence",
        ),
        Said::Dead => (found.state == State::Fenced, "it was told to be dead, and lives"),
        Said::Refused { .. } | Said::Nothing => (
            matches!(found.state, State::Refused | State::Fenced),
            "it was told that it took nothing, and it did",
        ),
    };
    (!fits).then_some(what)
}

/// Whether an answer makes sense, whatever became of the id.
fn by_itself(ask: &Ask, one: &Statement, promise: Option<&Promise>) -> Option<&'static str> {
    let quantity = u64::from(ask.quantity);
    match one.said {
        Said::Held { deadline_ms, first: true, .. } => {
            let hold_ms = promise.map(|promise| u64::from(promise.hold_ms));
            let right = hold_ms.is_none_or(|hold_ms| deadline_ms == one.at.time_ms + hold_ms);
            (!right).then_some("its deadline is not its time and the hold time")
        }
        Said::Refused { status: Status::Insufficient, figures: Some((free, _)) } => {
            (free >= quantity).then_some("it was refused although enough was free")
        }
        Said::Refused { status: Status::LimitReached, figures: Some((limit, has)) } => {
            let right = has <= limit
                && has + quantity > limit
                && promise.is_none_or(|promise| u64::from(promise.per_user_limit) == limit);
            (!right).then_some("it was refused for a limit that it did not reach")
        }
        Said::Refused {
            status: Status::Invalid | Status::IdConflict | Status::UnknownProduct | Status::UnknownReservation,
            ..
        } => Some("it was refused for a reason that it never gave"),
        _ => None,
    }
}

/// Whether what became of the id is what was asked for.
fn found_itself(ask: &Ask, said: &[Statement], found: &Found) -> Option<&'static str> {
    if found.state == State::Fenced {
        return (!ask.kill_sent).then_some("it is dead, and nobody killed it");
    }
    if (found.product, found.user, found.quantity) != (ask.product, ask.user, ask.quantity) {
        return Some("the engine has it with another product, user or quantity");
    }
    let deadline_ms = hold_of(said).map(|(_, deadline_ms)| deadline_ms);
    let (fits, what) = match found.state {
        State::Confirmed => (ask.confirm_sent, "it is confirmed, and nobody confirmed it"),
        State::Cancelled => (ask.cancel_sent, "it is cancelled, and nobody cancelled it"),
        State::Expired => (
            deadline_ms.is_none_or(|deadline_ms| deadline_ms == found.ended_ms),
            "it expired at another time than its deadline",
        ),
        State::Held => (
            found.at.time_ms < found.deadline_ms
                && deadline_ms.is_none_or(|deadline_ms| deadline_ms == found.deadline_ms),
            "it is held after its deadline, or until another one",
        ),
        State::Applied => (ask.purpose != Purpose::Reserve, "a reservation changed the stock"),
        State::Refused => (true, ""),
        State::None | State::Fenced => (false, "the engine has it in no state at all"),
    };
    (!fits).then_some(what)
}

/// The statements of one id, of statements that are sorted by ticket.
pub(super) fn statements_of(statements: &[Statement], ticket: Ticket) -> &[Statement] {
    let from = statements.partition_point(|one| one.ticket < ticket);
    let to = statements.partition_point(|one| one.ticket <= ticket);
    &statements[from..to]
}

/// A product's name in evidence.
pub(super) fn about(product: ProductId) -> String {
    format!("product {product}")
}
