//! Rows of requests: whole frames at once, each item with its own outcome.
//!
//! A row goes through the queue as a few frames instead of item by item, so it costs next to nothing per item
//! in this process. It keeps every promise of single calls: items that were not settled are sent again,
//! together; items in doubt at the deadline are resolved, together. Items of a row are independent: one that
//! is refused stops none behind it, and frames may overtake each other.

use std::time::Duration;

use sluice_protocol::request::IdItem;
use sluice_protocol::{Answer, Kind, ReservationId};
use tokio::time::Instant;

use crate::call::{Asked, Lost, Reply};
use crate::client::Client;
use crate::client::settle::{End, is_dead, wait_until};
use crate::error::Error;
use crate::order::{Order, Reserve};
use crate::outcome::{CancelOutcome, ConfirmOutcome, ReserveOutcome};
use crate::retry::{Attempts, Next, Repeat};

impl Client {
    /// Takes units for many orders. The results are in the order of the orders.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = sluice_engine::testing::Server::start();
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let client = sluice_client::Client::connect(&server.url()).await?;
    /// # let terms = sluice_client::Terms {
    /// #     opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false,
    /// # };
    /// # let _ = client.put_product(7, 100, terms).await?;
    /// use sluice_client::Reserve;
    ///
    /// let orders: Vec<Reserve> = (1..=50_u64).map(|user| Reserve::new(7, user, 1)).collect();
    /// for (order, result) in orders.iter().zip(client.reserve_many(&orders).await) {
    ///     assert!(result?.is_reserved(), "{order:?}");
    /// }
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// Each is as [`Client::reserve_with`] would have returned it.
    pub async fn reserve_many(&self, orders: &[Reserve]) -> Vec<Result<ReserveOutcome, Error>> {
        let rows = orders.iter().map(|order| (order.is_fresh(), Repeat::Named));
        let mut row = Row::new(rows.map(|(fresh, repeat)| Attempts::new(repeat, u8::from(!fresh))).collect());
        self.pursue_row(Kind::Reserve, &reserves(orders), &mut row, self.deadline()).await;
        let doubts: Vec<usize> = row.doubts().collect();
        let mut settled = self.settle_doubts(orders, &doubts, &row).await.into_iter();
        let results = row.ends.into_iter().zip(orders).map(|(end, order)| {
            let id = order.reservation();
            let answer = match end {
                Some(Ok(answer)) => answer,
                Some(Err(End::Nothing(error))) => return Err(error),
                Some(Err(End::Doubt)) | None => settled.next().expect("every doubt was settled")?,
            };
            ReserveOutcome::read(id, &answer).ok_or(Error::Unresolved { id })
        });
        results.collect()
    }

    /// Confirms many reservations. The results are in the order of the ids.
    ///
    /// Each is as [`Client::confirm`] would have returned it.
    pub async fn confirm_many(&self, ids: &[ReservationId]) -> Vec<Result<ConfirmOutcome, Error>> {
        let answers = self.insist_many(Kind::Confirm, ids, 0, self.deadline()).await;
        let read = |(answer, id): (Result<Answer, Error>, &ReservationId)| {
            ConfirmOutcome::read(&answer?).ok_or(Error::Unresolved { id: *id })
        };
        answers.into_iter().zip(ids).map(read).collect()
    }

    /// Cancels many reservations for one reason. The results are in the order of the ids.
    ///
    /// Each is as [`Client::cancel`] would have returned it.
    pub async fn cancel_many(&self, ids: &[ReservationId], reason: u32) -> Vec<Result<CancelOutcome, Error>> {
        let answers = self.insist_many(Kind::Cancel, ids, reason, self.deadline()).await;
        let read = |(answer, id): (Result<Answer, Error>, &ReservationId)| {
            CancelOutcome::read(&answer?).ok_or(Error::Unresolved { id: *id })
        };
        answers.into_iter().zip(ids).map(read).collect()
    }

    /// Asks what became of the orders in doubt, or kills them; one result for each doubt.
    async fn settle_doubts(
        &self,
        orders: &[Reserve],
        doubts: &[usize],
        row: &Row,
    ) -> Vec<Result<Answer, Error>> {
        if doubts.is_empty() {
            return Vec::new();
        }
        let by = Instant::now() + self.resolve_budget();
        let ids: Vec<ReservationId> = doubts.iter().map(|at| orders[*at].reservation()).collect();
        let mut told = self.insist_many(Kind::Resolve, &ids, 0, self.resolve_budget()).await;
        for (result, id) in told.iter_mut().zip(&ids) {
            match result {
                Ok(answer) if is_dead(answer) => *result = Err(Error::Killed { id: *id }),
                Ok(_) => {}
                Err(_) => *result = Err(Error::Unresolved { id: *id }),
            }
        }
        // An id that others may have used for something else is sent again: see `settle_doubt`.
        let foreign: Vec<usize> =
            (0..doubts.len()).filter(|nth| told[*nth].is_ok() && !orders[doubts[*nth]].is_fresh()).collect();
        let again: Vec<Reserve> = foreign.iter().map(|nth| orders[doubts[*nth]]).collect();
        let numbers = foreign.iter().map(|nth| row.attempts[doubts[*nth]].number().max(1));
        let mut checked = Row::new(numbers.map(|number| Attempts::new(Repeat::Harmless, number)).collect());
        let left = by.saturating_duration_since(Instant::now());
        self.pursue_row(Kind::Reserve, &reserves(&again), &mut checked, left).await;
        for (nth, end) in foreign.into_iter().zip(checked.ends) {
            let unresolved = Error::Unresolved { id: ids[nth] };
            told[nth] = end.and_then(Result::ok).ok_or(unresolved);
        }
        told
    }

    /// Sends requests about ids, whose repetition does no harm, until each has a final answer.
    async fn insist_many(
        &self,
        kind: Kind,
        ids: &[ReservationId],
        reason: u32,
        time: Duration,
    ) -> Vec<Result<Answer, Error>> {
        let mut row = Row::new(vec![Attempts::new(Repeat::Harmless, 0); ids.len()]);
        let asked = |open: &[usize], _: &[Attempts]| {
            Asked::Ids(open.iter().map(|at| IdItem::with_reason(ids[*at], reason)).collect())
        };
        self.pursue_row(kind, &asked, &mut row, time).await;
        let end = |(end, id): (Option<Result<Answer, End>>, &ReservationId)| match end {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(End::Nothing(error))) => Err(error),
            Some(Err(End::Doubt)) | None => Err(Error::Unresolved { id: *id }),
        };
        row.ends.into_iter().zip(ids).map(end).collect()
    }

    /// Rounds of attempts and pauses until every item of the row has come to an end.
    async fn pursue_row(
        &self,
        kind: Kind,
        asked: &impl Fn(&[usize], &[Attempts]) -> Asked,
        row: &mut Row,
        time: Duration,
    ) {
        let deadline = Instant::now() + time;
        let mut open: Vec<usize> = (0..row.ends.len()).collect();
        while !open.is_empty() {
            let epoch = self.epoch();
            let mut waits = Vec::new();
            for part in open.chunks(self.row_max()) {
                waits.push((part, self.submit(kind, asked(part, &row.attempts), deadline).await));
            }
            let mut again = Vec::new();
            let mut longest = Duration::ZERO;
            for (part, wait) in waits {
                let fate = match wait {
                    Ok(wait) => wait_until(wait, deadline).await,
                    Err(lost) => Err(lost),
                };
                let left = deadline.saturating_duration_since(Instant::now());
                for (nth, at) in part.iter().enumerate() {
                    if let Some(pause) = self.judge(row, *at, nth_of(&fate, nth), left) {
                        longest = longest.max(pause);
                        again.push(*at);
                    }
                }
            }
            open = again;
            if !open.is_empty() {
                self.pause(longest, epoch).await;
            }
        }
    }

    /// Notes how an item's attempt ended. The pause to make if it is to be sent again.
    fn judge(&self, row: &mut Row, at: usize, fate: Result<Reply, Lost>, left: Duration) -> Option<Duration> {
        let end = match row.attempts[at].judge(fate, left, self.jitter()) {
            Next::Pause(pause) => return Some(pause),
            Next::Done(reply) => reply.answer().ok_or(End::Doubt),
            Next::Doubt => Err(End::Doubt),
            Next::Nothing(because) => Err(End::Nothing(self.error(because))),
        };
        row.ends[at] = Some(end);
        None
    }
}

/// The items of a row, each with its memory and its end.
struct Row {
    attempts: Vec<Attempts>,
    ends: Vec<Option<Result<Answer, End>>>,
}

impl Row {
    fn new(attempts: Vec<Attempts>) -> Self {
        let ends = attempts.iter().map(|_| None).collect();
        Self { attempts, ends }
    }

    fn doubts(&self) -> impl Iterator<Item = usize> {
        (0..self.ends.len()).filter(|at| matches!(self.ends[*at], Some(Err(End::Doubt)) | None))
    }
}

/// The bytes of some of the orders, each with the number of its attempt.
fn reserves(orders: &[Reserve]) -> impl Fn(&[usize], &[Attempts]) -> Asked {
    move |open, attempts| {
        Asked::Reserves(open.iter().map(|at| orders[*at].item(attempts[*at].number())).collect())
    }
}

/// The fate of one item of a frame.
fn nth_of(fate: &Result<Reply, Lost>, nth: usize) -> Result<Reply, Lost> {
    match fate {
        Ok(Reply::Answers(answers)) => {
            answers.get(nth).map(|answer| Reply::Answer(*answer)).ok_or(Lost::InDoubt)
        }
        Ok(_) => Err(Lost::InDoubt),
        Err(lost) => Err(*lost),
    }
}
