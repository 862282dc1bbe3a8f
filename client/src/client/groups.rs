//! What keepers of consumer groups ask, and those who look at the stream: one method for each.
//!
//! Each can safely be made again. Deliberately not here: consuming ([`crate::consume`]).

use sluice_protocol::Kind;
use sluice_protocol::group::{GroupItem, GroupName, GroupTerms, JoinItem, PutGroupItem};
use sluice_protocol::limits::DEAD_PAGE_MAX;
use sluice_protocol::response::At;
use sluice_protocol::seat::{LetterItem, StreamItem};

use super::Client;
use crate::call::{Asked, Reply};
use crate::consume::Start;
use crate::error::Error;
use crate::outcome::{GroupOutcome, LetterOutcome};
use crate::view::{DeadLetter, Group, Member, Position, Reservation, StreamBounds};

impl Client {
    /// All consumer groups.
    ///
    /// # Errors
    /// No answer came in time. A read changes nothing.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        let rows = self.list_groups(GroupName::NONE).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Reads a consumer group; `None` if there is none of this name.
    ///
    /// # Errors
    /// No answer came in time, or it is no name: 1 to 32 of a–z, 0–9, `-`, `_` and `.`. A read changes nothing.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, Error> {
        let rows = self.list_groups(group_name(name)?).await?;
        Ok(rows.into_iter().flatten().next())
    }

    async fn list_groups(&self, name: GroupName) -> Result<Vec<Option<Group>>, Error> {
        match self.read(Kind::ListGroups, &Asked::Group(GroupItem::new(name))).await? {
            Reply::Groups(rows) => Ok(rows.iter().map(Group::read).collect()),
            _ => Err(Error::Unanswered),
        }
    }

    /// Creates a consumer group that begins at `start`. If there is one of this name, its terms become these, and it
    /// stays where it is.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if the reply was lost until the deadline: put again. With any other error nothing was
    /// done; [`Error::Setting`] if it is no name, [`Error::Full`] if there are as many groups as there may be.
    pub async fn put_group(
        &self,
        name: &str,
        start: Start,
        terms: &GroupTerms,
    ) -> Result<GroupOutcome, Error> {
        let name = group_name(name)?;
        let after = match start {
            Start::Beginning => 0,
            Start::End => u64::MAX,
            Start::After(sequence) => sequence,
            Start::At(time_ms) => self.sequence_at(time_ms).await?.saturating_sub(1),
        };
        let item = Box::new(PutGroupItem::new(name, after, terms));
        self.change_group(Kind::PutGroup, &Asked::PutGroup(item)).await
    }

    /// Removes a consumer group, with its cursor and its dead letters. Its members hear that there is no such group.
    ///
    /// # Errors
    /// As [`Client::put_group`].
    pub async fn remove_group(&self, name: &str) -> Result<GroupOutcome, Error> {
        self.change_group(Kind::RemoveGroup, &Asked::Group(GroupItem::new(group_name(name)?))).await
    }

    /// Moves the cursor of a group, back or forth: `after` is the last sequence that it does not want. Members that are at
    /// work begin there. What they have in hand in that moment and have not acknowledged may count as delivered behind
    /// it; where that matters, move a group that has no members.
    ///
    /// # Errors
    /// As [`Client::put_group`].
    pub async fn seek_group(&self, name: &str, after: u64) -> Result<GroupOutcome, Error> {
        self.change_group(Kind::SeekGroup, &Asked::Join(JoinItem::new(group_name(name)?, after))).await
    }

    async fn change_group(&self, kind: Kind, asked: &Asked) -> Result<GroupOutcome, Error> {
        let reply = self.repeat(kind, asked).await?;
        reply.answer().and_then(|answer| GroupOutcome::read(&answer)).ok_or(Error::Unanswered)
    }

    /// The members of a group; `None` if there is no such group.
    ///
    /// # Errors
    /// As [`Client::group`].
    pub async fn members(&self, name: &str) -> Result<Option<Vec<Member>>, Error> {
        let asked = Asked::Group(GroupItem::new(group_name(name)?));
        match self.read(Kind::ListMembers, &asked).await? {
            // A list that could not be read is a single row that says why.
            Reply::Members(rows) => Ok(rows.iter().map(Member::read).collect()),
            _ => Err(Error::Unanswered),
        }
    }

    /// The dead letters of a group from a sequence on, in the order of their sequences; `None` if there is no such
    /// group. They are read a page at a time, each as of its own point of the log.
    ///
    /// # Errors
    /// As [`Client::group`].
    pub async fn dead_letters(&self, name: &str, from: u64) -> Result<Option<Vec<DeadLetter>>, Error> {
        let Some(Group { number, .. }) = self.group(name).await? else { return Ok(None) };
        let (mut from, mut letters) = (from, Vec::new());
        loop {
            let asked = Asked::Letter(LetterItem::page(number, from, DEAD_PAGE_MAX as u32));
            let Reply::Letters(rows) = self.read(Kind::ListDead, &asked).await? else {
                return Err(Error::Unanswered);
            };
            let Some(page) = rows.iter().map(DeadLetter::read).collect::<Option<Vec<_>>>() else {
                return Ok(None);
            };
            letters.extend_from_slice(&page);
            match page.last() {
                Some(last) if page.len() >= DEAD_PAGE_MAX => from = last.sequence.saturating_add(1),
                _ => return Ok(Some(letters)),
            }
        }
    }

    /// Has a dead letter delivered again, out of order.
    ///
    /// # Errors
    /// As [`Client::put_group`].
    pub async fn redrive(&self, name: &str, sequence: u64) -> Result<LetterOutcome, Error> {
        self.change_letter(Kind::Redrive, name, sequence).await
    }

    /// Forgets a dead letter: its event is never delivered to this group again.
    ///
    /// # Errors
    /// As [`Client::put_group`].
    pub async fn drop_dead(&self, name: &str, sequence: u64) -> Result<LetterOutcome, Error> {
        self.change_letter(Kind::DropDead, name, sequence).await
    }

    async fn change_letter(&self, kind: Kind, name: &str, sequence: u64) -> Result<LetterOutcome, Error> {
        let Some(group) = self.group(name).await? else {
            return Ok(LetterOutcome::UnknownGroup { at: At::default() });
        };
        let reply = self.repeat(kind, &Asked::Letter(LetterItem::new(group.number, sequence))).await?;
        reply.answer().and_then(|answer| LetterOutcome::read(&answer)).ok_or(Error::Unanswered)
    }

    /// Which events there are.
    ///
    /// # Errors
    /// No answer came in time. A read changes nothing.
    pub async fn stream_bounds(&self) -> Result<StreamBounds, Error> {
        let reply = self.repeat(Kind::QueryStream, &Asked::Stream(StreamItem::new(0))).await?;
        reply.answer().and_then(|answer| StreamBounds::read(&answer)).ok_or(Error::Unanswered)
    }

    /// The sequence of the first event at or after a ledger time in milliseconds; if there is none, that of the next
    /// event there will be.
    ///
    /// # Errors
    /// No answer came in time. A read changes nothing.
    pub async fn sequence_at(&self, time_ms: u64) -> Result<u64, Error> {
        // Time 0 asks for the bounds alone.
        let asked = Asked::Stream(StreamItem::new(time_ms.max(1)));
        let answer = self.repeat(Kind::QueryStream, &asked).await?.answer();
        let found = answer.filter(|answer| StreamBounds::read(answer).is_some());
        found.map(|answer| answer.numbers()[2]).ok_or(Error::Unanswered)
    }

    /// How far a group is from a reservation that it has not acknowledged; `None` if there is no such group, or the
    /// reservation never had an event.
    ///
    /// # Errors
    /// As [`Client::group`].
    pub async fn position(&self, name: &str, reservation: &Reservation) -> Result<Option<Position>, Error> {
        let Some(group) = self.group(name).await? else { return Ok(None) };
        let item = LetterItem::place(group.number, reservation.sequence, reservation.product);
        let reply = self.repeat(Kind::QueryPlace, &Asked::Letter(item)).await?;
        Ok(reply.answer().and_then(|answer| Position::read(&answer)))
    }
}

/// The name in a text.
pub(crate) fn group_name(name: &str) -> Result<GroupName, Error> {
    GroupName::new(name).ok_or_else(|| Error::Setting {
        setting: "name of a group",
        got: format!("{name:?}"),
        allowed: "1 to 32 of a-z, 0-9, '-', '_' and '.'",
    })
}
