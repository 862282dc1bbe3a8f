//! Events, made by reservations as fast as a server grants them.
//!
//! A thousand products, so that a group has something in each of its lanes. Deliberately not here: who reads them.

use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::line::connect;
use crate::speech::Speech;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// The load that makes them: large frames, a few in flight. Stretches are short, so that few are made beyond what was
/// wanted, and long beside what is under way when one ends, which is made and not heard of.
const LOAD: Plan = Plan {
    pace: Pace::Closed,
    connections: 8,
    frame: 1024,
    pipeline: 1,
    warm_up: Duration::ZERO,
    measure: Duration::from_millis(100),
};

/// Stretches without a single yes before it is given up.
const STRETCHES_IN_VAIN_MAX: u32 = 200;

/// Products on sale, and who asks for them.
///
/// # Errors
/// If the server refuses them.
pub fn sale(address: SocketAddr) -> Result<SluiceSpeech, BenchError> {
    let mut speech = SluiceSpeech::new(Workload::new(Kind::Zipf));
    speech.prepare(&mut connect(address)?)?;
    Ok(speech)
}

/// Reserves until so many were granted in all; how many a second.
///
/// # Errors
/// If the server breaks off, or grants nothing any more.
pub fn fill(speech: &mut impl Speech, address: SocketAddr, wanted: u64) -> Result<f64, BenchError> {
    let bar = bar(wanted, "reserving");
    let (first, mut seconds, mut in_vain) = (speech.tally().accepted, 0.0, 0);
    let mut before = first;
    while before < wanted {
        seconds += drive(speech, address, &LOAD, None, &mut |_| {})?.seconds;
        let now = speech.tally().accepted;
        in_vain = if now > before { 0 } else { in_vain + 1 };
        if in_vain > STRETCHES_IN_VAIN_MAX {
            return Err(BenchError::Protocol(format!("nothing is granted any more, at {now}")));
        }
        before = now;
        bar.set_position(now);
    }
    bar.finish_and_clear();
    Ok((before - first) as f64 / seconds)
}

/// Shows how far it has come.
pub fn bar(wanted: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").expect("it is a template");
    ProgressBar::new(wanted).with_style(style).with_message(what)
}
