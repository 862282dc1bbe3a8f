//! A client without the client crate: bytes as they are told, for tests that misbehave or watch closely.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part, and fails with it"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_protocol::handshake::{Fault, Hello};
use sluice_protocol::header::{self, FrameHeader, HEADER_LEN};
use sluice_protocol::request::{PutProductItem, ReserveItem, Terms};
use sluice_protocol::response::items;
use sluice_protocol::{Answer, Kind, PROTOCOL_VERSION, ProductId, Status};
use zerocopy::IntoBytes;

/// Longer than any of these tests needs: it only ends one that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };

/// A client that does as it is told.
pub struct Raw {
    pub stream: TcpStream,
}

pub fn frame(kind: Kind, count: usize, correlation: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(body);
    let version = if kind == Kind::Hello { 0 } else { PROTOCOL_VERSION };
    header::seal(&mut frame, kind, version, count as u16, 0, correlation);
    frame
}

pub fn hello() -> Vec<u8> {
    let mut body = Vec::new();
    Hello { version_min: 1, version_max: 1, name: "hostile", credentials: b"" }.encode(&mut body);
    frame(Kind::Hello, 0, 0, &body)
}

pub fn reserve(correlation: u64, orders: &[ReserveItem]) -> Vec<u8> {
    frame(Kind::Reserve, orders.len(), correlation, orders.as_bytes())
}

pub fn order(id: u128, product: u64, user: u64, quantity: u32) -> ReserveItem {
    ReserveItem::new(id.into(), product.into(), user.into(), quantity)
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A greeted one whose system takes only a few bytes ahead of it.
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut raw = Self { stream: socket.into() };
        raw.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        raw.greet();
        raw
    }

    pub fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.greet();
        raw
    }

    pub fn greet(&mut self) {
        self.send(&hello());
        assert_eq!(self.receive().0.kind, Kind::Welcome);
    }

    /// The same connection, for another thread.
    pub fn second(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> (FrameHeader, Vec<u8>) {
        let mut frame = vec![0; HEADER_LEN];
        self.stream.read_exact(&mut frame).unwrap();
        let header = FrameHeader::parse(&frame).unwrap().unwrap();
        frame.resize(header.frame_len(), 0);
        self.stream.read_exact(&mut frame[HEADER_LEN..]).unwrap();
        (header, frame.split_off(HEADER_LEN))
    }

    pub fn answers(&mut self) -> (u64, Vec<Answer>) {
        let (header, body) = self.receive();
        assert_ne!(header.kind, Kind::Fault, "{:?}", Fault::decode(&body));
        (header.correlation, items::<Answer>(&body).unwrap().to_vec())
    }

    pub fn put(&mut self, product: u64, stock: u64, terms: Terms) {
        let item = PutProductItem::new(ProductId(product), Some(stock), terms);
        self.send(&frame(Kind::PutProduct, 1, 1, item.as_bytes()));
        assert_eq!(self.answers().1[0].status(), Some(Status::Done));
    }

    /// What became of one order, sent again for as long as the server is busy.
    pub fn insist(&mut self, mut order: ReserveItem) -> Status {
        loop {
            match self.reserve(order) {
                Status::Busy => order.attempt = 1,
                told => return told,
            }
        }
    }

    /// What became of one order.
    pub fn reserve(&mut self, order: ReserveItem) -> Status {
        self.send(&reserve(77, &[order]));
        self.answers().1[0].status().unwrap()
    }
}
