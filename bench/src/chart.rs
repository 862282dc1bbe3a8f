//! A measurement as a picture: latency by percentile above, rate over time below.
//!
//! One SVG without scripts or fonts of its own. Deliberately not here: what is measured.

use std::fmt::Write;

use crate::measure::{Measured, SERIES_STEP};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 870.0;

/// One of the two panels: its upper and lower edge.
#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    bottom: f64,
}

const LATENCY: Panel = Panel { top: 70.0, bottom: 320.0 };
const RATE: Panel = Panel { top: 390.0, bottom: 570.0 };

/// Percentiles are drawn up to so many nines.
const NINES_MAX: f64 = 5.0;

/// Points of the latency curve for each nine.
const POINTS_PER_NINE: usize = 20;

/// Draws a measurement under a title.
pub fn svg(title: &str, measured: &Measured) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut out, LEFT, 28.0, "start", 16, &escape(title));
    latency(&mut out, measured);
    rate(&mut out, measured);
    out.push_str("</svg>\n");
    out
}

/// Latency on a logarithmic scale, over the percentile on a scale of nines.
fn latency(out: &mut String, measured: &Measured) {
    text(out, LEFT, LATENCY.top - 12.0, "start", 13, "latency by percentile");
    let histogram = &measured.histogram;
    let low = (histogram.min().max(1) as f64).log10().floor();
    let high = (histogram.max().max(10) as f64).log10().ceil().max(low + 1.0);
    let y = |ns: f64| {
        LATENCY.bottom - (ns.max(1.0).log10() - low) / (high - low) * (LATENCY.bottom - LATENCY.top)
    };
    let x = |nines: f64| LEFT + nines / NINES_MAX * (RIGHT - LEFT);
    for power in low as i32..=high as i32 {
        let ns = 10_f64.powi(power);
        grid_line(out, y(ns), &duration(ns));
    }
    for (nines, name) in [(0.0, "0"), (0.301, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99")]
    {
        text(out, x(nines), LATENCY.bottom + 18.0, "middle", 12, &format!("{name} %"));
    }
    let points = (0..=NINES_MAX as usize * POINTS_PER_NINE).map(|step| {
        let nines = step as f64 / POINTS_PER_NINE as f64;
        let value = histogram.value_at_quantile(1.0 - 10_f64.powf(-nines));
        (x(nines), y(value as f64))
    });
    curve(out, points);
}

/// The rate over time, from zero.
fn rate(out: &mut String, measured: &Measured) {
    text(out, LEFT, RATE.top - 12.0, "start", 13, "outcomes a second, over time");
    let per_second = |count: u64| count as f64 / SERIES_STEP.as_secs_f64();
    let most = measured.series.iter().map(|count| per_second(*count)).fold(1.0, f64::max);
    let seconds = measured.series.len() as f64 * SERIES_STEP.as_secs_f64();
    let y = |rate: f64| RATE.bottom - rate / most * (RATE.bottom - RATE.top);
    let x = |second: f64| LEFT + second / seconds.max(1.0) * (RIGHT - LEFT);
    for part in [0.0, 0.5, 1.0] {
        grid_line(out, y(most * part), &format!("{:.0}", most * part));
    }
    for second in 0..=seconds as u32 {
        text(out, x(f64::from(second)), RATE.bottom + 18.0, "middle", 12, &format!("{second} s"));
    }
    let steps = measured.series.iter().enumerate();
    curve(out, steps.map(|(at, count)| (x(at as f64 * SERIES_STEP.as_secs_f64()), y(per_second(*count)))));
}

fn grid_line(out: &mut String, y: f64, name: &str) {
    let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#ddd\"/>");
    text(out, LEFT - 8.0, y + 4.0, "end", 12, name);
}

fn curve(out: &mut String, points: impl Iterator<Item = (f64, f64)>) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let points = points.join(" ");
    let _ =
        writeln!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"#1565c0\" stroke-width=\"2\"/>");
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A power of ten of nanoseconds, as people write it.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{} µs", ns / 1e3),
        ns => format!("{ns} ns"),
    }
}
