//! The same on a stream of Redis: a consumer group, XREADGROUP and XACK.
//!
//! The stream is made by the script that does the whole job, so an event is what an order system would get from there:
//! user and quantity. The consumer is as lean as its protocol allows, asks for as many at a time as ours takes, and has
//! one read under way ahead of the one that it works on, as the client crate has. Deliberately not here: durability;
//! Redis keeps all of it in memory only.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::take::{BATCH, Taken, Taking};
use super::{GROUP, StreamArgs};
use crate::driver::{Pace, Plan, drive};
use crate::error::BenchError;
use crate::line::connect;
use crate::server::redis::{Durability, RedisServer};
use crate::speech::Speech;
use crate::speech::redis::{KEYS, RedisSpeech, call, command};
use crate::workload::{Kind, Workload};

/// The load that makes the events, at the depth that suits Redis best. What is under way when a stretch ends is not heard
/// of, so stretches are long enough for that to be little.
const LOAD: Plan = Plan {
    pace: Pace::Closed,
    connections: 50,
    frame: 64,
    pipeline: 1,
    warm_up: std::time::Duration::ZERO,
    measure: std::time::Duration::from_millis(500),
};

/// The stream is the last of the script's keys.
const STREAM: &str = KEYS[2];

/// The only member of the group.
const MEMBER: &str = "one";

/// Bytes read at a time, as the generator reads them.
const READ_BYTES: usize = 256 * 1024;

impl StreamArgs {
    /// One round on a new server; `None` if Redis is not installed.
    pub(super) fn redis_round(&self) -> Result<Option<Taken>, BenchError> {
        let server = match RedisServer::start(&self.server.given.folder, Durability::Memory) {
            Ok(server) => server,
            Err(BenchError::NoRedis(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        fill(server.address(), self.events)?;
        let mut stream = connect(server.address())?;
        call(&mut stream, &["XGROUP", "CREATE", STREAM, GROUP, "0"])?;
        let taking = Taking::begin(server.process());
        let events = Reader::new(stream).take()?;
        Ok(Some(taking.end(events)))
    }
}

fn fill(address: SocketAddr, wanted: u64) -> Result<(), BenchError> {
    let workload = Workload::new(Kind::Hot);
    let digest = RedisSpeech::prepare(&workload, &mut connect(address)?)?;
    let mut speech = RedisSpeech::new(workload, &digest);
    let bar = super::fill::bar(wanted, "reserving at Redis");
    while speech.tally().accepted < wanted {
        let before = speech.tally();
        drive(&mut speech, address, &LOAD, None, &mut |_| {})?;
        if speech.tally() == before {
            return Err(BenchError::Protocol("Redis grants nothing any more".to_owned()));
        }
        bar.set_position(speech.tally().accepted);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What an answer belongs to.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Read,
    Ack,
}

/// The consumer.
#[derive(Debug)]
struct Reader {
    stream: BufReader<TcpStream>,
    asked: VecDeque<Asked>,
    line: Vec<u8>,
    /// Ids of the entries that were read last.
    ids: Vec<String>,
}

impl Reader {
    fn new(stream: TcpStream) -> Self {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        Self { stream, asked: VecDeque::new(), line: Vec::new(), ids: Vec::new() }
    }

    /// Takes events until there are none, and acknowledges each. How many.
    fn take(mut self) -> Result<u64, BenchError> {
        let count = BATCH.to_string();
        let read = command(&["XREADGROUP", "GROUP", GROUP, MEMBER, "COUNT", &count, "STREAMS", STREAM, ">"]);
        let (mut events, mut acknowledged) = (0, 0);
        for _ in 0..2 {
            self.ask(&read, Asked::Read)?;
        }
        while let Some(asked) = self.asked.pop_front() {
            match asked {
                Asked::Ack => acknowledged += self.number(b':')?.unwrap_or(0),
                Asked::Read if self.read()? == 0 => {}
                Asked::Read => {
                    events += self.ids.len() as u64;
                    let words: Vec<&str> = ["XACK", STREAM, GROUP]
                        .into_iter()
                        .chain(self.ids.iter().map(String::as_str))
                        .collect();
                    let ack = command(&words);
                    self.ask(&ack, Asked::Ack)?;
                    self.ask(&read, Asked::Read)?;
                }
            }
        }
        if acknowledged == events { Ok(events) } else { Err(strange(&self.line)) }
    }

    fn ask(&mut self, command: &[u8], asked: Asked) -> Result<(), BenchError> {
        self.asked.push_back(asked);
        self.stream.get_mut().write_all(command).map_err(BenchError::io("asking Redis"))
    }

    /// One answer of XREADGROUP: an array of streams, each a name and an array of entries, each an id and an array of
    /// fields. How many entries.
    fn read(&mut self) -> Result<usize, BenchError> {
        self.ids.clear();
        for _ in 0..self.number(b'*')?.unwrap_or(0) {
            self.number(b'*')?;
            self.bulk()?;
            for _ in 0..self.number(b'*')?.unwrap_or(0) {
                self.number(b'*')?;
                self.bulk()?;
                self.ids.push(String::from_utf8_lossy(&self.line).into_owned());
                for _ in 0..self.number(b'*')?.unwrap_or(0) {
                    self.bulk()?;
                }
            }
        }
        Ok(self.ids.len())
    }

    /// A line of this kind: its number; `None` for what is not there.
    fn number(&mut self, kind: u8) -> Result<Option<u64>, BenchError> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).map_err(BenchError::io("awaiting Redis"))?;
        match self.line.trim_ascii_end() {
            [first, b'-', ..] if *first == kind => Ok(None),
            [first, digits @ ..] if *first == kind && digits.iter().all(u8::is_ascii_digit) => {
                Ok(Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
            }
            line => Err(strange(line)),
        }
    }

    /// Reads a string into the line.
    fn bulk(&mut self) -> Result<(), BenchError> {
        let length = self.number(b'$')?.unwrap_or(0) as usize;
        self.line.resize(length + 2, 0);
        self.stream.read_exact(&mut self.line).map_err(BenchError::io("awaiting Redis"))?;
        self.line.truncate(length);
        Ok(())
    }
}

fn strange(line: &[u8]) -> BenchError {
    BenchError::Protocol(format!("Redis says {:?}", String::from_utf8_lossy(line)))
}
