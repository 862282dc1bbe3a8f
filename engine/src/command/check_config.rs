//! `sluice check-config`: the configuration as it would be in effect, or all its mistakes.
//!
//! What it prints for people is itself a configuration file.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value as Json, json};

use super::exit::Exit;
use super::output;
use crate::config::{ConfigArgs, ConfigErrors, Effective, Origin, Resolved, Value, resolve};

/// Print the configuration that `serve` would run with, or everything that is wrong with it.
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl CheckConfigArgs {
    pub(super) fn run(&self) -> Exit {
        match resolve(&self.config) {
            Ok(resolved) if self.json => output::print(&format!("{}\n", json_of(&resolved)), Exit::Done),
            Ok(resolved) => output::print(&toml_of(&resolved), Exit::Done),
            Err(errors) if self.json => output::print(&format!("{}\n", json_of_errors(&errors)), Exit::Usage),
            Err(errors) => output::complain(&errors.to_string(), Exit::Usage),
        }
    }
}

fn toml_of(resolved: &Resolved) -> String {
    let lines: Vec<(String, String)> = resolved
        .settings()
        .iter()
        .map(|setting| {
            (format!("{} = {}", name(setting), literal(&setting.value)), setting.origin.to_string())
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut last = "";
    for (setting, (line, origin)) in resolved.settings().iter().zip(&lines) {
        if section(setting) != last {
            last = section(setting);
            let gap = if text.is_empty() { "" } else { "\n" };
            writeln!(text, "{gap}[{last}]").expect("a string takes any text");
        }
        writeln!(text, "{line:width$}  # {origin}").expect("a string takes any text");
    }
    text
}

fn section(setting: &Effective) -> &'static str {
    setting.key.split_once('.').expect("keys are section.name").0
}

fn name(setting: &Effective) -> &'static str {
    setting.key.split_once('.').expect("keys are section.name").1
}

/// A value as TOML has it.
fn literal(value: &Value) -> String {
    match value {
        Value::Switch(_) | Value::Count(_) => value.to_string(),
        _ => toml::Value::String(value.to_string()).to_string(),
    }
}

fn json_of(resolved: &Resolved) -> Json {
    let mut object = json!({ "ok": true });
    for setting in resolved.settings() {
        let value = match &setting.value {
            Value::Switch(on) => json!(on),
            Value::Count(count) => json!(count),
            other => json!(other.to_string()),
        };
        object[section(setting)][name(setting)] = json!({ "value": value, "origin": setting.origin.to_string(), "default": setting.origin == Origin::Default });
    }
    object
}

fn json_of_errors(errors: &ConfigErrors) -> Json {
    let mistake = |mistake: &crate::config::Mistake| {
        json!({
            "key": mistake.key,
            "value": mistake.value,
            "origin": mistake.origin.to_string(),
            "problem": mistake.problem.to_string(),
        })
    };
    json!({ "ok": false, "mistakes": errors.mistakes().iter().map(mistake).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_with_the_same_meaning() {
        let args =
            ConfigArgs::default().with("node.data", "/tmp/a \"b\"\\c").with("limits.idle_timeout", "90s");
        let resolved = resolve(&args).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml_of(&resolved)).unwrap();
        let again = resolve(&ConfigArgs::from_file(file.path())).unwrap();
        assert_eq!(again.config(), resolved.config());
    }

    #[test]
    fn defaults_are_marked() {
        let resolved = resolve(&ConfigArgs::default().with("limits.idle_timeout", "90s")).unwrap();
        let text = toml_of(&resolved);
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        assert!(
            line("idle_timeout").contains("\"90s\"") && line("idle_timeout").ends_with("# --idle-timeout")
        );
        assert!(line("frame_timeout").ends_with("# default"));
        let json = json_of(&resolved);
        assert_eq!(json["limits"]["idle_timeout"]["default"], json!(false));
        assert_eq!(
            json["limits"]["connections_max"],
            json!({ "value": 10_000, "origin": "default", "default": true })
        );
    }
}
