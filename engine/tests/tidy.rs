//! The lint of the house: what the compiler does not check, and reviewers should not have to.
//!
//! Reads the tree as text. A small scanner blanks out comments and literals, so that words in them are not
//! taken for code. Deliberately not here: what rustfmt and clippy check already.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/commands.rs"]
mod commands;
#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/scan.rs"]
mod scan;

use scan::{code_only, functions, without_test_modules};

/// Lines a Rust file may have.
const FILE_LINES_MAX: usize = 500;

/// Lines a function may have, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that may be longer, as `file: function`, and why.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// All that may stand at the top of the tree, beside names that begin with a dot.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "client",
    "docs",
    "engine",
    "fuzz",
    "protocol",
];

/// What building and serving leave behind; never in the repository.
const LEFTOVERS: &[&str] = &["target", "sluice-data"];

/// Which of our packages each may use. Arrows point towards the bytes.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sluice-protocol", &[]),
    ("sluice-core", &["sluice-protocol"]),
    ("sluice-client", &["sluice-protocol"]),
    ("sluice-postgres", &["sluice-client", "sluice-protocol"]),
    ("sluice-outside", &[]),
    ("sluice-judges", &["sluice-core", "sluice-protocol"]),
    ("sluice-sim", &["sluice-core", "sluice-judges", "sluice-protocol"]),
    ("sluice-engine", &["sluice-client", "sluice-core", "sluice-postgres", "sluice-protocol"]),
    (
        "sluice-bench",
        &[
            "sluice-client",
            "sluice-core",
            "sluice-engine",
            "sluice-outside",
            "sluice-postgres",
            "sluice-protocol",
        ],
    ),
    ("sluice-fuzz", &["sluice-core", "sluice-engine", "sluice-protocol"]),
];

/// Words that must not stand anywhere, and why. Split so that this file does not trip itself.
const FORBIDDEN_WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or write down in docs/decisions why not"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("dbg", "!("), "left over from debugging"),
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("shared/", "DESIGN"), "readers have docs/ only"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("engine/ lies in the root").to_owned()
}

/// Every file of the tree with one of the extensions, as its path from the root and its text.
fn files(extensions: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == ".git" || LEFTOVERS.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if extensions.contains(&extension.as_str()) {
                let from_root = path.strip_prefix(root()).expect("below the root");
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.insert(from_root.to_string_lossy().replace('\\', "/"), text);
            }
        }
    }
    assert!(!found.is_empty(), "no {extensions:?} below {}", root().display());
    found
}

/// Fails with all complaints at once.
fn tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = files(&["rs"]).into_iter().filter(|(_, text)| !text.starts_with("//! "));
    tidy(&silent.map(|(path, _)| format!("{path}: does not open with `//! `")).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs"]) {
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| *file == path);
        match (lines > FILE_LINES_MAX, excused) {
            (true, false) => complaints.push(format!("{path}: {lines} lines; split it by noun")),
            (false, true) => complaints.push(format!("{path}: short again; take it off LONG_FILES")),
            _ => {}
        }
    }
    tidy(&complaints);
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    let mut excused: Vec<_> = LONG_FUNCTIONS.iter().map(|(name, _)| *name).collect();
    for (path, text) in files(&["rs"]) {
        for function in functions(&code_only(&text)) {
            if function.lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let name = format!("{path}: {}", function.name);
            match excused.iter().position(|excuse| *excuse == name) {
                Some(at) => drop(excused.swap_remove(at)),
                None => complaints.push(format!("{name} has {} lines", function.lines)),
            }
        }
    }
    complaints
        .extend(excused.into_iter().map(|name| format!("{name}: short again; take it off LONG_FUNCTIONS")));
    tidy(&complaints);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs"]).into_iter().filter(|(path, _)| !is_test(path)) {
        for (at, line) in without_test_modules(&code_only(&text)).lines().enumerate() {
            if line.contains(".unwrap()") {
                complaints.push(format!("{path}:{}: state the invariant with expect", at + 1));
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn forbidden_words_do_not_appear() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["rs", "md", "toml", "py", "yml", "sh"]) {
        for (at, line) in text.lines().enumerate() {
            for (word, reason) in FORBIDDEN_WORDS.iter().filter(|(word, _)| line.contains(word)) {
                complaints.push(format!("{path}:{}: {word}: {reason}", at + 1));
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn packages_use_only_what_lies_below_them() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let manifest: toml::Table = text.parse().expect("Cargo has read it before");
        let package = manifest["package"]["name"].as_str().unwrap_or_default().to_owned();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
            complaints.push(format!("{path}: say in MAY_USE what {package} may use"));
            continue;
        };
        let per_target = manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten();
        let tables = per_target.filter_map(|(_, target)| target.get("dependencies"));
        for table in tables.chain(manifest.get("dependencies")).filter_map(toml::Value::as_table) {
            for used in table.keys().filter(|name| name.starts_with("sluice-")) {
                if !allowed.contains(&used.as_str()) {
                    complaints.push(format!("{path}: {package} must not use {used}"));
                }
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    let names = fs::read_dir(root())
        .expect("the tree can be read")
        .map(|entry| entry.expect("the tree can be read").file_name().to_string_lossy().into_owned());
    let strangers = names
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .filter(|name| !LEFTOVERS.contains(&name.as_str()));
    tidy(&strangers.map(|name| format!("{name}: has no place at the top level")).collect::<Vec<_>>());
}

#[test]
fn relative_links_lead_somewhere() {
    let mut complaints = Vec::new();
    for (path, text) in files(&["md"]) {
        let folder = root().join(&path).parent().expect("a file lies in a folder").to_owned();
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            if !target.exists() {
                complaints.push(format!("{path}: ({link}) leads nowhere"));
            } else if !anchor.is_empty() && !anchors(&target).iter().any(|known| known == anchor) {
                complaints.push(format!("{path}: ({link}) names no heading there"));
            }
        }
    }
    tidy(&complaints);
}

#[test]
fn commands_in_the_pages_name_what_exists() {
    let manifests = files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml"));
    let package = |(path, text): (String, String)| {
        let manifest: toml::Table = text.parse().expect("Cargo has read it before");
        let name = manifest["package"]["name"].as_str().unwrap_or_default().to_owned();
        (name, path.strip_suffix("Cargo.toml").unwrap_or_default().to_owned())
    };
    let packages = manifests.map(package).collect();
    let list = fs::read_to_string(root().join("fuzz/targets.txt")).expect("the list of fuzz targets");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let targets = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    let known = commands::Known { packages, sources: files(&["rs"]), targets };
    let mut complaints = Vec::new();
    let mut count = 0;
    for (path, text) in files(&["md"]) {
        for words in commands::commands(&text) {
            count += 1;
            let complaint = commands::complaint(&words, &known);
            complaints.extend(complaint.map(|what| format!("{path}: `{}`: {what}", words.join(" "))));
        }
    }
    assert!(count > 30, "only {count} commands were found: they are written in another way");
    tidy(&complaints);
}

/// The targets of `[text](target)`, outside fenced blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("\n```").step_by(2);
    outside.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}

/// The anchors that a page's headings get: lower case, spaces as dashes, punctuation dropped.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page that is linked with an anchor is text");
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let slug = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(slug).collect()
}
