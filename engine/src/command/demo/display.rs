//! How the demo looks while it runs: two bars on a terminal, an occasional line elsewhere, nothing with `--json`.
//!
//! Deliberately not here: the report.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sluice_client::Product;

use super::meter::Counts;
use super::report::grouped;

/// How often the display changes.
pub(super) const REFRESH: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Columns of the bar of units.
const SHELF_WIDTH: u64 = 40;

/// See the module.
#[derive(Debug)]
pub(super) enum Display {
    /// `--json`.
    Silent,
    /// No terminal.
    Lines { last: Instant, phase: String },
    /// A terminal.
    Bars { all: MultiProgress, phase: ProgressBar, attempts: ProgressBar, shelf: ProgressBar },
}

impl Display {
    pub(super) fn new(silent: bool, attempts: u64) -> Self {
        if silent {
            return Self::Silent;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines { last: Instant::now(), phase: String::new() };
        }
        let all = MultiProgress::new();
        let style = |template| ProgressStyle::with_template(template).expect("the template is right");
        let add = |bar: ProgressBar, template| all.add(bar).with_style(style(template));
        let phase = add(ProgressBar::new_spinner(), "  {spinner} {msg}");
        let attempts =
            add(ProgressBar::new(attempts), "  attempts {bar:40} {human_pos} of {human_len}  {msg}");
        let shelf = add(ProgressBar::new_spinner(), "  units    {msg}");
        phase.enable_steady_tick(REFRESH);
        Self::Bars { all, phase, attempts, shelf }
    }

    /// Something else begins.
    pub(super) fn phase(&mut self, what: &str) {
        match self {
            Self::Silent => {}
            Self::Lines { phase, .. } => {
                what.clone_into(phase);
                line(what);
            }
            Self::Bars { phase, .. } => phase.set_message(what.to_owned()),
        }
    }

    /// Shows where things stand.
    pub(super) fn show(&mut self, counts: Counts, product: Option<&Product>) {
        let told = format!("yes {}  no {}", grouped(counts.yes), grouped(counts.no));
        match self {
            Self::Silent => {}
            Self::Lines { last, phase } => {
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    let units = product.map(figures).unwrap_or_default();
                    line(&format!("{phase}: {} attempts, {told}{units}", grouped(counts.attempts)));
                }
            }
            Self::Bars { attempts, shelf, .. } => {
                attempts.set_position(counts.attempts);
                attempts.set_message(told);
                if let Some(product) = product {
                    shelf.set_message(format!("{}{}", bar(product), figures(product)));
                }
            }
        }
    }

    /// Leaves the screen to the report.
    pub(super) fn close(&mut self) {
        if let Self::Bars { all, phase, attempts, shelf } = self {
            [phase, attempts, shelf].into_iter().for_each(|bar| bar.finish_and_clear());
            // A terminal that cannot be cleared is still readable.
            let _: io::Result<()> = all.clear();
        }
    }
}

fn line(text: &str) {
    // Nobody may be reading; the report will come anyway.
    let _ = writeln!(io::stderr(), "{text}");
}

fn figures(product: &Product) -> String {
    let (sold, held, free) = (grouped(product.sold), grouped(product.held), grouped(product.free));
    format!("  sold {sold}, held {held}, free {free}")
}

/// Sold, held and free units as a bar.
fn bar(product: &Product) -> String {
    let columns = |units: u64| (units * SHELF_WIDTH / product.stock.max(1)) as usize;
    let sold = columns(product.sold);
    let held = columns(product.sold + product.held) - sold;
    let free = SHELF_WIDTH as usize - sold - held;
    format!("{}{}{}", "█".repeat(sold), "▒".repeat(held), "·".repeat(free))
}
