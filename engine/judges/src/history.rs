//! Every item of every request that clients sent, and what they heard: all that the outside world knows of a run.
//!
//! Times are microseconds of the run's own clock. The order in which calls are recorded is the order in which they were sent and
//! heard, so that "heard before that was sent" needs no clock. Deliberately not here: whether any of it is right.

use std::collections::BTreeMap;

use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::event::EventRecord;
use sluice_protocol::request::{
    IdItem, ListItem, PUT_KEEP_STOCK, PUT_UNLIMITED, ProductItem, PutProductItem, ReserveItem, StockItem,
};
use sluice_protocol::response::{ProductReply, ReservationReply};
use sluice_protocol::seat::FetchItem;
use sluice_protocol::{Answer, Status};

use crate::consume::Consume;

/// Names a call of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// What one item asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Take units.
    Reserve(ReserveItem),
    /// A reservation was paid.
    Confirm(IdItem),
    /// Give a reservation back, or kill the id.
    Cancel(IdItem),
    /// Tell the outcome of an id, or kill it.
    Resolve(IdItem),
    /// Create a product or change its terms.
    Put(PutProductItem),
    /// Add stock.
    Restock(StockItem),
    /// Remove free stock.
    WriteOff(StockItem),
    /// Promise that stock will never be added.
    Seal(ProductItem),
    /// Read a reservation.
    QueryReservation(IdItem),
    /// Read a product.
    QueryProduct(ProductItem),
    /// Read a page of products.
    List(ListItem),
    /// Something of a consumer group.
    Consume(Consume),
}

/// What was heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// An answer alone.
    Plain(Answer),
    /// An answer and a reservation.
    Reservation(ReservationReply),
    /// An answer and a product.
    Product(ProductReply),
    /// A page of products; a single answer if it could not be read.
    Page(Vec<ProductReply>),
    /// Events.
    Delivery(Box<Delivery>),
}

/// What came of a fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The fetch.
    pub item: FetchItem,
    /// The reply's head.
    pub head: DeliveryHead,
    /// Events, as they were delivered.
    pub events: Vec<EventRecord>,
}

/// One item, sent once. A retry is a call of its own. A call reaches a server at most once.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub client: u32,
    /// The node asked.
    pub node: u64,
    /// What.
    pub ask: Ask,
    /// When it was sent.
    pub sent_us: u64,
    /// When it was answered, and how.
    pub heard: Option<(u64, Reply)>,
}

/// What kind of change a call asks of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// See [`Ask::Reserve`].
    Reserve,
    /// See [`Ask::Confirm`].
    Confirm,
    /// See [`Ask::Cancel`].
    Cancel,
    /// See [`Ask::Resolve`].
    Resolve,
    /// See [`Ask::Put`].
    Put,
    /// See [`Ask::Restock`].
    Restock,
    /// See [`Ask::WriteOff`].
    WriteOff,
    /// See [`Ask::Seal`].
    Seal,
    /// See [`Ask::Consume`].
    Consume,
    /// The same, where a member leaves: a leader asks for that too, of its own accord.
    Leave,
}

/// A change as it stands in the log, in one form for all kinds: two are the same if they ask the same of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command {
    /// What kind of change.
    pub verb: Verb,
    /// The id, or the product, that it names.
    pub name: u128,
    /// All the rest, in an order that the verb decides: product, user, quantity; reason; stock (0 = keep), opens, closes,
    /// limit, hold, flags as on the wire.
    pub payload: [u64; 6],
}

impl Command {
    /// A command with so much payload; the rest is 0.
    pub fn new<const N: usize>(verb: Verb, name: u128, payload: [u64; N]) -> Self {
        let mut whole = [0; 6];
        whole[..N].copy_from_slice(&payload);
        Self { verb, name, payload: whole }
    }
}

impl Ask {
    /// What it would be in the log; `None`: it only reads.
    pub fn command(&self) -> Option<Command> {
        if let Self::Consume(asked) = self {
            return Some(asked.command());
        }
        let verb = self.verb()?;
        let change = |item: &StockItem| {
            let payload = [item.product().0, u64::from(item.quantity())];
            Command::new(verb, item.id().0, payload)
        };
        Some(match self {
            Self::Reserve(item) => {
                let payload = [item.product().0, item.user().0, u64::from(item.quantity())];
                Command::new(verb, item.id().0, payload)
            }
            Self::Confirm(item) | Self::Resolve(item) => Command::new(verb, item.id().0, []),
            Self::Cancel(item) => Command::new(verb, item.id().0, [u64::from(item.reason())]),
            Self::Put(item) => {
                let terms = item.terms();
                let flags = if terms.unlimited { PUT_UNLIMITED } else { 0 };
                let flags = flags | if item.stock().is_none() { PUT_KEEP_STOCK } else { 0 };
                let payload = [
                    item.stock().unwrap_or(0),
                    terms.opens_ms,
                    terms.closes_ms,
                    u64::from(terms.per_user_limit),
                    u64::from(terms.hold_ms),
                    u64::from(flags),
                ];
                Command::new(verb, u128::from(item.product().0), payload)
            }
            Self::Restock(item) | Self::WriteOff(item) => change(item),
            Self::Seal(item) => Command::new(verb, u128::from(item.product().0), []),
            Self::QueryReservation(_) | Self::QueryProduct(_) | Self::List(_) | Self::Consume(_) => {
                return None;
            }
        })
    }

    /// The id it names, of a reservation or of a change of stock.
    pub fn id(&self) -> Option<u128> {
        match self {
            Self::Reserve(item) => Some(item.id().0),
            Self::Confirm(item) | Self::Cancel(item) | Self::Resolve(item) | Self::QueryReservation(item) => {
                Some(item.id().0)
            }
            Self::Restock(item) | Self::WriteOff(item) => Some(item.id().0),
            Self::Put(_) | Self::Seal(_) | Self::QueryProduct(_) | Self::List(_) | Self::Consume(_) => None,
        }
    }

    /// The product it names.
    pub fn product(&self) -> Option<u64> {
        match self {
            Self::Reserve(item) => Some(item.product().0),
            Self::Restock(item) | Self::WriteOff(item) => Some(item.product().0),
            Self::Put(item) => Some(item.product().0),
            Self::Seal(item) | Self::QueryProduct(item) => Some(item.product().0),
            _ => None,
        }
    }

    /// What it asks of the log; `None`: it only reads.
    pub fn verb(&self) -> Option<Verb> {
        Some(match self {
            Self::Reserve(_) => Verb::Reserve,
            Self::Confirm(_) => Verb::Confirm,
            Self::Cancel(_) => Verb::Cancel,
            Self::Resolve(_) => Verb::Resolve,
            Self::Put(_) => Verb::Put,
            Self::Restock(_) => Verb::Restock,
            Self::WriteOff(_) => Verb::WriteOff,
            Self::Seal(_) => Verb::Seal,
            Self::Consume(Consume::Leave(..)) => Verb::Leave,
            Self::Consume(_) => Verb::Consume,
            Self::QueryReservation(_) | Self::QueryProduct(_) | Self::List(_) => return None,
        })
    }

    /// Whether it may be refused without the log: a first attempt to reserve, or a read.
    pub fn may_pass_the_log_by(&self) -> bool {
        match self {
            Self::Reserve(item) => item.attempt == 0,
            ask => ask.verb().is_none(),
        }
    }
}

impl Reply {
    /// The answers in it, each with the index and time it holds at.
    pub fn answers(&self) -> Vec<Answer> {
        match self {
            Self::Plain(answer) => vec![*answer],
            Self::Reservation(reply) => vec![reply.answer],
            Self::Product(reply) => vec![reply.answer],
            Self::Page(replies) => replies.iter().map(|reply| reply.answer).collect(),
            Self::Delivery(delivery) => vec![delivery.head.answer],
        }
    }

    /// The first answer. `None`: an empty page, which names neither index nor time.
    pub fn answer(&self) -> Option<Answer> {
        match self {
            Self::Plain(answer) => Some(*answer),
            Self::Reservation(reply) => Some(reply.answer),
            Self::Product(reply) => Some(reply.answer),
            Self::Page(replies) => replies.first().map(|reply| reply.answer),
            Self::Delivery(delivery) => Some(delivery.head.answer),
        }
    }

    /// Whether it claims nothing about the state: only that nothing was done, or that nobody knows.
    pub fn claims_nothing(&self) -> bool {
        let settles = |answer: Answer| answer.status_byte() < Status::Busy as u8;
        !self.answer().is_some_and(settles)
    }
}

/// What was asked of each id that clients tried to reserve under. Of ids that were sent with more than one payload nobody
/// who only listens can say which one counts: they are left out.
pub fn reserves(calls: &[Call]) -> BTreeMap<u128, ReserveItem> {
    let mut items: BTreeMap<u128, Option<ReserveItem>> = BTreeMap::new();
    for call in calls {
        let Ask::Reserve(item) = &call.ask else { continue };
        let first = items.entry(item.id().0).or_insert(Some(*item));
        let same = |first: &ReserveItem| {
            (first.product(), first.user(), first.quantity())
                == (item.product(), item.user(), item.quantity())
        };
        *first = first.filter(same);
    }
    items.into_iter().filter_map(|(id, item)| Some((id, item?))).collect()
}

/// All calls of a run, in the order in which they were sent.
#[derive(Debug, Default)]
pub struct History {
    calls: Vec<Call>,
}

impl History {
    /// Records a call.
    ///
    /// # Panics
    /// If a run makes more than 2^32 of them.
    pub fn sent(&mut self, call: Call) -> CallId {
        let id = CallId(u32::try_from(self.calls.len()).expect("a run makes fewer calls than that"));
        self.calls.push(call);
        id
    }

    /// Records what a call heard.
    pub fn heard(&mut self, call: CallId, at_us: u64, reply: Reply) {
        self.calls[call.0 as usize].heard = Some((at_us, reply));
    }

    /// One call.
    pub fn get(&self, call: CallId) -> &Call {
        &self.calls[call.0 as usize]
    }

    /// All of them.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}
