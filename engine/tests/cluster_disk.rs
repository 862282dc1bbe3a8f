//! One node of three has a disk of its own that is really full: it stops as it should, the others sell on, and when there
//! is room it is one of them again.
//!
//! The disk is a small file system in memory, mounted where only the test and its servers see it. Deliberately not here:
//! disks that meet errors (`disk_faults`, `cluster_faults`).

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sluice_client::{Client, UserId};
use sluice_engine::audit::Promise;
use sluice_engine::child::ServerProcess;

use self::rig::apart::{Own, apart};
use self::rig::{ClusterRig, Load, PATIENCE, seed};

/// Answers before, in and after each scene.
const ANSWERS: usize = 500;

const FLAGS: [&str; 2] = ["--snapshot-every-bytes", "1MiB"];

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 2] = [
    Promise { stock: 400, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// KiB free on a disk: where there is enough; where a node with a margin admits nothing; where the next segment has no room.
const ROOMY_KIB: u64 = 256 << 10;
const WITHIN_MARGIN_KIB: u64 = 48 << 10;
const TIGHT_KIB: u64 = 1 << 10;

const MARGIN: &str = "64MiB";

/// How often it is tried to give a disk in use another size.
const RESIZES_MAX: usize = 100;

/// What a call has that must not be answered.
const SHORT: Duration = Duration::from_millis(500);

/// How a process ends that cannot write what it must.
const GAVE_UP: i32 = 70;

/// A file system in memory.
struct Disk(PathBuf);

impl Disk {
    /// Mounted at a folder that is made for it.
    fn at(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        let disk = Self(dir);
        disk.mount(&format!("size={ROOMY_KIB}k")).unwrap();
        disk
    }

    /// Grows or shrinks until so many KiB are free.
    fn leave_free(&self, kib: u64) {
        let resized = || {
            let stat = rustix::fs::statvfs(&self.0).unwrap();
            let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024;
            self.mount(&format!("remount,size={}k", used + kib))
        };
        // A server that writes meanwhile may have taken more than there is to be.
        let tries: Vec<String> = (0..RESIZES_MAX).map_while(|_| resized().err()).collect();
        assert!(tries.len() < RESIZES_MAX, "{tries:?}");
    }

    fn mount(&self, options: &str) -> Result<(), String> {
        // With a source and a type named nothing is taken over from how it was mounted, which not everybody may ask for.
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        let output = command.output().unwrap();
        let refused = || String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or_else(refused)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A server may still be there if the test has failed: then it goes with that.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A cluster under load, of which one node, that does not lead, is on a disk of its own with room.
struct Scene {
    // Unmounted before the rig's folder is removed.
    disk: Disk,
    rig: ClusterRig,
    load: Load,
    node: u64,
}

impl Scene {
    async fn begin(disk_free_min: &str) -> Self {
        let mut rig = ClusterRig::start(seed(), &FLAGS).await;
        let load = rig.under_load(&PRODUCTS).await;
        let node = 1 + rig.leader().await % 3;
        rig.cluster.stop(node).await.unwrap();
        let disk = Disk::at(rig.dir.path().join("disk"));
        let launch = rig.cluster.node_mut(node).launch_mut();
        let data = disk.0.join("data");
        let copied = Command::new("cp").arg("--archive").args([&launch.data, &data]).status().unwrap();
        assert!(copied.success());
        launch.data = data;
        let at = launch.flags.iter().position(|flag| flag == "--disk-free-min").unwrap();
        disk_free_min.clone_into(&mut launch.flags[at + 1]);
        rig.start_again(node).await;
        rig.transfer(node).await;
        let scene = Self { disk, rig, load, node };
        scene.answers("answers").await;
        scene
    }

    async fn answers(&self, what: &str) {
        self.rig.wait(what, self.load.crowd.answers(ANSWERS)).await;
    }

    /// Waits until a process ends that is about to.
    async fn gave_up(&self, process: ServerProcess) {
        let status = process.ended(PATIENCE).await.unwrap();
        assert_eq!(status.code(), Some(GAVE_UP), "{}", self.rig.words());
    }

    /// Waits until the node has said so, after what it had said before.
    async fn says(&self, words: &str, before: usize) {
        let said = || self.rig.said(self.node)[before..].contains(words).then_some(());
        self.rig.until(words, said).await;
    }

    async fn end(self) {
        let Self { disk, mut rig, load, .. } = self;
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
        drop(disk);
    }
}

#[test]
#[ignore = "mounts a small file system"]
fn a_leader_whose_disk_is_full_ends_and_comes_back_when_there_is_room() {
    apart(Own::Mounts, a_leader_whose_disk_is_full_ends_and_comes_back_when_there_is_room, async {
        let mut scene = Scene::begin("0").await;
        scene.disk.leave_free(TIGHT_KIB);
        let node = scene.node;
        let mut process = scene.rig.cluster.node_mut(node).take_process().unwrap();
        while process.try_wait().unwrap().is_none() {
            scene.answers("answers").await;
        }
        scene.gave_up(process).await;
        scene.answers("answers of the others").await;
        // Not even a start can be written down: it fails, and does no harm.
        scene.disk.leave_free(0);
        scene.rig.start_only(node);
        let process = scene.rig.cluster.node_mut(node).take_process().unwrap();
        scene.gave_up(process).await;
        scene.disk.leave_free(ROOMY_KIB);
        scene.rig.start_again(node).await;
        scene.answers("answers").await;
        scene.end().await;
    });
}

#[test]
#[ignore = "mounts a small file system"]
fn a_leader_whose_disk_is_nearly_full_lets_another_lead_and_admits_nothing_if_it_has_to_lead() {
    let name = a_leader_whose_disk_is_nearly_full_lets_another_lead_and_admits_nothing_if_it_has_to_lead;
    apart(Own::Mounts, name, async {
        let scene = Scene::begin(MARGIN).await;
        let said_before = scene.rig.said(scene.node).len();
        scene.disk.leave_free(WITHIN_MARGIN_KIB);
        scene.says("nothing is admitted, reads go on", said_before).await;
        let other = async {
            while scene.rig.cluster.leader_now().await.is_none_or(|leader| leader == scene.node) {
                tokio::task::yield_now().await;
            }
        };
        scene.rig.wait("another leader", other).await;
        scene.answers("answers of the others").await;
        scene.rig.transfer(scene.node).await;
        let builder = Client::builder().deadline(PATIENCE).connections(1);
        let url = format!("sluice://{}", scene.rig.cluster.node(scene.node).launch().listen);
        let client = builder.connect(&url).await.unwrap();
        let product = scene.load.account.borrow().products()[1];
        let told = client.with_deadline(SHORT).reserve(product, UserId(1), 1).await;
        assert!(told.is_err(), "nothing is admitted: {told:?}");
        assert!(client.product(product).await.unwrap().is_some());
        scene.disk.leave_free(ROOMY_KIB);
        scene.says("there is room on the disk again", said_before).await;
        scene.answers("answers of one that has room again").await;
        scene.end().await;
    });
}
