//! Command lines in the pages: what they name exists.
//!
//! A command is what a code block or a code span begins with, behind assignments of variables: `cargo`, `sluice`,
//! `sluice-bench`, or a script of ours. Packages, tests, benches, subcommands and long flags are looked up. Deliberately
//! not here: running them; `readme.rs` and `.ci/run` do that.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Command, CommandFactory};
use sluice_engine::command::Cli;

/// Long flags of cargo that the pages may use.
const CARGO_FLAGS: &[&str] = &[
    "--all",
    "--all-targets",
    "--bins",
    "--check",
    "--lib",
    "--locked",
    "--release",
    "--version",
    "--workspace",
];

/// Cargo's own subcommands, and those that pages may name although they must be installed.
const CARGO_COMMANDS: &[&str] =
    &["add", "bench", "build", "clippy", "deny", "doc", "fmt", "fuzz", "install", "miri", "run", "test"];

/// What exists, to hold commands against.
pub(crate) struct Known {
    /// Packages and their folders.
    pub(crate) packages: BTreeMap<String, String>,
    /// Rust sources: path from the root, text.
    pub(crate) sources: BTreeMap<String, String>,
    /// Fuzz targets.
    pub(crate) targets: Vec<String>,
}

/// The commands of a page: the words of each.
pub(crate) fn commands(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut is_code = true;
    for (at, part) in page.split("\n```").enumerate() {
        is_code = if at == 0 { page.starts_with("```") } else { !is_code };
        if is_code {
            let language = part.lines().next().unwrap_or_default();
            if matches!(language.trim_start_matches('`'), "" | "sh" | "bash" | "console" | "text") {
                found.extend(part.lines().skip(1).filter_map(command));
            }
            continue;
        }
        found.extend(part.lines().filter_map(|line| line.strip_prefix("    ")).filter_map(command));
        found.extend(part.split('`').skip(1).step_by(2).filter_map(command));
    }
    found
}

/// The words of a line that is a command.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let words = line.split_whitespace().map(str::to_owned);
    let words: Vec<String> = words.skip_while(|word| word.contains('=') && !word.starts_with('-')).collect();
    let name = Path::new(words.first()?).file_name()?.to_string_lossy().into_owned();
    let is_ours = is_script(&words[0]) || matches!(name.as_str(), "cargo" | "sluice" | "sluice-bench");
    is_ours.then_some(words)
}

fn is_script(word: &str) -> bool {
    word.starts_with(".ci/") || word == "fuzz/run"
}

/// What a command names that does not exist.
pub(crate) fn complaint(words: &[String], known: &Known) -> Option<String> {
    let words: Vec<&str> = words.iter().map(|word| word.trim_end_matches([',', ';'])).collect();
    let (first, rest) = words.split_first()?;
    if is_script(first) {
        let target = rest.iter().find(|word| word.chars().all(char::is_lowercase) && *first == "fuzz/run");
        let verbs = ["smoke", "shrink", "tidy"];
        if target.is_some_and(|word| !verbs.contains(word) && !known.targets.iter().any(|name| name == word))
        {
            return Some(format!("no fuzz target {}", target.unwrap_or(&"")));
        }
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("engine/ lies in the root").join(first);
        return (!path.exists()).then(|| format!("no script {first}"));
    }
    match Path::new(first).file_name()?.to_str()? {
        "sluice" => sluice(rest),
        "sluice-bench" => bench(rest, known),
        _ => cargo(rest, known),
    }
}

fn flags<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    words
        .iter()
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(|word| word.split('=').next().unwrap_or(word))
}

fn sluice(words: &[&str]) -> Option<String> {
    let mut at: Command = Cli::command();
    at.build();
    for word in words {
        match at.find_subcommand(word) {
            Some(next) => at = next.clone(),
            None if at.has_subcommands() && !word.starts_with('-') => {
                return Some(format!("sluice has no subcommand {word}"));
            }
            None => break,
        }
    }
    let knows = |flag: &str| {
        let mut longs = at.get_arguments().filter_map(clap::Arg::get_long);
        longs.any(|long| flag[2..] == *long)
    };
    flags(words).find(|flag| !knows(flag)).map(|flag| format!("{} has no {flag}", at.get_name()))
}

/// The load generator is not a library of this package: its arguments are looked up in its sources.
fn bench(words: &[&str], known: &Known) -> Option<String> {
    let text: String = known
        .sources
        .iter()
        .filter(|(path, text)| path.starts_with("bench/src/") && text.contains("clap"))
        .map(|(_, text)| text.as_str())
        .collect();
    let verbs = words.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    for verb in verbs {
        let variant = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        if !["(", " {", ","].iter().any(|end| text.contains(&format!("    {variant}{end}"))) {
            return Some(format!("sluice-bench has no subcommand {verb}"));
        }
    }
    let field = |flag: &str| format!(" {}:", flag[2..].replace('-', "_"));
    flags(words).find(|flag| !text.contains(&field(flag))).map(|flag| format!("sluice-bench has no {flag}"))
}

fn cargo(words: &[&str], known: &Known) -> Option<String> {
    let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let (own, passed) = (&words[..end], words.get(end + 1..).unwrap_or_default());
    let own: Vec<&str> = own.iter().copied().skip_while(|word| word.starts_with('+')).collect();
    let verb = own.first()?;
    if !CARGO_COMMANDS.contains(verb) {
        return Some(format!("cargo has no {verb} that pages may use"));
    }
    let mut package = None;
    let mut rest = own[1..].iter();
    while let Some(word) = rest.next() {
        match *word {
            "-p" | "--package" => {
                package = rest.next().copied();
                if !package.is_some_and(|name| known.packages.contains_key(name)) {
                    return Some(format!("no package {}", package.unwrap_or_default()));
                }
            }
            "--test" | "--bench" | "--example" | "--bin" => {
                let name = rest.next().copied().unwrap_or_default();
                let folder = match *word {
                    "--test" => "tests",
                    "--bench" => "benches",
                    "--example" => "examples",
                    _ => "fuzz_targets",
                };
                let of = package.and_then(|package| known.packages.get(package)).map_or("", String::as_str);
                let file = format!("{folder}/{name}.rs");
                let mut paths = known.sources.keys();
                if !paths.any(|path| path.starts_with(of) && path.ends_with(&file)) {
                    return Some(format!("no {file} below {of}"));
                }
            }
            "--config" | "--manifest-path" | "--features" => drop(rest.next()),
            flag if flag.starts_with("--") && !CARGO_FLAGS.contains(&flag) => {
                return Some(format!("cargo {verb} with {flag} is not known here"));
            }
            target if *verb == "fuzz" && !target.starts_with('-') => {
                let verbs = ["run", "cmin", "tmin", "build"];
                if !verbs.contains(&target)
                    && !known.targets.iter().any(|name| name == target)
                    && !target.contains('/')
                {
                    return Some(format!("no fuzz target {target}"));
                }
            }
            _ => {}
        }
    }
    match (*verb, package) {
        ("run", Some("sluice-bench")) => bench(passed, known),
        ("run", None) => sluice(passed),
        _ => None,
    }
}

#[test]
fn commands_that_name_nothing_are_noticed() {
    let known = Known {
        packages: BTreeMap::from([("sluice-engine".to_owned(), "engine/".to_owned())]),
        sources: BTreeMap::from([
            ("engine/tests/kill.rs".to_owned(), String::new()),
            (
                "bench/src/load.rs".to_owned(),
                "use clap;\n    Load(LoadArgs),\n    pub frame: u16,".to_owned(),
            ),
        ]),
        targets: vec!["ledger".to_owned()],
    };
    let page = "`cargo run --release -- demo --seed N` and\n\n    SLUICE_X=1 cargo test -p sluice-engine --test kill\n\n\
                ```\ntarget/release/sluice-bench load --frame 3  # remark\nsluice product put 42 --stock 1\nfuzz/run ledger FILE\n```\n\
                `sluice-data` is no command, nor is `cargos`.";
    let good = commands(page);
    assert_eq!(good.len(), 5, "{good:?}");
    assert!(good.iter().all(|words| complaint(words, &known).is_none()), "{good:?}");
    for bad in [
        "cargo run -- dance",
        "cargo run -- demo --sede N",
        "cargo test -p sluice-engin",
        "cargo test -p sluice-engine --test kil",
        "cargo tset --workspace",
        "cargo test --wrokspace",
        "sluice product plant 42",
        "sluice reserve 42 --usr 7",
        "sluice-bench lod",
        "sluice-bench load --frames 3",
        ".ci/walk",
        "fuzz/run leger",
        "cargo fuzz run leger",
    ] {
        let words = command(bad).expect("it is a command");
        assert!(complaint(&words, &known).is_some(), "{bad}");
    }
}
