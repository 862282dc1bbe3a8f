//! The page is enough: a client in another language, written from `docs/PROTOCOL.md` alone, builds the page's
//! own bytes and sells against a real server.
//!
//! Relies on: `python3`, which a machine with Rust need not have. So these tests are ignored unless asked for
//! (`cargo test -p sluice-engine --test python_client -- --ignored`), as `.ci/run` does. Deliberately not here: the Rust client's tests, and what the server does under load.

use std::process::Command;

use serde_json::Value;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_client.py");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");

/// Runs the client and reads its lines.
fn run(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new("python3").arg(CLIENT).args(arguments).output();
    let output = output.expect("python3 is needed: apt-get install python3");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the client failed\n{out}\n{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("the client prints JSON")).collect()
}

fn step<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    let steps: Vec<_> = lines.iter().filter(|line| line["step"] == name).collect();
    assert!(!steps.is_empty(), "no step {name:?}");
    steps
}

#[test]
#[ignore = "needs python3"]
fn another_language_builds_the_pages_requests() {
    let lines = run(&["--page", PAGE]);
    let built: Vec<_> = lines.iter().filter(|line| line.get("equal").is_some()).collect();
    assert_eq!(built.len(), 31, "the requests of the page's session");
    for line in built {
        assert_eq!(line["equal"], true, "{line}");
    }
}

#[test]
#[ignore = "needs python3"]
fn another_language_reads_the_pages_replies() {
    let lines = run(&["--page", PAGE]);
    let item = |name: &str, at: usize| step(&lines, name)[0]["items"][at].clone();
    let deadline = item("reserve-reply", 0)["b"].clone();
    assert_eq!(item("reserve-reply", 0)["status"], "Reserved");
    assert_eq!(item("reserve-reply", 1)["status"], "Insufficient");
    assert_eq!(item("reserve-reply", 1)["c"], deadline, "Ben hears when Anna's unit could come back");
    assert_eq!(item("reserve-again-reply", 0)["state"], "Held");
    assert_eq!(item("query-reservation-reply", 0)["record"]["id"], "019900000000700080000000000000a1");
    let product = &item("list-products-reply", 0)["record"];
    assert_eq!((&product["stock"], &product["sold"]), (&1.into(), &1.into()));
    let events = item("fetch-reply", 0)["events"].clone();
    assert_eq!(events.as_array().expect("a row of events").len(), 2);
    assert_eq!((&events[0]["intact"], &events[1]["intact"]), (&true.into(), &true.into()));
    assert_eq!((&events[0]["sequence"], &events[1]["detail"]), (&5.into(), &17.into()));
    assert_eq!(item("fetch-redriven-reply", 0)["redriven"], 1);
    assert_eq!(item("fault", 0)["text"], "idle");
}

/// What each step of the client's sale must hear: step, status, state.
const SALE: &[(&str, &str, &str)] = &[
    ("put", "Done", "None"),
    ("put again", "Done", "None"),
    ("put other stock", "StockDiffers", "None"),
    ("reserve a", "Reserved", "Held"),
    ("reserve a again", "Already", "Held"),
    ("reserve a for another", "IdConflict", "None"),
    ("reserve b", "Reserved", "Held"),
    ("reserve c", "Insufficient", "None"),
    ("reserve nothing", "Invalid", "None"),
    ("confirm a", "Confirmed", "Confirmed"),
    ("confirm a again", "Already", "Confirmed"),
    ("cancel b", "Cancelled", "Cancelled"),
    ("cancel a", "AlreadyConfirmed", "Confirmed"),
    ("resolve d", "Fenced", "Fenced"),
    ("reserve d", "Fenced", "Fenced"),
    ("query a and b", "Done", "Confirmed"),
    ("query a and b", "Done", "Cancelled"),
    ("query product", "Done", "None"),
    ("restock", "Done", "None"),
    ("restock again", "Already", "Applied"),
    ("write off", "Done", "None"),
    ("seal", "Done", "None"),
    ("reserve e", "SoldOut", "None"),
    ("list", "Done", "None"),
    ("query before ping", "Done", "None"),
];

#[test]
#[ignore = "needs python3"]
fn another_language_sells_against_a_real_server() {
    use sluice_protocol::FaultCode;

    let server = sluice_engine::testing::Server::start();
    let lines = run(&[&server.address().to_string()]);

    let heard: Vec<_> = lines.iter().filter(|line| line.get("status").is_some()).collect();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let heard: Vec<_> =
        heard.iter().map(|line| (text(line, "step"), text(line, "status"), text(line, "state"))).collect();
    let expected: Vec<_> =
        SALE.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    assert_eq!(heard, expected);

    let reserved = step(&lines, "reserve a")[0];
    assert_eq!(step(&lines, "reserve a again")[0]["b"], reserved["b"], "a retry tells the same deadline");
    assert_eq!(step(&lines, "put again")[0]["a"], 0, "nothing changed");
    assert_eq!(step(&lines, "put other stock")[0]["a"], 3, "stock at creation");
    let short = step(&lines, "reserve c")[0];
    assert_eq!((&short["a"], &short["b"], &short["c"]), (&0.into(), &3.into(), &reserved["b"]));

    let product = &step(&lines, "query product")[0]["record"];
    let counts = ["stock", "free", "held", "sold"].map(|field| product[field].as_u64());
    assert_eq!(counts, [Some(3), Some(2), Some(0), Some(1)]);
    let product = &step(&lines, "list")[0]["record"];
    let counts = ["stock", "free", "held", "sold", "flags"].map(|field| product[field].as_u64());
    assert_eq!(
        counts,
        [Some(1), Some(0), Some(0), Some(1), Some(4)],
        "sealed, and only the sold unit is left"
    );
    assert_eq!(step(&lines, "query a and b")[1]["record"]["reason"], 17);
    assert_eq!(step(&lines, "damaged frame")[0]["fault"], FaultCode::BadChecksum as u16);
}
