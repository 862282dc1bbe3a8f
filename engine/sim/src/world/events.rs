//! What the shell does with events: it writes them behind the replica, makes them durable before a snapshot, drops what
//! nobody needs, and reads older ones for desks.
//!
//! Deliberately not here: the files themselves (`disk`), and who consumes events (`workload`).

use sluice_core::desk::{Cold, ColdRead};
use sluice_core::stream::StreamStep;

use super::World;
use super::event::Input;
use crate::coverage::Path;
use sluice_judges::checkers::Opened;

/// One write of so many is followed by a look at what may be dropped.
const RETAIN_ONE_IN: u64 = 12;

impl World {
    /// The files of events are open, and the process knows what they keep.
    pub(super) fn events_opened(&mut self, number: usize, upto: u64) {
        let host = &self.hosts[number];
        let (alias, files) = (host.alias, &host.disk.events);
        if files.misses(1) {
            self.coverage.hit(Path::EventsMissing);
        }
        let judged =
            self.judges.events_opened(alias, Opened { upto, events: &files.all(), next: files.next() });
        self.heed(judged);
        self.tell_tail(number);
    }

    /// Tells the judges what a turn has made, and orders its writing.
    pub(super) fn carry_out_stream(&mut self, number: usize) {
        let alias = self.hosts[number].alias;
        let Some(process) = &mut self.hosts[number].process else { return };
        let cold_reads = process.cold_reads();
        for step in std::mem::take(&mut process.made) {
            let judged = match &step {
                StreamStep::Append(block) => self.judges.events_made(alias, block.events()),
                StreamStep::Reset(next) => {
                    self.judges.events_reset(alias, *next);
                    Ok(())
                }
            };
            process.unwritten.push_back(step);
            if let Err(violation) = judged {
                return self.fail(violation.checker, violation.what);
            }
        }
        let writes = !process.unwritten.is_empty() && !process.is_writing_events;
        process.is_writing_events |= writes;
        let host = &mut self.hosts[number];
        if writes {
            let delay_us = host.random.spread(20, 20_000) * host.temper.slow.clamp(1, 20);
            self.order(number, delay_us, Input::EventsWritten);
        }
        for (desk, read) in cold_reads {
            let delay_us = self.hosts[number].random.spread(50, 50_000);
            self.order(number, delay_us, Input::ColdRead(desk, read));
        }
    }

    pub(super) fn events_written(&mut self, number: usize) {
        self.write_events(number);
        let Some(process) = &mut self.hosts[number].process else { return };
        process.is_writing_events = false;
        self.retain_events(number);
    }

    /// Writes what waits for it.
    fn write_events(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(process) = &mut host.process else { return };
        for step in process.unwritten.drain(..) {
            match step {
                StreamStep::Append(block) => host.disk.events.append(&block),
                StreamStep::Reset(next) => {
                    self.judges.events_durable(host.alias, host.disk.events.sync());
                    host.disk.events.reset(next);
                }
            }
        }
        self.tell_tail(number);
    }

    /// Tells a process what its files keep.
    fn tell_tail(&mut self, number: usize) {
        let host = &self.hosts[number];
        if let Some(process) = &host.process {
            process.board.stream.tail.written(host.disk.events.next() - 1);
            process.board.stream.tail.keep_from(host.disk.events.dropped() + 1);
        }
    }

    /// Makes all events that there are durable: a snapshot holds them no more.
    pub(super) fn sync_events(&mut self, number: usize) {
        self.write_events(number);
        let host = &mut self.hosts[number];
        self.judges.events_durable(host.alias, host.disk.events.sync());
    }

    /// Lets go of events that no group needs, now and then.
    fn retain_events(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(process) = &host.process else { return };
        let last = (process.board.stream.floor() - 1).min(host.disk.events.next() - 1);
        if !host.random.chance(1, RETAIN_ONE_IN) || last <= host.disk.events.dropped() {
            return;
        }
        let upto = host.random.between(host.disk.events.dropped() + 1, last);
        host.disk.events.drop_upto(upto);
        self.coverage.hit(Path::EventsDropped);
        let index = process.replica.ledger().index();
        let judged = self.judges.events_dropped(host.alias, upto, index);
        self.heed(judged);
        self.tell_tail(number);
    }

    /// A read of a desk is done.
    pub(super) fn cold_read(&mut self, number: usize, desk: usize, read: ColdRead) {
        let now_us = self.now_us();
        let host = &self.hosts[number];
        let (alias, now) = (host.alias, host.clock.now(now_us));
        let cold = match read {
            ColdRead::Events(from) => Cold::Events(from, host.disk.events.read(from)),
            ColdRead::Time(time_ms) => Cold::Time(time_ms, Some(host.disk.events.find(time_ms))),
        };
        if let Cold::Events(from, None) = &cold {
            self.repair_events(number, *from);
            self.tell_tail(number);
        }
        if let Cold::Events(_, block) = &cold {
            self.coverage.hit(if block.is_some() { Path::ColdRead } else { Path::ColdMissing });
            let judged =
                block.as_ref().map_or(Ok(()), |block| self.judges.events_read(alias, block.events()));
            self.heed(judged);
        }
        self.guard(number, |process| process.desks[desk].cold(cold, now));
        self.turn(number);
    }
}
