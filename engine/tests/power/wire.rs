//! What clients asked and what they heard, read from the bytes on the server's sockets.
//!
//! Not what a client remembers, but what left the machine: an answer counts from the moment its bytes went out, whether
//! anybody read them or not. Deliberately not here: what must be true because of it (see `oracle`).

use std::collections::HashMap;

use sluice_protocol::request::{self, IdItem, PutProductItem, ReserveItem, StockItem};
use sluice_protocol::response::{self, ProductReply, ReservationReply};
use sluice_protocol::{Answer, FrameHeader, Kind};

/// One item of a request.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Reserve(ReserveItem),
    Confirm(IdItem),
    Cancel(IdItem),
    Resolve(IdItem),
    Query(IdItem),
    Put(PutProductItem),
    Restock(StockItem),
    WriteOff(StockItem),
    /// A read of products: it promises nothing that the rest does not.
    Other,
}

/// A whole frame, as it was completed.
#[derive(Clone, Debug)]
pub enum Said {
    Asked(Vec<Asked>),
    Answered(Vec<(Asked, Answer)>),
}

impl Said {
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answered(_))
    }
}

#[derive(Default)]
struct Connection {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    open: HashMap<u64, Vec<Asked>>,
}

/// See the module.
#[derive(Default)]
pub struct Wire(HashMap<String, Connection>);

impl Wire {
    /// Bytes of which the first arrived, and nobody knows how many: the rest is what the buffer held before.
    pub fn received_at_most(&mut self, connection: &str, bytes: &[u8]) -> Vec<Said> {
        let mut all = self.0.get(connection).map_or_else(Vec::new, |known| known.incoming.clone());
        let known_len = all.len();
        all.extend_from_slice(bytes);
        let mut whole_len = 0;
        while let Ok(Some(header)) = FrameHeader::parse(&all[whole_len..]) {
            let frame = all.get(whole_len..whole_len + header.frame_len());
            let Some(frame) = frame.filter(|frame| header.check_body(frame).is_ok()) else { break };
            whole_len += frame.len();
        }
        self.received(connection, &bytes[..whole_len.saturating_sub(known_len)])
    }

    pub fn received(&mut self, connection: &str, bytes: &[u8]) -> Vec<Said> {
        let connection = self.0.entry(connection.to_owned()).or_default();
        connection.incoming.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some((header, body)) = take_frame(&mut connection.incoming) {
            if !header.kind.is_request() || matches!(header.kind, Kind::Hello | Kind::Ping) {
                continue;
            }
            let asked = read_request(header.kind, header.count, &body);
            connection.open.insert(header.correlation, asked.clone());
            said.push(Said::Asked(asked));
        }
        said
    }

    pub fn sent(&mut self, connection: &str, bytes: &[u8]) -> Vec<Said> {
        let connection = self.0.entry(connection.to_owned()).or_default();
        connection.outgoing.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some((header, body)) = take_frame(&mut connection.outgoing) {
            let Some(asked) = connection.open.remove(&header.correlation) else {
                assert!(
                    matches!(header.kind, Kind::Welcome | Kind::Pong | Kind::Fault),
                    "a reply to nothing: {:?}",
                    header.kind
                );
                continue;
            };
            let answers = read_reply(header.kind, &body);
            if !matches!(header.kind, Kind::ListProductsReply) {
                assert_eq!(asked.len(), answers.len(), "an answer for each item");
            }
            said.push(Said::Answered(asked.into_iter().zip(answers).collect()));
        }
        said
    }
}

/// Cuts the first whole frame off.
pub fn take_frame(bytes: &mut Vec<u8>) -> Option<(FrameHeader, Vec<u8>)> {
    let header = FrameHeader::parse(bytes).unwrap()?;
    let len = header.frame_len();
    if bytes.len() < len {
        return None;
    }
    header.check_body(&bytes[..len]).unwrap();
    let body = bytes[len - header.length as usize..len].to_vec();
    bytes.drain(..len);
    Some((header, body))
}

fn read_request(kind: Kind, count: u16, body: &[u8]) -> Vec<Asked> {
    fn each<T: request::Item>(body: &[u8], asked: impl Fn(T) -> Asked) -> Vec<Asked> {
        request::items::<T>(body).unwrap().iter().map(|item| asked(*item)).collect()
    }
    match kind {
        Kind::Reserve => each(body, Asked::Reserve),
        Kind::Confirm => each(body, Asked::Confirm),
        Kind::Cancel => each(body, Asked::Cancel),
        Kind::Resolve => each(body, Asked::Resolve),
        Kind::QueryReservation => each(body, Asked::Query),
        Kind::PutProduct => each(body, Asked::Put),
        Kind::Restock => each(body, Asked::Restock),
        Kind::WriteOff => each(body, Asked::WriteOff),
        Kind::QueryProduct | Kind::ListProducts => vec![Asked::Other; usize::from(count)],
        other => panic!("{other:?} is not asked by this test's clients"),
    }
}

fn read_reply(kind: Kind, body: &[u8]) -> Vec<Answer> {
    match kind {
        Kind::QueryReservationReply => {
            response::items::<ReservationReply>(body).unwrap().iter().map(|reply| reply.answer).collect()
        }
        Kind::QueryProductReply | Kind::ListProductsReply => {
            response::items::<ProductReply>(body).unwrap().iter().map(|reply| reply.answer).collect()
        }
        _ => response::items::<Answer>(body).unwrap().to_vec(),
    }
}
