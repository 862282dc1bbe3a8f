//! The README's first sale by hand, run as it stands there against a real server.
//!
//! Relies on: commands in the README being lines that begin with `sluice`, and remarks beginning with `#`.
//! Deliberately not here: what each command can answer; see `cli.rs`.

use std::process::Command;

use serde_json::Value;
use sluice_engine::testing::Server;

const README: &str = include_str!("../../README.md");

/// Stands in the README for the id that `reserve` printed.
const ID_IN_README: &str = "0199…";

/// The commands and their remarks.
fn commands() -> Vec<(&'static str, &'static str)> {
    let lines = README.lines().filter_map(|line| line.strip_prefix("sluice "));
    lines.map(|line| line.split_once('#').unwrap_or((line, ""))).collect()
}

/// Each line of what a command prints.
fn run(server: &Server, arguments: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(arguments.split_whitespace())
        .args(["--json", "--server", &server.url()])
        .output()
        .expect("the binary was built for this test");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "sluice {arguments}\n{out}\n{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("--json prints JSON objects")).collect()
}

#[test]
fn the_first_sale_by_hand_goes_as_the_readme_says() {
    let server = Server::start();
    let commands = commands();
    let verbs: Vec<_> = commands.iter().filter_map(|(command, _)| command.split(' ').next()).collect();
    assert_eq!(verbs, ["product", "reserve", "confirm", "product", "tail"]);

    let mut id = String::new();
    for (command, remark) in commands {
        let lines = run(&server, &command.replace(ID_IN_README, &id));
        if command.starts_with("tail") {
            let kinds: Vec<_> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
            assert!(kinds.ends_with(&["reserved", "confirmed"]), "{lines:?}");
            continue;
        }
        let told = &lines[0];
        assert_eq!(told["ok"], true, "{command}: {told}");
        if command.starts_with("reserve") {
            told["id"].as_str().expect("a reservation has an id").clone_into(&mut id);
        }
        // A remark such as "free 99, held 0" names facts of the answer.
        for (name, number) in remark.split(',').filter_map(|fact| fact.trim().split_once(' ')) {
            if let Ok(number) = number.parse::<u64>() {
                assert_eq!(told[name], number, "{command}: {told}");
            }
        }
    }
}
