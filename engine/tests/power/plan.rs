//! Where scenes are cut, and what became of the images: from a wanted number of them to a summary.
//!
//! Cuts are drawn so that each kind of place gets its share, however rare it is. Images are numbered in the order in
//! which they are built, which the seed and the recordings decide. Deliberately not here: what an image is, and what is
//! asked of it.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::fmt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::disk::{Disk, Forget, MANNERS, MODELS, Manner, Model, Step};
use super::draw::Draw;
use super::judge::{DATA, Verdict, judge};
use super::oracle::Oracle;
use super::record::Event;
use super::scene::{Scene, in_memory};
use super::tree::{Ino, Tree};
use super::wire::Said;
use crate::events_support::files;

/// Judges the image of this number and no other, and keeps a copy of it.
const ONLY: &str = "SLUICE_POWER_IMAGE";

/// Failures that are told as they come.
const FAILURES_SHOWN: usize = 3;

/// Images judged at a time.
const WORKERS: usize = 2;

/// For people only: another process number makes no other image.
const LOCK: &str = "data/LOCK";

/// Rounds of drawing before the plan gives up finding images that are not there yet.
const ROUNDS_MAX: usize = 400;

/// A file is seldom written if fewer than one of so many events are about it.
const SELDOM_PART: usize = 25;

/// Events beside one that count as around it.
const NEAR: usize = 3;

/// Images that are tried for one order.
const TRIES: usize = 4;

/// What was going on when power was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Before the first start of all had served anything.
    Creation,
    /// Before a later start had served anything.
    Recovery,
    /// An answer had just begun to leave.
    Answer,
    /// Within a write.
    Write,
    /// Within a sync.
    Sync,
    /// While a name was made, moved or removed, or a file was written that is seldom written: snapshots, above all.
    Seldom,
    /// Between two calls.
    Between,
    /// After the signal to stop.
    Stop,
}

/// How often each kind is cut, of a hundred.
const SHARES: [(Cut, usize); 8] = [
    (Cut::Creation, 10),
    (Cut::Recovery, 12),
    (Cut::Answer, 22),
    (Cut::Write, 14),
    (Cut::Sync, 14),
    (Cut::Seldom, 14),
    (Cut::Between, 4),
    (Cut::Stop, 10),
];

/// One image to build.
#[derive(Clone, Copy, Debug)]
struct Order {
    scene: usize,
    event: usize,
    cut: Cut,
    model: Model,
    manner: Manner,
    seed: u64,
}

struct Image {
    number: usize,
    order: Order,
    tree: Tree,
    oracle: Arc<Oracle>,
    /// What was not synced.
    pending: String,
}

/// What became of them all.
#[derive(Default)]
pub struct Summary {
    pub images: BTreeMap<(Cut, Model), usize>,
    pub distinct: usize,
    /// Same bytes as one before, but more had been answered by then.
    pub repeated: usize,
    pub recovered: usize,
    pub refused: Vec<String>,
    pub failed: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>8} {:>8} {:>8}", "cut", "strict", "journal", "aged")?;
        for (cut, _) in SHARES {
            let count = |model| self.images.get(&(cut, model)).copied().unwrap_or(0);
            let [strict, journal, aged] = MODELS.map(count);
            writeln!(f, "{:<10} {strict:>8} {journal:>8} {aged:>8}", format!("{cut:?}"))?;
        }
        write!(
            f,
            "{} images, {} distinct: {} recovered, {} refused, {} failed",
            self.distinct + self.repeated,
            self.distinct,
            self.recovered,
            self.refused.len(),
            self.failed.len()
        )
    }
}

/// What kind of place each event of a scene is.
fn cuts(scene: &Scene) -> Vec<Cut> {
    let (mut served, mut told) = (false, false);
    let opening = if scene.base.find(DATA).is_some() { Cut::Recovery } else { Cut::Creation };
    let seldom = seldom(&scene.events);
    let cut = |(number, event): (usize, &Event)| {
        served |= matches!(event, Event::Said(_));
        told |= matches!(event, Event::ToldToStop);
        let near = number.saturating_sub(NEAR)..seldom.len().min(number + NEAR + 1);
        match event {
            _ if told => Cut::Stop,
            _ if !served => opening,
            _ if seldom[near].contains(&true) => Cut::Seldom,
            Event::Said(said) if said.iter().any(Said::is_answer) => Cut::Answer,
            Event::Began(_, Step::Sync { .. }) => Cut::Sync,
            Event::Began(..) => Cut::Write,
            Event::Ended(..) | Event::Said(_) | Event::ToldToStop => Cut::Between,
        }
    };
    scene.events.iter().enumerate().map(cut).collect()
}

/// Which events concern names, or a file that few others concern.
fn seldom(events: &[Event]) -> Vec<bool> {
    let file = |event: &Event| match event {
        Event::Began(_, step) | Event::Ended(_, step) => step.file(),
        Event::Said(_) | Event::ToldToStop => None,
    };
    let mut counts: BTreeMap<Ino, usize> = BTreeMap::new();
    events.iter().filter_map(file).for_each(|ino| *counts.entry(ino).or_default() += 1);
    let is_seldom = |event: &Event| match event {
        Event::Began(..) | Event::Ended(..) => {
            file(event).is_none_or(|ino| counts[&ino] * SELDOM_PART < events.len())
        }
        Event::Said(_) | Event::ToldToStop => false,
    };
    events.iter().map(is_seldom).collect()
}

/// See the module.
pub struct Plan<'a> {
    scenes: &'a [Scene],
    places: BTreeMap<Cut, Vec<(usize, usize)>>,
    draw: Draw,
    forget: Forget,
    /// Answers count as given this many events before they were.
    early: usize,
    /// Only this image is judged.
    only: Option<usize>,
}

impl<'a> Plan<'a> {
    pub fn new(scenes: &'a [Scene], seed: u64) -> Self {
        let mut places: BTreeMap<Cut, Vec<(usize, usize)>> = BTreeMap::new();
        for (number, scene) in scenes.iter().enumerate() {
            for (event, cut) in cuts(scene).into_iter().enumerate() {
                places.entry(cut).or_default().push((number, event));
            }
        }
        let only = env::var(ONLY).ok().map(|number| number.parse().unwrap());
        Self { scenes, places, draw: Draw::new(seed), forget: Forget::default(), early: 0, only }
    }

    pub fn forgetting(mut self, forget: Forget) -> Self {
        self.forget = forget;
        self
    }

    /// A server that answered so many events too early.
    pub fn answering_early(mut self, events: usize) -> Self {
        self.early = events;
        self
    }

    fn draw_order(&mut self, number: usize) -> Order {
        let mut part = self.draw.below(100);
        let (cut, _) = SHARES
            .into_iter()
            .find(|(_, share)| {
                let here = part < *share;
                part = part.saturating_sub(*share);
                here
            })
            .expect("the shares make a hundred");
        // A kind that these scenes do not have leaves its share to answers.
        let places = self.places.get(&cut).unwrap_or_else(|| &self.places[&Cut::Answer]);
        let (scene, event) = places[self.draw.below(places.len())];
        let model = MODELS[number % MODELS.len()];
        let manner = MANNERS[self.draw.below(MANNERS.len())];
        Order { scene, event, cut: cut_of(&self.places, cut), model, manner, seed: self.draw.next() }
    }

    /// Builds and judges images until there are `wanted` distinct ones.
    pub fn run(mut self, wanted: usize) -> Summary {
        let summary = Arc::new(Mutex::new(Summary::default()));
        let mut seen = Seen::default();
        let (sender, receiver) = sync_channel::<Image>(2 * WORKERS);
        let receiver = Arc::new(Mutex::new(receiver));
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (receiver, summary) = (Arc::clone(&receiver), Arc::clone(&summary));
                thread::spawn(move || work(&receiver, &summary, wanted))
            })
            .collect();
        for round in 0.. {
            let missing = wanted - seen.trees.len().min(wanted);
            if missing == 0 || workers.iter().any(thread::JoinHandle::is_finished) {
                break;
            }
            assert!(round < ROUNDS_MAX, "these scenes do not have {wanted} different images");
            let mut orders: Vec<_> = (0..missing).map(|number| self.draw_order(number)).collect();
            orders.sort_by_key(|order| (order.scene, order.event));
            for (number, scene) in self.scenes.iter().enumerate() {
                let here: Vec<_> = orders.iter().filter(|order| order.scene == number).copied().collect();
                self.build(scene, &here, &mut seen, wanted, &mut |image| {
                    if self.only.is_none_or(|only| only == image.number) {
                        // Fails once the workers have given up.
                        let _ = sender.send(image);
                    }
                });
            }
        }
        drop(sender);
        for worker in workers {
            worker.join().unwrap();
        }
        let mut summary = Arc::into_inner(summary).unwrap().into_inner().unwrap();
        summary.distinct = seen.trees.len();
        summary.repeated = seen.heard.len() - seen.trees.len();
        summary
    }

    /// Walks through a scene and builds the images that are wanted of it.
    fn build(
        &self,
        scene: &Scene,
        orders: &[Order],
        seen: &mut Seen,
        wanted: usize,
        give: &mut dyn FnMut(Image),
    ) {
        let disk = |journal| Disk::new(scene.base.clone(), journal, self.forget.clone());
        let (mut strict, mut journal) = (disk(false), disk(true));
        let mut oracle = Arc::new(scene.before.clone());
        let mut orders = orders.iter().peekable();
        for (number, event) in scene.events.iter().enumerate() {
            match event {
                Event::Began(call, step) => [&mut strict, &mut journal].map(|disk| disk.began(*call, step)),
                Event::Ended(call, step) => [&mut strict, &mut journal].map(|disk| disk.ended(*call, step)),
                Event::Said(_) | Event::ToldToStop => [(); 2],
            };
            let heard = if self.early == 0 { Some(event) } else { scene.events.get(number + self.early) };
            if let Some(Event::Said(said)) = heard {
                said.iter().for_each(|said| Arc::make_mut(&mut oracle).hear(said));
            }
            while let Some(order) = orders.next_if(|order| order.event == number) {
                let disk = if order.model == Model::Journal { &journal } else { &strict };
                self.build_one(*order, disk, &oracle, seen, wanted, give);
            }
        }
    }

    /// One image, and if there was the same, others of the same moment until one is new.
    fn build_one(
        &self,
        order: Order,
        disk: &Disk,
        oracle: &Arc<Oracle>,
        seen: &mut Seen,
        wanted: usize,
        give: &mut dyn FnMut(Image),
    ) {
        let mut draw = Draw::new(order.seed);
        let mut manner = order.manner;
        for _ in 0..TRIES {
            let tree = disk.image(order.model, manner, &mut draw);
            let distinct = seen.trees.len();
            if let Some(number) = seen.number(&tree, oracle.answers, wanted) {
                let (order, oracle) = (Order { manner, ..order }, Arc::clone(oracle));
                give(Image { number, order, tree, oracle, pending: format!("{disk:?}") });
            }
            if seen.trees.len() > distinct {
                return;
            }
            manner = MANNERS[draw.below(MANNERS.len())];
        }
    }
}

/// Where a kind of cut is missing, answers are cut instead.
fn cut_of(places: &BTreeMap<Cut, Vec<(usize, usize)>>, cut: Cut) -> Cut {
    if places.contains_key(&cut) { cut } else { Cut::Answer }
}

/// The images that there were.
#[derive(Default)]
struct Seen {
    trees: HashSet<u64>,
    heard: HashSet<(u64, u64)>,
}

impl Seen {
    /// The number of an image; `None` if there was the same, and no less had been answered by then.
    fn number(&mut self, tree: &Tree, answers: u64, wanted: usize) -> Option<usize> {
        let bytes = tree.fingerprint(&[LOCK]);
        if self.trees.len() >= wanted || !self.heard.insert((bytes, answers)) {
            return None;
        }
        self.trees.insert(bytes);
        Some(self.heard.len() - 1)
    }
}

fn work(images: &Mutex<Receiver<Image>>, summary: &Mutex<Summary>, wanted: usize) {
    loop {
        let Ok(image) = images.lock().unwrap().recv() else { return };
        let dir = in_memory();
        image.tree.store(dir.path());
        if env::var_os(ONLY).is_some() {
            let kept = tempfile::tempdir().unwrap().keep();
            image.tree.store(&kept);
            eprintln!("image {} is in {}; not synced:\n{}", image.number, kept.display(), image.pending);
        }
        let mut verdict = judge(dir.path(), &image.oracle, &[]);
        if verdict == Verdict::Recovered
            && let Err(wrong) = files::read_whole(&dir.path().join(DATA))
        {
            verdict = Verdict::Failed(format!("lost: {wrong}"));
        }
        let mut summary = summary.lock().unwrap();
        summary.count(&image, verdict);
        let judged = summary.recovered + summary.refused.len() + summary.failed.len();
        if judged.is_multiple_of((wanted / 10).max(1)) {
            eprintln!(
                "{judged} images judged, {} refused, {} failed",
                summary.refused.len(),
                summary.failed.len()
            );
        }
    }
}

impl Summary {
    fn count(&mut self, image: &Image, verdict: Verdict) {
        *self.images.entry((image.order.cut, image.order.model)).or_default() += 1;
        let (is_refusal, words) = match verdict {
            Verdict::Recovered => {
                self.recovered += 1;
                return;
            }
            Verdict::Refused(words) => (true, words),
            Verdict::Failed(words) => (false, words),
        };
        let words =
            format!("image {}: {:?}\n{words}\nnot synced:\n{}", image.number, image.order, image.pending);
        // Said at once: a long run is not waited for.
        if self.failed.len() + self.refused.len() < FAILURES_SHOWN {
            eprintln!("{words}");
        }
        let list = if is_refusal { &mut self.refused } else { &mut self.failed };
        list.push(words);
    }

    /// No image may be refused, let alone be wrong.
    pub fn assert_sound(&self) {
        let wrong = self.failed.iter().chain(&self.refused).next();
        assert!(wrong.is_none(), "{self}\n{}", wrong.map_or("", String::as_str));
    }
}
