//! What the replica writes on the board, in the order readers rely on: credits, notices, the applied index.

use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sluice_protocol::event::{EventKind, EventRecord, EventView};
use sluice_protocol::response::At;
use sluice_protocol::{Answer, ProductId, ReservationId, Status, UserId};

use crate::board::Board;
use crate::fault::{self, Mutant};
use crate::flight::{Answers, Flight, Load};
use crate::gate::{Gate, Notice, Posted};
use crate::ledger::command::Group;
use crate::ledger::effect::{Change, Effects, Event};
use crate::ledger::{Ledger, Standing};

/// The replica gives tokens back into the first stripe: a sweep finds them from any other.
const STRIPE: usize = 0;

/// Parts of the table of notices. Each grows alone: of a million products a few thousand are moved at a time.
const NOTICE_PARTS: usize = 256;

/// The notice of every product. Parts differ by the product's number, and hash with no secret: products are the shop's.
type Notices = [HashMap<ProductId, Arc<Notice>, FixedState>; NOTICE_PARTS];

fn part(product: ProductId) -> usize {
    product.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - NOTICE_PARTS.ilog2())
}

/// Everything published, by its only writer.
#[derive(Debug)]
pub(super) struct Publisher {
    board: Arc<Board>,
    notices: Box<Notices>,
    stripes: usize,
}

/// Collects the effects of one entry.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    pub(super) board: &'a Board,
    pub(super) answers: &'a mut Vec<Answer>,
    /// Net change of availability, by product, in the order first seen.
    pub(super) credits: &'a mut Vec<(ProductId, i64)>,
    /// Committed events, in order.
    pub(super) events: &'a mut Vec<EventRecord>,
}

impl Effects for Collector<'_> {
    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    fn event(&mut self, event: Event) {
        self.events.push(record(&event));
    }

    fn credit(&mut self, product: ProductId, units: i64) {
        // Sweeps credit one product many times in a row.
        match self.credits.last_mut() {
            Some((last, sum)) if *last == product => *sum += units,
            _ => self.credits.push((product, units)),
        }
    }

    fn buyer(&mut self, product: ProductId, user: UserId, has: bool) {
        self.board.set_buyer(product, user, has);
    }

    fn known(&mut self, id: ReservationId, is: bool) {
        self.board.set_known(id, is);
    }

    fn soon_buyer(&mut self, product: ProductId, user: UserId) {
        black_box(self.board.touch_buyer(product, user));
    }

    fn soon_known(&mut self, id: ReservationId) {
        black_box(self.board.touch_known(id));
    }
}

impl Publisher {
    /// Publishes a ledger as it was loaded: filters, notices, applied index. The gate stays shut.
    pub(super) fn new(board: Arc<Board>, stripes: usize, ledger: &mut Ledger) -> Self {
        let mut publisher =
            Self { board, notices: Box::new(std::array::from_fn(|_| HashMap::default())), stripes };
        publisher.replace(ledger);
        publisher
    }

    /// Publishes another ledger in place of the last one, with the gate shut.
    pub(super) fn replace(&mut self, ledger: &mut Ledger) {
        self.board.set_gate(None);
        self.board.clear_filters();
        ledger.each_known(|id| self.board.set_known(id, true));
        ledger.each_buyer(|product, user, _| self.board.set_buyer(product, user, true));
        for view in ledger.products_from(ProductId(0)) {
            let standing = ledger.standing(view.product).expect("a listed product stands");
            self.post(standing, ledger.at(), None);
        }
        self.notices(ledger, None);
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// A fresh gate for a term, from the ledger's state with nothing in flight.
    pub(super) fn open_gate(&self, term: u64, ledger: &Ledger) -> Arc<Gate> {
        let gate = Gate::new(term, self.stripes);
        for (product, notice) in self.notices.iter().flatten() {
            let standing = ledger.standing(*product).expect("what was posted stands");
            gate.add(*product, Arc::clone(notice), available(&standing));
        }
        let gate = Arc::new(gate);
        self.board.set_gate(Some(Arc::clone(&gate)));
        gate
    }

    /// Carries availability that changed for other reasons than this entry's own reserves into the gate.
    pub(super) fn credit(&self, gate: &Gate, credits: &mut Vec<(ProductId, i64)>) {
        for (product, units) in credits.drain(..) {
            let Some(lane) = gate.lane(product) else { continue };
            match u64::try_from(units) {
                Ok(units) => lane.tokens.give(STRIPE, units),
                Err(_) => lane.tokens.debit(units.unsigned_abs()),
            }
        }
    }

    /// Publishes what the last applies changed, then the applied index.
    pub(super) fn notices(&mut self, ledger: &mut Ledger, gate: Option<&Gate>) {
        let at = ledger.at();
        if fault::is_on(Mutant::IndexBeforeNotices) {
            self.board.set_applied(at);
        }
        ledger.changed(|standing| self.post(standing, at, gate));
        self.board.set_applied(at);
    }

    fn post(&mut self, standing: Standing, at: At, gate: Option<&Gate>) {
        let posted = Posted::new(&standing, at);
        if let Some(notice) = self.notices[part(standing.product)].get(&standing.product) {
            notice.publish(posted);
            return;
        }
        let notice = Arc::new(Notice::new(posted));
        if let Some(gate) = gate {
            gate.add(standing.product, Arc::clone(&notice), available(&standing));
        }
        self.notices[part(standing.product)].insert(standing.product, notice);
    }
}

/// An event as consumers see it.
fn record(event: &Event) -> EventRecord {
    let (kind, detail) = match event.change {
        Change::Reserved => (EventKind::Reserved, 0),
        Change::Confirmed => (EventKind::Confirmed, 0),
        Change::Cancelled { reason } => (EventKind::Cancelled, u64::from(reason)),
        Change::Expired => (EventKind::Expired, 0),
        Change::Restocked => (EventKind::Restocked, 0),
        Change::WrittenOff => (EventKind::WrittenOff, 0),
        Change::TermsChanged => (EventKind::TermsChanged, 0),
        Change::Sealed => (EventKind::Sealed, 0),
    };
    let Event { sequence, index, time_ms, product, user, quantity, id, .. } = *event;
    EventRecord::from(EventView { sequence, index, time_ms, kind, product, user, quantity, id, detail })
}

/// Tokens of a product with nothing in flight; `None` if it is unlimited.
fn available(standing: &Standing) -> Option<u64> {
    (!standing.unlimited).then_some(standing.free)
}

/// Settles the account of a flight's tokens against what the ledger answered, and fills in its answers.
///
/// A token stands for a unit until the ledger took the unit (then both are gone) or did not (then the token goes
/// back). A unit the ledger took without a token is debited.
pub(super) fn settle(flight: &mut Flight, answers: Vec<Answer>, gate: Option<&Gate>) {
    let Load::Commands(group) = &flight.load else { unreachable!("only commands are proposed") };
    let took = |answer: &Answer| matches!(answer.status(), Some(Status::Reserved | Status::Done));
    if let Some(gate) = gate {
        let own = flight.gate.as_ref().is_some_and(|mine| std::ptr::eq(&**mine, gate));
        match group {
            Group::Reserve(items) => {
                for (at, (item, answer)) in items.iter().zip(&answers).enumerate() {
                    let tokened = own && flight.tokened.get(at).copied().unwrap_or(false);
                    if tokened == took(answer) {
                        continue;
                    }
                    let Some(lane) = gate.lane(ProductId(item.product)) else { continue };
                    let units = u64::from(item.quantity);
                    match tokened {
                        true if fault::is_on(Mutant::TokenKept) => {}
                        false if fault::is_on(Mutant::TokenNotDebited) => {}
                        true => lane.tokens.give(STRIPE, units),
                        false => lane.tokens.debit(units),
                    }
                }
            }
            Group::WriteOff(items) => {
                for (item, _) in items.iter().zip(&answers).filter(|(_, answer)| took(answer)) {
                    if let Some(lane) = gate.lane(ProductId(item.product)) {
                        lane.tokens.debit(u64::from(item.quantity));
                    }
                }
            }
            _ => {}
        }
    }
    flight.gate = None;
    flight.answers = Answers::Plain(answers);
}
