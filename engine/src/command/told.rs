//! What a command has to tell: one word, then facts. Written once; printed for people or as one JSON object.
//!
//! For people, columns are aligned, units named, times given as UTC with how far away they are. For programs, every
//! fact keeps its name, times are milliseconds since 1970 with the UTC text beside them. Deliberately not here:
//! where the facts come from.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};
use sluice_protocol::response::At;

use super::exit::Exit;
use super::time::{Span, Utc};

/// A fact's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// A name, an id, a state.
    Text(String),
    /// A number that is only a number.
    Number(u64),
    /// A number of units.
    Units(u64),
    /// A point in time, milliseconds since 1970; 0 = none.
    Time(u64),
    /// A span of time, milliseconds.
    Span(u64),
    /// Yes or no.
    Flag(bool),
}

/// One word and its facts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    exit: Exit,
    outcome: &'static str,
    facts: Vec<(&'static str, Fact)>,
    at: Option<At>,
}

impl Told {
    /// A yes.
    pub(super) fn yes(outcome: &'static str) -> Self {
        Self { exit: Exit::Done, outcome, facts: Vec::new(), at: None }
    }

    /// A final no.
    pub(super) fn no(outcome: &'static str) -> Self {
        Self { exit: Exit::Refused, ..Self::yes(outcome) }
    }

    /// Adds a fact.
    #[must_use]
    pub(super) fn fact(mut self, name: &'static str, fact: Fact) -> Self {
        self.facts.push((name, fact));
        self
    }

    /// The log index and ledger time at which all of it holds.
    #[must_use]
    pub(super) fn at(mut self, at: At) -> Self {
        self.at = Some(at);
        self
    }

    /// The exit code that goes with it.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// One JSON object, on one line.
    pub(super) fn json(&self) -> Json {
        let mut object = Map::new();
        object.insert("ok".to_owned(), json!(self.exit == Exit::Done));
        object.insert("outcome".to_owned(), json!(self.outcome));
        for (name, fact) in &self.facts {
            insert(&mut object, name, fact);
        }
        if let Some(at) = self.at {
            object.insert("index".to_owned(), json!(at.index));
            object.insert("ledger_time_ms".to_owned(), json!(at.time_ms));
        }
        Json::Object(object)
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.outcome.replace('_', " "));
        let now_ms = self.at.map(|at| at.time_ms);
        let width = self.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, fact) in &self.facts {
            let label = name.replace('_', " ");
            writeln!(text, "  {label:width$}  {}", say(fact, now_ms)).expect("a string takes any text");
        }
        text
    }
}

fn insert(object: &mut Map<String, Json>, name: &str, fact: &Fact) {
    let (key, value) = match fact {
        Fact::Text(text) => (name.to_owned(), json!(text)),
        Fact::Number(number) | Fact::Units(number) => (name.to_owned(), json!(number)),
        Fact::Flag(flag) => (name.to_owned(), json!(flag)),
        Fact::Span(ms) => (format!("{name}_ms"), json!(ms)),
        Fact::Time(ms) => {
            let text = if *ms == 0 { Json::Null } else { json!(Utc(*ms).to_string()) };
            object.insert(name.to_owned(), text);
            (format!("{name}_ms"), json!(ms))
        }
    };
    object.insert(key, value);
}

/// A fact for people. Times are put in relation to ledger time, which is the clock that holds end by.
pub(super) fn say(fact: &Fact, now_ms: Option<u64>) -> String {
    match fact {
        Fact::Text(text) => text.clone(),
        Fact::Number(number) => number.to_string(),
        Fact::Units(1) => "1 unit".to_owned(),
        Fact::Units(units) => format!("{} units", grouped(*units)),
        Fact::Time(0) => "-".to_owned(),
        Fact::Time(ms) => match now_ms {
            Some(now_ms) if *ms >= now_ms => format!("{} (in {})", Utc(*ms), Span { ms: ms - now_ms }),
            Some(now_ms) => format!("{} ({} ago)", Utc(*ms), Span { ms: now_ms - ms }),
            None => Utc(*ms).to_string(),
        },
        Fact::Span(ms) => Span { ms: *ms }.to_string(),
        Fact::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
    }
}

/// `1234567` → `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Rows under a head, each column as wide as its widest cell, to the right as numbers are.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  "))
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved() -> Told {
        Told::yes("reserved")
            .fact("quantity", Fact::Units(2))
            .fact("deadline", Fact::Time(1_000_900_000))
            .fact("sequence", Fact::Number(7))
            .at(At { index: 12, time_ms: 1_000_000_000 })
    }

    #[test]
    fn people_read_aligned_facts() {
        let text = "reserved\n  quantity  2 units\n  deadline  1970-01-12T14:01:40.000Z (in 15m 0s)\n  sequence  7\n";
        assert_eq!(reserved().text(), text);
    }

    #[test]
    fn programs_read_one_object() {
        let expected = json!({
            "ok": true, "outcome": "reserved", "quantity": 2, "deadline": "1970-01-12T14:01:40.000Z",
            "deadline_ms": 1_000_900_000_u64, "sequence": 7, "index": 12, "ledger_time_ms": 1_000_000_000,
        });
        assert_eq!(reserved().json(), expected);
        assert_eq!(Told::no("sold_out").json(), json!({ "ok": false, "outcome": "sold_out" }));
    }

    #[test]
    fn numbers_and_tables_line_up() {
        assert_eq!((grouped(0), grouped(999), grouped(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        let rows = [vec!["7".to_owned(), "1,000".to_owned()], vec!["12".to_owned(), "3".to_owned()]];
        assert_eq!(table(&["product", "free"], &rows), "product   free\n      7  1,000\n     12      3\n");
    }
}
