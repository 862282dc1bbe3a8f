//! Scenes of a few calls, made for the judges: each is an occasion for a lie that only a leader who is not one any more, a
//! follower who was left behind, or a disk that holds things up can tell. Nothing is asserted here but what they say.
//!
//! The same as in `cluster_faults` where a crowd does it; but there the crowd, the audit or the caller may notice first.
//! In builds with known bugs, `bug_bank` has the judges find those.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::time::Duration;

use sluice_client::{Client, ProductId, ReadFrom, ReservationId, ReserveOutcome, Terms, UserId};
use sluice_judges::history::{Ask, Call};
use sluice_judges::recorded::Event;
use tokio::task::spawn_local;

use self::rig::court::accuse;
use self::rig::roads::Roads;
use self::rig::scenes::Ways;
use self::rig::{ClusterRig, run, seed};

const PRODUCT: ProductId = ProductId(1);

const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };

/// What a call has of somebody who may get no answer.
const LONELY: Duration = Duration::from_secs(1);

/// So many reads ask each node twice.
const READS: usize = 6;

/// Who is refused, or asks for what is free again, or is held up.
const REFUSED: UserId = UserId(2);
const ASKING: UserId = UserId(3);

/// A cluster whose nodes reach each other by roads, and all of a product held by somebody.
struct Scene {
    rig: ClusterRig,
    roads: Roads,
    all: Client,
    held: ReservationId,
}

impl Scene {
    async fn begin() -> Self {
        let roads = Roads::open(3);
        let rig = roads.cluster(seed()).await;
        let all = rig.client().await;
        assert!(all.put_product(PRODUCT, 1, TERMS).await.unwrap().is_done());
        let Ok(ReserveOutcome::Reserved { id, .. }) = all.reserve(PRODUCT, UserId(1), 1).await else {
            panic!("it was free\n{}", rig.words());
        };
        Self { rig, roads, all, held: id }
    }

    /// Somebody who knows one node only.
    async fn at(&self, node: u64) -> Client {
        let builder = Client::builder().deadline(LONELY).resolve_budget(LONELY).connections(1);
        builder.connect(&self.rig.url_of(node)).await.unwrap()
    }

    /// What clients have sent so far.
    fn asked(&self, is_meant: impl Fn(&Call) -> bool) -> Vec<Call> {
        let events = self.rig.court.as_ref().unwrap().taps.events();
        let sent = events.into_iter().filter_map(|event| match event {
            Event::Sent(call) => Some(call).filter(&is_meant),
            Event::Heard(..) => None,
        });
        sent.collect()
    }

    /// All is well again, and is judged.
    async fn end(mut self) {
        self.roads.heal(false);
        self.rig.caught_up().await;
        let evidence = self.rig.stop_for_evidence().await;
        accuse(&evidence, || self.rig.words());
    }
}

#[test]
fn a_leader_that_was_cut_off_in_its_sleep_says_no_old_no() {
    run(async {
        let scene = Scene::begin().await;
        let leader = scene.rig.leader().await;
        let lonely = scene.at(leader).await;
        let told = lonely.reserve(PRODUCT, REFUSED, 1).await;
        assert!(matches!(told, Ok(ReserveOutcome::Insufficient { .. })), "{told:?}");
        let still = scene.rig.cluster.node(leader).process().unwrap();
        still.pause().unwrap();
        // When it wakes up, nobody tells it what has become of it.
        scene.roads.isolate(leader);
        let other = async {
            while scene.rig.cluster.leader_now().await.is_none_or(|now| now == leader) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        scene.rig.wait("another leader", other).await;
        let cancelled = scene.rig.client().await.cancel(scene.held, 1).await;
        cancelled.unwrap_or_else(|error| panic!("{error}\n{}", scene.rig.words()));
        let asking = spawn_local(async move { lonely.reserve(PRODUCT, ASKING, 1).await });
        let is_meant = |call: &Call| matches!(call.ask, Ask::Reserve(item) if item.user() == ASKING);
        let asked = || scene.asked(is_meant).pop();
        scene.rig.until("the question to be on its way", asked).await;
        still.resume().unwrap();
        // Whatever it hears, in time or not, is on record.
        drop(scene.rig.wait("an answer or none", asking).await);
        scene.end().await;
    });
}

#[test]
fn a_follower_that_was_cut_off_reads_nothing_old() {
    run(async {
        let scene = Scene::begin().await;
        let follower = 1 + scene.rig.leader().await % 3;
        let builder = Client::builder().deadline(LONELY).read_from(ReadFrom::Any);
        let reader = builder.connect(&scene.rig.url).await.unwrap();
        for _ in 0..READS {
            let _ = reader.product(PRODUCT).await;
        }
        scene.roads.isolate(follower);
        scene.all.cancel(scene.held, 1).await.unwrap();
        let before = scene.asked(|call| call.node == follower).len();
        for _ in 0..READS {
            // Whoever does not answer is passed over.
            let _ = reader.product(PRODUCT).await;
        }
        let asked = scene.asked(|call| call.node == follower).len();
        assert!(asked > before, "the follower was not asked");
        scene.end().await;
    });
}

/// In builds whose disks can be held up.
#[cfg(feature = "failpoints")]
#[test]
fn what_no_disk_has_written_is_told_to_nobody() {
    use std::fs::{self, File};

    run(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hold");
        let plan = format!("log.write=hold:{}", file.display());
        let variables = [(sluice_engine::failpoint::VARIABLE, plan.as_str())];
        let mut rig =
            ClusterRig::judged_with(seed(), &["--snapshot-every-bytes", "1GiB"], &[], &variables).await;
        let all = rig.client().await;
        assert!(all.put_product(PRODUCT, 1_000, TERMS).await.unwrap().is_done());
        assert!(all.reserve(PRODUCT, REFUSED, 1).await.is_ok());
        let hasty = Client::builder().deadline(LONELY).resolve_budget(LONELY);
        let hasty = hasty.connections(1).connect(&rig.url).await.unwrap();
        File::create(&file).unwrap();
        let _ = hasty.reserve(PRODUCT, ASKING, 1).await;
        let ids: Vec<u64> = rig.cluster.ids().collect();
        for id in &ids {
            rig.kill(*id);
        }
        fs::remove_file(&file).unwrap();
        for id in &ids {
            rig.start_only(*id);
        }
        rig.leader().await;
        assert!(rig.client().await.product(PRODUCT).await.unwrap().is_some());
        rig.caught_up().await;
        let evidence = rig.stop_for_evidence().await;
        accuse(&evidence, || rig.words());
    });
}
