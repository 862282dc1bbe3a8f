//! Processes: how they start, take their turns, write, stop and die.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sluice_core::replica::peer::{Identity, Refusal};
use sluice_core::replica::{Actions, StopReason, TICK_MS};

use super::event::{Event, Input};
use super::host::Down;
use super::process::{Birth, Process};
use super::{CLUSTER, World};
use crate::coverage::Path;
use crate::disk::SnapshotFile;
use sluice_judges::checkers::Kept;

/// Ticks between two looks at the disk's room.
const SURVEY_TICKS: u64 = 500 / TICK_MS;
/// How long what is in flight may take to finish when a process is stopped.
const STOP_US_MAX: u64 = 10_000_000;
/// How long a digest may take: longer than it is to the next point.
const DIGEST_US_MAX: u64 = 150_000_000;
/// How often desks look at deadlines, and at what is in doubt.
const EXPIRE_US: u64 = 50_000;
const RECONSIDER_US: u64 = 2000;
/// How late a reply may be after its frame's deadline.
const LATE_MS_MAX: u64 = 1000;

impl World {
    /// Starts a host's process, if it may be started.
    pub(super) fn start(&mut self, number: usize) {
        let now_us = self.now_us();
        let plan_random = self.plan.random("life", number as u64);
        let host = &mut self.hosts[number];
        if host.process.is_some() || host.holds > 0 || !host.is_fit() {
            return;
        }
        host.life += 1;
        let mut random = plan_random.fork("process", host.life);
        let seed = random.word();
        let found = match host.disk.open(seed) {
            Ok(found) => found,
            Err(refusal) => return self.refused_disk(number, refusal),
        };
        if !self.plan.honest {
            host.copies.push(host.disk.clone());
            if host.copies.len() > 3 {
                host.copies.remove(0);
            }
        }
        host.clock.start(now_us);
        let recovered = found.recovered;
        let upto = recovered.ledger.sequence();
        if recovered.snapshot.index < host.disk.newest_snapshot() {
            self.coverage.hit(Path::OlderSnapshot);
        }
        let snapshot = (recovered.snapshot.index, recovered.snapshot.term);
        let kept = Kept { hard_state: recovered.hard_state, snapshot, log: &recovered.entries };
        self.judges.lost(host.alias, &kept);
        let identity = Identity {
            cluster: CLUSTER,
            node: host.node,
            incarnation: host.disk.incarnation,
            boot: found.boot,
            nonce: random.word(),
        };
        let birth = Birth {
            identity,
            seed,
            stripes: self.plan.stripes,
            snapshot_every_bytes: self.plan.snapshot_every_bytes,
            now_us,
        };
        let harmed = host.disk.is_harmed;
        match catch_unwind(AssertUnwindSafe(|| Process::start(&birth, recovered))) {
            Ok(Ok(process)) => self.started(number, process, identity.boot, upto),
            Ok(Err(error)) => self.unfit(number, harmed, &format!("refuses what was recovered: {error}")),
            Err(_) => {
                self.unfit(number, harmed, &format!("panicked at its start: {}", crate::panics::last()));
            }
        }
    }

    fn started(&mut self, number: usize, process: Process, boot: u64, upto: u64) {
        let host = &mut self.hosts[number];
        let (node, alias, now_us) = (host.node, host.alias, self.schedule.now_us());
        let index = process.replica.ledger().index();
        self.trace.event(now_us, 6, number as u64);
        self.trace.say(now_us, || format!("node {node} starts for the {boot}. time from index {index}"));
        self.judges.started(alias);
        let judged = self.judges.installed(alias, index, process.replica.ledger());
        host.process = Some(process);
        self.heed(judged);
        self.events_opened(number, upto);
        let delay_us = self.hosts[number].random.below(TICK_MS * 1000);
        self.order(number, delay_us, Input::Tick);
        self.turn_soon(number);
    }

    fn refused_disk(&mut self, number: usize, refusal: crate::disk::Refusal) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        let (node, harmed) = (host.node, host.disk.is_harmed);
        host.down = Down::Refused(refusal);
        self.judges.stopped(host.alias);
        self.coverage.hit(Path::DiskRefused);
        self.trace.say(now_us, || format!("node {node} does not start: {refusal}"));
        if !harmed {
            self.fail("disk", format!("node {node}: a disk that nobody harmed is refused: {refusal}"));
        }
    }

    fn unfit(&mut self, number: usize, harmed: bool, what: &str) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        let node = host.node;
        host.down = Down::Unfit;
        self.trace.say(now_us, || format!("node {node} {what}"));
        if !harmed && self.plan.honest {
            self.fail("start", format!("node {node} {what}"));
        }
    }

    /// Has a process do something. A panic of the core is the end of it, and of an honest run.
    pub(super) fn guard<T>(&mut self, number: usize, what: impl FnOnce(&mut Process) -> T) -> Option<T> {
        let process = self.hosts[number].process.as_mut()?;
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| what(process))) {
            return Some(done);
        }
        let (node, message) = (self.hosts[number].node, crate::panics::last());
        if self.plan.honest {
            self.fail("panic", format!("node {node}: {message}"));
        }
        self.kill(number);
        self.hosts[number].down = Down::Unfit;
        None
    }

    /// Something for a process.
    pub(super) fn input(&mut self, number: usize, input: Input) {
        let now_us = self.now_us();
        match input {
            Input::Tick => self.tick(number, 1),
            Input::Turn => {
                if let Some(process) = &mut self.hosts[number].process
                    && process.turn_at_us == Some(now_us)
                {
                    process.turn_at_us = None;
                    self.turn(number);
                }
            }
            Input::Look => self.look(number),
            Input::Written => self.written(number),
            Input::EventsWritten => self.events_written(number),
            Input::ColdRead(desk, read) => self.cold_read(number, desk, read),
            Input::Saved => self.saved(number),
            Input::ChunkRead(wanted) => {
                let read = self.hosts[number].disk.read_chunk(wanted.index, wanted.offset);
                self.coverage.hit(if read.is_some() { Path::ChunkSent } else { Path::ChunkGone });
                self.guard(number, |process| process.replica.chunk_read(wanted, read));
                self.turn(number);
            }
            Input::ChunkWritten(chunk) => {
                let have = self.hosts[number].disk.write_chunk(&chunk);
                if have == chunk.image.len {
                    let delay_us = self.hosts[number].random.spread(500, 50_000);
                    self.order(number, delay_us, Input::ImageSynced(chunk.image));
                } else {
                    self.guard(number, |process| process.replica.chunk_stored(chunk.image, have));
                    self.turn(number);
                }
            }
            Input::ImageSynced(image) => {
                let loaded =
                    self.hosts[number].disk.receive(image).and_then(|file| file.load(self.plan.seed));
                self.guard(number, |process| match loaded {
                    Some((meta, ledger)) => process.replica.image_received(image, meta, ledger),
                    None => process.replica.chunk_stored(image, 0),
                });
                self.turn(number);
            }
            Input::Digest(image) => {
                let index = image.index();
                self.guard(number, |process| process.replica.digest_taken(index, image.digest()));
                self.turn_soon(number);
            }
            Input::Unreachable(node) => {
                self.guard(number, |process| process.replica.unreachable(node));
                self.turn_soon(number);
            }
        }
    }

    /// The node's clock has made so many steps, which count at once.
    pub(super) fn tick(&mut self, number: usize, ticks: u64) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        host.clock.steer(now_us);
        let (admitting, mono_ms) = (!host.temper.is_full, host.clock.now(now_us).mono_ms);
        let node = host.node;
        let Some(process) = &mut host.process else { return };
        let delay_us = host.clock.true_us(process.replica.tick_ms() * 1000);
        process.ticks += ticks;
        if process.ticks.is_multiple_of(SURVEY_TICKS) {
            process.board.set_admitting(admitting);
        }
        let patient = now_us > process.resumed_us + 2 * LATE_MS_MAX * 1000;
        let late = process.open.iter().find(|(_, deadline)| **deadline + LATE_MS_MAX < mono_ms);
        if let Some((correlation, deadline)) = late.filter(|_| patient) {
            let late_ms = mono_ms - deadline;
            let what =
                format!("node {node} has not answered #{correlation}, {late_ms} ms after its deadline");
            return self.fail("liveness", what);
        }
        self.guard(number, |process| (0..ticks).for_each(|_| process.replica.tick()));
        if ticks == 1 {
            self.order(number, delay_us, Input::Tick);
        }
        self.turn(number);
    }

    /// Has a process work off what has come in, soon: what comes until then goes with it.
    pub(super) fn turn_soon(&mut self, number: usize) {
        let delay_us = 1 + self.hosts[number].random.below(60);
        self.turn_after(number, delay_us);
    }

    fn turn_after(&mut self, number: usize, delay_us: u64) {
        let at_us = self.now_us() + delay_us;
        let Some(process) = &mut self.hosts[number].process else { return };
        if process.turn_at_us.is_none_or(|ordered| ordered > at_us) {
            process.turn_at_us = Some(at_us);
            self.order(number, delay_us, Input::Turn);
        }
    }

    fn look(&mut self, number: usize) {
        let now_us = self.now_us();
        let now = self.hosts[number].clock.now(now_us);
        let due =
            self.hosts[number].process.as_ref().is_some_and(|process| process.look_at_us == Some(now_us));
        if due {
            self.guard(number, |process| {
                process.look_at_us = None;
                process.desks.iter_mut().for_each(|desk| desk.expire(now));
            });
            self.turn(number);
        }
    }

    /// A process works off what has come in, and everything that comes of it is carried out.
    pub(super) fn turn(&mut self, number: usize) {
        let now_us = self.now_us();
        let now = self.hosts[number].clock.now(now_us);
        if self.guard(number, |process| process.turn(now)).is_none() {
            return;
        }
        self.watch(number);
        self.carry_out_stream(number);
        let Some(process) = &mut self.hosts[number].process else { return };
        let actions = std::mem::take(&mut process.actions);
        let replies = process.replies();
        let Actions {
            snapshot, messages, chunk_reads, chunk_writes, changed, digest, divergence, stop, ..
        } = actions;
        for envelope in &messages {
            self.send(number, envelope);
        }
        self.send_replies(number, replies);
        if let Some((meta, image)) = snapshot {
            let file = SnapshotFile::new(meta, image.sections());
            let host = &mut self.hosts[number];
            let delay_us = host.random.spread(1000, 200_000) * host.temper.slow.clamp(1, 20);
            if let Some(process) = &mut host.process {
                process.saving = Some(file);
            }
            self.order(number, delay_us, Input::Saved);
        }
        for wanted in chunk_reads {
            let delay_us = self.hosts[number].random.spread(50, 5000);
            self.order(number, delay_us, Input::ChunkRead(wanted));
        }
        for chunk in chunk_writes {
            let delay_us = self.hosts[number].random.spread(50, 5000);
            self.order(number, delay_us, Input::ChunkWritten(Box::new(chunk)));
        }
        if let Some((_, image)) = digest {
            let is_slow = self.hosts[number].random.chance(1, 4);
            let delay_us = self.hosts[number].random.spread(1, if is_slow { DIGEST_US_MAX } else { 1000 });
            self.order(number, delay_us, Input::Digest(Box::new(image)));
        }
        if let Some(found) = divergence {
            self.diverged(number, &found);
        }
        for (ticket, what) in changed {
            self.changed(ticket, what);
        }
        if let Some(reason) = stop {
            return self.ended(number, reason);
        }
        self.write_next(number);
        self.order_looks(number);
        self.stop_if_done(number);
    }

    /// Orders what a process does although nothing comes in.
    fn order_looks(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &self.hosts[number];
        let Some(process) = &host.process else { return };
        let due_us = process.replica.due_in_ms(host.clock.now(now_us)) * 1000;
        let look_us = match (process.is_in_doubt(), process.is_idle()) {
            (true, _) => Some(RECONSIDER_US),
            (_, false) => Some(EXPIRE_US),
            _ => None,
        };
        if due_us < process.replica.tick_ms() * 1000 {
            self.turn_after(number, due_us.max(1000));
        }
        let Some(look_us) = look_us else { return };
        let Some(process) = &mut self.hosts[number].process else { return };
        if process.look_at_us.is_none_or(|at_us| at_us > now_us + look_us) {
            process.look_at_us = Some(now_us + look_us);
            self.order(number, look_us, Input::Look);
        }
    }

    /// Gives the disk the next step, if it has none in hand.
    fn write_next(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        let Some(process) = host.process.as_mut().filter(|process| process.writing.is_none()) else { return };
        let Some((step_number, step, merged)) = process.next_write() else { return };
        if merged > 1 {
            self.coverage.hit(Path::Merged);
        }
        host.disk.write(&step);
        let bytes = step.entries.iter().map(|entry| entry.data.len()).sum();
        process.writing = Some((step_number, step));
        let delay_us = host.write_us(now_us, bytes);
        self.order(number, delay_us, Input::Written);
    }

    /// The disk has synced a step, or could not.
    fn written(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        if now_us < host.temper.stalled_until_us {
            let delay_us = host.temper.stalled_until_us - now_us;
            return self.order(number, delay_us, Input::Written);
        }
        let Some(process) = &mut host.process else { return };
        let Some((step_number, step)) = process.writing.take() else { return };
        if std::mem::take(&mut host.temper.fails) {
            self.guard(number, |process| process.replica.disk_failed());
            return self.turn(number);
        }
        host.disk.sync(&step, now_us);
        process.board.set_admitting(!host.temper.is_full);
        let judged = self.judges.durable(host.alias, &step);
        self.heed(judged);
        self.guard(number, |process| process.replica.persisted(step_number));
        self.turn(number);
    }

    fn saved(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(process) = &mut host.process else { return };
        let Some(file) = process.saving.take() else { return };
        let fails = host.temper.no_snapshots;
        if !fails {
            self.sync_events(number);
            self.hosts[number].disk.save(file);
            self.coverage.hit(Path::SnapshotSaved);
        }
        self.guard(number, |process| match fails {
            true => process.replica.snapshot_failed(),
            false => process.replica.snapshot_saved(),
        });
        self.turn(number);
    }

    /// A process ends itself.
    fn ended(&mut self, number: usize, reason: StopReason) {
        let now_us = self.now_us();
        self.kill(number);
        let host = &mut self.hosts[number];
        let (node, forgetful) = (host.node, host.is_forgetful || host.disk.is_harmed);
        host.down = Down::Ended(reason);
        self.trace.say(now_us, || format!("node {node} ends itself: {reason}"));
        let is_gone = self.members.1.removed.contains(&node) || !self.members.1.contains(node);
        let (path, provoked) = match reason {
            StopReason::Refused { refusal, .. } => match refusal {
                Refusal::OtherCluster => (Path::RefusedOtherCluster, false),
                Refusal::Removed => (Path::EndedRemoved, is_gone),
                Refusal::OtherIncarnation => (Path::RefusedIncarnation, forgetful),
                Refusal::Superseded => (Path::RefusedSuperseded, forgetful),
                Refusal::LostState => (Path::RefusedLostState, forgetful),
            },
            StopReason::LostLog => (Path::RefusedLostState, forgetful),
            StopReason::Removed => (Path::EndedRemoved, is_gone),
            StopReason::DiskFailed => (Path::EndedDisk, true),
        };
        self.coverage.hit(path);
        if !provoked && self.plan.honest {
            self.fail("quarantine", format!("node {node}, which has lost nothing, ends itself: {reason}"));
        }
        if reason == StopReason::DiskFailed {
            let delay_us = self.hosts[number].random.between(500_000, 5_000_000);
            self.schedule.after(delay_us, Event::Start { host: number });
        }
    }

    /// A process, or the machine under it, dies.
    pub(super) fn kill(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        if host.process.take().is_none() {
            return;
        }
        host.life += 1;
        host.down = Down::Stopped;
        host.backlog.clear();
        if host.disk.crash(now_us, &mut host.random) {
            self.coverage.hit(Path::Torn);
        }
        let (node, alias) = (host.node, host.alias);
        self.trace.event(now_us, 7, number as u64);
        self.trace.say(now_us, || format!("node {node} is down"));
        self.judges.stopped(alias);
    }

    /// Begins to stop a process in order.
    pub(super) fn stop(&mut self, number: usize) {
        let now_us = self.now_us();
        self.guard(number, |process| {
            if process.stopping_since_us.is_none() {
                process.stopping_since_us = Some(now_us);
                process.replica.stop();
                process.replica.want_snapshot();
            }
        });
        self.turn_soon(number);
    }

    fn stop_if_done(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        let Some(process) = &host.process else { return };
        let Some(since_us) = process.stopping_since_us else { return };
        let quiet = process.is_quiet() && process.writing.is_none() && process.waiting.is_empty();
        if quiet {
            host.disk.close(now_us);
            self.sync_events(number);
        }
        if quiet || now_us > since_us + STOP_US_MAX {
            self.kill(number);
        }
    }

    /// A process that stood still goes on: what came in meanwhile is there at once.
    pub(super) fn resume(&mut self, number: usize) {
        let now_us = self.now_us();
        let host = &mut self.hosts[number];
        let backlog = std::mem::take(&mut host.backlog);
        if let Some(process) = &mut host.process {
            process.resumed_us = now_us;
            // What was ordered for times that are over happens now.
            process.turn_at_us = process.turn_at_us.map(|at_us| at_us.max(now_us));
            process.look_at_us = process.look_at_us.map(|at_us| at_us.max(now_us));
        }
        for event in backlog {
            self.schedule.at(now_us, event);
        }
    }
}
