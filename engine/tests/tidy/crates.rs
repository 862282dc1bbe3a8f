//! Manifests against sources: what is depended on is used, what must not be called is not, and who may be unsafe.
//!
//! Deliberately not here: licences and advisories, which `.ci/deny.toml` has.

use std::collections::BTreeMap;

use super::scan::code_only;
use super::{files, tidy};

/// Dependencies that no source names, and why.
const USED_UNNAMED: &[(&str, &str)] = &[];

/// Files that may hold an unsafe block, and what for. Each block has its SAFETY argument beside it.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("engine/src/child/mod.rs", "between fork and exec, a child asks to die with its parent"),
    ("fuzz/src/heap.rs", "an allocator that counts, for the fuzz targets only"),
];

/// What must not stand in the code of `sluice-core`: time, threads, files, sockets and chance enter as arguments.
const BANNED_IN_CORE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "RandomState",
    "getrandom",
    "rand::",
    "thread_rng",
    "tokio",
];

fn manifests() -> Vec<(String, toml::Table)> {
    let found = files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    found.map(|(path, text)| (path, text.parse().expect("Cargo has read it before"))).collect()
}

/// The tables of a manifest that name dependencies, those of single platforms too, each with whether it is for tests.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool)> {
    let per_target = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
    let tables = per_target.filter_map(|(_, target)| target.as_table()).chain([manifest]);
    let mut found = Vec::new();
    for table in tables {
        for (kind, for_tests) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            let names = table.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
            found.extend(names.map(|(name, _)| (name.clone(), for_tests)));
        }
    }
    found
}

/// Whether the code has the word, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name))
}

#[test]
fn every_dependency_is_used() {
    let texts = files(&["rs"]);
    let sources: BTreeMap<String, String> =
        texts.iter().map(|(path, text)| (path.clone(), code_only(text))).collect();
    let mut complaints = Vec::new();
    for (path, manifest) in manifests().into_iter().filter(|(path, _)| path != "Cargo.toml") {
        let folder = path.strip_suffix("Cargo.toml").unwrap_or_default();
        // A package inside of another has sources of its own.
        let own = |source: &&String| {
            source.starts_with(folder) && (folder != "engine/" || !source.starts_with("engine/core/"))
        };
        for (name, for_tests) in dependencies(&manifest) {
            // The examples in comments are tests as well.
            let word = name.replace('-', "_");
            let is_for = |source: &&String| {
                for_tests || source.starts_with(&format!("{folder}src/")) || folder == "fuzz/"
            };
            let mut paths = sources.keys().filter(own).filter(is_for);
            let excused = USED_UNNAMED.iter().any(|(unnamed, _)| *unnamed == name);
            if !excused
                && !paths
                    .any(|source| names(if for_tests { &texts[source] } else { &sources[source] }, &word))
            {
                complaints.push(format!("{path}: nothing uses {name}"));
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn every_crate_of_the_workspace_is_used_by_a_package() {
    let manifests = manifests();
    let (_, root) = manifests.iter().find(|(path, _)| path == "Cargo.toml").expect("the workspace");
    let named = root["workspace"]["dependencies"].as_table().expect("a table").keys();
    let used: Vec<String> =
        manifests.iter().flat_map(|(_, manifest)| dependencies(manifest)).map(|(name, _)| name).collect();
    let unused = named.filter(|name| !used.contains(name));
    tidy(&unused.map(|name| format!("Cargo.toml: no package uses {name}")).collect::<Vec<_>>());
}

#[test]
fn the_core_calls_nothing_of_the_world() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs"]).into_iter().filter(|(path, _)| path.starts_with("engine/core/src/")) {
        for (at, line) in code_only(&text).lines().enumerate() {
            for banned in BANNED_IN_CORE.iter().filter(|banned| line.contains(*banned)) {
                complaints.push(format!("{path}:{}: {banned} has no place in the core", at + 1));
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn unsafe_code_stands_where_it_was_argued_for() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs"]) {
        let code = code_only(&text);
        let at: Vec<usize> =
            (0..).zip(code.lines()).filter(|(_, line)| names(line, "unsafe")).map(|(at, _)| at).collect();
        let listed = UNSAFE_FILES.iter().any(|(file, _)| *file == path);
        match (at.is_empty(), listed) {
            (false, false) => complaints.push(format!("{path}: unsafe code; argue for it in UNSAFE_FILES")),
            (true, true) => complaints.push(format!("{path}: safe again; take it off UNSAFE_FILES")),
            _ => {}
        }
        let lines: Vec<&str> = text.lines().collect();
        for at in at {
            // The methods of an unsafe trait are argued for by its implementation; each has a block of its own.
            let is_head = lines[at].contains("unsafe fn");
            let is_argued = lines[at.saturating_sub(4)..at].iter().any(|line| line.contains("// SAFETY: "));
            if !is_head && !is_argued {
                complaints.push(format!("{path}:{}: unsafe without a SAFETY argument above it", at + 1));
            }
        }
    }
    let sources = files(&["rs"]);
    if !sources["protocol/src/lib.rs"].contains("#![forbid(unsafe_code)]") {
        complaints.push(
            "protocol/src/lib.rs: bytes of strangers are read without unsafe code: forbid it".to_owned(),
        );
    }
    let (_, root) = manifests().into_iter().find(|(path, _)| path == "Cargo.toml").expect("the workspace");
    if root["workspace"]["lints"]["rust"]["unsafe_code"].as_str() != Some("deny") {
        complaints.push("Cargo.toml: the workspace's lints must deny unsafe_code".to_owned());
    }
    tidy(&complaints);
}
