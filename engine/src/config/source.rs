//! Where values come from: flags, which are made from the declarations, and a TOML file with the same keys.
//!
//! Deliberately not here: what values mean. Everything leaves this file as text with its origin.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Mistake, Origin, Problem};
use super::value::Kind;
use super::{SETTINGS, Setting};

/// Names further apart than this are not the same name mistyped.
const TYPOS_MAX: usize = 3;

/// What the command line says about the configuration: a file, and a flag for every setting.
#[derive(Clone, Debug, Default)]
pub struct ConfigArgs {
    file: Option<PathBuf>,
    flags: Vec<(&'static Setting, String)>,
}

impl ConfigArgs {
    /// A file and no flags.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), flags: Vec::new() }
    }

    /// The same with one more flag set; `key` is `section.name`. For programs that start a node themselves.
    ///
    /// # Panics
    /// If there is no such key: the program's own bug.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers write literals, numbers and addresses")]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        let setting = setting.unwrap_or_else(|| panic!("there is no setting {key}"));
        self.flags.retain(|(other, _)| other.key != key);
        self.flags.push((setting, value.to_string()));
        self
    }
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings; flags win over it");
        SETTINGS.iter().fold(command.arg(file), |command, setting| command.arg(flag(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            matches.get_one::<String>(setting.key).map(|text| (setting, text.clone()))
        };
        Ok(Self {
            file: matches.get_one("config").cloned(),
            flags: SETTINGS.iter().filter_map(given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let help = format!("{} [default: {}]", setting.help.trim(), setting.default);
    let arg = Arg::new(setting.key).long(setting.flag).help(help).action(ArgAction::Set);
    let arg = arg.help_heading(setting.section);
    match setting.kind {
        Kind::Switch => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
        }
        Kind::Address | Kind::AddressOrOff => arg.value_name("IP:PORT"),
        Kind::Advertised => arg.value_name("HOST:PORT"),
        Kind::Path => arg.value_name("DIR"),
        Kind::Count { .. } | Kind::Threads => arg.value_name("N"),
        Kind::Size { .. } => arg.value_name("SIZE"),
        Kind::Span { .. } => arg.value_name("TIME"),
        Kind::Filter => arg.value_name("FILTER"),
        Kind::Backend => arg.value_name("STORE"),
    }
}

/// A value that somebody set.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) key: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// All values that somebody set, the winning one of a key first; and whatever is wrong with the file.
pub(super) fn collect(args: &ConfigArgs) -> (Vec<Given>, Vec<Mistake>) {
    let from_flag = |(setting, text): &(&'static Setting, String)| Given {
        key: setting.key,
        text: text.clone(),
        origin: Origin::Flag(setting.flag),
    };
    let mut given: Vec<Given> = args.flags.iter().map(from_flag).collect();
    let mut mistakes = Vec::new();
    if let Some(path) = &args.file {
        let whole = Origin::File { path: path.clone(), line: 0 };
        match std::fs::read_to_string(path) {
            Ok(text) => File { path, text: &text }.read(&mut given, &mut mistakes),
            Err(error) => {
                let problem = Problem::FileUnreadable { why: error.to_string() };
                mistakes.push(Mistake::new("", "", whole, problem));
            }
        }
    }
    (given, mistakes)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn read(&self, given: &mut Vec<Given>, mistakes: &mut Vec<Mistake>) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let origin = self.origin(error.span().map_or(0, |span| span.start));
            let problem = Problem::Syntax { why: error.message().to_owned() };
            mistakes.push(Mistake::new("", "", origin, problem));
        }
        // What could be made of a broken file may differ from what was meant: its values are not judged.
        if mistakes.is_empty() {
            self.walk("", table.get_ref(), given, mistakes);
        }
    }

    fn walk(&self, prefix: &str, table: &DeTable<'_>, given: &mut Vec<Given>, mistakes: &mut Vec<Mistake>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let setting = SETTINGS.iter().find(|setting| setting.key == key);
            match (setting, value.get_ref()) {
                (Some(setting), _) => given.push(Given {
                    key: setting.key,
                    text: self.plain_text(value),
                    origin: self.origin(name.span().start),
                }),
                (None, DeValue::Table(inner)) if is_section(&key) => {
                    self.walk(&format!("{key}."), inner, given, mistakes);
                }
                (None, _) => {
                    let problem = Problem::UnknownKey { nearest: nearest(&key) };
                    let origin = self.origin(name.span().start);
                    mistakes.push(Mistake::new(&key, &self.plain_text(value), origin, problem));
                }
            }
        }
    }

    /// A string's content, a decimal number's digits; of anything else the file's own characters.
    fn plain_text(&self, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Boolean(on) => on.to_string(),
            DeValue::Table(_) => "{…}".to_owned(),
            _ => self.text.get(value.span()).unwrap_or_default().to_owned(),
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Origin::File { path: self.path.to_owned(), line: 1 + before.matches('\n').count() }
    }
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The key with the nearest name. A right name in the wrong section is as near as can be.
fn nearest(key: &str) -> Option<&'static str> {
    let name = |key| str::rsplit(key, '.').next().unwrap_or_default();
    SETTINGS
        .iter()
        .map(|setting| (distance(key, setting.key).min(distance(name(key), name(setting.key))), setting.key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= TYPOS_MAX)
        .map(|(_, key)| key)
}

/// Levenshtein's: how many letters must be added, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, against) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *against);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}
