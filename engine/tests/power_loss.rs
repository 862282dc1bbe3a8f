//! Power loss: a real node is recorded under real clients, cut at any moment, and recovered by the real server.
//!
//! Whatever had been answered must be there, whichever part of what was not synced is missing, and the server must serve:
//! a refusal is a failure too. The short form is part of CI. `SLUICE_POWER_IMAGES=10000` makes the long one;
//! docs/TESTING.md says how to repeat a single image. Needs strace.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod events_support;
mod power;

use std::env;

use power::disk::{Disk, Forget, MANNERS, MODELS};
use power::draw::Draw;
use power::judge::log;
use power::oracle::Oracle;
use power::plan::{Plan, Summary};
use power::record::Event;
use power::scene::{Ending, Recordings, Scene, Script};
use power::tree::Tree;

/// Different images of a short run.
const IMAGES: usize = 240;

fn seed() -> u64 {
    let seed =
        env::var("SLUICE_TEST_SEED").map_or_else(|_| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
    eprintln!("SLUICE_TEST_SEED={seed}");
    seed
}

fn script(name: &str, orders: usize, puts: usize, ending: Ending) -> Script {
    Script { name: name.to_owned(), orders, puts, ending }
}

/// A first start and its clean stop.
fn first(recordings: &Recordings, draw: &mut Draw) -> Scene {
    recordings.record(&script("first", 25, 0, Ending::StopUnderLoad), Tree::empty(), Oracle::default(), draw)
}

/// Where a scene leaves off if power is lost at some event.
fn cut(scene: &Scene, event: usize, draw: &mut Draw) -> (Tree, Oracle) {
    let model = MODELS[draw.below(MODELS.len())];
    let manner = MANNERS[draw.below(MANNERS.len())];
    let mut disk = Disk::new(scene.base.clone(), model == power::disk::Model::Journal, Forget::default());
    let mut oracle = scene.before.clone();
    for event in &scene.events[..=event] {
        match event {
            Event::Began(call, step) => disk.began(*call, step),
            Event::Ended(call, step) => disk.ended(*call, step),
            Event::Said(said) => said.iter().for_each(|said| oracle.hear(said)),
            Event::ToldToStop => {}
        }
    }
    (disk.image(model, manner, draw), oracle)
}

/// A node's life: its first start; a busy time with snapshots; and starts after power was lost, which are cut again.
/// `size` times as many orders, and starts, make a longer life.
fn scenes(recordings: &Recordings, size: usize, draw: &mut Draw) -> Vec<Scene> {
    let first = first(recordings, draw);
    let busy = script("busy", 40 * size, 64, Ending::Kill);
    let busy = recordings.record(&busy, first.left.clone(), first.after.clone(), draw);
    let mut scenes = vec![first, busy];
    for number in 0..3 * size {
        // The last of the scenes recorded so far among them: a third loss of power, a fourth.
        let from = match number % 3 {
            0 => &scenes[1],
            1 => &scenes[0],
            _ => scenes.last().unwrap(),
        };
        let (base, before) = cut(from, draw.below(from.events.len()), draw);
        let ending = [Ending::Kill, Ending::Stop, Ending::StopUnderLoad][draw.below(3)];
        scenes.push(recordings.record(
            &script(&format!("again-{number}"), 2 + size, 0, ending),
            base,
            before,
            draw,
        ));
    }
    for scene in &scenes {
        eprintln!("scene {}: {} events, {} answers", scene.name, scene.events.len(), scene.after.answers);
    }
    scenes
}

#[test]
#[ignore = "needs strace, and half a minute"]
fn whatever_unsynced_part_is_missing_nothing_answered_is() {
    let seed = seed();
    let images = env::var("SLUICE_POWER_IMAGES").map_or(IMAGES, |images| images.parse().unwrap());
    // A long run needs more places at which it can cut.
    let size = 1 + images / 1_500;
    let recordings = Recordings::of_this_run();
    let scenes = scenes(&recordings, size, &mut Draw::new(seed));
    let summary = Plan::new(&scenes, seed).run(images);
    eprintln!("{summary}");
    summary.assert_sound();
}

/// Images that are judged at a time for a lie. Of a log in segments one to seven of them show that all syncs count for
/// nothing, the others are whole or refused; so a lot may have none.
const LOT: usize = 40;

/// Lots in which a lie must show.
const LOTS_MAX: u64 = 10;

/// Whether a plan that is told lies finds an image that shows it.
fn shows(
    scenes: &[Scene],
    seed: u64,
    lie: impl Fn(Plan<'_>) -> Plan<'_>,
    is_shown_by: impl Fn(&Summary) -> bool,
) -> bool {
    (0..LOTS_MAX).any(|lot| {
        let summary = lie(Plan::new(scenes, seed.wrapping_add(lot))).run(LOT);
        eprintln!("{summary}");
        is_shown_by(&summary)
    })
}

#[test]
#[ignore = "needs strace, and half a minute"]
fn a_disk_that_forgets_is_noticed() {
    let seed = seed();
    let recordings = Recordings::of_this_run();
    let mut draw = Draw::new(seed);
    let scenes = [first(&recordings, &mut draw)];
    let forget = |syncs_of: &[&str], directory_syncs| Forget {
        syncs_of: syncs_of.iter().map(|name| (*name).to_owned()).collect(),
        directory_syncs,
    };
    let any = |found: &Summary| found.refused.len() + found.failed.len() > 0;
    // An id that has gone back to where it stood before is lost as much as one that is unknown.
    let is_lost = |words: &String| ["lost: ", "wrong: "].iter().any(|word| words.contains(word));
    let lost = |found: &Summary| found.failed.iter().any(is_lost);
    let log = shows(&scenes, seed, |plan| plan.forgetting(forget(&[log()], false)), any);
    assert!(log, "syncs of the log count for nothing");
    let names = shows(&scenes, seed, |plan| plan.forgetting(forget(&[], true)), any);
    assert!(names, "syncs of directories count for nothing");
    // Without the fence the log's loss is silent: only the oracle sees it.
    let all = shows(&scenes, seed, |plan| plan.forgetting(forget(&[""], false)), lost);
    assert!(all, "all syncs count for nothing");
    let early = shows(&scenes, seed, |plan| plan.answering_early(8), lost);
    assert!(early, "answers before the sync");
    // What is behind the newest snapshot is made again, and the first scene has hardly one.
    let [first] = scenes;
    let busy = script("busy", 40, 64, Ending::Kill);
    let busy = recordings.record(&busy, first.left.clone(), first.after.clone(), &mut draw);
    let events = shows(&[busy], seed, |plan| plan.forgetting(forget(&[".events"], false)), lost);
    assert!(events, "syncs of events count for nothing");
}
