//! The targets without a fuzzer: every input that was kept, and the list of targets held against everything that must
//! follow it.
//!
//! Deliberately not here: new inputs.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use crate::{BODIES, Body};

/// Bytes that all corpora may have together: they are cloned by everybody.
const CORPORA_LEN_MAX: u64 = 1 << 20;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Name, longest input and fate of every target in the list.
fn list() -> Vec<(&'static str, usize, &'static str)> {
    let lines = include_str!("../../targets.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let row: Vec<_> = line.split_whitespace().collect();
            let [name, longest, fate] = row[..] else { panic!("{line}: three columns") };
            (name, longest.parse().unwrap(), fate)
        })
        .collect()
}

/// The names in a folder, without their extension.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Every input in `corpus/` and `regressions/` of a target.
fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = [folder("corpus").join(name), folder("regressions").join(name)];
    let files =
        folders.iter().filter(|folder| folder.exists()).flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn no_target_is_forgotten() {
    let listed: BTreeSet<String> = list().into_iter().map(|(name, ..)| name.to_owned()).collect();
    assert_eq!(listed.len(), list().len(), "each once");
    assert!(list().iter().all(|(_, _, fate)| matches!(*fate, "holds" | "fails")));
    let bodies: BTreeSet<String> = BODIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(bodies, listed, "the bodies in src/lib.rs");
    assert_eq!(names(&folder("fuzz_targets")), listed, "the files in fuzz_targets/");
    let manifest = include_str!("../../Cargo.toml");
    let bins = manifest.split("[[bin]]").skip(1).map(|bin| {
        let name = bin.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
        assert!(bin.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}: its own file");
        name.to_owned()
    });
    assert_eq!(bins.collect::<BTreeSet<_>>(), listed, "the binaries in Cargo.toml");
    for name in &listed {
        let text = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(text.contains(&format!("sluice_fuzz::{name}::target(data)")), "{name}: calls its own body");
    }
    let holding: BTreeSet<String> =
        list().into_iter().filter(|row| row.2 == "holds").map(|(name, ..)| name.to_owned()).collect();
    assert_eq!(names(&folder("corpus")), holding, "the folders of corpus/: every target has seeds");
    assert!(names(&folder("regressions")).is_subset(&listed), "the folders of regressions/");
}

#[test]
fn the_corpora_are_small_and_short_enough_to_be_used() {
    let mut sum = 0;
    for (name, longest, _) in list() {
        for (path, bytes) in inputs(name) {
            assert!(bytes.len() <= longest, "{}: libFuzzer would cut it at {longest}", path.display());
            sum += bytes.len() as u64;
        }
    }
    assert!(sum <= CORPORA_LEN_MAX, "{sum} bytes: fuzz/run tidy makes them fewer");
}

#[test]
fn every_target_holds_for_all_inputs_that_were_kept() {
    let mut complaints = Vec::new();
    for (name, _, _) in list().into_iter().filter(|row| row.2 == "holds") {
        let (_, body): (_, Body) = BODIES.into_iter().find(|(body, _)| *body == name).unwrap();
        body(b"");
        for (path, bytes) in inputs(name) {
            if panic::catch_unwind(|| body(&bytes)).is_err() {
                complaints.push(format!("{} does not hold: fuzz/run {name} FILE", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

/// Three items, of which the planted mistake loses the last.
#[test]
fn the_canary_fails() {
    let mut frame = vec![0; 104];
    frame[8] = 0x11;
    crate::canary::target(&frame);
    frame[72..76].copy_from_slice(&0x0bad_cafe_u32.to_le_bytes());
    let outcome = panic::catch_unwind(|| crate::canary::target(&frame));
    assert!(outcome.is_err(), "the planted mistake was not met");
}
