//! The configuration: what wins, what is refused, and what is said about it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use sluice_engine::config::{Config, ConfigArgs, ConfigErrors, Mistake, Origin, Problem, resolve};

/// Arguments as the command line has them; a first one that does not start with a dash becomes the file's text.
fn load(file: &str, flags: &[&str]) -> Result<Config, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sluice.toml");
    std::fs::write(&path, file).unwrap();
    Config::load(&args(&[&["--config", path.to_str().unwrap()], flags].concat()))
}

fn args(flags: &[&str]) -> ConfigArgs {
    let command = ConfigArgs::augment_args(Command::new("sluice"));
    let matches = command.try_get_matches_from([&["sluice"], flags].concat()).unwrap();
    ConfigArgs::from_arg_matches(&matches).unwrap()
}

/// The mistakes of a file and flags, as `place key: problem`.
fn mistakes(file: &str, flags: &[&str]) -> Vec<String> {
    let errors = load(file, flags).expect_err("it has mistakes");
    errors.mistakes().iter().map(short).collect()
}

fn short(mistake: &Mistake) -> String {
    let place = match &mistake.origin {
        Origin::Default => "default".to_owned(),
        Origin::File { line, .. } => format!("line {line}"),
        Origin::Flag(flag) => format!("--{flag}"),
    };
    let problem = match &mistake.problem {
        Problem::Unreadable { .. } => "unreadable".to_owned(),
        Problem::OutOfRange { .. } => "out of range".to_owned(),
        Problem::UnknownKey { nearest } => format!("unknown, nearest {}", nearest.unwrap_or("none")),
        Problem::Conflict { .. } => "conflict".to_owned(),
        Problem::PlaintextBeyondLoopback => "plaintext".to_owned(),
        Problem::FileUnreadable { .. } => "no file".to_owned(),
        Problem::Syntax { .. } => "syntax".to_owned(),
    };
    format!("{place} {}: {problem}", mistake.key)
}

#[test]
fn nothing_said_is_a_valid_configuration() {
    let config = Config::load(&ConfigArgs::default()).unwrap();
    assert_eq!(config.node.listen, "127.0.0.1:7400".parse::<SocketAddr>().unwrap());
    assert_eq!(config.node.listen.port(), sluice_protocol::DEFAULT_PORT);
    assert_eq!(config.ops.listen, "127.0.0.1:7480".parse::<SocketAddr>().unwrap());
    assert_eq!(config.node.data, PathBuf::from("./sluice-data"));
    assert!(config.node.net_threads >= 1);
    let agreed = config.cluster.ledger_settings();
    assert_eq!(agreed, sluice_core::ledger::settings::Settings::default(), "one default, said in two places");
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file = "[limits]\nconnections_max = 5\nidle_timeout = '20s'\n[log]\nsnapshot_every_bytes = '2MiB'\n";
    let config =
        load(file, &["--connections-max", "6", "--insecure-plaintext", "--listen", "0.0.0.0:1"]).unwrap();
    assert_eq!(config.limits.connections_max, 6);
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(20));
    assert_eq!(config.log.snapshot_every_bytes, 2 << 20);
    assert_eq!(config.limits.handshake_timeout, Duration::from_secs(5));
    assert!(config.node.insecure_plaintext);
    assert_eq!(config.node.listen.to_string(), "0.0.0.0:1");
}

#[test]
fn every_setting_can_be_given_as_a_flag_and_in_a_file() {
    let defaults = resolve(&ConfigArgs::default()).unwrap();
    let command = ConfigArgs::augment_args(Command::new("sluice"));
    for setting in defaults.settings() {
        let value = setting.value.to_string();
        let flag = command.get_arguments().find(|arg| arg.get_id() == setting.key).unwrap();
        let given = format!("--{}={value}", flag.get_long().unwrap());
        let by_flag = resolve(&args(&[&given])).unwrap();
        let (section, name) = setting.key.split_once('.').unwrap();
        let quoted = if value.parse::<u64>().is_ok() || value.parse::<bool>().is_ok() {
            value
        } else {
            format!("{value:?}")
        };
        let by_file = load(&format!("{section}.{name} = {quoted}"), &[]).unwrap();
        assert_eq!(by_flag.config(), defaults.config(), "{given}");
        assert_eq!(by_file, defaults.config(), "{section}.{name} = {quoted}");
        assert!(by_flag.settings().iter().any(|s| s.key == setting.key && s.origin != Origin::Default));
    }
}

#[test]
fn each_mistake_is_named() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("[limits]\nconnections_max = 0", &[], &["line 2 limits.connections_max: out of range"]),
        ("[limits]\nconnections_max = -1", &[], &["line 2 limits.connections_max: unreadable"]),
        ("limits.connections_max = 1.5", &[], &["line 1 limits.connections_max: unreadable"]),
        ("limits.connections_max = []", &[], &["line 1 limits.connections_max: unreadable"]),
        ("limits.connections_max = {}", &[], &["line 1 limits.connections_max: unreadable"]),
        ("limits.frames_in_flight_max = 257", &[], &["line 1 limits.frames_in_flight_max: out of range"]),
        ("limits.idle_timeout = 15", &[], &["line 1 limits.idle_timeout: unreadable"]),
        ("limits.idle_timeout = '999ms'", &[], &["line 1 limits.idle_timeout: out of range"]),
        ("limits.reply_bytes_max = '1KiB'", &[], &["line 1 limits.reply_bytes_max: out of range"]),
        (
            "limits.conections_max = 1",
            &[],
            &["line 1 limits.conections_max: unknown, nearest limits.connections_max"],
        ),
        ("listen = '127.0.0.1:1'", &[], &["line 1 listen: unknown, nearest node.listen"]),
        ("[limit]\nparked_max = 1", &[], &["line 1 limit: unknown, nearest none"]),
        ("[node.listen]\nport = 1", &[], &["line 1 node.listen: unreadable"]),
        ("cluster.records_max = 1", &[], &["line 1 cluster.records_max: out of range"]),
        ("cluster.outcome_retention = '31d'", &[], &["line 1 cluster.outcome_retention: out of range"]),
        ("node.data = ''", &[], &["line 1 node.data: unreadable"]),
        ("node.insecure_plaintext = 'yes'", &[], &["line 1 node.insecure_plaintext: unreadable"]),
        ("node.log_filter = 'info=='", &[], &["line 1 node.log_filter: unreadable"]),
        ("node.net_threads = 0", &[], &["line 1 node.net_threads: out of range"]),
        ("node.listen = 'localhost'", &[], &["line 1 node.listen: unreadable"]),
        ("node.listen = '0.0.0.0:7400'", &[], &["line 1 node.listen: plaintext"]),
        ("", &["--ops", "[::]:7480"], &["--ops ops.listen: plaintext"]),
        ("", &["--listen", "127.0.0.1:7480"], &["default ops.listen: conflict"]),
        ("limits.request_budget_max = '100ms'", &[], &["default limits.request_budget_default: conflict"]),
        (
            "",
            &["--request-budget-max", "61s"],
            &["--request-budget-max limits.request_budget_max: out of range"],
        ),
        ("[limits\n", &[], &["line 1 : syntax"]),
        ("log.open_timeout = '2m'\nlog.open_timeout = '3m'", &[], &["line 2 : syntax"]),
    ];
    for (file, flags, expected) in rows {
        assert_eq!(mistakes(file, flags), *expected, "{file} {flags:?}");
    }
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let file = "[limits]\nconnections_max = 0\nidle_time = '5s'\n\n[node]\nlisten = '10.0.0.1:7400'\n";
    let flags = ["--net-threads", "many", "--ops", "nowhere"];
    let expected = [
        "line 3 limits.idle_time: unknown, nearest limits.idle_timeout",
        "--net-threads node.net_threads: unreadable",
        "line 2 limits.connections_max: out of range",
        "--ops ops.listen: unreadable",
        "line 6 node.listen: plaintext",
    ];
    assert_eq!(mistakes(file, &flags), expected);
}

#[test]
fn the_message_says_where_what_and_what_instead() {
    let errors = load("[limits]\nconnections_max = 0\n", &["--listen", "192.0.2.1:7400"]).unwrap_err();
    let text = errors.to_string();
    assert!(text.starts_with("the configuration has 2 mistakes:\n"), "{text}");
    let line = "sluice.toml:2: limits.connections_max = \"0\": out of range; allowed is a whole number from 1 to 1000000";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("--listen: node.listen = \"192.0.2.1:7400\": is reachable from other machines"),
        "{text}"
    );
    assert!(text.contains("--insecure-plaintext"), "{text}");
}

#[test]
fn two_free_ports_do_not_collide() {
    let args = ConfigArgs::default().with("node.listen", "127.0.0.1:0").with("ops.listen", "127.0.0.1:0");
    assert_eq!(Config::load(&args).unwrap().node.listen.port(), 0);
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let errors = Config::load(&args(&["--config", "/nonexistent/sluice.toml"])).unwrap_err();
    assert_eq!(errors.mistakes().iter().map(short).collect::<Vec<_>>(), ["line 0 : no file"]);
}
