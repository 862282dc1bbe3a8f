//! The stream in the hands of an operator: tail, groups, dead letters, places in line, by the command line and a real
//! server.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_client::{Client, Consumed};
use sluice_engine::testing::Server;

use self::rig::command::{Told, sluice, sluice_says};
use self::rig::run;

/// How often a status is asked for that is to change.
const POLL: Duration = Duration::from_millis(20);

/// A server, and the command line that talks to it.
struct Shop(Server);

impl Shop {
    fn new() -> Self {
        Self(Server::start())
    }

    fn args<'a>(&self, line: &'a str, url: &'a str) -> Vec<&'a str> {
        line.split_whitespace().chain(["--server", url]).collect()
    }

    /// Runs a command that tells one thing.
    fn told(&self, line: &str) -> Told {
        let url = self.0.url();
        sluice(&self.args(line, &url))
    }

    /// Runs a command that prints lines. Its exit code, and each line.
    fn lines(&self, line: &str) -> (i32, Vec<Value>) {
        let url = self.0.url();
        let (code, said) = sluice_says(&[&self.args(line, &url)[..], &["--json"]].concat());
        (code, said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// What people read.
    fn says(&self, line: &str) -> String {
        let url = self.0.url();
        sluice_says(&self.args(line, &url)).1
    }

    /// A reservation of one unit of product 7, and its sequence.
    fn reserve(&self, user: u64) -> (String, u64) {
        let told = self.told(&format!("reserve 7 --user {user}"));
        assert_eq!(told.short(), (0, "reserved"));
        (told.json["id"].as_str().unwrap().to_owned(), told.json["sequence"].as_u64().unwrap())
    }
}

fn each<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().map(|line| &line[name]).collect()
}

#[test]
fn events_are_printed_as_they_are_wanted() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    assert_eq!(shop.told("product put 8 --stock 10").code, 0);
    let (id, sequence) = shop.reserve(42);
    assert_eq!(shop.told(&format!("confirm {id}")).code, 0);

    let (code, all) = shop.lines("tail --from beginning --no-follow");
    let kinds = ["terms_changed", "restocked", "terms_changed", "restocked", "reserved", "confirmed"];
    assert_eq!(
        (code, each(&all, "kind")),
        (0, kinds.iter().map(|kind| json!(kind)).collect::<Vec<_>>().iter().collect())
    );
    let sequences: Vec<u64> = all.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
    assert_eq!((&all[4]["id"], &all[4]["user"], sequence), (&json!(id), &json!(42), 5));

    let (_, some) = shop.lines("tail --from beginning --no-follow --product 7 --kind reserved,confirmed");
    assert_eq!(some, all[4..]);
    let (_, one) = shop.lines("tail --from 4 --count 1");
    assert_eq!(one, all[3..4]);
    assert_eq!(shop.lines("tail --no-follow"), (0, Vec::new()));
    assert_eq!(shop.lines("tail --from 1h --no-follow").1, all);
    let said = shop.says("tail --from 5 --no-follow");
    assert!(said.contains("  reserved       1 of product 7  user 42  "), "{said}");
}

#[test]
fn whoever_follows_hears_of_what_happens_later() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    let url = shop.0.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["tail", "--from", "3", "--count", "1", "--json", "--server", &url]).stdout(Stdio::piped());
    let tail = command.spawn().unwrap();
    // Sequences 1 and 2 are the product's: there is nothing to print before this.
    let (id, _) = shop.reserve(42);
    let output = tail.wait_with_output().unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &line["sequence"], &line["id"]), (Some(0), &json!(3), &json!(id)));
}

#[test]
fn groups_are_made_shown_moved_and_removed() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    let ((id, _), (behind, _)) = (shop.reserve(42), shop.reserve(43));
    let create = "group create orders --kinds reserved,confirmed --product 7 --attempts 3 --retry 10ms --required-lag 50";
    assert_eq!(shop.told(create).short(), (0, "created"));
    assert_eq!(shop.told(create).short(), (1, "exists"));
    assert_eq!(shop.told(&format!("{create} --change --backlog 100000")).short(), (0, "changed"));
    assert_eq!(shop.told("group create Orders").code, 2);
    assert_eq!(shop.told("group create others --session 1ms").short(), (1, "invalid"));

    let shown = shop.told("group show orders").json;
    let wanted = json!({
        "group": "orders", "cursor": 0, "lag": 4, "members": 0, "dead_letters": 0, "kinds": "reserved, confirmed",
        "products": "7", "attempts": 3, "retry_ms": 10, "required_lag": 50, "backlog": 100_000,
    });
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(shown[name], *value, "{name} in {shown}");
    }
    let listed = shop.told("group list").json;
    assert_eq!((&listed["groups"][0]["group"], &listed["groups"][0]["lag"]), (&json!("orders"), &json!(4)));
    assert_eq!(shop.told("group show nobody").short(), (1, "unknown_group"));

    let place = shop.told(&format!("position orders {id}"));
    assert_eq!((place.short(), &place.json["ahead"]), ((0, "next"), &json!(0)));
    let place = shop.told(&format!("position orders {behind}"));
    assert_eq!((place.short(), &place.json["ahead"]), ((0, "waiting"), &json!(1)));
    assert_eq!(shop.told(&format!("position nobody {id}")).short(), (1, "unknown_group"));
    assert_eq!(shop.told("position orders 1f").short(), (1, "unknown_reservation"));

    let asked = shop.told("group seek orders --to end");
    assert_eq!((asked.short(), &asked.json["passed_over"]), ((1, "needs_yes"), &json!(4)));
    assert_eq!(shop.told("group show orders").json["cursor"], 0);
    assert_eq!(shop.told("group seek orders --to end --yes").short(), (0, "moved"));
    assert_eq!(shop.told("group show orders").json["lag"], 0);
    assert_eq!(shop.told(&format!("position orders {id}")).short(), (0, "acknowledged"));

    assert_eq!(shop.told("group remove orders").short(), (1, "needs_yes"));
    assert_eq!(shop.told("group remove orders --yes").short(), (0, "removed"));
    assert_eq!(shop.told("group remove orders --yes").short(), (1, "unknown_group"));
    assert_eq!(shop.says("group list"), "no groups\n");
}

#[test]
fn dead_letters_are_listed_delivered_again_and_dropped() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    let sequences = [shop.reserve(1).1, shop.reserve(2).1, shop.reserve(3).1];
    run(async {
        let client = Client::connect(&shop.0.url()).await.unwrap();
        let mut consumer = client.consume("orders").open().await.unwrap();
        let mut parked = 0;
        while parked < sequences.len() {
            match consumer.next().await.unwrap().unwrap() {
                Consumed::Event(delivery) if delivery.event().user.0 != 0 => delivery.park(9).unwrap(),
                Consumed::Event(delivery) => delivery.ack().unwrap(),
                Consumed::Parked { .. } => parked += 1,
                other => panic!("{other:?}"),
            }
        }
        consumer.close().await.unwrap();
    });
    let listed = shop.told("dead list orders").json;
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(
        each(letters, "sequence"),
        sequences.map(|sequence| json!(sequence)).iter().collect::<Vec<_>>()
    );
    assert_eq!((&letters[0]["cause"], &letters[0]["kind"]), (&json!(9), &json!("reserved")));
    assert_eq!(shop.told("group show orders").json["dead_letters"], 3);

    assert_eq!(shop.told(&format!("dead redrive orders {}", sequences[0])).short(), (0, "redriven"));
    assert_eq!(shop.told("dead redrive orders 1").short(), (1, "unknown_dead"));
    run(async {
        let client = Client::connect(&shop.0.url()).await.unwrap();
        let mut consumer = client.consume("orders").open().await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap().delivery().unwrap();
        assert_eq!((delivery.event().sequence, delivery.is_redriven()), (sequences[0], true));
        delivery.ack().unwrap();
        consumer.close().await.unwrap();
    });
    let dropped = shop.told("dead drop orders --all");
    assert_eq!((dropped.short(), &dropped.json["dropped"]), ((0, "dropped"), &json!(2)));
    assert_eq!(shop.says("dead list orders"), "no dead letters\n");
    assert_eq!(shop.told("dead list nobody").short(), (1, "unknown_group"));
}

#[test]
fn a_watch_ends_as_the_reservation_does() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    let ((sold, _), (back, _)) = (shop.reserve(1), shop.reserve(2));
    assert_eq!(shop.told(&format!("confirm {sold}")).code, 0);
    assert_eq!(shop.told(&format!("cancel {back}")).code, 0);
    for (id, code, state) in [(sold, 0, "confirmed"), (back, 1, "cancelled")] {
        let (exit, lines) = shop.lines(&format!("watch {id}"));
        assert_eq!((exit, each(&lines, "state")), (code, vec![&json!(state)]));
    }
}

#[test]
fn a_group_that_is_late_is_told_until_it_has_caught_up() {
    let shop = Shop(Server::start_with(|config| config.with("stream.alarm_age", "1s")));
    let ops = shop.0.ops_address().to_string();
    let late = || {
        let groups = sluice(&["status", "--ops", &ops]).json["groups"].clone();
        (groups[0]["group"].clone(), groups[0]["lag"].clone(), groups[0]["late"].clone())
    };
    let until = |wanted: (Value, Value, Value)| {
        while late() != wanted {
            thread::sleep(POLL);
        }
    };
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    assert_eq!(shop.told("group create orders").code, 0);
    until((json!("orders"), json!(2), json!(true)));
    let said = sluice_says(&["status", "--ops", &ops]).1;
    assert!(said.contains("1, LATE: orders"), "{said}");
    assert_eq!(shop.told("group seek orders --to end --yes").code, 0);
    until((json!("orders"), json!(0), json!(false)));
}

#[test]
fn whoever_has_to_queue_hears_his_place() {
    let shop = Shop::new();
    assert_eq!(shop.told("product put 7 --stock 10").code, 0);
    assert_eq!(shop.told("group create orders --start end --required-lag 2").code, 0);
    // Told apart from a refusal: nothing was done, and nothing is settled.
    let queued = loop {
        let told = shop.told("reserve 7 --user 42");
        if told.code != 0 {
            break told;
        }
    };
    assert_eq!(queued.short(), (3, "queueing"));
    assert!(queued.json["place"].as_u64().unwrap() > 0, "{queued:?}");
    assert_eq!(shop.told("group seek orders --to end --yes").code, 0);
    let id = queued.json["id"].as_str().unwrap();
    assert_eq!(shop.told(&format!("reserve 7 --user 42 --id {id}")).short(), (0, "reserved"));
}
