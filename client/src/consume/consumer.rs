//! The application's end of a consumer.
//!
//! It takes events a sheet at a time, so that what is locked and allocated is paid for each sheet and not for each event.
//! Deliberately not here: talking to the server ([`super::driver`]).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::book::Note;
use super::delivery::{Consumed, Delivery};
use super::driver::FETCH_AHEAD;
use super::error::{ConsumeError, Fenced};
use super::sheet::Sheet;
use crate::error::Error;

/// Events that are taken out of the book together: enough that a lock for them is nothing, few enough that what
/// moves to another member was mostly not taken yet.
const SHEET_MAX: usize = 256;

/// A member of a consumer group. Dropped, it acknowledges in the background what is done, and leaves; what is then in
/// hand is fenced. It is a [`Stream`] too.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    sheet: Option<Arc<Sheet>>,
    /// How many events of the sheet were looked at.
    at: usize,
    task: Option<JoinHandle<()>>,
    deadline: Duration,
}

impl Consumer {
    pub(super) fn new(shared: Arc<Shared>, task: JoinHandle<()>, deadline: Duration) -> Self {
        Self { shared, sheet: None, at: 0, task: Some(task), deadline }
    }

    /// The next event, or news; `None` after the consumer has ended. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// See [`ConsumeError`]. After an error that [passes](ConsumeError::is_passing) the next call goes on.
    pub async fn next(&mut self) -> Option<Result<Consumed, ConsumeError>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// What there is, at most `max`: waits for the first. `None` after the consumer has ended.
    ///
    /// # Errors
    /// As [`Consumer::next`]; what came before an error is told first.
    pub async fn next_batch(&mut self, max: usize) -> Option<Result<Vec<Consumed>, ConsumeError>> {
        let first = match self.next().await? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let mut batch = Vec::with_capacity(max.min(SHEET_MAX));
        batch.push(first);
        while batch.len() < max {
            match self.at_hand() {
                Some(delivery) => batch.push(Consumed::Event(delivery)),
                None if self.turn_sheet(max - batch.len()) => {}
                None => break,
            }
        }
        Some(Ok(batch))
    }

    /// Everything that was delivered up to a sequence is done: for those who work in batches. Dead letters that are
    /// delivered again are acknowledged one by one. What is [deferred](Delivery::defer) counts as delivered; a delivery
    /// that was dropped, or given back, does not.
    ///
    /// # Errors
    /// [`Fenced`]: some deliveries were taken away since this was last called. What could be acknowledged is.
    pub fn ack_through(&mut self, sequence: u64) -> Result<(), Fenced> {
        if self.shared.book().ack_through(sequence) { Ok(()) } else { Err(Fenced) }
    }

    /// Waits until the server knows of everything that was acknowledged, except what is behind something in its lane
    /// that is not done: a lane is acknowledged up to a place.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if that did not happen before the client's deadline: the consumer goes on trying.
    /// [`ConsumeError::Fenced`] if lanes moved away before the server knew: what was done in them is delivered again, to
    /// another member.
    pub async fn flush(&mut self) -> Result<(), ConsumeError> {
        let deadline = Instant::now() + self.deadline;
        let _flushing = Flushing::begin(&self.shared);
        timeout_at(deadline, self.flushed()).await.unwrap_or(Err(Error::Unanswered.into()))
    }

    async fn flushed(&self) -> Result<(), ConsumeError> {
        loop {
            let progress = self.shared.tally.progress.notified();
            tokio::pin!(progress);
            // What arrives from here on wakes this.
            progress.as_mut().enable();
            {
                let mut book = self.shared.book();
                if book.has_lost_acks() {
                    return Err(Fenced.into());
                }
                if book.is_flushed() {
                    return Ok(());
                }
                if book.is_over {
                    return Err(Fenced.into());
                }
            }
            self.shared.tally.driver.notify_one();
            progress.await;
        }
    }

    /// Acknowledges what is done, and leaves the group, so that others go on at once. What is still in hand is fenced.
    ///
    /// # Errors
    /// As [`Consumer::flush`].
    pub async fn close(mut self) -> Result<(), ConsumeError> {
        let flushed = self.flush().await;
        self.begin_to_close();
        if let Some(task) = self.task.take() {
            // It ends within the deadline, whatever the servers do.
            let _ = task.await;
        }
        flushed
    }

    fn begin_to_close(&self) {
        self.shared.book().is_closing = true;
        self.shared.tally.driver.notify_one();
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Consumed, ConsumeError>>> {
        loop {
            if let Some(delivery) = self.at_hand() {
                return Poll::Ready(Some(Ok(Consumed::Event(delivery))));
            }
            let mut book = self.shared.book();
            match book.note() {
                Some(Note::Error(error)) => return Poll::Ready(Some(Err(error))),
                Some(Note::Gap { from, to }) => return Poll::Ready(Some(Ok(Consumed::Gap { from, to }))),
                Some(Note::Parked { event, attempts }) => {
                    return Poll::Ready(Some(Ok(Consumed::Parked { event, attempts })));
                }
                None if book.is_over => return Poll::Ready(None),
                None => {}
            }
            let sheet = book.take(SHEET_MAX, Instant::now());
            if sheet.is_none() {
                book.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            // Nobody waits any more.
            book.waker = None;
            let is_short = book.is_short(FETCH_AHEAD);
            drop(book);
            self.begin(sheet, is_short);
        }
    }

    /// The next event of the sheet that was not taken away.
    fn at_hand(&mut self) -> Option<Delivery> {
        let sheet = self.sheet.as_ref()?;
        while self.at < sheet.events.len() {
            self.at += 1;
            if let Some(delivery) = Delivery::of(sheet, self.at - 1) {
                return Some(delivery);
            }
        }
        self.sheet = None;
        None
    }

    /// Takes more events, unless there is something else to tell first. Whether there are any.
    fn turn_sheet(&mut self, max: usize) -> bool {
        let mut book = self.shared.book();
        if book.has_notes() {
            return false;
        }
        let sheet = book.take(max.min(SHEET_MAX), Instant::now());
        let is_short = book.is_short(FETCH_AHEAD);
        drop(book);
        self.begin(sheet, is_short);
        self.sheet.is_some()
    }

    fn begin(&mut self, sheet: Option<Arc<Sheet>>, is_short: bool) {
        if is_short && sheet.is_some() {
            self.shared.tally.driver.notify_one();
        }
        (self.sheet, self.at) = (sheet, 0);
    }
}

/// Somebody waits until the server knows of everything. Dropped, nobody does.
struct Flushing<'a>(&'a Shared);

impl<'a> Flushing<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.book().flushing += 1;
        Self(shared)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.book().flushing -= 1;
    }
}

impl Stream for Consumer {
    type Item = Result<Consumed, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.begin_to_close();
    }
}
