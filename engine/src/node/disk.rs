//! The thread that writes the log. It may block; nobody waits for it but the replica's queue.

use std::sync::atomic::Ordering;
use std::thread;

use sluice_core::fault::Mutant;
use sluice_core::replica::disk::Append;

use super::room::Room;
use super::shared::{Report, Shared, give_up};
use crate::failpoint::{self, Point};
use crate::wal::{FENCE_LAG_MAX, LogStore};

/// Entry bytes that are written as one step when several wait.
const MERGED_BYTES_MAX: usize = 512 * 1024;

/// Writes durable steps in their order until the replica needs no more.
pub(super) fn write_log(shared: &Shared, mut log: Box<dyn LogStore>, room: &Room) {
    shared.wal.is_me();
    let mut settled = true;
    let mut waiting = None;
    loop {
        if let Some((number, step)) = waiting.take().or_else(|| shared.appends.pop()) {
            let (number, step, next) = merge(shared, number, step);
            waiting = next;
            write(shared, &mut *log, number, &step);
            room.look(shared);
            settled = false;
        } else if shared.wal_done.load(Ordering::Acquire) {
            failpoint::reach(Point::StopClose);
            if let Err(error) = log.close() {
                give_up(shared, &format!("closing the log failed: {error}"));
            }
            failpoint::reach(Point::StopClosed);
            return;
        } else if settled {
            thread::park();
        } else {
            thread::park_timeout(FENCE_LAG_MAX);
            if shared.appends.is_empty() {
                if let Err(error) = log.settle() {
                    give_up(shared, &format!("the log cannot be written: {error}"));
                }
                settled = true;
            }
        }
    }
}

/// Joins steps that wait behind the first one and continue it. Returns the number of the last, and a step that did not
/// fit.
fn merge(shared: &Shared, mut number: u64, mut step: Append) -> (u64, Append, Option<(u64, Append)>) {
    let mut bytes: usize = step.entries.iter().map(|entry| entry.data.len()).sum();
    while let Some((next_number, next)) = shared.appends.pop() {
        let more: usize = next.entries.iter().map(|entry| entry.data.len()).sum();
        let continues = match (step.entries.last(), next.entries.first()) {
            (Some(last), Some(first)) => first.index == last.index + 1,
            _ => true,
        };
        // What goes before a reset goes with the log that it ends; what comes after, compaction too, with the new one.
        let resets = step.reset.is_some() || next.reset.is_some();
        if !continues || resets || bytes + more > MERGED_BYTES_MAX {
            return (number, step, Some((next_number, next)));
        }
        number = next_number;
        bytes += more;
        step.hard_state = next.hard_state.or(step.hard_state);
        step.entries.extend(next.entries);
        step.compact_to = step.compact_to.max(next.compact_to);
    }
    (number, step, None)
}

fn write(shared: &Shared, log: &mut dyn LogStore, number: u64, step: &Append) {
    let metrics = &shared.metrics;
    let early = failpoint::is_on(Mutant::ReportBeforeWrite);
    if early {
        shared.report(Report::Persisted(number));
    }
    let appended = match log.append(step) {
        Ok(appended) => appended,
        Err(error) => give_up(shared, &format!("the log cannot be written: {error}")),
    };
    metrics.fsync_duration.record(appended.fsync);
    metrics.log_entries.add(step.entries.len() as u64);
    metrics.log_bytes.add(appended.bytes);
    metrics.log_disk_bytes.set(appended.disk_bytes);
    metrics.log_first_index.set(appended.first_index);
    metrics.log_last_index.set(appended.last_index);
    if !early {
        shared.report(Report::Persisted(number));
    }
}
