//! One transaction: the cursors are locked, what is not done is done, the cursors move.
//!
//! The rule everything rests on: *an event has taken effect exactly if its lane's cursor has reached it and it is not noted
//! as undone.* Cursors and notes change under the lock of the lane's row, in the transaction of the effect, so the rule
//! holds whatever else happens: whoever comes later, with whatever is delivered again, sees what was done.
//! Deliberately not here: connections, and what follows from an error ([`crate::hand_off`]).

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::try_join;
use sluice_client::EventView;
use sluice_client::consume::CAUSE_PANICKED;
use sluice_protocol::event::{LANES, lane_of};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Statement, Transaction};

use crate::effect::{Effect, EffectError};
use crate::ledger::LedgerTables;
use crate::values::{Uuid, bigint};

/// What one transaction is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Job<'a> {
    /// Carry out events; those of each lane in their order.
    Carry(&'a [EventView]),
    /// Note that an event has not taken effect, so that its lane's cursor may pass it.
    PassOver(&'a EventView, &'a str),
    /// Note that events are kept no more.
    Gap(u64, u64),
}

/// What has come of it, once it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Events that took effect.
    pub(crate) done: usize,
    /// Events that had taken effect before.
    pub(crate) repeated: usize,
}

/// Why nothing was committed, or perhaps was.
#[derive(Debug)]
pub(crate) enum TurnError {
    /// What PostgreSQL or the effect said.
    Effect(EffectError),
    /// Rows of the cursors are not there.
    CursorsGone,
}

impl From<tokio_postgres::Error> for TurnError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Effect(error.into())
    }
}

impl From<EffectError> for TurnError {
    fn from(error: EffectError) -> Self {
        Self::Effect(error)
    }
}

/// The statements of a connection.
pub(crate) struct Statements {
    lock: Statement,
    undone: Statement,
    advance: Statement,
    redeem: Statement,
    pass_over: Statement,
    gap: Statement,
}

impl Statements {
    pub(crate) async fn prepare(
        client: &Client,
        tables: &LedgerTables,
    ) -> Result<Self, tokio_postgres::Error> {
        let LedgerTables { cursors, undone, gaps, .. } = tables;
        // Rows are locked in one order by all, so nobody waits in a circle.
        let lock = format!(
            "SELECT lane, sequence FROM {cursors} WHERE group_name = $1 AND lane = ANY($2::smallint[]) \
             ORDER BY lane FOR UPDATE"
        );
        let noted =
            format!("SELECT sequence FROM {undone} WHERE group_name = $1 AND sequence BETWEEN $2 AND $3");
        let advance = format!(
            "UPDATE {cursors} AS c SET sequence = n.upto FROM unnest($2::smallint[], $3::bigint[]) AS n(lane, upto) \
             WHERE c.group_name = $1 AND c.lane = n.lane AND c.sequence < n.upto"
        );
        let redeem = format!("DELETE FROM {undone} WHERE group_name = $1 AND sequence = ANY($2::bigint[])");
        let pass_over = format!(
            "INSERT INTO {undone} (group_name, sequence, reservation, cause) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (group_name, sequence) DO UPDATE SET cause = excluded.cause, noted_at = now()"
        );
        let gap = format!(
            "INSERT INTO {gaps} (group_name, from_sequence, to_sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        );
        Ok(Self {
            lock: client.prepare(&lock).await?,
            undone: client.prepare(&noted).await?,
            advance: client.prepare(&advance).await?,
            redeem: client.prepare(&redeem).await?,
            pass_over: client.prepare(&pass_over).await?,
            gap: client.prepare(&gap).await?,
        })
    }
}

/// Does a job in a transaction of its own. After an error it is not known to be committed; if it was, the next try finds
/// that there is nothing to do.
pub(crate) async fn turn<E: Effect>(
    client: &mut Client,
    statements: &Statements,
    group: &str,
    effect: &mut E,
    job: Job<'_>,
) -> Result<Taken, TurnError> {
    // Each statement must see what was committed before it got its locks.
    let level = IsolationLevel::ReadCommitted;
    let transaction = client.build_transaction().isolation_level(level).read_only(false).start().await?;
    let turn = Turn { transaction: &transaction, statements, group };
    let taken = match job {
        Job::Carry(events) => turn.carry(effect, events).await?,
        Job::PassOver(event, cause) => turn.pass_over(event, cause).await?,
        Job::Gap(from, to) => turn.gap(from, to).await?,
    };
    transaction.commit().await?;
    Ok(taken)
}

struct Turn<'a> {
    transaction: &'a Transaction<'a>,
    statements: &'a Statements,
    group: &'a str,
}

/// What the locked rows say.
struct Known {
    cursors: [u64; LANES as usize],
    undone: HashSet<u64>,
}

impl Known {
    /// The rule.
    fn is_done(&self, event: &EventView) -> bool {
        event.sequence <= self.cursors[lane(event)] && !self.undone.contains(&event.sequence)
    }
}

impl Turn<'_> {
    async fn carry<E: Effect>(&self, effect: &mut E, events: &[EventView]) -> Result<Taken, TurnError> {
        let known = self.lock(events).await?;
        let fresh: Vec<EventView> = events.iter().filter(|event| !known.is_done(event)).copied().collect();
        let taken = Taken { done: fresh.len(), repeated: events.len() - fresh.len() };
        if fresh.is_empty() {
            return Ok(taken);
        }
        assert_in_order(&fresh);
        let applied = AssertUnwindSafe(effect.apply(self.transaction, &fresh)).catch_unwind().await;
        applied.unwrap_or_else(|_| Err(panicked()))?;
        // Behind the effect, not beside it: there is at least one statement, and if the effect has hidden an error that one
        // fails, where a commit would roll back and say nothing.
        self.advance(&known, &fresh).await?;
        Ok(taken)
    }

    async fn pass_over(&self, event: &EventView, cause: &str) -> Result<Taken, TurnError> {
        let events = std::slice::from_ref(event);
        let known = self.lock(events).await?;
        if known.is_done(event) {
            return Ok(Taken { done: 0, repeated: 1 });
        }
        let (sequence, id) = (bigint(event.sequence), Uuid(event.id.0));
        self.transaction.execute(&self.statements.pass_over, &[&self.group, &sequence, &id, &cause]).await?;
        // What was noted a moment ago is not struck off again.
        let known = Known { undone: HashSet::new(), ..known };
        self.advance(&known, events).await?;
        Ok(Taken::default())
    }

    async fn gap(&self, from: u64, to: u64) -> Result<Taken, TurnError> {
        let (from, to) = (bigint(from), bigint(to));
        self.transaction.execute(&self.statements.gap, &[&self.group, &from, &to]).await?;
        Ok(Taken::default())
    }

    /// Locks the lanes of these events, and reads what is known of them.
    async fn lock(&self, events: &[EventView]) -> Result<Known, TurnError> {
        let mask = events.iter().fold(0_u64, |mask, event| mask | 1 << lane(event));
        let lanes: Vec<i16> = (0..LANES as i16).filter(|lane| mask & (1 << lane) != 0).collect();
        let sequences = || events.iter().map(|event| event.sequence);
        let (from, to) = (sequences().min().unwrap_or(0), sequences().max().unwrap_or(0));
        let (from, to) = (bigint(from), bigint(to));
        let rows: [&(dyn ToSql + Sync); 2] = [&self.group, &lanes];
        let range: [&(dyn ToSql + Sync); 3] = [&self.group, &from, &to];
        // Both leave at once, and the second is carried out when the locks are there.
        let lock = self.transaction.query(&self.statements.lock, &rows);
        let undone = self.transaction.query(&self.statements.undone, &range);
        let (locked, undone) = try_join(lock, undone).await?;
        if locked.len() != lanes.len() {
            return Err(TurnError::CursorsGone);
        }
        let mut cursors = [0; LANES as usize];
        for row in locked {
            let (lane, sequence): (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
            cursors[lane as usize] = sequence as u64;
        }
        let undone = undone.iter().map(|row| Ok(row.try_get::<_, i64>(0)? as u64));
        Ok(Known { cursors, undone: undone.collect::<Result<_, tokio_postgres::Error>>()? })
    }

    /// Moves the cursors over these events, and strikes off those that were noted as undone.
    async fn advance(&self, known: &Known, events: &[EventView]) -> Result<(), TurnError> {
        let mut upto = known.cursors;
        for event in events {
            let place = &mut upto[lane(event)];
            *place = event.sequence.max(*place);
        }
        let moved = (0..LANES as usize).filter(|lane| upto[*lane] > known.cursors[*lane]);
        let (lanes, cursors): (Vec<i16>, Vec<i64>) =
            moved.map(|lane| (lane as i16, bigint(upto[lane]))).unzip();
        let sequences = events.iter().map(|event| event.sequence);
        let redeemed: Vec<i64> = sequences.filter(|one| known.undone.contains(one)).map(bigint).collect();
        let advance = async {
            if lanes.is_empty() {
                return Ok(0);
            }
            self.transaction.execute(&self.statements.advance, &[&self.group, &lanes, &cursors]).await
        };
        let redeem = async {
            if redeemed.is_empty() {
                return Ok(0);
            }
            self.transaction.execute(&self.statements.redeem, &[&self.group, &redeemed]).await
        };
        let (advanced, gone) = try_join(advance, redeem).await?;
        assert_eq!(advanced, lanes.len() as u64, "rows that are locked move");
        assert_eq!(gone, redeemed.len() as u64, "notes of lanes that are locked stay");
        Ok(())
    }
}

/// An event at which the effect panics is refused like any other, so that it becomes a dead letter in the end.
fn panicked() -> EffectError {
    EffectError::Refused { cause: CAUSE_PANICKED, why: "the effect panicked".to_owned() }
}

/// The lane of an event, as a place.
pub(crate) fn lane(event: &EventView) -> usize {
    lane_of(event.product) as usize
}

/// A consumer hands out each lane in its order. If it did not, an event could be taken for done that is not.
fn assert_in_order(events: &[EventView]) {
    let mut last = [0; LANES as usize];
    for event in events {
        let last = &mut last[lane(event)];
        assert!(event.sequence > *last, "event {} came behind {last} of its lane", event.sequence);
        *last = event.sequence;
    }
}
