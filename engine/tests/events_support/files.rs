//! The files of a stream, read as docs/STORAGE.md describes them, without the code that wrote them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sluice_core::ledger::Ledger;
use sluice_engine::snapshot::Snapshot;
use sluice_protocol::event::EVENT_LEN;

use super::{dir_of, segments};

/// Events by their sequence.
pub type Events = BTreeMap<u64, [u8; EVENT_LEN]>;

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_le_bytes()
}

/// All events in the files, each as a replica made it. Only the last file may end within an event, or within its header.
///
/// # Errors
/// What is wrong.
pub fn all(data: &Path) -> Result<Events, String> {
    let mut found = Events::new();
    let segments = segments(data);
    for (at, (first, path)) in segments.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let is_last = at + 1 == segments.len();
        let wrong = |what: &str| Err(format!("{}: {what}", path.display()));
        let Some((header, rest)) = bytes.split_at_checked(EVENT_LEN) else {
            return if is_last { Ok(found) } else { wrong("it has no header") };
        };
        let is_own = (&header[..8], number(&header[24..32])) == (b"SLEVNT\x01\0", *first);
        if !is_own || header[32..76] != [0; 44] || header[76..] != crc(&header[..76]) {
            return wrong("its header is not what was written");
        }
        let (whole, torn) = rest.as_chunks::<EVENT_LEN>();
        if !torn.is_empty() && !is_last {
            return wrong("it ends within an event");
        }
        for (sequence, event) in (*first..).zip(whole) {
            if number(&event[..8]) != sequence || event[73..76] != [0; 3] || event[76..] != crc(&event[..73])
            {
                return wrong(&format!("event {sequence} is not what was made"));
            }
            if found.insert(sequence, *event).is_some() {
                return wrong(&format!("event {sequence} is in another file, too"));
            }
        }
    }
    Ok(found)
}

/// As [`all`], and none is missing between two.
///
/// # Errors
/// What is wrong.
pub fn read(data: &Path) -> Result<Events, String> {
    let found = all(data)?;
    match (found.keys().next(), found.keys().next_back()) {
        (Some(first), Some(last)) if last - first + 1 != found.len() as u64 => {
            Err(format!("events are missing between {first} and {last}"))
        }
        _ => Ok(found),
    }
}

/// The last sequence that retention has dropped, as the node noted it down.
pub fn dropped(data: &Path) -> u64 {
    let text = fs::read_to_string(dir_of(data).join("DROPPED")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("dropped="));
    line.map_or(0, |dropped| dropped.parse().unwrap())
}

/// The last event that the newest snapshot contains.
pub fn in_snapshot(data: &Path) -> u64 {
    let names = fs::read_dir(data.join("snapshots")).unwrap().map(|item| item.unwrap().path());
    let newest = names.filter(|path| path.extension().is_some_and(|extension| extension == "sluice")).max();
    let Some(newest) = newest else { return 0 };
    let (_, snapshot) = Snapshot::read(fs::read(newest).unwrap()).expect("it has its name, so it is whole");
    Ledger::from_sections(snapshot.sections(), 1000, 1).unwrap().sequence()
}

/// As [`read`]; what was not dropped is there from the first event on, at least up to what the newest snapshot contains.
///
/// # Errors
/// What is wrong.
pub fn read_whole(data: &Path) -> Result<Events, String> {
    let found = read(data)?;
    let (dropped, contained) = (dropped(data), in_snapshot(data));
    let first = found.keys().next().copied().unwrap_or(dropped + 1);
    let last = found.keys().next_back().copied().unwrap_or(dropped);
    if first > dropped + 1 || last < contained {
        return Err(format!(
            "events {first} to {last} are there, those up to {dropped} were dropped, a snapshot contains those up to {contained}"
        ));
    }
    Ok(found)
}
