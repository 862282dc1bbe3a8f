//! `sluice-sim`: see the library.

use sluice_sim::campaign;
use sluice_sim::plan::{Cut, Mode};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let from: u64 = args[1].parse().unwrap();
    let n: u64 = args[2].parse().unwrap();
    let mode: Mode = args[3].parse().unwrap();
    let tells = args.len() > 4;
    for seed in from..from + n {
        let start = std::time::Instant::now();
        let o = campaign::run(seed, mode, None, &Cut::default(), tells);
        for l in &o.lines { println!("{l}"); }
        println!("{seed} {} voters {} {:?} {:016x} ev {} sim {}s span {} cpu {:?} committed {}", o.plan.mode, o.plan.voters, o.failure.map(|f| f.to_string()), o.hash, o.events, o.simulated_us/1000000, o.plan.span_us/1000000, start.elapsed(), o.tally.committed);
    }
}
