//! Bit rot: a real node's files are changed in one place, and the real server is started on them.
//!
//! A byte, a sector that reads as zeros, a page that was written where another belongs.
//!
//! It either serves with everything that was answered, or says which file is damaged and does not serve. Never a wrong
//! answer, a crash without a word, or a hang. Two directories are damaged: one after a clean stop, one after SIGKILL under
//! load. Only of the second something may be lost: what was answered after the fence was last written, if the log itself is
//! damaged; it is counted. `SLUICE_ROT_FLIPS` makes a longer run. Needs strace, as the recorder does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod events_support;
mod power;

use std::env;
use std::fmt::Write;
use std::sync::Mutex;
use std::thread;

use power::disk::{SECTOR_LEN, Step};
use power::draw::Draw;
use power::judge::{FENCE, Verdict, judge, log};
use power::oracle::Oracle;
use power::record::Event;
use power::scene::{Ending, Recordings, Scene, Script, in_memory};
use power::tree::{Content, Ino, PAGE_LEN, Tree};
use power::wire::Said;

/// Damages of a short run.
const FLIPS: usize = 160;

/// Threads that judge.
const WORKERS: usize = 2;

/// sled can loop for ever over a damaged file; this is when the server gives up on it.
const OPEN_TIMEOUT: &[&str] = &["--open-timeout", "5s"];

/// Bytes at both ends of a page that are hit more often than others.
const HEAD_LEN: u64 = 64;

/// A directory to damage.
struct Sound {
    name: &'static str,
    tree: Tree,
    oracle: Oracle,
    /// What the fence vouches for, if that is less.
    fenced: Option<Oracle>,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Bits of one byte.
    Flip { at: u64, mask: u8 },
    /// A sector that reads as zeros.
    Zeroed { at: u64 },
    /// A page that was written where another belongs.
    Misdirected { from: u64, to: u64 },
}

impl Damage {
    fn inflict(self, content: &mut Content) {
        match self {
            Self::Flip { at, mask } => content.flip(at, mask),
            Self::Zeroed { at } => {
                let sector = at / SECTOR_LEN * SECTOR_LEN;
                content.zero(sector, (sector + SECTOR_LEN).min(content.len()));
            }
            Self::Misdirected { from, to } => {
                let page = content.read(from, PAGE_LEN.min(content.len() - from.max(to)));
                content.put(to, &page);
            }
        }
    }
}

#[derive(Default, Debug)]
struct Tally {
    intact: usize,
    refused: usize,
    behind_the_fence: usize,
    wrong: Vec<String>,
}

/// A clean stop, and a crash of a server that was started on what it left.
fn sound(recordings: &Recordings, draw: &mut Draw) -> [Sound; 2] {
    let script = |name: &str, puts, ending| Script { name: name.to_owned(), orders: 20, puts, ending };
    let stopped = recordings.record(
        &script("stopped", 2, Ending::StopUnderLoad),
        Tree::empty(),
        Oracle::default(),
        draw,
    );
    let killed = recordings.record(
        &script("killed", 24, Ending::Kill),
        stopped.left.clone(),
        stopped.after.clone(),
        draw,
    );
    let fenced = Some(fenced(&killed));
    [
        Sound { name: "stopped", tree: stopped.left, oracle: stopped.after, fenced: None },
        Sound { name: "killed", tree: killed.left, oracle: killed.after, fenced },
    ]
}

/// What had been answered when the fence was last synced. All that was asked later may have happened or not.
fn fenced(scene: &Scene) -> Oracle {
    let is_fence =
        |event: &Event| matches!(event, Event::Ended(_, Step::Sync { path, .. }) if path.ends_with(FENCE));
    let ended = scene.events.iter().rposition(is_fence).expect("it was written at the start");
    let Event::Ended(call, _) = &scene.events[ended] else { unreachable!("it was just found") };
    let began = |event: &Event| matches!(event, Event::Began(number, _) if number == call);
    let began = scene.events.iter().position(began).unwrap();
    let mut oracle = scene.before.clone();
    for (number, event) in scene.events.iter().enumerate() {
        let Event::Said(said) = event else { continue };
        let heard = said.iter().filter(|said| number < began || matches!(said, Said::Asked(_)));
        heard.for_each(|said| oracle.hear(said));
    }
    oracle
}

/// Places where something begins or ends, and as many anywhere, in a random order.
fn damages(sound: &Sound, wanted: usize, draw: &mut Draw) -> Vec<(Ino, Damage)> {
    let files: Vec<Ino> = sound.tree.files().into_iter().map(|(_, ino)| ino).collect();
    let mut damages = Vec::new();
    for number in 0.. {
        if damages.len() == wanted {
            break;
        }
        // Each file gets its share, however small it is.
        let file = files[number % files.len()];
        let content = sound.tree.file(file);
        let used = content.used();
        if used.is_empty() {
            continue;
        }
        let page = match draw.below(4) {
            0 => used[0],
            1 => used[used.len() - 1],
            _ => used[draw.below(used.len())],
        };
        let within = match draw.below(3) {
            0 => draw.below(HEAD_LEN as usize),
            1 => PAGE_LEN as usize - 1 - draw.below(HEAD_LEN as usize),
            _ => draw.below(PAGE_LEN as usize),
        };
        let at = (page + within as u64) % content.len();
        let damage = match draw.below(8) {
            0 => Damage::Zeroed { at },
            1 => Damage::Misdirected { from: used[draw.below(used.len())], to: page },
            2..5 => Damage::Flip { at, mask: 1 << draw.below(8) },
            _ => Damage::Flip { at, mask: 1 + draw.below(255) as u8 },
        };
        damages.push((file, damage));
    }
    damages
}

fn try_it(sound: &Sound, (file, damage): (Ino, Damage), tally: &Mutex<Tally>) {
    let mut tree = sound.tree.clone();
    damage.inflict(tree.file_mut(file));
    let judged = |oracle: &Oracle| {
        let dir = in_memory();
        tree.store(dir.path());
        judge(dir.path(), oracle, OPEN_TIMEOUT)
    };
    let verdict = judged(&sound.oracle);
    let files = tree.files();
    let (name, _) = files.iter().find(|(_, ino)| *ino == file).unwrap();
    let excused = |verdict: &Verdict| {
        let in_log = name.ends_with(log()) && matches!(verdict, Verdict::Failed(_));
        in_log && sound.fenced.as_ref().is_some_and(|fenced| judged(fenced) == Verdict::Recovered)
    };
    let excused = excused(&verdict);
    let mut tally = tally.lock().unwrap();
    match verdict {
        Verdict::Recovered => tally.intact += 1,
        Verdict::Refused(_) => tally.refused += 1,
        Verdict::Failed(_) if excused => tally.behind_the_fence += 1,
        Verdict::Failed(words) => {
            tally.wrong.push(format!("{}: {name}: {damage:?}:\n{words}", sound.name));
        }
    }
}

#[test]
#[ignore = "needs strace, and some seconds"]
fn damage_is_noticed_or_harmless() {
    let seed =
        env::var("SLUICE_TEST_SEED").map_or_else(|_| getrandom::u64().unwrap(), |seed| seed.parse().unwrap());
    eprintln!("SLUICE_TEST_SEED={seed}");
    let wanted = env::var("SLUICE_ROT_FLIPS").map_or(FLIPS, |flips| flips.parse().unwrap());
    let mut draw = Draw::new(seed);
    let recordings = Recordings::of_this_run();
    let mut report = String::new();
    for sound in sound(&recordings, &mut draw) {
        let tally = Mutex::new(Tally::default());
        let damages = damages(&sound, wanted / 2, &mut draw);
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (sound, damages, tally) = (&sound, &damages, &tally);
                scope.spawn(move || {
                    damages
                        .iter()
                        .skip(worker)
                        .step_by(WORKERS)
                        .for_each(|damage| try_it(sound, *damage, tally));
                });
            }
        });
        let tally = tally.into_inner().unwrap();
        let Tally { intact, refused, behind_the_fence, wrong } = &tally;
        writeln!(
            report,
            "{}: {} damages: {intact} harmless, {refused} refused, {behind_the_fence} behind the fence, {} wrong",
            sound.name,
            damages.len(),
            wrong.len()
        )
        .unwrap();
        eprint!("{report}");
        assert!(wrong.is_empty(), "{report}{}", wrong.join("\n"));
        assert!(*intact > 0 && *refused > 0, "{report}");
    }
}
