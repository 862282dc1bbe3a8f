//! A reply's body, cut into what each caller waits for.
//!
//! Deliberately not here: which frame a reply belongs to ([`super::Session::receive`]), what answers mean.

use sluice_protocol::consumed::{DELIVERY_ROW_LEN, DeadReply, DeliveryHead, GroupReply, MemberReply};
use sluice_protocol::event::EventRecord;
use sluice_protocol::response::{self, ProductReply, ReservationReply};
use sluice_protocol::{Answer, Kind, Status};
use tokio::time::Instant;

use super::Frame;
use crate::call::Reply;
use crate::trouble::Trouble;

/// Hands a reply's items to who waits for them. Returns the first of them that says "not the leader".
pub(super) fn fulfil(frame: &mut Frame, body: &[u8], now: Instant) -> Result<Option<Answer>, Trouble> {
    let short = || Trouble::Protocol("a reply's body is not a row of its items".to_owned());
    let mut waiters = frame.waiters.drain(..);
    match frame.kind.reply() {
        Kind::Pong => {
            let took = now.saturating_duration_since(frame.written_at);
            waiters.for_each(|waiter| waiter.promise.fulfil(Ok(Reply::Pong(took))));
            Ok(None)
        }
        Kind::QueryReservationReply => {
            let replies = response::items::<ReservationReply>(body).ok_or_else(short)?;
            waiters
                .zip(replies)
                .for_each(|(waiter, reply)| waiter.promise.fulfil(Ok(Reply::Reservation(*reply))));
            Ok(replies.iter().map(|reply| reply.answer).find(is_not_leader))
        }
        Kind::QueryProductReply => {
            let replies = response::items::<ProductReply>(body).ok_or_else(short)?;
            waiters
                .zip(replies)
                .for_each(|(waiter, reply)| waiter.promise.fulfil(Ok(Reply::Product(*reply))));
            Ok(replies.iter().map(|reply| reply.answer).find(is_not_leader))
        }
        kind if has_rows_of_its_own(kind) => {
            let reply = rows(kind, body).ok_or_else(short)?;
            let answer = reply.answer();
            // Such calls travel alone.
            if let Some(waiter) = waiters.next() {
                waiter.promise.fulfil(Ok(reply));
            }
            Ok(answer.filter(is_not_leader))
        }
        _ => {
            let answers = response::items::<Answer>(body).ok_or_else(short)?;
            let mut rest = answers;
            for waiter in waiters {
                let (mine, behind) = rest.split_at_checked(usize::from(waiter.items)).ok_or_else(short)?;
                rest = behind;
                let reply = match mine {
                    [answer] if !waiter.row => Reply::Answer(*answer),
                    _ => Reply::Answers(mine.to_vec()),
                };
                waiter.promise.fulfil(Ok(reply));
            }
            Ok(answers.iter().copied().find(is_not_leader))
        }
    }
}

/// Whether a reply has as many items as there is to tell, however many were asked.
pub(super) fn has_rows_of_its_own(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ListProductsReply
            | Kind::ListGroupsReply
            | Kind::ListMembersReply
            | Kind::ListDeadReply
            | Kind::FetchReply
    )
}

/// Such a reply; `None` if its body is not what it should be.
fn rows(kind: Kind, body: &[u8]) -> Option<Reply> {
    Some(match kind {
        Kind::ListProductsReply => Reply::Page(response::items::<ProductReply>(body)?.to_vec()),
        Kind::ListGroupsReply => Reply::Groups(response::items::<GroupReply>(body)?.to_vec()),
        Kind::ListMembersReply => Reply::Members(response::items::<MemberReply>(body)?.to_vec()),
        Kind::ListDeadReply => Reply::Letters(response::items::<DeadReply>(body)?.to_vec()),
        _ => {
            let (head, events) = body.split_at_checked(DELIVERY_ROW_LEN)?;
            let head = response::items::<DeliveryHead>(head)?.first()?;
            Reply::Delivery(Box::new(*head), response::items::<EventRecord>(events)?.to_vec())
        }
    })
}

fn is_not_leader(answer: &Answer) -> bool {
    answer.status() == Some(Status::NotLeader)
}
