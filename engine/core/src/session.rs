//! One client connection without a socket: bytes in, requests out; replies in, bytes out.
//!
//! How to drive it, in this order:
//! 1. Read into a buffer that all sessions of a thread share, and [`Session::receive`] it; or, with few sessions, into
//!    [`Session::read_buffer`].
//! 2. Call [`Session::step`] until it returns [`Step::Starved`] or [`Step::Full`]; while [`Session::is_full`] do not
//!    read. A [`SessionFault`] is the end: write out [`Session::outgoing`] and close. What the next step would take on is
//!    told by [`Session::demand`]: who has no room for it waits with that step. Then [`Session::give_back`] the buffer.
//! 3. Give each reply to [`Session::reply`] as it comes; replies may come in any order.
//! 4. Write [`Session::outgoing`] to the socket and [`Session::wrote`] what it took.
//!
//! A session that waits for nothing holds next to no memory: what it does hold is told by [`Session::held`].
//!
//! - `ask`: what a frame asks; `outbound`: bytes on their way out
//!
//! Relies on: the protocol crate for bytes. Deliberately not here: sockets, deadlines, what requests mean.

mod ask;
mod outbound;

use bytes::BytesMut;
use sluice_protocol::handshake::Welcome;
use sluice_protocol::header::{FrameHeader, HEADER_LEN};
use sluice_protocol::limits::{FRAMES_IN_FLIGHT_MAX, ITEMS_MAX, REQUEST_BODY_MAX};
use sluice_protocol::{ClusterId, DecodeError, FaultCode, Kind, NodeId, PROTOCOL_VERSION};
use thiserror::Error;

pub use self::ask::Ask;
use self::ask::{Read, read};
use self::outbound::Outbound;
use crate::flight::Answers;

/// What a server says of itself in its welcome.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Unanswered frames a connection may have; at most [`FRAMES_IN_FLIGHT_MAX`].
    pub frames_in_flight_max: usize,
}

/// What a request takes up from when it is taken until its reply is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Demand {
    /// Items to decide.
    pub items: usize,
    /// Bytes of the reply, at most.
    pub reply_bytes: usize,
}

impl Demand {
    fn of(kind: Kind, items: usize) -> Self {
        // A page, or a fetch, is one item that is answered by as many as there may be.
        let answered = if is_page(kind) { kind.reply().count_range().1 } else { items };
        let item_len = kind.reply().item_len().unwrap_or(0);
        Self { items, reply_bytes: HEADER_LEN + answered * item_len }
    }
}

/// Whether one item is answered by several.
fn is_page(kind: Kind) -> bool {
    let (asked, answered) = (kind.count_range().1, kind.reply().count_range().1);
    asked == 1 && answered > 1
}

/// Bytes of memory that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// What has come of frames that are not complete, or that have to wait.
    pub input: usize,
    /// Replies that wait to be taken, and room for those that will come.
    pub replies: usize,
}

/// What [`Session::step`] found.
#[derive(Debug)]
pub enum Step<'a> {
    /// A client said hello: answer with [`Session::welcome`].
    Hello {
        /// What it calls itself.
        name: String,
    },
    /// A frame of requests.
    Request {
        /// What it is.
        kind: Kind,
        /// The client's name for it.
        correlation: u64,
        /// How long the client wants the server to try, milliseconds; 0 = the server's default.
        budget_ms: u32,
        /// The items.
        ask: Ask<'a>,
    },
    /// A ping, already answered.
    Ping,
    /// No whole frame is there.
    Starved,
    /// As many frames are unanswered as may be: read no further.
    Full,
}

/// Why a session ended. The fault frame that says so is in [`Session::outgoing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionFault {
    /// The bytes are not the protocol's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The frames are, but not in this order.
    #[error("{}", text(*.0))]
    Order(FaultCode),
}

impl SessionFault {
    /// The code in the fault frame.
    pub fn code(self) -> FaultCode {
        match self {
            Self::Decode(error) => error.code(),
            Self::Order(code) => code,
        }
    }
}

/// What a fault frame tells people when no bytes were wrong.
fn text(code: FaultCode) -> &'static str {
    match code {
        FaultCode::NoCommonVersion => "this server speaks protocol version 1 only: use a client that does",
        FaultCode::HelloExpected => "a connection starts with a hello frame",
        FaultCode::HelloRepeated => "a connection has one hello frame, its first",
        FaultCode::HandshakeTimeout => "no hello arrived in time: connect again",
        FaultCode::IdleTimeout => "nothing arrived for too long: connect again, or ping",
        FaultCode::TooManyConnections => "the server has as many connections as it may: try again later",
        FaultCode::SlowClient => {
            "memory is short, and this client was slow to end a frame or to read: connect again"
        }
        FaultCode::ShuttingDown => "the server is shutting down: connect again, here or to another node",
        _ => "bytes that are not the protocol's",
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    facts: Facts,
    greeted: bool,
    inbound: BytesMut,
    /// `inbound` is the buffer that all sessions share, for as long as it takes to step through it.
    lent: bool,
    /// The frame that the last step borrows from.
    current: BytesMut,
    outbound: Outbound,
    in_flight: usize,
    /// What the frames in flight take up, together.
    owed: Demand,
    ended: bool,
}

impl Session {
    /// The session of a connection just accepted.
    pub fn new(facts: Facts) -> Self {
        assert!(facts.frames_in_flight_max <= FRAMES_IN_FLIGHT_MAX);
        Self {
            facts,
            greeted: false,
            inbound: BytesMut::new(),
            lent: false,
            current: BytesMut::new(),
            outbound: Outbound::default(),
            in_flight: 0,
            owed: Demand::default(),
            ended: false,
        }
    }

    /// Where bytes from the socket go. Never grows beyond one largest frame and what was read with it.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.inbound.reserve(HEADER_LEN + REQUEST_BODY_MAX);
        &mut self.inbound
    }

    /// Takes what was read into the buffer that all sessions share. Until [`Session::give_back`] the session has the
    /// buffer itself if it holds nothing of its own, and `shared` is an empty one.
    pub fn receive(&mut self, shared: &mut BytesMut) {
        if self.inbound.is_empty() && !self.lent {
            std::mem::swap(&mut self.inbound, shared);
            self.lent = true;
        } else {
            self.inbound.extend_from_slice(shared);
            shared.clear();
        }
    }

    /// Gives the shared buffer back, empty. What is in it of a frame that is not complete, or that has to wait, the session
    /// keeps in a buffer of its own of that size.
    pub fn give_back(&mut self, shared: &mut BytesMut) {
        self.current = BytesMut::new();
        if self.lent {
            self.lent = false;
            std::mem::swap(&mut self.inbound, shared);
            self.inbound = BytesMut::from(&shared[..]);
            shared.clear();
        } else if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
    }

    /// What the next [`Session::step`] would take on; `None` if it would not take on a request.
    pub fn demand(&self) -> Option<Demand> {
        let header = FrameHeader::parse(&self.inbound).ok().flatten()?;
        let (low, high) = header.kind.count_range();
        let items = usize::from(header.count);
        // Whatever is wrong with a frame ends the session, and must not wait for room.
        let sound = header.kind.is_request() && (low.max(1)..=high).contains(&items);
        let stands = self.greeted && !self.ended && !self.is_full();
        (sound && stands && self.inbound.len() >= header.frame_len()).then(|| Demand::of(header.kind, items))
    }

    /// The next thing the client said.
    ///
    /// # Errors
    /// [`SessionFault`]: a fault frame has been queued; write it out and close.
    pub fn step(&mut self) -> Result<Step<'_>, SessionFault> {
        // Lets go of the last frame, so that its room in the buffer can be used again.
        self.current = BytesMut::new();
        if self.ended {
            return Ok(Step::Starved);
        }
        if self.is_full() {
            return Ok(Step::Full);
        }
        let header = match self.next_header() {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Step::Starved),
            Err(fault) => return Err(self.end(fault)),
        };
        self.current = self.inbound.split_to(header.frame_len());
        let fault = match read(&header, &self.current) {
            Ok(Read::Ask(ask)) => {
                self.in_flight += 1;
                let demand = Demand::of(header.kind, ask.len());
                self.owed.items += demand.items;
                self.owed.reply_bytes += demand.reply_bytes;
                return Ok(Step::Request {
                    kind: header.kind,
                    correlation: header.correlation,
                    budget_ms: header.budget_ms,
                    ask,
                });
            }
            Ok(Read::Hello(name)) => {
                self.greeted = true;
                return Ok(Step::Hello { name });
            }
            Ok(Read::Ping) => {
                let version = PROTOCOL_VERSION;
                self.outbound.put(Kind::Pong, version, 0, header.correlation, |_| {});
                return Ok(Step::Ping);
            }
            Err(fault) => fault,
        };
        self.outbound.put_fault(fault.code(), &fault.to_string());
        self.ended = true;
        Err(fault)
    }

    /// Answers the hello.
    pub fn welcome(&mut self, leader: NodeId, leader_address: &str, time_ms: u64) {
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            items_max: ITEMS_MAX as u16,
            body_max: REQUEST_BODY_MAX as u32,
            frames_in_flight_max: self.facts.frames_in_flight_max as u32,
            cluster: self.facts.cluster,
            node: self.facts.node,
            leader,
            leader_address,
            time_ms,
        };
        self.outbound.put(Kind::Welcome, 0, 0, 0, |out| welcome.encode(out));
    }

    /// Answers a request frame. Behind a fault nothing is said any more: that was the last frame.
    pub fn reply(&mut self, kind: Kind, correlation: u64, answers: &Answers) {
        let count = answers.len();
        self.in_flight = self.in_flight.checked_sub(1).expect("one reply a request");
        let asked = if is_page(kind) { 1 } else { count };
        let demand = Demand::of(kind, asked);
        self.owed.items = self.owed.items.checked_sub(demand.items).expect("one answer an item");
        self.owed.reply_bytes -= demand.reply_bytes;
        if self.ended {
            return;
        }
        self.outbound.put(kind.reply(), PROTOCOL_VERSION, count as u16, correlation, |out| {
            answers.write(out);
        });
    }

    /// Ends the session for a reason that is not in its bytes.
    pub fn close(&mut self, code: FaultCode) {
        if !self.ended {
            self.end(SessionFault::Order(code));
        }
    }

    /// What the socket is to take.
    pub fn outgoing(&self) -> &[u8] {
        self.outbound.waiting()
    }

    /// The socket took so many bytes of [`Session::outgoing`].
    pub fn wrote(&mut self, bytes: usize) {
        self.outbound.wrote(bytes);
    }

    /// What the requests in flight take up, together.
    pub fn owed(&self) -> Demand {
        self.owed
    }

    /// Bytes of memory that the session holds. The shared buffer, while it has it, is not its own.
    pub fn held(&self) -> Held {
        let input = if self.lent { 0 } else { self.inbound.capacity() };
        Held { input, replies: self.outbound.held() + self.owed.reply_bytes }
    }

    /// Whether as many frames are unanswered as may be.
    pub fn is_full(&self) -> bool {
        self.in_flight >= self.facts.frames_in_flight_max
    }

    /// Frames not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether bytes of a frame have come that is not complete.
    pub fn has_partial_frame(&self) -> bool {
        self.has_buffered() && !self.is_full()
    }

    /// Whether bytes have come that no step has taken.
    pub fn has_buffered(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Bytes that no step has taken.
    pub fn buffered(&self) -> usize {
        self.inbound.len()
    }

    /// Whether the client has said hello.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether a fault frame was queued: nothing more will be read.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn next_header(&mut self) -> Result<Option<FrameHeader>, SessionFault> {
        let Some(header) = FrameHeader::parse(&self.inbound)? else { return Ok(None) };
        // Before the body is awaited, so that a stranger cannot make this server wait for 64 KiB.
        if !header.kind.is_request() {
            return Err(DecodeError::BadKind { got: header.kind as u8 }.into());
        }
        match (header.kind, self.greeted) {
            (Kind::Hello, true) => return Err(SessionFault::Order(FaultCode::HelloRepeated)),
            (Kind::Hello, false) | (_, true) => {}
            (_, false) => return Err(SessionFault::Order(FaultCode::HelloExpected)),
        }
        let agreed = if header.kind == Kind::Hello { 0 } else { PROTOCOL_VERSION };
        if header.version != agreed {
            return Err(DecodeError::BadVersion { got: header.version, agreed }.into());
        }
        if self.inbound.len() < header.frame_len() {
            return Ok(None);
        }
        Ok(Some(header))
    }

    fn end(&mut self, fault: SessionFault) -> SessionFault {
        self.outbound.put_fault(fault.code(), &fault.to_string());
        self.ended = true;
        fault
    }
}
