//! What can happen to the nodes of a cluster whose ways to each other fail, whatever these ways are.
//!
//! A crowd acts meanwhile. After each scene every answer is audited on every node. That a no is not old is asked on
//! purpose: the audit knows no clock. Deliberately not here: the ways ([`super::roads`], [`super::cables`]).

use std::time::Duration;

use sluice_client::{Client, ProductId, ReservationId, ReserveOutcome, Terms, UserId};
use sluice_engine::audit::Promise;
use sluice_engine::child::ServerProcess;
use sluice_engine::child::cluster::Door;
use tokio::task::spawn_local;

use super::{ClusterRig, Load, seed};

/// Answers before, in and after each scene.
pub const ANSWERS: usize = 500;

/// What is sold: stock, limit, hold time.
pub const PRODUCTS: [Promise; 3] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 60, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// Changes of the ways while they flap, and how long each lasts at most, milliseconds.
const FLAPS: u64 = 25;
const FLAP_MS_MAX: u64 = 250;

/// What a call has of somebody who knows one node only.
const LONELY: Duration = Duration::from_secs(3);

/// How often it is looked whether something has happened yet.
const POLL: Duration = Duration::from_millis(5);

/// The ways between nodes. Nodes are counted from 1.
pub trait Ways {
    /// Where nodes are.
    fn doors(&self) -> &[Door];

    /// A new cluster there.
    async fn cluster(&self, seed: u64) -> ClusterRig;

    /// Nothing gets from `from` to `to`.
    fn close(&self, from: u64, to: u64);

    /// All ways are open; what waited arrives now or, where that can be, never.
    fn heal(&self, loses_what_waited: bool);

    /// Nothing gets from the node to any other.
    fn mute(&self, node: u64) {
        self.others(node).for_each(|other| self.close(node, other));
    }

    /// Nothing gets to the node from any other.
    fn deafen(&self, node: u64) {
        self.others(node).for_each(|other| self.close(other, node));
    }

    /// Both.
    fn isolate(&self, node: u64) {
        self.mute(node);
        self.deafen(node);
    }

    fn others(&self, node: u64) -> impl Iterator<Item = u64> {
        (1..=self.doors().len() as u64).filter(move |other| *other != node)
    }
}

/// A cluster with ways that can fail, and with a crowd.
pub struct Scene<W> {
    pub rig: ClusterRig,
    pub ways: W,
    pub load: Load,
}

impl<W: Ways> Scene<W> {
    pub async fn begin(ways: W) -> Self {
        let rig = ways.cluster(seed()).await;
        let load = rig.under_load(&PRODUCTS).await;
        let scene = Self { rig, ways, load };
        scene.answers("answers").await;
        scene
    }

    /// Waits until so many more of the crowd's calls are answered.
    pub async fn answers(&self, what: &str) {
        self.rig.wait(what, self.load.crowd.answers(ANSWERS)).await;
    }

    /// Waits until another node leads. Which one.
    async fn successor(&self, leader: u64) -> u64 {
        let other = async {
            loop {
                match self.rig.cluster.leader_now().await {
                    Some(now) if now != leader => return now,
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        };
        self.rig.wait("another leader", other).await
    }

    /// Waits until another node leads, and sells.
    pub async fn succeeded(&self, leader: u64) {
        self.successor(leader).await;
        self.answers("answers of another leader").await;
    }

    fn process(&self, node: u64) -> &ServerProcess {
        self.rig.cluster.node(node).process().unwrap()
    }

    /// Opens the ways again, one way or the other, and waits for answers.
    pub async fn heals(&self) {
        self.ways.heal(self.rig.dice.below(2) == 0);
        self.answers("answers").await;
    }

    /// The ways are open again, everybody is answered, all of it is true, everywhere.
    pub async fn end(self) {
        self.heals().await;
        let Self { mut rig, load, ways } = self;
        let account = match rig.dice.below(2) {
            0 => rig.wait("everybody to be answered", load.finish()).await,
            _ => rig.cut_off(load).await,
        };
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
        drop(ways);
    }

    /// The leader is left alone by `cut`, is followed by another, and is then asked what it can only answer falsely, until
    /// `mend` has ended that.
    pub async fn leader_is_asked(&self, cut: impl FnOnce(&Self, u64), mend: impl FnOnce(&Self, u64)) {
        let leader = self.rig.leader().await;
        let (lonely, held) = Lonely::at(&self.rig, leader).await;
        cut(self, leader);
        // At once: a leader that hears nobody knows before long that it leads no longer.
        let next = self.successor(leader).await;
        knows_only(&self.rig, next).await.cancel(held, 1).await.unwrap();
        // If it cannot be reached, the question waits.
        let asking = spawn_local(lonely.asks());
        self.answers("answers of another leader").await;
        mend(self, leader);
        self.rig.wait("an answer that is not old", asking).await.unwrap();
    }

    /// A leader hears nobody but its clients, and only they hear it.
    pub async fn leader_alone(self) {
        self.leader_is_asked(|scene, leader| scene.ways.isolate(leader), |scene, _| scene.ways.heal(false))
            .await;
        self.end().await;
    }

    /// A leader stands still for a while.
    pub async fn leader_stands_still(self) {
        let pause = |scene: &Self, leader| scene.process(leader).pause().unwrap();
        self.leader_is_asked(pause, |scene, leader| scene.process(leader).resume().unwrap()).await;
        self.end().await;
    }

    /// A leader stands still, and hears nobody but clients when it goes on: nothing tells it that it leads no longer.
    pub async fn leader_wakes_alone(self) {
        let pause = |scene: &Self, leader| {
            scene.ways.isolate(leader);
            scene.process(leader).pause().unwrap();
        };
        self.leader_is_asked(pause, |scene, leader| scene.process(leader).resume().unwrap()).await;
        self.end().await;
    }

    /// Leaders are not heard, or do not hear.
    pub async fn leaders_mute_and_deaf(self) {
        for _ in 0..2 {
            for fails in [W::mute, W::deafen] {
                let leader = self.rig.leader().await;
                fails(&self.ways, leader);
                self.succeeded(leader).await;
                self.heals().await;
            }
        }
        self.end().await;
    }

    /// Ways open and close at random.
    pub async fn flaps(&self) {
        for _ in 0..FLAPS {
            let dice = &self.rig.dice;
            for _ in 0..dice.below(4) {
                let from = 1 + dice.below(3);
                self.ways.close(from, 1 + (from + dice.below(2)) % 3);
            }
            // Nothing is waited for: however it stands by then, the ways change.
            tokio::time::sleep(Duration::from_millis(dice.below(FLAP_MS_MAX))).await;
            if dice.below(2) == 0 {
                self.ways.heal(dice.below(2) == 0);
            }
        }
    }
}

/// A client that knows one node only.
pub async fn knows_only(rig: &ClusterRig, node: u64) -> Client {
    let builder = Client::builder().deadline(LONELY).resolve_budget(LONELY).connections(1);
    builder.connect(&rig.url_of(node)).await.unwrap_or_else(|error| panic!("{error}\n{}", rig.words()))
}

/// Somebody who knows one node only, and a product of which all is taken until it is told otherwise.
struct Lonely {
    client: Client,
    product: ProductId,
}

impl Lonely {
    const PRODUCT: ProductId = ProductId(77);

    /// Connected to `node`. All of the product is held.
    async fn at(rig: &ClusterRig, node: u64) -> (Self, ReservationId) {
        let all = rig.client().await;
        let terms =
            Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };
        assert!(all.put_product(Self::PRODUCT, 1, terms).await.unwrap().is_done());
        let Ok(ReserveOutcome::Reserved { id, .. }) = all.reserve(Self::PRODUCT, UserId(1), 1).await else {
            panic!("it was free\n{}", rig.words());
        };
        let client = knows_only(rig, node).await;
        let told = client.reserve(Self::PRODUCT, UserId(2), 1).await;
        assert!(matches!(told, Ok(ReserveOutcome::Insufficient { .. })), "{told:?}");
        (Self { client, product: Self::PRODUCT }, id)
    }

    /// Asks for a unit that has been free since before this was asked: a no would be old.
    async fn asks(self) {
        let told = self.client.reserve(self.product, UserId(3), 1).await;
        // That it leads no longer, or that it does not know, is the truth.
        assert!(matches!(told, Ok(ReserveOutcome::Reserved { .. }) | Err(_)), "{told:?}");
    }
}
