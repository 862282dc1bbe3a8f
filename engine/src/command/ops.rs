//! Asking an ops port: where it is, and what it means when it does not answer.
//!
//! Deliberately not here: what is asked.

use std::fmt::Display;
use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value as Json;

use super::exit::Exit;
use super::output::Failure;
use crate::ops::fetch;

const HTTP_OK: u16 = 200;
const HTTP_UNAVAILABLE: u16 = 503;

/// How long an answer may be silent: a node of ten million reservations works for a few seconds before it tells their sum.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

/// The address in `http://host:port/`, which may be written without the rest.
pub(super) fn address(url: &str) -> &str {
    let address = url.strip_prefix("http://").unwrap_or(url);
    address.strip_suffix('/').unwrap_or(address)
}

/// The body of what the port answers, as it comes. `wait` is how long the node may wait before it begins.
pub(super) fn open(
    url: &str,
    path: &str,
    timeout: Duration,
    wait: Duration,
) -> Result<BufReader<TcpStream>, Failure> {
    let address = address(url);
    // No socket waits for zero time; asking for it would be an error of the system's making.
    let timeout = timeout.max(Duration::from_millis(1));
    let opened = fetch::open(address, path, timeout, wait + SILENCE_MAX);
    let (status, mut body) = opened.map_err(|error| unavailable(address, error))?;
    if status == HTTP_OK {
        return Ok(body);
    }
    let mut text = String::new();
    // What cannot be read of a refusal is not told.
    let _ = (&mut body).take(REFUSAL_BYTES_MAX).read_to_string(&mut text);
    Err(refusal(address, status, &serde_json::from_str(&text).unwrap_or_default()))
}

/// No answer, or none that can be used.
pub(super) fn unavailable(url: &str, why: impl Display) -> Failure {
    let message =
        format!("no answer from the ops port at {}: {why}; is the node running there?", address(url));
    Failure::new(Exit::Unavailable, "unavailable", message)
}

fn refusal(address: &str, status: u16, body: &Json) -> Failure {
    let why = body["error"].as_str().unwrap_or("it does not say why; is it an older version?");
    let (exit, code) = match (body["code"].as_str(), status) {
        (Some("behind"), _) => (Exit::Unavailable, "behind"),
        (Some("forgotten"), _) => (Exit::Refused, "forgotten"),
        (Some("too_far"), _) => (Exit::Refused, "too_far"),
        (Some("damaged"), _) => (Exit::Refused, "damaged"),
        (_, HTTP_UNAVAILABLE) => (Exit::Unavailable, "busy"),
        _ => (Exit::Unavailable, "unavailable"),
    };
    let failure = Failure::new(exit, code, format!("{address}: {why}")).fact("status", status);
    let numbers = ["here", "lowest"].into_iter().filter_map(|name| Some((name, body[name].as_u64()?)));
    numbers.fold(failure, |failure, (name, number)| failure.fact(name, number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_numbers() {
        let body = json!({ "error": "too long ago", "code": "forgotten", "lowest": 7 });
        let told = refusal("h:1", 410, &body).json();
        assert_eq!(
            (&told["exit"], &told["error"], &told["lowest"]),
            (&json!(1), &json!("forgotten"), &json!(7))
        );
        let told = refusal("h:1", 404, &json!({ "error": "there is nothing at /digest" })).json();
        assert_eq!((&told["exit"], &told["status"]), (&json!(3), &json!(404)));
    }
}
