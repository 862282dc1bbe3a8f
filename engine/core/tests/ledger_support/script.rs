//! A small language for the ledger's rules.
//!
//! ```text
//! settings records=3 retention=1000        before anything else
//! t 5000                                   the stamp of the entries that follow
//! reserve r1 p1 u1 2 = Reserved #3 until 6000
//! confirm r1 ; confirm r1 = Confirmed #4 ; Already Confirmed #4        two commands of one entry
//! pulse                                    an entry without commands
//! product p1 = stock 10 free 8 held 0 sold 2
//! read r1 = Confirmed #4 p1 u1 2 ended 5000
//! units p1 u1 = 2
//! due = 6000                               when time alone changes something; `never`
//! reload                                   save, load, go on
//! ```
//!
//! `put p1 stock=10 limit=2 hold=1000 opens=1 closes=2 unlimited`; without a stock it keeps it. `#n` is an
//! event's sequence. `t` moves no time by itself. What there is to say of consumer groups is told in `consume.rs`.

#![allow(clippy::unwrap_used)]

use sluice_core::ledger::command::{Cancel, ChangeStock, Group, Put, Reserve};
use sluice_core::ledger::settings::Settings;
use sluice_protocol::{Answer, ProductId, ReservationId, State, Status, UserId};

use crate::ledger_support::Observed;

#[path = "consume.rs"]
mod consume;

/// Runs a script; fails at the first line that is not as written.
pub(crate) fn run(name: &str, script: &str) {
    let mut observed = None;
    let mut stamp_ms = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = match line.split_once(" = ") {
            Some((command, expected)) => (command.trim(), expected.trim()),
            None => (line, ""),
        };
        let words: Vec<&str> = command.split_whitespace().collect();
        if words[0] == "settings" {
            observed = Some(Observed::new(settings(&words[1..]), 1));
            continue;
        }
        let observed = observed.get_or_insert_with(|| Observed::new(settings(&[]), 1));
        let got = match words[0] {
            "t" => {
                stamp_ms = words[1].parse().unwrap();
                String::new()
            }
            "reload" => {
                observed.reload();
                String::new()
            }
            "pulse" => {
                observed.apply(stamp_ms, Vec::new());
                String::new()
            }
            "product" => product(observed, number(words[1])),
            "read" => read(observed, number(words[1])),
            "units" => {
                let (product, user) = (number(words[1]), number(words[2]));
                observed.ledger.user_units(ProductId(product), UserId(user)).to_string()
            }
            "due" => observed.ledger.pulse_due_ms().map_or("never".to_owned(), |due| due.to_string()),
            "now" => observed.ledger.now_ms().to_string(),
            _ => match consume::read(observed, &words) {
                Some(text) => text,
                None => carry_out(observed, stamp_ms, command),
            },
        };
        assert_eq!(got, expected, "\nin \"{name}\", line: {line}");
    }
}

/// Applies an entry of some commands, and tells their answers.
fn carry_out(observed: &mut Observed, stamp_ms: u64, commands: &str) -> String {
    let groups = commands.split(';').map(|command| group(observed, command)).collect();
    let answers = observed.apply(stamp_ms, groups).answers;
    let answers = commands.split(';').zip(&answers).map(|(command, answer)| {
        let word = command.split_whitespace().next().unwrap();
        consume::render(word, answer).unwrap_or_else(|| render(answer))
    });
    answers.collect::<Vec<_>>().join(" ; ")
}

fn settings(words: &[&str]) -> Settings {
    let field = |name| field(words, name);
    Settings {
        records_max: field("records").unwrap_or(1000) as u32,
        retention_ms: field("retention").unwrap_or(1_000_000),
    }
}

/// The number in `name=number`.
fn field(words: &[&str], name: &str) -> Option<u64> {
    let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.parse().unwrap())
}

/// The number in `p1`, `u1`, `r1`, and behind any other letter.
fn number(word: &str) -> u64 {
    word[1..].parse().unwrap()
}

fn group(observed: &Observed, command: &str) -> Group {
    let words: Vec<&str> = command.split_whitespace().collect();
    if let Some(group) = consume::group(observed, &words) {
        return group;
    }
    let first = number(words[1]);
    let id = u128::from(first);
    let quantity = |at: usize| words[at].parse().unwrap();
    let change = || ChangeStock { id, product: number(words[2]), quantity: quantity(3) };
    match words[0] {
        "reserve" => {
            let (product, user) = (number(words[2]), number(words[3]));
            Group::Reserve(vec![Reserve { id, product, user, quantity: quantity(4) }])
        }
        "confirm" => Group::Confirm(vec![id]),
        "cancel" => {
            let reason = words.get(2).map_or(0, |reason| reason.parse().unwrap());
            Group::Cancel(vec![Cancel { id, reason }])
        }
        "resolve" => Group::Resolve(vec![id]),
        "restock" => Group::Restock(vec![change()]),
        "writeoff" => Group::WriteOff(vec![change()]),
        "seal" => Group::Seal(vec![first]),
        "put" => Group::Put(vec![Put {
            product: first,
            stock: field(&words, "stock"),
            opens_ms: field(&words, "opens").unwrap_or(0),
            closes_ms: field(&words, "closes").unwrap_or(0),
            per_user_limit: field(&words, "limit").unwrap_or(0) as u32,
            hold_ms: field(&words, "hold").unwrap_or(1000) as u32,
            unlimited: words.contains(&"unlimited"),
        }]),
        other => panic!("no such command: {other}"),
    }
}

/// An answer in the words of the language.
fn render(answer: &Answer) -> String {
    let status = answer.status().unwrap();
    let sequence = answer.sequence();
    match status {
        Status::Reserved => format!("Reserved #{sequence} until {}", answer.deadline_ms()),
        Status::Confirmed | Status::Cancelled | Status::Expired | Status::AlreadyConfirmed | Status::Done => {
            format!("{status:?} #{sequence}")
        }
        Status::Already => match answer.state() {
            State::Refused => format!("Already Refused {:?}", answer.refused_with().unwrap()),
            State::Held => format!("Already Held #{sequence} until {}", answer.deadline_ms()),
            state => format!("Already {state:?} #{sequence}"),
        },
        Status::Insufficient => {
            let (free, held, back) = (answer.free(), answer.held(), answer.earliest_return_ms());
            format!("Insufficient free {free} held {held} back {back}")
        }
        Status::LimitReached => format!("LimitReached {} of {}", answer.user_has(), answer.limit()),
        Status::NotOpen => format!("NotOpen {} in {}", answer.opens_ms(), answer.opens_in_ms()),
        Status::Closed => format!("Closed {}", answer.closes_ms()),
        Status::StockDiffers => format!("StockDiffers {}", answer.stock_at_creation()),
        Status::Invalid => {
            let (field, value, low, high) = answer.refused_field().unwrap();
            let high = if high == u64::MAX { "max".to_owned() } else { high.to_string() };
            format!("Invalid {field:?} {value} in {low}..{high}")
        }
        status => format!("{status:?}"),
    }
}

fn product(observed: &Observed, product: u64) -> String {
    let Some(view) = observed.ledger.product(ProductId(product)) else { return "none".to_owned() };
    let sealed = if view.sealed { " sealed" } else { "" };
    format!("stock {} free {} held {} sold {}{sealed}", view.stock, view.free, view.held, view.sold)
}

fn read(observed: &Observed, id: u64) -> String {
    let Some((state, view)) = observed.ledger.reservation(ReservationId(u128::from(id))) else {
        return "none".to_owned();
    };
    let mut text =
        format!("{state:?} #{} p{} u{} {}", view.sequence, view.product.0, view.user.0, view.quantity);
    for (name, value) in
        [("until", view.deadline_ms), ("ended", view.ended_ms), ("reason", u64::from(view.reason))]
    {
        if value != 0 {
            text += &format!(" {name} {value}");
        }
    }
    text
}
