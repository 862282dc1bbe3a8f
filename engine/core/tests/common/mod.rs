//! A whole node without threads, sockets or files: a desk, a replica, and a disk that syncs when the test says so.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

#[path = "../bank/mod.rs"]
mod bank;

use std::sync::Arc;

use bytes::Bytes;
use sluice_core::board::Board;
use sluice_core::desk::{Caller, Desk, DeskLimits, Reply};
use sluice_core::flight::Answers;
use sluice_core::gate::Gate;
use sluice_core::ledger::settings::Settings;
use sluice_core::ledger::{Image, Ledger};
use sluice_core::replica::disk::{Append, HardState, LogEntry, Members, SnapshotMeta};
use sluice_core::replica::membership::ChangeError;
use sluice_core::replica::peer::{Chunk, Envelope, Identity, ImageId};
use sluice_core::replica::{
    Actions, ChunkRead, Divergence, Recovered, Replica, ReplicaConfig, RoundNews, StopReason,
};
use sluice_core::session::Ask;
use sluice_core::time::Moment;
use sluice_protocol::ids::ClusterId;
use sluice_protocol::request::{IdItem, ProductItem, PutProductItem, ReserveItem, StockItem, Terms};
use sluice_protocol::response::ProductReply;
use sluice_protocol::{Answer, Kind, NodeId, ProductId, ReservationId, UserId};

pub const START_MS: u64 = 1_700_000_000_000;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
    pub snapshot: Option<(SnapshotMeta, Vec<Vec<u8>>)>,
    /// From a peer, in the same form; and the index that the log was last reset to.
    pub received: Option<(SnapshotMeta, Vec<Vec<u8>>)>,
    pub log_base: u64,
    pub boots: u64,
}

impl Disk {
    fn write(&mut self, step: &Append) {
        if let Some(hard_state) = step.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((index, _)) = step.reset {
            self.entries.clear();
            self.log_base = index;
            self.snapshot = self.received.take();
        }
        if let Some(first) = step.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(step.entries.iter().cloned());
        }
        self.entries.retain(|entry| entry.index > step.compact_to);
    }
}

pub struct TestNode {
    pub board: Arc<Board>,
    pub identity: Identity,
    pub replica: Replica,
    pub desk: Desk,
    pub disk: Disk,
    /// Durable steps that were ordered and are not synced.
    pub ordered: Vec<(u64, Append)>,
    pub replies: Vec<Reply>,
    pub now: Moment,
    pub proposed: Vec<(usize, usize)>,
    /// Whether saving a snapshot fails, and how many were asked for.
    pub snapshots_fail: bool,
    pub snapshots: usize,
    /// For peers, and what is wanted of or told to this node besides.
    pub messages: Vec<Envelope>,
    pub changed: Vec<(u64, Result<u64, ChangeError>)>,
    /// Digests that were taken, before they were spoiled; what they are spoiled by; whether they take long, and the image
    /// meanwhile; what was found.
    pub digests: Vec<(u64, u64)>,
    pub digest_spoils: u64,
    pub digests_wait: bool,
    digest: Option<(u64, Image)>,
    pub divergences: Vec<Divergence>,
    /// What was told of read rounds, where it was anything.
    pub rounds: Vec<RoundNews>,
    pub stop: Option<StopReason>,
    /// A snapshot file that is coming in; whether it takes long to load, and its last part meanwhile.
    partial: Option<(ImageId, Vec<u8>)>,
    pub loads_slowly: bool,
    loading: Option<Chunk>,
    correlation: u64,
}

pub const LIMITS: DeskLimits = DeskLimits {
    flights_max: 64,
    requests_max: 50_000,
    parked_max: 1000,
    budget_default_ms: 1000,
    budget_max_ms: 10_000,
};

impl TestNode {
    /// A node on an empty disk, its gate open.
    pub fn new() -> Self {
        let mut node = Self::recover(Disk::default(), START_MS);
        node.settle();
        assert!(node.gate().is_some(), "a voter alone opens its gate by itself");
        node
    }

    /// A node on a disk that another one left. Nothing has been synced yet.
    pub fn recover(disk: Disk, wall_ms: u64) -> Self {
        Self::recover_with(disk, wall_ms, u64::MAX)
    }

    /// The same, with a snapshot due whenever the log has grown by so much.
    pub fn recover_with(disk: Disk, wall_ms: u64, snapshot_every_bytes: u64) -> Self {
        let members = Members { voters: vec![1], ..Members::default() };
        Self::member(1, 1, disk, members, Moment { mono_ms: 1, wall_ms }, snapshot_every_bytes)
    }

    /// A member of a cluster that began with these members, on a disk that an earlier process of it left.
    pub fn member(
        node: u64,
        incarnation: u64,
        mut disk: Disk,
        members: Members,
        now: Moment,
        snapshot_every_bytes: u64,
    ) -> Self {
        bank::arm();
        disk.boots += 1;
        let board = Arc::new(Board::new(NodeId(node), 1, 7));
        let (snapshot, ledger) = match &disk.snapshot {
            Some((meta, sections)) => (meta.clone(), load(sections)),
            None => (SnapshotMeta { index: 0, term: 0, members }, Ledger::new(Settings::default(), 3)),
        };
        let older_snapshot = disk.entries.first().map_or(snapshot.index, |first| first.index - 1);
        let recovered = Recovered {
            snapshot,
            older_snapshot,
            ledger,
            hard_state: disk.hard_state,
            entries: disk.entries.clone(),
            log_base: disk.log_base,
        };
        let nonce = node << 32 | incarnation << 16 | disk.boots;
        let identity = Identity { cluster: ClusterId(5), node, incarnation, boot: disk.boots, nonce };
        let config = ReplicaConfig { identity, seed: 1, stripes: 2, snapshot_every_bytes };
        let replica = Replica::new(config, recovered, Arc::clone(&board)).expect("snapshot and log fit");
        let desk = Desk::new(0, Arc::clone(&board), LIMITS);
        Self {
            board,
            identity,
            replica,
            desk,
            disk,
            ordered: Vec::new(),
            replies: Vec::new(),
            now,
            proposed: Vec::new(),
            snapshots_fail: false,
            snapshots: 0,
            messages: Vec::new(),
            changed: Vec::new(),
            digests: Vec::new(),
            digest_spoils: 0,
            digests_wait: false,
            digest: None,
            divergences: Vec::new(),
            rounds: Vec::new(),
            stop: None,
            partial: None,
            loads_slowly: false,
            loading: None,
            correlation: 0,
        }
    }

    /// The same node after a crash: what was not synced is gone.
    pub fn crash(self) -> Self {
        let mut node = Self::recover(self.disk, self.now.wall_ms);
        node.settle();
        node
    }

    /// Carries everything as far as it goes without the disk.
    pub fn drive(&mut self) {
        loop {
            for flight in self.desk.departures() {
                self.replica.submit(flight);
            }
            let mut actions = Actions::default();
            self.replica.drive(self.now, &mut actions);
            self.ordered.append(&mut actions.appends);
            self.proposed.append(&mut actions.proposed);
            let moved = actions.applied > 0 || !actions.settled.is_empty();
            for flight in actions.settled {
                self.desk.settle(flight);
            }
            self.desk.reconsider(self.now);
            self.replies.extend(self.desk.replies());
            self.snapshots += usize::from(actions.snapshot.is_some());
            if self.snapshots_fail && actions.snapshot.is_some() {
                self.replica.snapshot_failed();
            } else if let Some((meta, image)) = actions.snapshot {
                self.disk.snapshot = Some((meta, image.sections().collect()));
                self.replica.snapshot_saved();
            }
            self.messages.append(&mut actions.messages);
            self.changed.append(&mut actions.changed);
            self.divergences.extend(actions.divergence);
            let digest = actions.digest.is_some();
            if digest {
                self.digest = actions.digest;
            }
            if digest && !self.digests_wait {
                self.finish_digest();
            }
            self.rounds.extend(Some(actions.rounds).filter(|news| *news != RoundNews::default()));
            self.stop = actions.stop;
            let copies = !actions.chunk_reads.is_empty() || !actions.chunk_writes.is_empty();
            actions.chunk_reads.into_iter().for_each(|wanted| self.read_chunk(wanted));
            actions.chunk_writes.into_iter().for_each(|chunk| self.write_chunk(chunk));
            if !moved && !copies && !digest {
                return;
            }
        }
    }

    /// The digest that is under way is done.
    pub fn finish_digest(&mut self) {
        self.digests_wait = false;
        let (index, image) = self.digest.take().expect("one is under way");
        let digest = image.digest();
        self.digests.push((index, digest));
        self.replica.digest_taken(index, digest ^ self.digest_spoils);
    }

    fn read_chunk(&mut self, wanted: ChunkRead) {
        let found = self.disk.snapshot.as_ref().filter(|(meta, _)| meta.index == wanted.index);
        let read = found.map(|(meta, sections)| {
            let file = file(sections);
            let image = ImageId {
                index: meta.index,
                term: meta.term,
                len: file.len() as u64,
                digest: crc32fast::hash(&file),
            };
            let from = wanted.offset as usize;
            // Small parts, so that a snapshot has several.
            let to = file.len().min(from + 512);
            (image, meta.clone(), Bytes::copy_from_slice(&file[from..to]))
        });
        self.replica.chunk_read(wanted, read);
    }

    fn write_chunk(&mut self, chunk: Chunk) {
        let image = chunk.image;
        if self.partial.as_ref().is_none_or(|(known, _)| *known != image) {
            self.partial = Some((image, Vec::new()));
        }
        let (_, bytes) = self.partial.as_mut().expect("it was just made");
        if bytes.len() as u64 == chunk.offset {
            bytes.extend_from_slice(&chunk.bytes);
        }
        let have = bytes.len() as u64;
        if have < image.len {
            return self.replica.chunk_stored(image, have);
        }
        if self.loads_slowly {
            self.loading = Some(chunk);
            return;
        }
        assert_eq!(crc32fast::hash(bytes), image.digest);
        let sections = sections(bytes);
        let ledger = load(&sections);
        self.disk.received = Some((chunk.meta.clone(), sections));
        self.replica.image_received(image, chunk.meta, ledger);
    }

    /// The snapshot that has come is loaded at last.
    pub fn finish_loading(&mut self) {
        self.loads_slowly = false;
        let last = self.loading.take().expect("one has come");
        self.write_chunk(last);
    }

    /// The disk finishes all it was given. Whether there was anything.
    pub fn sync(&mut self) -> bool {
        let ordered = std::mem::take(&mut self.ordered);
        for (_, step) in &ordered {
            self.disk.write(step);
        }
        let last = ordered.last().map(|(number, _)| *number);
        if let Some(number) = last {
            self.replica.persisted(number);
        }
        last.is_some()
    }

    /// The disk finishes the first `steps` of what it was given, but the replica does not hear of it before a later
    /// sync: a crash may come first.
    pub fn sync_silently(&mut self, steps: usize) {
        for (_, step) in self.ordered.iter().take(steps) {
            self.disk.write(step);
        }
    }

    /// The disk finishes the first `steps` of what it was given.
    pub fn sync_some(&mut self, steps: usize) {
        let rest = self.ordered.split_off(steps.min(self.ordered.len()));
        self.sync();
        self.ordered = rest;
    }

    /// Drives and syncs until nothing moves.
    pub fn settle(&mut self) {
        self.drive();
        while self.sync() {
            self.drive();
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
    }

    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.board.gate()
    }

    /// Sends a frame without driving.
    pub fn send(&mut self, kind: Kind, ask: Ask<'_>) -> u64 {
        self.correlation += 1;
        let caller = Caller { connection: 1, correlation: self.correlation, kind, arrived_us: 0 };
        self.desk.submit(caller, ask, 0, self.now);
        self.replies.extend(self.desk.replies());
        self.correlation
    }

    /// The reply to a frame, if it has come.
    pub fn reply(&mut self, correlation: u64) -> Option<Answers> {
        let at = self.replies.iter().position(|reply| reply.caller.correlation == correlation)?;
        Some(self.replies.remove(at).answers)
    }

    pub fn plain(&mut self, correlation: u64) -> Vec<Answer> {
        match self.reply(correlation) {
            Some(Answers::Plain(answers)) => answers,
            other => panic!("expected plain answers, not {other:?}"),
        }
    }

    /// Sends a frame and lets it be answered.
    fn ask(&mut self, kind: Kind, ask: Ask<'_>) -> Vec<Answer> {
        let correlation = self.send(kind, ask);
        self.settle();
        self.plain(correlation)
    }

    pub fn put(&mut self, product: u64, stock: u64, terms: Terms) -> Answer {
        self.ask(Kind::PutProduct, Ask::Put(&[PutProductItem::new(ProductId(product), Some(stock), terms)]))
            [0]
    }

    pub fn reserve(&mut self, id: u128, product: u64, user: u64, quantity: u32) -> Answer {
        self.reserve_all(&[item(id, product, user, quantity)])[0]
    }

    pub fn retry(&mut self, id: u128, product: u64, user: u64, quantity: u32) -> Answer {
        let mut item = item(id, product, user, quantity);
        item.attempt = 1;
        self.reserve_all(&[item])[0]
    }

    pub fn reserve_all(&mut self, items: &[ReserveItem]) -> Vec<Answer> {
        self.ask(Kind::Reserve, Ask::Reserve(items))
    }

    pub fn confirm(&mut self, id: u128) -> Answer {
        self.ask(Kind::Confirm, Ask::Confirm(&[IdItem::new(ReservationId(id))]))[0]
    }

    pub fn cancel(&mut self, id: u128) -> Answer {
        self.ask(Kind::Cancel, Ask::Cancel(&[IdItem::new(ReservationId(id))]))[0]
    }

    pub fn resolve(&mut self, id: u128) -> Answer {
        self.ask(Kind::Resolve, Ask::Resolve(&[IdItem::new(ReservationId(id))]))[0]
    }

    pub fn restock(&mut self, id: u128, product: u64, quantity: u32) -> Answer {
        let item = StockItem::new(ReservationId(id), ProductId(product), quantity);
        self.ask(Kind::Restock, Ask::Restock(&[item]))[0]
    }

    pub fn write_off(&mut self, id: u128, product: u64, quantity: u32) -> Answer {
        let item = StockItem::new(ReservationId(id), ProductId(product), quantity);
        self.ask(Kind::WriteOff, Ask::WriteOff(&[item]))[0]
    }

    pub fn seal(&mut self, product: u64) -> Answer {
        self.ask(Kind::Seal, Ask::Seal(&[ProductItem::new(ProductId(product))]))[0]
    }

    pub fn product(&mut self, product: u64) -> ProductReply {
        let correlation =
            self.send(Kind::QueryProduct, Ask::Products(&[ProductItem::new(ProductId(product))]));
        self.settle();
        match self.reply(correlation) {
            Some(Answers::Products(replies)) => replies[0],
            other => panic!("expected a product, not {other:?}"),
        }
    }

    /// What the gate has for a product.
    pub fn tokens(&self, product: u64) -> u64 {
        self.gate().expect("open").lane(ProductId(product)).expect("known").tokens.free()
    }

    pub fn free(&self, product: u64) -> u64 {
        self.replica.ledger().product(ProductId(product)).expect("known").free
    }

    /// The log's last index.
    pub fn last_index(&self) -> u64 {
        self.replica.status().last_index
    }
}

pub fn item(id: u128, product: u64, user: u64, quantity: u32) -> ReserveItem {
    ReserveItem::new(ReservationId(id), ProductId(product), UserId(user), quantity)
}

pub const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 60_000, unlimited: false };

fn load(sections: &[Vec<u8>]) -> Ledger {
    Ledger::from_sections(sections.iter().map(Vec::as_slice), 0, 99).expect("the image is whole")
}

/// A snapshot's sections as one file, and back.
fn file(sections: &[Vec<u8>]) -> Vec<u8> {
    sections.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes()[..], part].concat()).collect()
}

fn sections(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut sections = Vec::new();
    while let Some((len, rest)) = file.split_first_chunk::<4>() {
        let (section, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        sections.push(section.to_vec());
        file = rest;
    }
    sections
}
