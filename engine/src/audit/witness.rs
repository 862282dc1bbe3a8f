//! A client whose every call is put on record.
//!
//! Each method tells what is known of the id afterwards; `None` means that nobody could say, and that
//! [`Witness::resolve`] will. Deliberately not here: trying again.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use sluice_client::{
    At, Client, Error, ProductId, ReservationId, Reserve, ReserveOutcome, StockChange, UserId, fresh_id,
};

use super::said::{self, Said};
use super::{Account, Purpose, Ticket};

/// See the module. Clones share the account.
#[derive(Clone, Debug)]
pub struct Witness {
    client: Client,
    account: Rc<RefCell<Account>>,
}

impl Witness {
    /// Calls of this client, on record in this account.
    pub fn new(client: Client, account: Rc<RefCell<Account>>) -> Self {
        Self { client, account }
    }

    /// The client, for calls that are not about an id.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The account.
    pub fn account(&self) -> Ref<'_, Account> {
        self.account.borrow()
    }

    /// Opens a new id for a reservation. Nothing is sent.
    pub fn order(&self, product: ProductId, user: UserId, quantity: u32) -> Ticket {
        self.account.borrow_mut().ask(fresh_id(), product, user, quantity, Purpose::Reserve)
    }

    /// Sends a reservation that was never sent before. The future may be dropped: then the id is to be sent again or
    /// resolved, which the account allows for.
    pub async fn reserve(&self, ticket: Ticket) -> Option<Said> {
        let order = self.order_of(ticket);
        let fresh = order.fresh_id(order.reservation());
        let result = self.client.reserve_with(fresh).await;
        self.hear(ticket, result.map(|outcome| (Said::from(&outcome), outcome.at())))
    }

    /// Sends a reservation that was sent before, under the same id.
    pub async fn reserve_again(&self, ticket: Ticket) -> Option<Said> {
        let order = self.order_of(ticket);
        let result = self.client.reserve_with(order.id(order.reservation())).await;
        if matches!(result, Err(Error::Killed { .. } | Error::Unresolved { .. })) {
            return self.hear(ticket, result.map(|outcome| (Said::from(&outcome), outcome.at())));
        }
        self.hear_more(ticket, result.map(|outcome| (Said::from(&outcome), outcome.at())))
    }

    /// Sends many reservations that were never sent before, as one row.
    pub async fn reserve_row(&self, tickets: &[Ticket]) -> Vec<Option<Said>> {
        let fresh = |ticket: &Ticket| {
            let order = self.order_of(*ticket);
            order.fresh_id(order.reservation())
        };
        let orders: Vec<Reserve> = tickets.iter().map(fresh).collect();
        let results = self.client.reserve_many(&orders).await;
        let heard = |outcome: ReserveOutcome| (Said::from(&outcome), outcome.at());
        tickets.iter().zip(results).map(|(ticket, result)| self.hear(*ticket, result.map(heard))).collect()
    }

    /// Confirms.
    pub async fn confirm(&self, ticket: Ticket) -> Option<Said> {
        self.account.borrow_mut().confirm_sent(ticket);
        let id = self.id_of(ticket);
        let result = self.client.confirm(id).await;
        self.hear_more(ticket, result.map(|outcome| said::of_confirm(&outcome)))
    }

    /// Confirms many, as one row.
    pub async fn confirm_row(&self, tickets: &[Ticket]) -> Vec<Option<Said>> {
        tickets.iter().for_each(|ticket| self.account.borrow_mut().confirm_sent(*ticket));
        let ids: Vec<_> = tickets.iter().map(|ticket| self.id_of(*ticket)).collect();
        let results = self.client.confirm_many(&ids).await;
        let heard = |(ticket, result): (&Ticket, Result<_, Error>)| {
            self.hear_more(*ticket, result.map(|outcome| said::of_confirm(&outcome)))
        };
        tickets.iter().zip(results).map(heard).collect()
    }

    /// Cancels.
    pub async fn cancel(&self, ticket: Ticket, reason: u32) -> Option<Said> {
        self.account.borrow_mut().cancel_sent(ticket);
        let id = self.id_of(ticket);
        let result = self.client.cancel(id, reason).await;
        self.hear_more(ticket, result.map(|outcome| said::of_cancel(&outcome)))
    }

    /// Asks what became of an id, or kills it.
    pub async fn resolve(&self, ticket: Ticket) -> Option<Said> {
        self.account.borrow_mut().kill_sent(ticket);
        let id = self.id_of(ticket);
        let result = self.client.resolve(id).await;
        self.hear_more(ticket, result.map(|outcome| said::of_resolution(&outcome)))
    }

    /// Adds units under a new id.
    pub async fn restock(&self, product: ProductId, quantity: u32) -> (Ticket, Option<Said>) {
        let (ticket, change) = self.change(product, quantity, Purpose::Restock);
        let result = self.client.restock_with(change).await;
        (ticket, self.hear(ticket, result.map(|outcome| said::of_stock(&outcome))))
    }

    /// Removes free units under a new id.
    pub async fn write_off(&self, product: ProductId, quantity: u32) -> (Ticket, Option<Said>) {
        let (ticket, change) = self.change(product, quantity, Purpose::WriteOff);
        let result = self.client.write_off_with(change).await;
        (ticket, self.hear(ticket, result.map(|outcome| said::of_stock(&outcome))))
    }

    fn change(&self, product: ProductId, quantity: u32, purpose: Purpose) -> (Ticket, StockChange) {
        let id = fresh_id();
        let ticket = self.account.borrow_mut().ask(id, product, UserId(0), quantity, purpose);
        (ticket, StockChange::new(product, quantity).fresh_id(id))
    }

    /// No borrow of the account may be held across an await.
    fn id_of(&self, ticket: Ticket) -> ReservationId {
        self.account().asked(ticket).id
    }

    fn order_of(&self, ticket: Ticket) -> Reserve {
        let ask = self.account().asked(ticket);
        Reserve::new(ask.product, ask.user, ask.quantity).id(ask.id)
    }

    /// Records the end of a call that takes or changes units. The client resolves, and so may kill, what is in doubt.
    fn hear(&self, ticket: Ticket, result: Result<(Said, At), Error>) -> Option<Said> {
        let mut account = self.account.borrow_mut();
        let (said, at) = match result {
            Ok(heard) => heard,
            Err(Error::Killed { .. }) => {
                account.kill_sent(ticket);
                (Said::Dead, At::default())
            }
            Err(Error::Unresolved { .. }) => {
                account.kill_sent(ticket);
                return None;
            }
            Err(_) => (Said::Nothing, At::default()),
        };
        account.told(ticket, said, at);
        Some(said)
    }

    /// Records the end of a call about an id that was used before. That nothing was done *now* says nothing of what
    /// was done before, so an error leaves no record.
    fn hear_more(&self, ticket: Ticket, result: Result<(Said, At), Error>) -> Option<Said> {
        let (said, at) = result.ok()?;
        self.account.borrow_mut().told(ticket, said, at);
        Some(said)
    }
}
