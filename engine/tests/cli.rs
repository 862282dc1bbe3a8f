//! The command line: what parses, what does not, and which exit code a script sees. No server runs here.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::process::{Command, Output};

use clap::{CommandFactory, Parser};
use serde_json::Value;
use sluice_engine::command::Cli;

fn sluice(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(args)
        .env_remove("SLUICE_SERVER")
        .env_remove("SLUICE_OPS")
        .output()
        .unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(out(output).lines().count(), 1, "one object: {}", out(output));
    serde_json::from_str(out(output)).unwrap()
}

/// A port of this machine that nobody listens on.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Command lines, and whether each is one.
fn parse(rows: &[(&str, bool)]) {
    for (line, parses) in rows {
        let words = ["sluice"].into_iter().chain(line.split_whitespace());
        let parsed = Cli::try_parse_from(words);
        assert_eq!(parsed.is_ok(), *parses, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
    }
}

#[test]
fn declarations_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_parses_and_what_does_not() {
    let id = "0198f5c2-3a4b-7c5d-8e6f-0123456789ab";
    let rows: &[(&str, bool)] = &[
        ("check-config", true),
        ("check-config --config sluice.toml --json --listen 127.0.0.1:1 --insecure-plaintext", true),
        ("check-config --insecure-plaintext=false", true),
        ("check-config --no-such-flag", false),
        ("status", true),
        ("status --ops 10.0.0.1:7480 --deadline 1s --json", true),
        ("digest", true),
        ("digest --ops 10.0.0.1:7480 --ops 10.0.0.2:7480 --at 17 --product 7 --wait 1m --json", true),
        ("digest --at now", false),
        ("reconcile --postgres postgres://shop@db/shop", true),
        (
            "reconcile --postgres postgres://db --table shop.orders --schema shop --group g --at 7 --limit 0 --repair",
            true,
        ),
        ("reconcile", false),
        ("product put 7 --stock 1000", true),
        (
            "product put 7 --stock 1000 --per-user-limit 2 --hold 10m --opens +5m --closes 2026-11-28T20:00:00Z",
            true,
        ),
        ("product put 7 --unlimited", true),
        ("product put 7 --keep-stock --opens never", true),
        ("product put 7", false),
        ("product put 7 --stock 5 --unlimited", false),
        ("product put 7 --stock 5 --keep-stock", false),
        ("product put 7 --stock -5", false),
        ("product put 7 --stock 5 --hold 15", false),
        ("product put 7 --stock 5 --opens tomorrow", false),
        ("product put seven --stock 5", false),
        ("product show 7 --server sluice://a,b:7400", true),
        ("product list --from 8 --limit 10 --json", true),
        ("product restock 7 100", true),
        ("product restock 7", false),
        ("product write-off 7 100 --id 1f", true),
        ("product seal 7", true),
        ("reserve 7 --user 42", true),
        ("reserve 7 --user 42 --quantity 2 --deadline 200ms --json", true),
        ("reserve 7", false),
        ("reserve 7 --user 42 --quantity 4294967296", false),
        ("reserve 7 --user 42 --id 00112233445566778899aabbccddeeff0", false),
        ("cancel 1f --reason 3", true),
        ("cancel xyz", false),
        ("serve-me", false),
        ("", false),
    ];
    parse(rows);
    for command in ["confirm", "cancel", "resolve", "show", "watch"] {
        assert!(Cli::try_parse_from(["sluice", command, id]).is_ok(), "{command}");
        assert!(Cli::try_parse_from(["sluice", command]).is_err(), "{command}");
    }
}

#[test]
fn what_parses_of_the_stream_and_what_does_not() {
    parse(&[
        ("tail", true),
        (
            "tail --from 2026-11-27T20:00Z --product 7 --kind reserved,written-off --count 5 --no-follow --json",
            true,
        ),
        ("tail --from yesterday", false),
        ("tail --kind sold", false),
        ("relay --to nats://host:4222", true),
        (
            "relay --to tls://a,b --creds f --group g --stream S --subject-prefix p --payload binary --source s --json",
            true,
        ),
        ("relay --to nats://host --duplicate-window 5m --replicas 3 --server sluice://a,b:7400", true),
        ("relay", false),
        ("hand-off --postgres postgres://shop@db/shop", true),
        (
            "hand-off --postgres postgres://db/shop --group g --table s.t --accept-skipped --server sluice://a,b:7400 --json",
            true,
        ),
        ("hand-off", false),
        ("relay --to nats://host --payload xml", false),
        ("group list", true),
        (
            "group create orders --start end --kinds confirmed --product 7 --product 8 --attempts 0 --retry 1s",
            true,
        ),
        (
            "group create orders --session 5s --cancel-dead 3 --required-lag 100 --backlog 1000000 --change",
            true,
        ),
        ("group create", false),
        ("group seek orders", false),
        ("group seek orders --to 10m --yes", true),
        ("group remove orders --yes", true),
        ("dead list orders --from 5", true),
        ("dead redrive orders 5 6", true),
        ("dead drop orders --all", true),
        ("dead drop orders", false),
        ("dead drop orders 5 --all", false),
        ("position orders 1f", true),
        ("position orders", false),
    ]);
}

#[test]
fn help_tells_the_exit_codes() {
    let output = sluice(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for line in ["Exit codes:", "   1  refused", "   3  unavailable", "  70  internal error"] {
        assert!(out(&output).contains(line), "{}", out(&output));
    }
}

#[test]
fn every_flag_of_a_setting_is_in_the_help() {
    let output = sluice(&["check-config", "--help"]);
    for flag in ["--listen <IP:PORT>", "--idle-timeout <TIME>", "--reply-bytes-max <SIZE>", "[limits]:"] {
        assert!(out(&output).contains(flag), "{flag} in {}", out(&output));
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(sluice(&["reserve"]).status.code(), Some(2));
    assert_eq!(sluice(&["nonsense"]).status.code(), Some(2));
    let output = sluice(&["show", "1f", "--server", "http://localhost"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("sluice://host:7400"), "{}", err(&output));
}

#[test]
fn a_wrong_configuration_is_2_and_every_mistake_is_told() {
    let flags = ["check-config", "--connections-max", "0", "--listen", "0.0.0.0:1"];
    let output = sluice(&flags);
    assert_eq!((output.status.code(), out(&output)), (Some(2), ""));
    assert!(err(&output).contains("--connections-max: limits.connections_max = \"0\""), "{}", err(&output));
    assert!(err(&output).contains("--insecure-plaintext"), "{}", err(&output));

    let output = sluice(&[&flags[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let object = json(&output);
    assert_eq!((&object["ok"], object["mistakes"].as_array().unwrap().len()), (&false.into(), 2));
    assert_eq!(object["mistakes"][0]["key"], "limits.connections_max");
}

#[test]
fn a_right_configuration_is_0_and_printed() {
    let output = sluice(&["check-config", "--idle-timeout", "90s"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let table: toml::Table = out(&output).parse().unwrap();
    assert_eq!(table["limits"]["idle_timeout"].as_str(), Some("90s"));
    assert_eq!(json(&sluice(&["check-config", "--json"]))["node"]["listen"]["value"], "127.0.0.1:7400");
}

#[test]
fn nobody_there_is_3() {
    let url = format!("sluice://127.0.0.1:{}", closed_port());
    let output = sluice(&["reserve", "7", "--user", "42", "--server", &url, "--deadline", "100ms", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let object = json(&output);
    assert_eq!(
        (&object["ok"], &object["error"], &object["exit"]),
        (&false.into(), &"disconnected".into(), &3.into())
    );
    assert!(object["message"].as_str().unwrap().contains("nothing was done"), "{object}");

    let address = format!("127.0.0.1:{}", closed_port());
    let output = sluice(&["status", "--ops", &address]);
    assert_eq!((output.status.code(), out(&output)), (Some(3), ""));
    assert!(
        err(&output).contains(&address) && err(&output).contains("is the node running"),
        "{}",
        err(&output)
    );
}
