//! Fills gaps: events that are missing here are fetched from other nodes, which have the same ones.
//!
//! A node that was sent a snapshot has not made the events of the entries before it. Whoever reads the stream here waits
//! meanwhile, and is never told that they are gone. They are fetched as any client fetches events, checked one by one, and
//! put into files of their own. What retention has dropped elsewhere nobody needed: it is dropped here too.
//!
//! Deliberately not here: who needs them, and the files ([`super::store`]).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use sluice_protocol::consumed::DeliveryHead;
use sluice_protocol::event::{EVENT_LEN, EventRecord};
use sluice_protocol::handshake::{Hello, Welcome};
use sluice_protocol::header::{self, HEADER_LEN};
use sluice_protocol::ids::ClusterId;
use sluice_protocol::seat::{FetchItem, SeatItem};
use sluice_protocol::{FrameHeader, Kind, PROTOCOL_VERSION, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::Missing;

/// How long another node may take to accept a connection, or to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Events that are put into one file: sixteen megabytes.
const FILE_EVENTS: usize = (16 << 20) / EVENT_LEN;

/// What a node gave of a gap.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// These, from the beginning of the gap on.
    Events(Vec<EventRecord>),
    /// Its retention has dropped all before this sequence.
    DroppedBefore(u64),
    /// It has none of them.
    Nothing,
}

/// A connection to another node, as a client.
#[derive(Debug)]
pub struct Giver {
    stream: TcpStream,
    /// Bytes a second that may come.
    rate: u64,
    correlation: u64,
}

impl Giver {
    /// Connects to a node's port for clients.
    ///
    /// # Errors
    /// The system's, or [`io::ErrorKind::InvalidData`] if a node of this cluster does not answer there.
    pub fn connect(address: &str, cluster: ClusterId, rate: u64) -> io::Result<Self> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "the address names nobody");
        let address = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut giver = Self { stream, rate, correlation: 0 };
        let hello = Hello { version_min: 1, version_max: 1, name: "sluice-events", credentials: b"" };
        let mut frame = vec![0; HEADER_LEN];
        hello.encode(&mut frame);
        header::seal(&mut frame, Kind::Hello, 0, 0, 0, 0);
        giver.stream.write_all(&frame)?;
        let (_, frame) = giver.read_frame(Kind::Welcome)?;
        let welcome = Welcome::decode(&frame[HEADER_LEN..]).map_err(io::Error::other)?;
        if welcome.cluster != cluster {
            return Err(invalid("a node of another cluster answers"));
        }
        Ok(giver)
    }

    /// What it has of a gap, as far as one file goes.
    ///
    /// # Errors
    /// The system's, or [`io::ErrorKind::InvalidData`] if what comes is not what was asked for.
    pub fn give(&mut self, gap: Missing) -> io::Result<Given> {
        let wanted = usize::try_from(gap.to - gap.from + 1).unwrap_or(usize::MAX).min(FILE_EVENTS);
        let (mut events, begun) = (Vec::new(), Instant::now());
        while events.len() < wanted {
            let next = gap.from + events.len() as u64;
            let (head, found) = self.fetch(next)?;
            match head.answer.status() {
                Some(Status::Done) if found.is_empty() => break,
                Some(Status::Done) => {
                    let sound = |(sequence, event): (u64, &EventRecord)| {
                        event.sequence() == sequence && event.view().is_some()
                    };
                    if !(next..).zip(&found).all(sound) {
                        return Err(invalid("events are damaged, or not in a row"));
                    }
                    let room = wanted - events.len();
                    events.extend(found.into_iter().take(room).map(EventRecord::stored));
                }
                Some(Status::Gap) if events.is_empty() => {
                    let [first, ..] = head.answer.numbers();
                    return Ok(Given::DroppedBefore(first));
                }
                _ => break,
            }
            self.slow_down(events.len(), begun);
        }
        Ok(if events.is_empty() { Given::Nothing } else { Given::Events(events) })
    }

    fn fetch(&mut self, next: u64) -> io::Result<(DeliveryHead, Vec<EventRecord>)> {
        self.correlation += 1;
        // Nobody's: whoever only looks at everything.
        let item = FetchItem::new(SeatItem::new(0, 0), 0).after(next - 1, 0);
        let mut frame = vec![0; HEADER_LEN];
        frame.extend_from_slice(item.as_bytes());
        header::seal(&mut frame, Kind::Fetch, PROTOCOL_VERSION, 1, 0, self.correlation);
        self.stream.write_all(&frame)?;
        let (header, frame) = self.read_frame(Kind::FetchReply)?;
        let (head, rows) = DeliveryHead::read_from_prefix(&frame[HEADER_LEN..])
            .map_err(|_| invalid("a delivery without a head"))?;
        if header.correlation != self.correlation {
            return Err(invalid("an answer to something else"));
        }
        let events = rows
            .chunks_exact(EVENT_LEN)
            .map(|row| EventRecord::read_from_bytes(row).expect("a row is as long as an event"));
        Ok((head, events.collect()))
    }

    fn read_frame(&mut self, kind: Kind) -> io::Result<(FrameHeader, Vec<u8>)> {
        let mut frame = vec![0; HEADER_LEN];
        self.stream.read_exact(&mut frame)?;
        let header = FrameHeader::parse(&frame).map_err(io::Error::other)?.expect("a whole header");
        if header.kind != kind {
            return Err(invalid("it refused"));
        }
        frame.resize(header.frame_len(), 0);
        self.stream.read_exact(&mut frame[HEADER_LEN..])?;
        header.check_body(&frame).map_err(io::Error::other)?;
        Ok((header, frame))
    }

    /// Others' sales come first.
    fn slow_down(&self, events: usize, begun: Instant) {
        let due = Duration::from_secs_f64((events * EVENT_LEN) as f64 / self.rate.max(1) as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
