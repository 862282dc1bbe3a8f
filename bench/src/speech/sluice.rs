//! Sluice's frames.
//!
//! One volley is one frame. Checks what any client must: the checksum of every reply. Deliberately not here: retries;
//! a request that hears `Busy` counts as that.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;

use sluice_protocol::handshake::{Fault, Hello};
use sluice_protocol::header::seal;
use sluice_protocol::limits::ITEMS_MAX;
use sluice_protocol::request::{IdItem, PutProductItem, ReserveItem};
use sluice_protocol::{
    Answer, DecodeError, FrameHeader, HEADER_LEN, Kind, PROTOCOL_VERSION, ReservationId, Status, response,
};
use zerocopy::IntoBytes;

use super::{Asked, Heard, Speech, Tally};
use crate::error::BenchError;
use crate::workload::{self, Workload};

/// Hello and welcome are in version 0, before one is agreed on.
const NO_VERSION: u8 = 0;

/// Marks the tags of frames that settle reservations; those of reserves are numbers, which never get there.
const SETTLES: u64 = 1 << 63;

/// Of so many reservations one is cancelled, the others are confirmed.
const CANCEL_EVERY: u64 = 4;

/// Bytes read at a time while greeting.
const GREETING_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct SluiceSpeech {
    workload: Workload,
    next: u64,
    /// Mixed only: reserved, and to be confirmed or cancelled.
    unsettled: VecDeque<ReservationId>,
    settled_frames: u64,
    /// The first so many are asked for again and again.
    repeated: Option<u64>,
    tally: Tally,
}

impl SluiceSpeech {
    /// Asks what the workload says, from its first request on.
    pub fn new(workload: Workload) -> Self {
        Self {
            workload,
            next: 0,
            unsettled: VecDeque::new(),
            settled_frames: 0,
            repeated: None,
            tally: Tally::default(),
        }
    }

    /// What it asks for.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// From now on asks for what it has asked for so far, again and again, under the same ids: as somebody does who
    /// lost the answers.
    pub fn repeat(&mut self) {
        self.repeated = Some(self.next);
    }

    /// Puts the workload's products on sale.
    ///
    /// # Errors
    /// If a product is refused, or the server does not answer.
    pub fn prepare(&mut self, stream: &mut TcpStream) -> Result<(), BenchError> {
        self.greet(stream)?;
        let terms = self.workload.terms();
        let items: Vec<_> = self
            .workload
            .products()
            .map(|(product, stock)| PutProductItem::new(product, Some(stock), terms))
            .collect();
        for items in items.chunks(ITEMS_MAX) {
            let frame = frame(Kind::PutProduct, 0, items.as_bytes(), items.len());
            stream.write_all(&frame).map_err(BenchError::io("putting products"))?;
            let reply = read_frame(stream)?;
            let answers = answers(&reply[HEADER_LEN..])?;
            if let Some(refused) = answers.iter().find(|answer| answer.status() != Some(Status::Done)) {
                return Err(BenchError::Protocol(format!("a product was refused: {refused:?}")));
            }
        }
        Ok(())
    }

    fn ask_reserves(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        let (tag, start) = (self.next, open_frame(out));
        for number in tag..tag + u64::from(items) {
            let wish = self.workload.wish(self.repeated.map_or(number, |first| number % first));
            let mut item = ReserveItem::new(wish.id, wish.product, wish.user, 1);
            item.attempt = u8::from(self.repeated.is_some());
            out.extend_from_slice(item.as_bytes());
        }
        self.next += u64::from(items);
        seal(&mut out[start..], Kind::Reserve, PROTOCOL_VERSION, items as u16, 0, tag);
        Asked { tag, items }
    }

    fn ask_settlements(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        let start = open_frame(out);
        for id in self.unsettled.drain(..items as usize) {
            out.extend_from_slice(IdItem::new(id).as_bytes());
        }
        self.settled_frames += 1;
        let tag = SETTLES | self.settled_frames;
        let cancels = self.settled_frames.is_multiple_of(CANCEL_EVERY);
        let kind = if cancels { Kind::Cancel } else { Kind::Confirm };
        seal(&mut out[start..], kind, PROTOCOL_VERSION, items as u16, 0, tag);
        Asked { tag, items }
    }

    fn count(&mut self, tag: u64, answers: &[Answer]) {
        let mixed = self.workload.kind() == workload::Kind::Mixed;
        for (number, answer) in (tag..).zip(answers) {
            match answer.status() {
                Some(Status::Reserved) => {
                    self.tally.accepted += 1;
                    if mixed {
                        self.unsettled.push_back(self.workload.wish(number).id);
                    }
                }
                Some(Status::Confirmed | Status::Cancelled) => self.tally.accepted += 1,
                // The reservation was there: asked for again, that is a yes.
                Some(Status::Already) if self.repeated.is_some() => self.tally.accepted += 1,
                Some(Status::Insufficient | Status::SoldOut | Status::LimitReached) => {
                    self.tally.refused += 1;
                }
                Some(Status::Busy) => self.tally.busy += 1,
                _ => self.tally.other += 1,
            }
        }
    }
}

impl Speech for SluiceSpeech {
    fn greet(&mut self, stream: &mut TcpStream) -> Result<(), BenchError> {
        let mut hello = vec![0; HEADER_LEN];
        Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            name: "sluice-bench",
            credentials: &[],
        }
        .encode(&mut hello);
        seal(&mut hello, Kind::Hello, NO_VERSION, 0, 0, 0);
        stream.write_all(&hello).map_err(BenchError::io("saying hello"))?;
        read_frame(stream).map(drop)
    }

    fn ask(&mut self, items: u32, out: &mut Vec<u8>) -> Asked {
        let items = items.min(ITEMS_MAX as u32);
        if self.unsettled.len() >= items as usize {
            return self.ask_settlements(items, out);
        }
        self.ask_reserves(items, out)
    }

    fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<usize, BenchError> {
        let mut taken = 0;
        while let Some(header) = FrameHeader::parse(&bytes[taken..])? {
            let Some(frame) = bytes[taken..].get(..header.frame_len()) else { break };
            check(&header, frame)?;
            let answers = answers(&frame[HEADER_LEN..])?;
            self.count(header.correlation, answers);
            heard.push(Heard { tag: Some(header.correlation), items: answers.len() as u32 });
            taken += frame.len();
        }
        Ok(taken)
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// Leaves room for a header; where the frame starts.
fn open_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    start
}

fn frame(kind: Kind, correlation: u64, body: &[u8], items: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    seal(&mut frame, kind, PROTOCOL_VERSION, items as u16, 0, correlation);
    frame
}

/// A reply that is sound, and no fault.
fn check(header: &FrameHeader, frame: &[u8]) -> Result<(), BenchError> {
    header.check_body(frame)?;
    if header.kind == Kind::Fault {
        let fault = Fault::decode(&frame[HEADER_LEN..])?;
        return Err(BenchError::Protocol(format!(
            "the server closed with fault {}: {}",
            fault.code, fault.text
        )));
    }
    Ok(())
}

fn answers(body: &[u8]) -> Result<&[Answer], BenchError> {
    response::items::<Answer>(body)
        .ok_or(BenchError::Frame(DecodeError::BadLength { got: body.len() as u32, expected: 0 }))
}

/// One whole frame from a connection that blocks and on which nothing else is due.
fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>, BenchError> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; GREETING_BYTES];
    loop {
        if let Some(header) = FrameHeader::parse(&bytes)?
            && bytes.len() >= header.frame_len()
        {
            check(&header, &bytes)?;
            return Ok(bytes);
        }
        match stream.read(&mut chunk).map_err(BenchError::io("awaiting a reply"))? {
            0 => return Err(BenchError::Protocol("the server hung up".to_owned())),
            got => bytes.extend_from_slice(&chunk[..got]),
        }
    }
}
