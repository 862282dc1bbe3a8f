//! What the demo has to say at the end: for people, or as one JSON object.
//!
//! Deliberately not here: how it was found out.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::meter::{Counts, Times};
use super::stage::Complete;
use crate::audit::Findings;

/// Everything that is reported.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) units: u64,
    pub(super) buyers: u64,
    pub(super) seed: u64,
    pub(super) counts: Counts,
    pub(super) findings: Findings,
    pub(super) yes_per_s: f64,
    pub(super) no_per_s: f64,
    /// Of yeses, of noes, of calls during the outage.
    pub(super) times: [Times; 3],
    pub(super) cut: Cut,
    pub(super) complete: Complete,
    pub(super) took: Duration,
}

/// The death of the leader, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// From the kill to the first answer to a question that was asked after it.
    pub(super) rto: Option<Duration>,
    /// From the kill to the first yes of this kind.
    pub(super) reserved_again: Option<Duration>,
    /// Who led before, and who after.
    pub(super) killed: u64,
    pub(super) follows: u64,
    /// From the end of the killed one's restart until it had all that it had missed.
    pub(super) caught_up: Duration,
}

/// A line of the audit: its name, what was found, what goes with it, and whether it is as it must be.
struct Line(&'static str, String, String, bool);

impl Report {
    fn sold(&self) -> u64 {
        self.findings.shelves.iter().map(|shelf| shelf.shelf.sold).sum()
    }

    fn undersold(&self) -> u64 {
        self.units.saturating_sub(self.sold())
    }

    /// Whether every line of the audit is as it must be.
    pub(super) fn is_ok(&self) -> bool {
        self.audit().iter().all(|line| line.3)
    }

    fn audit(&self) -> Vec<Line> {
        let findings = &self.findings;
        let count = |name, number: u64, of: String| Line(name, grouped(number), of, number == 0);
        let exactly = if self.sold() == self.units { "exactly" } else { "not what there was" };
        let mut lines = vec![
            Line(
                "sold",
                grouped(self.sold()),
                format!("of {}, {exactly}", grouped(self.units)),
                self.sold() == self.units,
            ),
            count("oversold", findings.oversold(), "at any moment".to_owned()),
            count("undersold", self.undersold(), "although buyers were waiting".to_owned()),
            count("answers contradicted", findings.contradicted as u64, String::new()),
            Line(
                "answers checked",
                grouped(findings.answers as u64),
                format!(
                    "about {} ids; {} refusals against the full history",
                    grouped(findings.ids as u64),
                    grouped(findings.refusals as u64)
                ),
                findings.answers > 0,
            ),
            self.cut_line(),
        ];
        lines.extend(self.complete_line());
        lines
    }

    fn cut_line(&self) -> Line {
        let Cut { rto, killed, follows, .. } = self.cut;
        let found = rto.map_or("no".to_owned(), ms_of);
        let (name, of) = if self.complete.of == 1 {
            ("killed and restarted", "from SIGKILL to the next answer".to_owned())
        } else {
            (
                "leader killed",
                format!("from SIGKILL to the next answer; node {killed} led, then node {follows}"),
            )
        };
        Line(name, found, of, rto.is_some())
    }

    /// A node alone has nobody to keep up with.
    fn complete_line(&self) -> Option<Line> {
        let Complete { replicas, of } = self.complete;
        let caught_up = ms_of(self.cut.caught_up);
        let what = format!("of {of}; node {} restarted, and caught up within {caught_up}", self.cut.killed);
        (of > 1).then(|| Line("replicas complete", grouped(replicas as u64), what, replicas == of))
    }

    /// One object for programs.
    pub(super) fn json(&self) -> Json {
        let [yes, no, outage] = &self.times;
        let ms = |time: Duration| time.as_millis() as u64;
        json!({
            "units": self.units,
            "buyers": self.buyers,
            "seed": self.seed,
            "sold": self.sold(),
            "oversold": self.findings.oversold(),
            "undersold": self.undersold(),
            "contradicted": self.findings.contradicted,
            "answers": self.findings.answers,
            "refusals_checked": self.findings.refusals,
            "reserve_per_s": self.yes_per_s.round(),
            "refuse_per_s": self.no_per_s.round(),
            "reserve_p50_ms": yes.quantile_ms(0.5),
            "reserve_p99_ms": yes.quantile_ms(0.99),
            "reserve_p999_ms": yes.quantile_ms(0.999),
            "reserve_max_ms": yes.quantile_ms(1.0),
            "refuse_p50_ms": no.quantile_ms(0.5),
            "refuse_p99_ms": no.quantile_ms(0.99),
            "refuse_p999_ms": no.quantile_ms(0.999),
            "refuse_max_ms": no.quantile_ms(1.0),
            "outage_calls": outage.count(),
            "outage_max_ms": outage.quantile_ms(1.0),
            "nodes": self.complete.of,
            "rto_ms": self.cut.rto.map(ms),
            "reserved_again_ms": self.cut.reserved_again.map(ms),
            "led_before": self.cut.killed,
            "led_after": self.cut.follows,
            "caught_up_ms": ms(self.cut.caught_up),
            "replicas_complete": self.complete.replicas,
            "unanswered": self.counts.unanswered,
            "took_ms": self.took.as_millis() as u64,
            "contradictions": self.findings.kept.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ok": self.is_ok(),
        })
    }

    /// A page for people.
    pub(super) fn text(&self) -> String {
        let mut page = String::new();
        let (units, buyers) = (grouped(self.units), grouped(self.buyers));
        let seconds = self.took.as_secs_f64();
        let mut put = |line: String| writeln!(page, "{line}").expect("writing to memory does not fail");
        put(format!("\n  {units} units, {buyers} attempts, seed {}, {seconds:.1} s", self.seed));
        put(format!("  {}", "─".repeat(RULE_WIDTH)));
        for Line(name, found, of, ok) in self.audit() {
            let mark = if ok { "✓" } else { "✗" };
            put(format!("  {mark} {name:<21}{found:>12}  {of}").trim_end().to_owned());
        }
        put(format!("  {}", "─".repeat(RULE_WIDTH)));
        let head = ["per second", "p50 ms", "p99 ms", "p99.9 ms", "max ms"];
        put(format!("  {:<15}{}", "", head.map(|name| format!("{name:>11}")).concat()));
        let rates = [("yes", Some(self.yes_per_s)), ("no", Some(self.no_per_s)), ("in the outage", None)];
        for ((name, rate), times) in rates.into_iter().zip(&self.times) {
            let rate = rate.map_or(format!("{} calls", grouped(times.count())), |rate| grouped(rate as u64));
            let column = |ms: Option<f64>| ms.map_or(format!("{:>11}", "–"), |ms| format!("{ms:>11.2}"));
            let columns = QUANTILES.map(|quantile| column(times.quantile_ms(quantile))).concat();
            put(format!("  {name:<15}{rate:>11}{columns}"));
        }
        for contradiction in &self.findings.kept {
            put(format!("\n  ✗ {contradiction}"));
        }
        page
    }
}

/// The columns of the page; the last is the longest.
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

/// Columns of a rule.
const RULE_WIDTH: usize = 70;

fn ms_of(time: Duration) -> String {
    format!("{} ms", grouped(time.as_millis() as u64))
}

/// A number with commas.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown = [0, 999, 1_000, 12_345, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,000,000"]);
    }
}
