//! Redis's own generator, `redis-benchmark`: whichever of it and ours is faster speaks for Redis.
//!
//! Its buyers are random, so hardly any comes twice. Deliberately not here: latencies; ours are taken for both systems.

use std::path::Path;
use std::process::Command;

use crate::driver::Plan;
use crate::error::BenchError;
use crate::line::connect;
use crate::server::redis::{Durability, RedisServer};
use crate::speech::redis::{KEYS, RedisSpeech, call};
use crate::workload::{Kind, Workload};

/// Buyers are drawn from so many: as many as redis-benchmark can, whose number is a C int. Beyond it all would be one.
const BUYERS: &str = "2147483647";

/// Of a hundred requests so many must have been accepted, where there is plenty: else it measured something else.
const ACCEPTED_PERCENT_MIN: u64 = 99;

/// A moment within every window, as the script's caller gives it.
const NOW_MS: &str = "1";

/// Outcomes a second, of so many requests to a new server.
///
/// # Errors
/// If it is not installed, or says something else.
pub fn run(
    folder: &Path,
    durability: Durability,
    kind: Kind,
    plan: &Plan,
    requests: u64,
) -> Result<f64, BenchError> {
    let server = RedisServer::start(folder, durability)?;
    let digest = RedisSpeech::prepare(&Workload::new(kind), &mut connect(server.address())?)?;
    let output = Command::new("redis-benchmark")
        .args(["-p", &server.address().port().to_string(), "--csv", "-r", BUYERS])
        .args([
            "-c",
            &plan.connections.to_string(),
            "-P",
            &plan.frame.to_string(),
            "-n",
            &requests.to_string(),
        ])
        .args(["EVALSHA", &digest, "3"])
        .args(KEYS)
        .args(["__rand_int__", "1", NOW_MS])
        .output()
        .map_err(|_| BenchError::NoRedis("redis-benchmark"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let sold = call(&mut connect(server.address())?, &["SCARD", KEYS[1]])?;
    let accepted: u64 = sold.parse().unwrap_or(0);
    if kind == Kind::Hot && accepted * 100 < requests * ACCEPTED_PERCENT_MIN {
        let said = format!("of {requests} requests of redis-benchmark only {accepted} were accepted");
        return Err(BenchError::Protocol(said));
    }
    rate(&text).ok_or_else(|| BenchError::Protocol(format!("redis-benchmark says {text:?}")))
}

/// The second column of the last line: "test","rps",…
fn rate(csv: &str) -> Option<f64> {
    csv.lines().last()?.split("\",\"").nth(1)?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_behind_a_test_whose_name_holds_commas() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"EVALSHA a, b\",\"61349.69\",\"0.4\"\n";
        assert_eq!(rate(csv), Some(61_349.69));
        assert_eq!(rate("Could not connect"), None);
    }
}
