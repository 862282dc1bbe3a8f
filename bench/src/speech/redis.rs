//! Redis's commands: one EVALSHA does the whole job of a reservation.
//!
//! One volley is a pipeline of them. As lean as Sluice's side: numbers are formatted in place, replies are only
//! scanned. The caller's clock is taken at its word, which spares Redis a TIME. Deliberately not here: confirm and
//! cancel.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Asked, Heard, Speech, Tally};
use crate::error::BenchError;
use crate::workload::Workload;

/// The script.
pub const WHOLE_JOB: &str = include_str!("whole_job.lua");

/// The keys it works on.
pub const KEYS: [&str; 3] = ["product", "buyers", "events"];

/// See the module.
#[derive(Debug)]
pub struct RedisSpeech {
    workload: Workload,
    /// Everything of a command in front of the user.
    head: Vec<u8>,
    /// Everything behind the user.
    tail: Vec<u8>,
    next: u64,
    tally: Tally,
}

impl RedisSpeech {
    /// Asks what the workload says, by the script with this digest.
    ///
    /// # Panics
    /// If the clock stands before 1970.
    pub fn new(workload: Workload, digest: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis();
        let mut head = b"*9\r\n$7\r\nEVALSHA\r\n".to_vec();
        for word in [digest, "3"].into_iter().chain(KEYS) {
            bulk(&mut head, word);
        }
        let mut tail = Vec::new();
        bulk(&mut tail, "1");
        bulk(&mut tail, &now.to_string());
        Self { workload, head, tail, next: 0, tally: Tally::default() }
    }

    /// Loads the script and puts the workload's product on sale. The script's digest.
    ///
    /// # Errors
    /// If Redis refuses either.
    pub fn prepare(workload: &Workload, stream: &mut TcpStream) -> Result<String, BenchError> {
        let digest = call(stream, &["SCRIPT", "LOAD", WHOLE_JOB])?;
        let (_, stock) = workload.products().next().expect("every workload has a product");
        let stock = stock.to_string();
        call(stream, &["HSET", KEYS[0], "free", &stock, "opens", "0", "closes", "0"])?;
        Ok(digest)
    }

    fn count(&mut self, reply: &[u8]) -> Result<(), BenchError> {
        match reply {
            b":1" => self.tally.accepted += 1,
            b":-1" | b":-2" => self.tally.refused += 1,
            [b':', ..] => self.tally.other += 1,
            other => {
                return Err(BenchError::Protocol(format!("Redis says {:?}", String::from_utf8_lossy(other))));
            }
        }
        Ok(())
    }
}

impl Speech for RedisSpeech {
    fn greet(&mut self, _: &mut TcpStream) -> Result<(), BenchError> {
        Ok(())
    }

    fn ask(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        let tag = self.next;
        for number in tag..tag + u64::from(items) {
            out.extend_from_slice(&self.head);
            decimal(out, self.workload.wish(number).user.0);
            out.extend_from_slice(&self.tail);
        }
        self.next += u64::from(items);
        Asked { tag, items }
    }

    fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<usize, BenchError> {
        let (mut taken, mut items) = (0, 0);
        while let Some(length) = bytes[taken..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[taken..taken + length];
            self.count(line.strip_suffix(b"\r").unwrap_or(line))?;
            taken += length + 1;
            items += 1;
        }
        if items > 0 {
            heard.push(Heard { tag: None, items });
        }
        Ok(taken)
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// A command on a connection that blocks: the text of its answer.
///
/// # Errors
/// If Redis answers with an error, or not at all.
pub fn call(stream: &mut TcpStream, words: &[&str]) -> Result<String, BenchError> {
    stream.write_all(&command(words)).map_err(BenchError::io("asking Redis"))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(BenchError::io("awaiting Redis"))?;
    match line.trim_end().split_at_checked(1) {
        Some(("$", length)) => {
            let length: usize = length
                .parse()
                .map_err(|_| BenchError::Protocol(format!("Redis says {line:?} instead of a length")))?;
            let mut text = vec![0; length + 2];
            std::io::Read::read_exact(&mut reader, &mut text).map_err(BenchError::io("awaiting Redis"))?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        _ => Err(BenchError::Protocol(format!("Redis says {line:?}"))),
    }
}

/// A command as Redis wants it: an array of strings.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bulk(&mut command, word);
    }
    command
}

/// Appends a string as Redis wants it: its length, then its bytes.
fn bulk(out: &mut Vec<u8>, word: &str) {
    out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
}

/// Appends a number as a string, without a detour over the heap.
fn decimal(out: &mut Vec<u8>, mut number: u64) {
    /// Digits of the largest number.
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = &digits[start..];
    out.push(b'$');
    if digits.len() >= 10 {
        out.push(b'0' + (digits.len() / 10) as u8);
    }
    out.push(b'0' + (digits.len() % 10) as u8);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_redis_reads_them() {
        let mut out = Vec::new();
        for number in [0, 7, 1_234_567_890, u64::MAX] {
            out.clear();
            decimal(&mut out, number);
            let text = number.to_string();
            assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("${}\r\n{text}\r\n", text.len()));
        }
    }

    #[test]
    fn replies_are_counted_whole_and_only_whole() {
        let mut speech = RedisSpeech::new(Workload::new(crate::workload::Kind::Hot), "digest");
        let mut heard = Vec::new();
        assert_eq!(speech.hear(b":1\r\n:-1\r\n:-2\r\n:", &mut heard).unwrap(), 14);
        assert_eq!(heard[0].items, 3);
        assert_eq!(speech.tally(), Tally { accepted: 1, refused: 2, ..Tally::default() });
        assert!(speech.hear(b"-NOSCRIPT No matching script\r\n", &mut heard).is_err());
    }
}
