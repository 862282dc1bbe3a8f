//! What is to fail, read from the environment once: which point, what happens there, and at which hit.
//!
//! `SLUICE_FAILPOINTS="log.sync=kill@137;snapshot.rename=error"` ends the process at the 137th time that `log.sync` is
//! met, and makes the first rename of a snapshot fail. The actions: `kill`; `kill:MS`, which lets the other threads go
//! on for so long before; `error`, where something can fail; `stall:MS`; `hold:FILE`, which waits at every hit from that
//! one on for as long as the file exists.
//! `SLUICE_MUTANTS="name,name"` switches known bugs on.
//!
//! A plan that makes no sense ends the process: a test must not pass because nothing failed.

use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use sluice_core::fault::{self, Stage};

use super::{Fact, OnError, POINTS, Point};

/// Where the plan is read from.
pub const VARIABLE: &str = "SLUICE_FAILPOINTS";

/// Where the bugs to switch on are read from.
const MUTANTS_VARIABLE: &str = "SLUICE_MUTANTS";

/// How often the file of a `hold` is looked for.
const HOLD_POLL: Duration = Duration::from_millis(1);

/// A plan that makes no sense: the command line's code for wrong usage.
const WRONG: i32 = 2;

/// What happens at a point.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Kill(Duration),
    Error,
    Stall(Duration),
    Hold(PathBuf),
}

/// A point that is to fail.
#[derive(Debug)]
struct Due {
    fact: &'static Fact,
    action: Action,
    at_hit: u64,
    hits: AtomicU64,
}

static PLAN: LazyLock<Vec<Due>> = LazyLock::new(|| {
    fault::watch(|stage| {
        reach(
            match stage {
                Stage::Committed => Point::ApplyCommitted,
                Stage::Applied => Point::ApplyApplied,
                Stage::Published => Point::ApplyPublished,
            },
            || {},
        );
    });
    let text = |name| std::env::var(name).unwrap_or_default();
    for name in text(MUTANTS_VARIABLE).split(',').filter(|name| !name.is_empty()) {
        if !fault::switch_on(name) {
            refuse(&format!("{MUTANTS_VARIABLE}: there is no mutant {name:?}"));
        }
    }
    parse(&text(VARIABLE)).unwrap_or_else(|wrong| refuse(&format!("{VARIABLE}: {wrong}")))
});

pub(super) fn begin() {
    LazyLock::force(&PLAN);
}

/// What is to happen now, if anything. Counts the hit.
fn due(point: Point) -> Option<&'static Due> {
    let due = PLAN.iter().find(|due| due.fact.point == point)?;
    let hit = due.hits.fetch_add(1, Ordering::Relaxed) + 1;
    let lasts = matches!(due.action, Action::Hold(_));
    (hit == due.at_hit || lasts && hit > due.at_hit).then_some(due)
}

pub(super) fn reach(point: Point, last: impl FnOnce()) {
    check(point, last).expect("an error is planned only where something can fail");
}

pub(super) fn check(point: Point, last: impl FnOnce()) -> io::Result<()> {
    let Some(due) = due(point) else { return Ok(()) };
    let (name, hit) = (due.fact.name, due.at_hit);
    match &due.action {
        Action::Kill(after) => {
            thread::sleep(*after);
            eprintln!("fail point {name}, hit {hit}: killed");
            last();
            die()
        }
        Action::Error => {
            eprintln!("fail point {name}, hit {hit}: error");
            Err(rustix::io::Errno::IO.into())
        }
        Action::Stall(span) => {
            eprintln!("fail point {name}, hit {hit}: stalls for {span:?}");
            thread::sleep(*span);
            Ok(())
        }
        Action::Hold(file) => {
            while file.exists() {
                thread::sleep(HOLD_POLL);
            }
            Ok(())
        }
    }
}

/// Ends the process as SIGKILL from outside does: no handler, no destructor, no flush.
fn die() -> ! {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    loop {
        thread::park();
    }
}

fn refuse(wrong: &str) -> ! {
    eprintln!("sluice: {wrong}");
    std::process::exit(WRONG)
}

fn parse(text: &str) -> Result<Vec<Due>, String> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(parse_one).collect()
}

fn parse_one(part: &str) -> Result<Due, String> {
    let wrong = |what: &str| format!("{part:?}: {what}");
    let (name, rest) = part.split_once('=').ok_or_else(|| wrong("not POINT=ACTION[@HIT]"))?;
    let fact = POINTS.iter().find(|fact| fact.name == name).ok_or_else(|| wrong("no such point"))?;
    let (action, at_hit) = match rest.rsplit_once('@') {
        Some((action, hit)) => (action, hit.parse().map_err(|_| wrong("the hit is no number"))?),
        None => (rest, 1),
    };
    let (verb, argument) = action.split_once(':').unwrap_or((action, ""));
    let span = |ms: &str| {
        let ms = ms.parse().map_err(|_| wrong("the MS of kill:MS and stall:MS is a number"))?;
        Ok::<_, String>(Duration::from_millis(ms))
    };
    let action = match (verb, argument) {
        ("kill", "") => Action::Kill(Duration::ZERO),
        ("kill", ms) => Action::Kill(span(ms)?),
        ("error", "") if fact.on_error != OnError::Impossible => Action::Error,
        ("error", "") => return Err(wrong("nothing that can fail is there")),
        ("stall", ms) => Action::Stall(span(ms)?),
        ("hold", file) if !file.is_empty() => Action::Hold(file.into()),
        _ => return Err(wrong("the actions are kill, kill:MS, error, stall:MS and hold:FILE")),
    };
    if at_hit == 0 {
        return Err(wrong("hits count from 1"));
    }
    Ok(Due { fact, action, at_hit, hits: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_where_what_and_when() {
        let plan = parse("log.sync=kill@137; snapshot.rename=error;net.read=stall:20;log.write=hold:/a:b@3;log.synced=kill:5")
            .unwrap();
        let read: Vec<_> = plan.iter().map(|due| (due.fact.point, &due.action, due.at_hit)).collect();
        let expected = [
            (Point::LogSync, &Action::Kill(Duration::ZERO), 137),
            (Point::SnapshotRename, &Action::Error, 1),
            (Point::NetRead, &Action::Stall(Duration::from_millis(20)), 1),
            (Point::LogWrite, &Action::Hold("/a:b".into()), 3),
            (Point::LogSynced, &Action::Kill(Duration::from_millis(5)), 1),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        for text in [
            "log.sink=kill",
            "log.sync",
            "log.sync=kill@0",
            "log.sync=kill@x",
            "log.sync=burn",
            "net.read=error",
            "net.read=stall:soon",
            "net.read=hold:",
            "log.sync=kill:soon",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_list_is_in_order_and_no_name_is_used_twice() {
        for (at, fact) in POINTS.iter().enumerate() {
            assert_eq!(fact.point as usize, at);
            assert_eq!(POINTS.iter().filter(|other| other.name == fact.name).count(), 1, "{}", fact.name);
        }
    }
}
