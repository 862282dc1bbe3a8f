//! What a command has to tell: one word, then facts. Written once; printed for people or as one JSON object.
//!
//! For people, columns are aligned, units named, times given as UTC with how far away they are. For programs, every
//! fact keeps its name, times are milliseconds since 1970 with the UTC text beside them. Deliberately not here:
//! where the facts come from.

use std::fmt::{Debug, Write};

use serde_json::{Map, Value as Json, json};
use sluice_client::{At, Invalid};

use super::exit::Exit;
use super::time::{Span, Utc};
use crate::ops::labels::snake_case;

/// A fact's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// A name, an id, a state.
    Text(String),
    /// A number that is only a number.
    Number(u64),
    /// A number of units.
    Units(u64),
    /// Units that are allowed; 0 = as many as one likes.
    Limit(u64),
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
    facts: Facts,
    rows: Option<(&'static str, Vec<Facts>)>,
    at: Option<At>,
}

/// Facts by name, in the order in which they are told.
pub(super) type Facts = Vec<(&'static str, Fact)>;

impl Told {
    /// A yes.
    pub(super) fn yes(outcome: &'static str) -> Self {
        Self { exit: Exit::Done, outcome, facts: Vec::new(), rows: None, at: None }
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

    /// Puts facts before those that are there: what was asked comes before what came of it.
    #[must_use]
    pub(super) fn about(mut self, facts: Facts) -> Self {
        self.facts.splice(0..0, facts);
        self
    }

    /// Adds a list under a name: things that have the same facts. It is told behind the facts, if there are any.
    #[must_use]
    pub(super) fn list(mut self, name: &'static str, rows: Vec<Facts>) -> Self {
        self.rows = Some((name, rows));
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
        if let Some((name, rows)) = &self.rows {
            object.insert((*name).to_owned(), rows.iter().map(object_of).collect());
        }
        if let Some(at) = self.at {
            object.insert("index".to_owned(), json!(at.index));
            object.insert("ledger_time_ms".to_owned(), json!(at.time_ms));
        }
        Json::Object(object)
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let now_ms = self.at.map(|at| at.time_ms);
        if let Some((name, rows)) = self.rows.as_ref().filter(|_| self.facts.is_empty()) {
            return table(name, rows);
        }
        let mut text = format!("{}\n", self.outcome.replace('_', " "));
        let width = self.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, fact) in &self.facts {
            let label = name.replace('_', " ");
            writeln!(text, "  {label:width$}  {}", say(fact, now_ms)).expect("a string takes any text");
        }
        if let Some((name, rows)) = &self.rows {
            write!(text, "\n{}", table(name, rows)).expect("a string takes any text");
        }
        text
    }
}

/// Too few units are free.
pub(super) fn insufficient(free: u64, held: u64, earliest_return_ms: u64) -> Told {
    Told::no("insufficient")
        .fact("free", Fact::Units(free))
        .fact("held", Fact::Units(held))
        .fact("earliest_return", Fact::Time(earliest_return_ms))
}

/// A field is out of its range.
pub(super) fn invalid(refused: &Invalid) -> Told {
    Told::no("invalid")
        .fact("field", Fact::Text(name_of(refused.field)))
        .fact("value", Fact::Number(refused.value))
        .fact("lowest", Fact::Number(refused.low))
        .fact("highest", Fact::Number(refused.high))
        .at(refused.at)
}

/// An outcome of a later version of the client, which this command line does not know by name.
pub(super) fn unforeseen(outcome: impl Debug) -> Told {
    Told::no("unforeseen").fact("detail", Fact::Text(format!("{outcome:?}")))
}

/// A status, a state or a field by its name: `sold_out`.
pub(super) fn name_of(thing: impl Debug) -> String {
    snake_case(&format!("{thing:?}"))
}

fn object_of(facts: &Facts) -> Json {
    let mut object = Map::new();
    for (name, fact) in facts {
        insert(&mut object, name, fact);
    }
    Json::Object(object)
}

fn insert(object: &mut Map<String, Json>, name: &str, fact: &Fact) {
    let (key, value) = match fact {
        Fact::Text(text) => (name.to_owned(), json!(text)),
        Fact::Number(number) | Fact::Units(number) | Fact::Limit(number) => (name.to_owned(), json!(number)),
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
fn say(fact: &Fact, now_ms: Option<u64>) -> String {
    match fact {
        Fact::Text(text) => text.clone(),
        Fact::Number(number) => number.to_string(),
        Fact::Limit(0) => "none".to_owned(),
        Fact::Units(1) | Fact::Limit(1) => "1 unit".to_owned(),
        Fact::Units(units) | Fact::Limit(units) => format!("{} units", grouped(*units)),
        Fact::Time(0) => "-".to_owned(),
        Fact::Time(ms) => match now_ms {
            Some(now_ms) if *ms == now_ms => format!("{} (now)", Utc(*ms)),
            Some(now_ms) if *ms > now_ms => format!("{} (in {})", Utc(*ms), Span { ms: ms - now_ms }),
            Some(now_ms) => format!("{} ({} ago)", Utc(*ms), Span { ms: now_ms - ms }),
            None => Utc(*ms).to_string(),
        },
        Fact::Span(ms) => Span { ms: *ms }.to_string(),
        Fact::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
    }
}

/// `1234567` → `1,234,567`.
fn grouped(number: u64) -> String {
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

/// Rows under a head, each column as wide as its widest cell; to the right, as numbers are.
fn table(name: &str, rows: &[Facts]) -> String {
    let Some(first) = rows.first() else {
        return format!("no {}\n", name.replace('_', " "));
    };
    let head: Vec<String> = first.iter().map(|(name, _)| name.replace('_', " ")).collect();
    let cells = rows.iter().map(|row| row.iter().map(|(_, fact)| cell(fact)).collect());
    let lines: Vec<Vec<String>> = [head].into_iter().chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        writeln!(text, "{}", padded.join("  ").trim_end()).expect("a string takes any text");
    }
    text
}

/// A fact in a column: its head names the unit.
fn cell(fact: &Fact) -> String {
    match fact {
        Fact::Units(units) => grouped(*units),
        other => say(other, None),
    }
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
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        let row = |product, free| vec![("product", Fact::Number(product)), ("free", Fact::Units(free))];
        let list = Told::yes("done").list("products", vec![row(7, 1000), row(12, 3)]);
        assert_eq!(list.text(), "product   free\n      7  1,000\n     12      3\n");
        assert_eq!(list.json()["products"][1], json!({ "product": 12, "free": 3 }));
        assert_eq!(Told::yes("done").list("products", Vec::new()).text(), "no products\n");
    }
}
