//! A hand-off at work: it takes what there is, commits it, acknowledges it, and goes on whatever PostgreSQL does meanwhile.
//!
//! Nothing here needs to come to its end: it may be dropped anywhere. What was committed and not acknowledged comes again, and
//! is found done. Deliberately not here: what happens in a transaction ([`crate::turn`]).

use std::error::Error;
use std::mem;
use std::pin::pin;
use std::time::Duration;

use sluice_client::Consumer;
use tokio::time::{sleep, timeout};

use crate::effect::{Effect, EffectError};
use crate::error::{HandOffError, Meaning, meaning, words};
use crate::gathered::{Gathered, Told};
use crate::hand_off::HandOff;
use crate::in_hand::InHand;
use crate::link::Link;
use crate::news::{Counts, News};
use crate::shape::ShapeError;
use crate::standing::{Standing, StandingError};
use crate::turn::{Job, Statements, Taken, TurnError, turn};

/// After a first failure it is tried again so soon, after each further one twice as late, up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of a reason that are kept.
const WHY_MAX: usize = 1_000;

/// An event was refused, and why.
struct Refusal {
    cause: u32,
    why: String,
}

/// What a failure means.
enum Failure {
    /// One of the events is to blame.
    Event(Refusal),
    /// It passes.
    Passing(String),
    /// It does not.
    Fatal(HandOffError),
}

/// See the module.
pub(crate) struct Run<E> {
    hand_off: HandOff<E>,
    link: Option<(Link, Statements)>,
    pause: Duration,
    pub(crate) counts: Counts,
}

impl<E: Effect> Run<E> {
    pub(crate) fn new(hand_off: HandOff<E>) -> Self {
        Self { hand_off, link: None, pause: PAUSE_MIN, counts: Counts::default() }
    }

    /// Works until there is nothing to go on with. The seat is the caller's, so that it can be given up in order also if
    /// this is dropped.
    pub(crate) async fn work(&mut self, seat: &mut Option<Consumer>) -> Result<(), HandOffError> {
        // Before the group is made, so that a group without a place in the database is known to be older than that; and
        // after, for the place.
        self.ready().await?;
        let consumer = seat.insert(self.open().await?);
        self.ready().await?;
        let batch_max = self.hand_off.batch_max;
        let mut next = Gathered::default();
        loop {
            if next.is_empty() {
                next.hear(consumer.next_batch(batch_max).await);
            }
            if let Some(end) = next.end.take() {
                return end.map_err(HandOffError::from);
            }
            let blocked = {
                let mut settled = pin!(self.settle(mem::take(&mut next)));
                loop {
                    let room = batch_max.saturating_sub(next.len());
                    tokio::select! {
                        biased;
                        blocked = &mut settled => break blocked?,
                        said = consumer.next_batch(room), if room > 0 && next.end.is_none() => next.hear(said),
                    }
                }
            };
            // What has come meanwhile must not overtake what has failed.
            next.give_back(blocked);
        }
    }

    /// Tells Sluice the last of what is committed, and leaves the group.
    pub(crate) async fn leave(&mut self, consumer: Consumer) {
        if let Err(error) = consumer.close().await {
            // It comes again, and is found done.
            self.tell(&News::Troubled(error));
        }
    }

    fn tell(&mut self, news: &News) {
        self.counts.add(news);
        if let Some(observe) = &mut self.hand_off.observe {
            observe(news);
        }
    }

    async fn open(&mut self) -> Result<Consumer, HandOffError> {
        loop {
            match self.hand_off.consume().open().await {
                Ok(consumer) => return Ok(consumer),
                Err(error) if error.is_passing() => self.tell(&News::Troubled(error)),
                Err(error) => return Err(error.into()),
            }
            self.pause().await;
        }
    }

    /// Does what was gathered; the lanes in which something has failed, one bit each.
    async fn settle(&mut self, mut gathered: Gathered) -> Result<u64, HandOffError> {
        for told in mem::take(&mut gathered.told) {
            match told {
                Told::Gap(from, to) => {
                    self.commit(Job::Gap(from, to)).await?;
                    self.tell(&News::Gap { from, to });
                }
                Told::Parked(event, attempts) => self.tell(&News::Parked { event, attempts }),
                Told::Trouble(error) => self.tell(&News::Troubled(error)),
            }
        }
        let blocked = self.carry(InHand::new(mem::take(&mut gathered.deliveries))).await?;
        while let Some(letter) = gathered.redriven.pop() {
            self.carry(InHand::new(vec![letter])).await?;
        }
        Ok(blocked)
    }

    /// Carries out what is in hand, as much together as can be: where an event is refused, it is found by halves. The lanes in
    /// which one was, one bit each.
    async fn carry(&mut self, mut hand: InHand) -> Result<u64, HandOffError> {
        let whole = 0..hand.events.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            let places = hand.open(part.clone());
            if places.is_empty() {
                continue;
            }
            let events: Vec<_> = places.iter().map(|at| hand.events[*at]).collect();
            match self.attempt(Job::Carry(&events)).await? {
                Ok(Taken { done, repeated }) => {
                    hand.acknowledge(&places);
                    self.tell(&News::Committed { done, repeated });
                }
                Err(refusal) if places.len() == 1 => self.refuse(&mut hand, places[0], refusal).await?,
                Err(_) => {
                    let middle = places[places.len() / 2];
                    parts.extend([middle..part.end, part.start..middle]);
                }
            }
        }
        Ok(hand.blocked)
    }

    /// An event is refused: it is noted before its delivery fails, so that a dead letter is never taken for done.
    async fn refuse(&mut self, hand: &mut InHand, at: usize, refusal: Refusal) -> Result<(), HandOffError> {
        let Refusal { cause, why } = refusal;
        let event = hand.events[at];
        let taken = self.commit(Job::PassOver(&event, &why)).await?;
        if taken.repeated > 0 {
            // Another member has done it meanwhile.
            hand.acknowledge(&[at]);
            return Ok(());
        }
        hand.fail(at, cause);
        self.tell(&News::Failed { event, cause, why });
        Ok(())
    }

    /// A job that no event can be to blame for.
    async fn commit(&mut self, job: Job<'_>) -> Result<Taken, HandOffError> {
        let refused = |Refusal { cause, why }| HandOffError::Effect(EffectError::Refused { cause, why });
        self.attempt(job).await?.map_err(refused)
    }

    /// Does a job as often as it takes.
    async fn attempt(&mut self, job: Job<'_>) -> Result<Result<Taken, Refusal>, HandOffError> {
        loop {
            if self.link.is_none() {
                self.ready().await?;
            }
            let HandOff { effect, group, patience, .. } = &mut self.hand_off;
            let (link, statements) = self.link.as_mut().expect("it is ready");
            let turn = turn(&mut link.client, statements, group, effect, job);
            let failure = match timeout(*patience, turn).await {
                Ok(Ok(taken)) => {
                    self.pause = PAUSE_MIN;
                    return Ok(Ok(taken));
                }
                Ok(Err(TurnError::Effect(error))) => Failure::of(error),
                Ok(Err(TurnError::CursorsGone)) => {
                    Failure::Fatal(HandOffError::CursorsGone { group: group.clone() })
                }
                Err(_) => Failure::late(*patience),
            };
            match failure {
                Failure::Event(refusal) => return Ok(Err(refusal)),
                Failure::Passing(why) => self.lose(why).await,
                Failure::Fatal(error) => return Err(error),
            }
        }
    }

    /// A connection that is ready, on which everything is as it should be.
    async fn ready(&mut self) -> Result<(), HandOffError> {
        loop {
            let is_new = self.link.is_none();
            let patience = self.hand_off.patience;
            let failure = match timeout(patience, self.prepare()).await {
                Ok(Ok(())) if is_new => {
                    self.tell(&News::Connected);
                    return Ok(());
                }
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::late(patience),
            };
            match failure {
                Failure::Passing(why) => self.lose(why).await,
                Failure::Fatal(error) => return Err(error),
                Failure::Event(Refusal { cause, why }) => {
                    return Err(HandOffError::Effect(EffectError::Refused { cause, why }));
                }
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let HandOff { client, config, dial, tables, effect, group, patience, is_accepted, .. } =
            &mut self.hand_off;
        if self.link.is_none() {
            let link = Link::open(dial, config, *patience).await.map_err(Failure::connecting)?;
            tables.ensure(&link.client).await.map_err(Failure::from)?;
            effect.prepare(&link.client).await.map_err(Failure::of)?;
            let statements = Statements::prepare(&link.client, tables).await.map_err(Failure::from)?;
            self.link = Some((link, statements));
        }
        let (link, _) = self.link.as_ref().expect("it was made");
        let standing =
            Standing { sluice: client, db: &link.client, tables, group, is_accepted: *is_accepted };
        standing.check().await.map_err(|error| match error {
            StandingError::Postgres(error) => error.into(),
            StandingError::Sluice(error) if error.is_passing() => Failure::Passing(error.to_string()),
            StandingError::Sluice(error) => Failure::Fatal(error.into()),
            StandingError::Unfit(error) => Failure::Fatal(error),
        })
    }

    /// The connection is of no use any more.
    async fn lose(&mut self, why: String) {
        if let Some((link, _)) = self.link.take() {
            link.cut();
        }
        self.tell(&News::Lost { why });
        self.pause().await;
    }

    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Failure {
    fn of(error: EffectError) -> Self {
        match error {
            EffectError::Postgres(error) => error.into(),
            EffectError::Shape(error) => error.into(),
            EffectError::Refused { cause, why } => Self::Event(Refusal { cause, why: kept(&why) }),
            error @ EffectError::Fatal(_) => Self::Fatal(HandOffError::Effect(error)),
        }
    }

    /// Nobody was there, or somebody who did not speak as PostgreSQL does: such errors have no cause of their own.
    fn connecting(error: tokio_postgres::Error) -> Self {
        if error.source().is_none() { Self::Passing(words(&error)) } else { error.into() }
    }

    fn late(patience: Duration) -> Self {
        Self::Passing(format!("not done within {patience:?}"))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match meaning(&error) {
            Meaning::Event(cause) => Self::Event(Refusal { cause, why: kept(&words(&error)) }),
            Meaning::Passing => Self::Passing(words(&error)),
            Meaning::Fatal => Self::Fatal(HandOffError::Refused(error)),
        }
    }
}

impl From<ShapeError> for Failure {
    fn from(error: ShapeError) -> Self {
        match error {
            ShapeError::Postgres { source, .. } if meaning(&source) == Meaning::Passing => source.into(),
            error => Self::Fatal(error.into()),
        }
    }
}

/// A reason as it can be kept in a table.
fn kept(why: &str) -> String {
    let short = &why[..why.floor_char_boundary(WHY_MAX)];
    short.replace('\0', "")
}
