//! Events that an effect refuses: others go on, they become dead letters, and each takes effect once if it ever does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sluice_client::{Client, EventKind, EventView, LetterOutcome};
use sluice_postgres::books::snapshot;
use sluice_postgres::tokio_postgres::{self, Transaction};
use sluice_postgres::{BATCH_DEFAULT, Effect, EffectError, HandOff, LedgerTables, TableName};
use sluice_protocol::event::lane_of;

use self::support::{GROUP, Shop, Working, make_witness, until, witness};

/// The user whose reservations nobody wants.
const UNWANTED: u64 = 666_666;

/// How an event is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A row does not fit.
    Constraint,
    /// A row does not fit, and that is hidden.
    Hidden,
    /// The effect says so.
    Word,
    /// The effect panics.
    Panic,
}

/// Refuses reservations of the unwanted user for as long as it is told to.
struct Picky {
    way: Way,
    is_picky: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Effect for Picky {
    async fn prepare(&mut self, client: &tokio_postgres::Client) -> Result<(), EffectError> {
        make_witness(client).await?;
        Ok(())
    }

    async fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[EventView],
    ) -> Result<(), EffectError> {
        let is_unwanted = |event: &EventView| event.user.0 == UNWANTED && event.kind == EventKind::Reserved;
        if self.is_picky.load(Ordering::Relaxed) && events.iter().any(is_unwanted) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            match self.way {
                Way::Constraint => drop(transaction.execute("SELECT 1 / 0", &[]).await?),
                Way::Hidden => assert!(transaction.execute("SELECT 1 / 0", &[]).await.is_err()),
                Way::Word => return Err(EffectError::Refused { cause: 7, why: "not wanted".into() }),
                Way::Panic => panic!("not wanted"),
            }
            if self.way == Way::Hidden {
                return Ok(());
            }
        }
        witness(transaction, events).await
    }
}

struct Scene {
    shop: Shop,
    is_picky: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Scene {
    async fn begin() -> Self {
        let (is_picky, refused) = (Arc::new(AtomicBool::new(true)), Arc::default());
        Self { shop: Shop::open().await, is_picky, refused }
    }

    fn hand_off(&self, way: Way, attempts_max: u32) -> HandOff<Picky> {
        let picky = Picky { way, is_picky: Arc::clone(&self.is_picky), refused: Arc::clone(&self.refused) };
        HandOff::new(&self.shop.client, self.shop.config(), GROUP, picky).terms(Shop::terms(attempts_max))
    }

    /// Sequences noted as undone, and where the lane of a product stands.
    async fn noted(&self, product: u64) -> (Vec<u64>, u64) {
        let mut client = self.shop.connect().await;
        let table = TableName::new("sluice_orders");
        let books = snapshot(&mut client, &LedgerTables::default(), &table, GROUP).await.unwrap();
        let undone = books.undone.iter().map(|undone| undone.sequence).collect();
        (undone, books.cursors[lane_of(product.into()) as usize])
    }

    async fn dead(&self) -> Vec<u64> {
        dead(&self.shop.client).await
    }
}

async fn dead(client: &Client) -> Vec<u64> {
    let letters = client.dead_letters(GROUP, 0).await.unwrap().unwrap_or_default();
    letters.iter().map(|letter| letter.sequence).collect()
}

/// Sells on both sides of an unwanted reservation, in its lane and in others; then it becomes a dead letter, is redriven
/// in vain, is redriven with success, and is redriven once more.
async fn an_unwanted_event_dies_and_lives_again(way: Way) {
    let mut scene = Scene::begin().await;
    scene.shop.sell(100).await;
    let unwanted = scene.shop.reserve(5, UNWANTED, 1).await;
    scene.shop.sell(100).await;
    let sequence = scene.shop.client.reservation(unwanted).await.unwrap().unwrap().sequence;
    let working = Working::start(scene.hand_off(way, 3));
    let last = scene.shop.caught_up().await;
    assert_eq!(scene.dead().await, [sequence]);
    let taken = scene.shop.witnessed().await;
    assert_eq!(taken.len() as u64, last - 1, "all but one took effect");
    assert!(taken.iter().all(|(taken, _)| *taken != sequence));
    let (undone, cursor) = scene.noted(5).await;
    assert_eq!(undone, [sequence]);
    assert!(cursor > sequence, "its lane has gone on");

    let refused = scene.refused.load(Ordering::Relaxed);
    redrive(&scene, sequence).await;
    until("it to be refused again", async || scene.refused.load(Ordering::Relaxed) > refused).await;
    until("it to be dead again", async || letter_rests(&scene, sequence).await).await;
    assert_eq!(scene.noted(5).await.0, [sequence]);

    scene.is_picky.store(false, Ordering::Relaxed);
    redrive(&scene, sequence).await;
    until("it to be done", async || scene.dead().await.is_empty()).await;
    assert_eq!(scene.noted(5).await, (vec![], cursor), "it is done, and its lane stays where it was");
    let counts = working.stop().await;
    assert!(counts.parked >= 1 && counts.failures >= 3, "{counts:?}");

    // Everything again, the dead letter too: nothing has a second effect.
    assert!(scene.shop.client.seek_group(GROUP, 0).await.unwrap().is_done());
    let working = Working::start(scene.hand_off(way, 3));
    scene.shop.caught_up().await;
    let counts = working.stop().await;
    assert_eq!((counts.events, counts.repeated), (0, last), "{counts:?}");
    assert_eq!(scene.shop.witnessed().await.len() as u64, last);
}

async fn redrive(scene: &Scene, sequence: u64) {
    let outcome = scene.shop.client.redrive(GROUP, sequence).await.unwrap();
    assert!(matches!(outcome, LetterOutcome::Done { .. }), "{outcome:?}");
}

/// Whether it is dead and nobody is trying.
async fn letter_rests(scene: &Scene, sequence: u64) -> bool {
    let letters = scene.shop.client.dead_letters(GROUP, 0).await.unwrap().unwrap();
    letters.iter().any(|letter| letter.sequence == sequence && !letter.is_redriven)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn an_event_that_does_not_fit_dies_and_lives_again() {
    an_unwanted_event_dies_and_lives_again(Way::Constraint).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn an_event_whose_error_is_hidden_dies_and_lives_again() {
    an_unwanted_event_dies_and_lives_again(Way::Hidden).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn an_event_that_the_effect_refuses_dies_and_lives_again() {
    an_unwanted_event_dies_and_lives_again(Way::Word).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn an_event_at_which_the_effect_panics_dies_and_lives_again() {
    an_unwanted_event_dies_and_lives_again(Way::Panic).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn what_is_behind_a_refused_event_in_its_lane_waits_for_it_and_others_go_on() {
    what_is_behind_waits(BATCH_DEFAULT).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn so_does_what_has_come_for_the_next_batch() {
    what_is_behind_waits(1).await;
}

async fn what_is_behind_waits(batch_max: usize) {
    let mut scene = Scene::begin().await;
    let unwanted = scene.shop.reserve(5, UNWANTED, 1).await;
    let behind = scene.shop.reserve(5, 1, 1).await;
    let elsewhere = scene.shop.reserve(6, 1, 1).await;
    assert_ne!(lane_of(5.into()), lane_of(6.into()));
    let sequence = async |id| scene.shop.client.reservation(id).await.unwrap().unwrap().sequence;
    let [unwanted, behind, elsewhere] =
        [sequence(unwanted).await, sequence(behind).await, sequence(elsewhere).await];
    let working = Working::start(scene.hand_off(Way::Constraint, 0).batch_max(batch_max));
    let has = async |sequence| scene.shop.witnessed().await.iter().any(|(taken, _)| *taken == sequence);
    until("the other lane", async || scene.shop.witnessed_if_any().await > 0 && has(elsewhere).await).await;
    let refused = scene.refused.load(Ordering::Relaxed);
    until("more tries", async || scene.refused.load(Ordering::Relaxed) > refused + 3).await;
    assert!(!has(behind).await && !has(unwanted).await);
    scene.is_picky.store(false, Ordering::Relaxed);
    // In their order, which this looks at.
    scene.shop.each_event_once().await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
async fn a_dead_letter_is_not_taken_for_done_by_whoever_comes_after_a_crash() {
    let mut scene = Scene::begin().await;
    let unwanted = scene.shop.reserve(5, UNWANTED, 1).await;
    let sequence = scene.shop.client.reservation(unwanted).await.unwrap().unwrap().sequence;
    // Its first failure is its last. Whoever gave it up is gone before anything else is done.
    let first = Working::start(scene.hand_off(Way::Constraint, 1));
    until("it to be dead", async || scene.dead().await == [sequence]).await;
    first.crash().await;
    scene.shop.reserve(5, 1, 1).await;
    scene.is_picky.store(false, Ordering::Relaxed);
    let second = Working::start(scene.hand_off(Way::Constraint, 1));
    let last = scene.shop.caught_up().await;
    assert_eq!(scene.shop.witnessed().await.len() as u64, last - 1);
    redrive(&scene, sequence).await;
    until("it to be done", async || scene.dead().await.is_empty()).await;
    assert_eq!(scene.shop.witnessed().await.len() as u64, last);
    assert_eq!(scene.noted(5).await.0, [0_u64; 0]);
    second.stop().await;
}
