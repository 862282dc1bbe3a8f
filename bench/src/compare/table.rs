//! A comparison for people.
//!
//! Deliberately not here: JSON, which is the structure itself.

use std::fmt::Write;

use super::Comparison;
use super::cell::{Load, Row, System};
use crate::server::redis::Durability;
use crate::workload::Kind;

const PER_MS: f64 = 1e3;

/// The whole text.
pub fn tell(comparison: &Comparison) -> String {
    let mut out = String::new();
    let rounds = comparison.effort.rounds;
    let _ = writeln!(out, "{}", comparison.machine.line());
    let _ = writeln!(
        out,
        "Redis {}: the whole job in one Lua script. Medians of {rounds} rounds, in turns, by the same generator.\n\
         Sluice's answers are always on disk.\n",
        comparison.redis_version
    );
    for (kind, title) in [(Kind::Hot, "accepted"), (Kind::SoldOut, "sold out")] {
        let _ = writeln!(
            out,
            "{title:<10} {:<22} {:>12} {:>10} {:>10} {:>14} {:>11}",
            "load", "outcomes/s", "p50 ms", "p99 ms", "CPU s/million", "bytes each"
        );
        let is_peak = |row: &&Row| row.cell.kind == kind && row.cell.load.fits(None);
        comparison.rows.iter().filter(is_peak).for_each(|row| line(&mut out, row));
        out.push('\n');
    }
    let _ = writeln!(out, "latency at an equal load");
    let is_equal = |row: &&Row| !row.cell.load.fits(None);
    comparison.rows.iter().filter(is_equal).for_each(|row| line(&mut out, row));
    let _ = writeln!(
        out,
        "\nSluice ÷ Redis         appendfsync always   memory only\n\
         accepted, best depth   {:>18.2}   {:>11.2}\n\
         sold out, best depth   {:>18.2}   {:>11.2}\n\
         accepted, single calls {:>18.2}   {:>11.2}",
        comparison.reserve_ratio,
        comparison.reserve_ratio_memory,
        comparison.sold_out_ratio,
        comparison.sold_out_ratio_memory,
        comparison.single_call_ratio,
        comparison.single_call_ratio_memory,
    );
    let no_outcome: u64 = comparison.rows.iter().map(|row| row.no_outcome).sum();
    if no_outcome > 0 {
        let _ =
            writeln!(out, "\n{no_outcome} answers were no outcomes (busy or unknown); they are not counted.");
    }
    out
}

fn line(out: &mut String, row: &Row) {
    let system = match row.cell.system {
        System::Sluice => "sluice",
        System::Redis(Durability::Memory) => "redis mem",
        System::Redis(Durability::Always) => "redis disk",
    };
    let load = match row.cell.load {
        Load::Peak { connections, frame, pipeline } => format!("{connections} × {pipeline} × {frame}"),
        Load::Equal { per_second } => format!("{per_second} due a second"),
    };
    let ms = |us: Option<f64>| us.map_or_else(String::new, |us| format!("{:.2}", us / PER_MS));
    let known = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let bytes = if row.cell.kind == Kind::SoldOut { None } else { row.bytes_per_reservation };
    let _ = writeln!(
        out,
        "{system:<10} {load:<22} {:>12.0} {:>10} {:>10} {:>14} {:>11}",
        row.rate,
        ms(row.latency.map(|latency| latency.p50_us)),
        ms(row.latency.map(|latency| latency.p99_us)),
        known(row.cpu_seconds_per_million, 2),
        known(bytes, 0),
    );
}
