//! A disk that loses power: what has been synced is there; of the rest, any part may be.
//!
//! Three models of what a sync makes durable, from the one that promises least:
//!
//! - **strict**: a file's bytes and length need their own sync; a name that was made, moved or removed needs a sync of
//!   its directory. Whatever was not synced may be there or not, in any combination: writes whole, in pages or in
//!   sectors; names one without the other.
//! - **journal**, as ext4 keeps it: names and truncations are there in their order up to some point, and any sync takes
//!   along all before it. Bytes that were not synced are as in strict; a length may be there without its bytes.
//! - **aged**: strict, but all except the newest few calls have reached the disk meanwhile.
//!
//! Within one sector, of two writes the later never comes without the earlier. Deliberately not here: which calls there
//! were (see `record`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::draw::Draw;
use super::tree::{Content, Ino, PAGE_LEN, Tree};

/// What a disk writes whole.
pub const SECTOR_LEN: u64 = 512;

/// One change of the disk.
#[derive(Clone, Debug)]
pub enum Op {
    Write { ino: Ino, at: u64, bytes: Arc<[u8]> },
    SetLen { ino: Ino, len: u64 },
    Link { dir: Ino, name: String, ino: Ino },
    Unlink { dir: Ino, name: String },
    Rename { from: (Ino, String), to: (Ino, String), ino: Ino },
}

impl Op {
    /// The file whose bytes or length it changes.
    fn file(&self) -> Option<Ino> {
        match self {
            Self::Write { ino, .. } | Self::SetLen { ino, .. } => Some(*ino),
            _ => None,
        }
    }

    /// Whether a journal keeps it in order.
    fn in_journal(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    fn is_covered_by(&self, synced: Ino) -> bool {
        match self {
            Self::Write { ino, .. } | Self::SetLen { ino, .. } => *ino == synced,
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => *dir == synced,
            // Between two directories, the sync of the new one is what counts.
            Self::Rename { to, .. } => to.0 == synced,
        }
    }

    pub fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Write { ino, at, bytes } => tree.file_mut(*ino).write(*at, bytes),
            Self::SetLen { ino, len } => tree.file_mut(*ino).set_len(*len),
            Self::Link { dir, name, ino } => drop(tree.dir_mut(*dir).insert(name.clone(), *ino)),
            Self::Unlink { dir, name } => drop(tree.dir_mut(*dir).remove(name)),
            Self::Rename { from, to, ino } => {
                tree.dir_mut(from.0).remove(&from.1);
                tree.dir_mut(to.0).insert(to.1.clone(), *ino);
            }
        }
    }
}

/// What one call does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Brings files or directories into being, without a name, and changes.
    Change {
        made: Vec<(Ino, bool)>,
        ops: Vec<Op>,
    },
    Sync {
        ino: Ino,
        path: String,
        is_dir: bool,
    },
}

impl Step {
    /// The one file whose bytes or length it is about; `None` if it is about names.
    pub fn file(&self) -> Option<Ino> {
        match self {
            Self::Change { made, ops } => ops.first().filter(|_| made.is_empty())?.file(),
            Self::Sync { ino, is_dir, .. } => (!is_dir).then_some(*ino),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    Strict,
    Journal,
    Aged,
}

pub const MODELS: [Model; 3] = [Model::Strict, Model::Journal, Model::Aged];

/// How it is chosen what reached the disk of all that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Nothing,
    Everything,
    /// All up to some call, which may be torn.
    InOrder,
    /// Each call whole or not at all.
    Calls,
    /// All but one.
    AllButOne,
    /// Each page by itself.
    Pages,
    /// Each sector by itself.
    Sectors,
    /// Everything but the last call, of which each sector by itself.
    LastTorn,
}

pub const MANNERS: [Manner; 8] = [
    Manner::Nothing,
    Manner::Everything,
    Manner::InOrder,
    Manner::Calls,
    Manner::AllButOne,
    Manner::Pages,
    Manner::Sectors,
    Manner::LastTorn,
];

/// What the checker is made to get wrong, to see that it would be noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forget {
    /// Syncs of these files do nothing; of all, if one of the names is empty.
    pub syncs_of: Vec<String>,
    /// Syncs of directories do nothing.
    pub directory_syncs: bool,
}

impl Forget {
    fn sync(&self, path: &str, is_dir: bool) -> bool {
        if is_dir {
            self.directory_syncs
        } else {
            self.syncs_of.iter().any(|end| path.ends_with(end.as_str()))
        }
    }
}

#[derive(Clone)]
struct Pending {
    call: usize,
    op: Op,
    ended: bool,
}

/// See the module.
pub struct Disk {
    journal: bool,
    durable: Tree,
    pending: Vec<Pending>,
    /// Of each sync under way, what it covers.
    syncs: BTreeMap<usize, Vec<usize>>,
    forget: Forget,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Pending { call, op, ended } in &self.pending {
            let under_way = if *ended { "" } else { " (under way)" };
            match op {
                Op::Write { ino, at, bytes } => {
                    writeln!(f, "{call}: write {} bytes at {at} of {ino}{under_way}", bytes.len())?;
                }
                other => writeln!(f, "{call}: {other:?}{under_way}")?,
            }
        }
        Ok(())
    }
}

impl Disk {
    /// A disk on which everything in `tree` is durable.
    pub fn new(tree: Tree, journal: bool, forget: Forget) -> Self {
        Self { journal, durable: tree, pending: Vec::new(), syncs: BTreeMap::new(), forget }
    }

    pub fn began(&mut self, call: usize, step: &Step) {
        match step {
            Step::Change { made, ops } => {
                for (ino, is_dir) in made {
                    self.durable.make(*ino, *is_dir);
                }
                self.pending.extend(ops.iter().map(|op| Pending { call, op: op.clone(), ended: false }));
            }
            Step::Sync { path, is_dir, .. } if self.forget.sync(path, *is_dir) => {}
            Step::Sync { ino, .. } => {
                let covered =
                    |p: &&Pending| p.ended && (p.op.is_covered_by(*ino) || self.journal && p.op.in_journal());
                let covered = self.pending.iter().filter(covered).map(|p| p.call).collect();
                self.syncs.insert(call, covered);
            }
        }
    }

    pub fn ended(&mut self, call: usize, step: &Step) {
        let Step::Sync { ino: synced, .. } = step else {
            self.pending.iter_mut().filter(|p| p.call == call).for_each(|p| p.ended = true);
            return;
        };
        let Some(covered) = self.syncs.remove(&call) else { return };
        let mut rest = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            let here = pending.op.is_covered_by(*synced) || self.journal && pending.op.in_journal();
            if !(here && covered.contains(&pending.call)) {
                rest.push(pending);
                continue;
            }
            if let Op::SetLen { ino, len } = pending.op {
                cut_back(&mut rest, ino, len);
            }
            pending.op.apply(&mut self.durable);
        }
        self.pending = rest;
    }

    /// The tree as it may be after power is lost now.
    pub fn image(&self, model: Model, manner: Manner, draw: &mut Draw) -> Tree {
        let mut tree = self.durable.clone();
        let mut ops: Vec<&Op> = self.pending.iter().map(|p| &p.op).collect();
        if model == Model::Aged {
            let newest = 1 << draw.below(6);
            let at = ops.len().saturating_sub(newest);
            ops.drain(..at).for_each(|op| op.apply(&mut tree));
        }
        Loss { ops, manner, journal: model == Model::Journal }.inflict(&mut tree, draw);
        tree
    }
}

/// A truncation overtakes writes that were not synced: they cannot bring back what it cut off.
fn cut_back(pending: &mut Vec<Pending>, file: Ino, len: u64) {
    pending.retain_mut(|p| match &mut p.op {
        Op::Write { ino, at, bytes } if *ino == file => {
            let keep = len.saturating_sub(*at).min(bytes.len() as u64) as usize;
            *bytes = bytes[..keep].into();
            keep > 0
        }
        _ => true,
    });
}

/// What is lost of some operations.
struct Loss<'a> {
    ops: Vec<&'a Op>,
    manner: Manner,
    journal: bool,
}

impl Loss<'_> {
    fn inflict(&self, tree: &mut Tree, draw: &mut Draw) {
        let reached = self.reached(draw);
        let mut files: BTreeMap<Ino, Vec<(usize, &Op)>> = BTreeMap::new();
        for (number, op) in self.ops.iter().enumerate() {
            match op.file() {
                Some(ino) => files.entry(ino).or_default().push((number, op)),
                None if reached[number] => op.apply(tree),
                None => {}
            }
        }
        for (ino, ops) in files {
            self.write_file(tree.file_mut(ino), &ops, &reached, draw);
        }
    }

    /// Of each operation, whether it reached the disk; where bytes are chosen one by one, only names heed it.
    fn reached(&self, draw: &mut Draw) -> Vec<bool> {
        let count = self.ops.len();
        let bound = draw.below(count + 1);
        let mut reached: Vec<bool> = (0..count)
            .map(|number| match self.manner {
                Manner::Nothing => false,
                Manner::Everything | Manner::LastTorn => true,
                Manner::InOrder => number < bound,
                Manner::AllButOne => number != bound,
                Manner::Calls | Manner::Pages | Manner::Sectors => draw.below(2) == 0,
            })
            .collect();
        if self.journal {
            // In order up to a point: the first that is missing, or one drawn.
            let lost = (0..count).find(|number| self.ops[*number].in_journal() && !reached[*number]);
            let mut end = lost.unwrap_or(count);
            if matches!(self.manner, Manner::Calls | Manner::Pages | Manner::Sectors) {
                end = bound;
            }
            for number in (0..count).filter(|number| self.ops[*number].in_journal()) {
                reached[number] = number < end;
            }
        }
        reached
    }

    fn write_file(&self, file: &mut Content, ops: &[(usize, &Op)], reached: &[bool], draw: &mut Draw) {
        // Behind a truncation that the journal has lost, nothing of this file is there.
        let lost = |(number, op): &(usize, &Op)| self.journal && op.in_journal() && !reached[*number];
        let ops = &ops[..ops.iter().position(lost).unwrap_or(ops.len())];
        let by_block = match self.manner {
            Manner::Pages => Some((PAGE_LEN, 0)),
            Manner::Sectors => Some((SECTOR_LEN, 0)),
            Manner::LastTorn => Some((SECTOR_LEN, ops.len().saturating_sub(1))),
            _ => None,
        };
        match by_block {
            Some((block_len, certain)) => {
                ops[..certain].iter().for_each(|(_, op)| apply_to(file, op));
                self.write_blocks(file, &ops[certain..], block_len, draw);
            }
            None => self.write_calls(file, ops, reached, draw),
        }
    }

    /// Each call whole or not; with one that is, the earlier bytes of the sectors that it shares.
    fn write_calls(&self, file: &mut Content, ops: &[(usize, &Op)], reached: &[bool], draw: &mut Draw) {
        for (at, (number, op)) in ops.iter().enumerate() {
            if reached[*number] {
                apply_to(file, op);
                continue;
            }
            let Op::Write { at: from, bytes, .. } = op else { continue };
            let later: BTreeSet<u64> = ops[at + 1..]
                .iter()
                .filter(|(number, _)| reached[*number])
                .flat_map(|(_, later)| edges(later, SECTOR_LEN))
                .collect();
            let to = from + bytes.len() as u64;
            for sector in later.range(from / SECTOR_LEN..to.div_ceil(SECTOR_LEN)) {
                put_part(file, op, sector * SECTOR_LEN, (sector + 1) * SECTOR_LEN);
            }
        }
        // The first call that did not reach the disk whole may have begun to.
        if let (Manner::InOrder, Some((_, Op::Write { at, bytes, .. }))) =
            (self.manner, ops.iter().find(|(number, _)| !reached[*number]))
        {
            let sectors = (bytes.len() as u64).div_ceil(SECTOR_LEN);
            let to = (at / SECTOR_LEN + draw.below(sectors as usize + 1) as u64) * SECTOR_LEN;
            let part = to.saturating_sub(*at).min(bytes.len() as u64) as usize;
            file.write(*at, &bytes[..part]);
        }
        // Bytes that came along with a neighbour's, but lie behind the end.
        file.set_len(file.len());
    }

    /// Each block as some call left it, the length as some call left it.
    fn write_blocks(&self, file: &mut Content, ops: &[(usize, &Op)], block_len: u64, draw: &mut Draw) {
        let mut touched: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut lens = vec![file.len()];
        let mut end = file.len();
        for (number, (_, op)) in ops.iter().enumerate() {
            let (from, to, len) = match op {
                Op::Write { at, bytes, .. } => {
                    (*at, at + bytes.len() as u64, end.max(at + bytes.len() as u64))
                }
                Op::SetLen { len, .. } => (*len, end.max(*len), *len),
                _ => unreachable!("names are apart"),
            };
            end = len;
            lens.push(len);
            for block in from / block_len..to.div_ceil(block_len) {
                touched.entry(block).or_default().push(number);
            }
        }
        // What a journal has kept of truncations is certain.
        let floor = if self.journal { ops.iter().rposition(|(_, op)| op.in_journal()) } else { None };
        for (block, by) in touched {
            let certain = floor.map_or(0, |floor| by.iter().filter(|number| **number <= floor).count());
            let count = certain + draw.below(by.len() - certain + 1);
            for number in &by[..count] {
                put_part(file, ops[*number].1, block * block_len, (block + 1) * block_len);
            }
        }
        let from = floor.map_or(0, |floor| floor + 1);
        file.set_len(lens[from + draw.below(lens.len() - from)]);
    }
}

/// The blocks that an operation shares with others.
fn edges(op: &Op, block_len: u64) -> Vec<u64> {
    match op {
        Op::Write { at, bytes, .. } => {
            (at / block_len..(at + bytes.len() as u64).div_ceil(block_len)).collect()
        }
        _ => Vec::new(),
    }
}

fn apply_to(file: &mut Content, op: &Op) {
    match op {
        Op::Write { at, bytes, .. } => file.write(*at, bytes),
        Op::SetLen { len, .. } => file.set_len(*len),
        _ => unreachable!("names are apart"),
    }
}

/// Carries out the part of an operation that lies in a range, the file's length aside.
fn put_part(file: &mut Content, op: &Op, from: u64, to: u64) {
    match op {
        Op::Write { at, bytes, .. } => {
            let (start, end) = (from.max(*at), to.min(at + bytes.len() as u64));
            if start < end {
                file.put(start, &bytes[(start - at) as usize..(end - at) as usize]);
            }
        }
        Op::SetLen { len, .. } => file.zero(from.max(*len), to),
        _ => unreachable!("names are apart"),
    }
}
