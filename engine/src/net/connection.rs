//! One client connection: a session with a socket and deadlines.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use sluice_core::desk::{Caller, Reply};
use sluice_core::session::{Session, Step};
use sluice_protocol::{FaultCode, NodeId};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::thread::NetThread;
use crate::config::LimitsConfig;
use crate::failpoint::{self, Point};

/// Bytes read from one connection before the others get their turn.
const READ_TURN_BYTES: usize = 256 * 1024;

/// Requests of one connection that are worth waking the replica for at once. Fewer wait for what the other connections
/// bring in the same turn: waking it costs more than they do.
const ALONE_ITEMS_MIN: usize = 32;

/// See the module.
pub(super) struct Connection {
    pub(super) id: u64,
    stream: TcpStream,
    session: RefCell<Session>,
    /// A reply waits to be written, or room was made for more requests.
    wake: Notify,
    /// The socket is not being read: what makes room for more must wake the task.
    paused: Cell<bool>,
    /// The client will send no more; it may still read.
    half_closed: Cell<bool>,
    /// When something last moved.
    moved: Cell<Instant>,
    /// Since when a frame that has begun is not complete.
    begun: Cell<Option<Instant>>,
    /// Since when the socket has taken none of the replies that wait.
    stalled: Cell<Option<Instant>>,
    born: Instant,
}

/// Why a connection ends without a word: the other side is gone.
#[derive(Debug)]
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Connection {
    pub(super) fn new(id: u64, stream: TcpStream, session: Session) -> Self {
        let now = Instant::now();
        Self {
            id,
            stream,
            session: RefCell::new(session),
            wake: Notify::new(),
            paused: Cell::new(false),
            half_closed: Cell::new(false),
            moved: Cell::new(now),
            begun: Cell::new(None),
            stalled: Cell::new(None),
            born: now,
        }
    }

    /// Serves the connection until either side ends it.
    pub(super) async fn run(self: Rc<Self>, net: Rc<NetThread>) {
        // A dead peer is no error here: whoever it was will ask what became of its requests.
        let _: Result<(), Gone> = self.serve(&net).await;
        net.forget(self.id);
    }

    async fn serve(&self, net: &NetThread) -> Result<(), Gone> {
        let mut alarm = std::pin::pin!(sleep_until(self.deadline(&net.limits).0));
        loop {
            self.take_frames(net);
            net.metrics().sent_bytes.add(self.write()? as u64);
            let (pending, ended, is_full, is_answered) = {
                let session = self.session.borrow();
                let is_answered = session.in_flight() == 0;
                (session.outgoing().len(), session.is_ended(), session.is_full(), is_answered)
            };
            if pending == 0 && (ended || self.half_closed.get() && is_answered) {
                return Ok(());
            }
            // Looked at after the desk had the frames: it may have answered them at once.
            let reads = !ended && !is_full && !self.half_closed.get() && pending < net.limits.reply_bytes_max;
            self.paused.set(!reads);
            // A stall that begins must not wait for an alarm that was set while all was quiet.
            let (deadline, _) = self.deadline(&net.limits);
            if deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            let interest = match (reads, pending > 0) {
                (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
                (true, false) => Some(Interest::READABLE),
                (false, true) => Some(Interest::WRITABLE),
                (false, false) => None,
            };
            tokio::select! {
                ready = self.stream.ready(interest.unwrap_or(Interest::ERROR)), if interest.is_some() => {
                    if ready?.is_readable() && reads {
                        self.read(net)?;
                    }
                }
                () = self.wake.notified() => {}
                () = alarm.as_mut() => {
                    let (deadline, code) = self.deadline(&net.limits);
                    if deadline <= Instant::now() {
                        self.end(net, code)?;
                    }
                    alarm.as_mut().reset(deadline);
                }
            }
        }
    }

    /// When patience ends, and what the client is told then.
    fn deadline(&self, limits: &LimitsConfig) -> (Instant, FaultCode) {
        let session = self.session.borrow();
        if !session.is_greeted() {
            return (self.born + limits.handshake_timeout, FaultCode::HandshakeTimeout);
        }
        let moved = self.moved.get();
        if let Some(since) = self.begun.get().into_iter().chain(self.stalled.get()).min() {
            return (since + limits.frame_timeout, FaultCode::IdleTimeout);
        }
        if session.in_flight() > 0 {
            // The desk answers by its own deadlines; look again later.
            return (Instant::now() + limits.idle_timeout, FaultCode::IdleTimeout);
        }
        (moved + limits.idle_timeout, FaultCode::IdleTimeout)
    }

    /// Tells the client why, and stops listening to it. A client that does not read is left at once.
    fn end(&self, net: &NetThread, code: FaultCode) -> Result<(), Gone> {
        let stuck = !self.session.borrow().outgoing().is_empty();
        if !self.session.borrow().is_ended() {
            net.metrics().faults.of(code).increment();
            self.session.borrow_mut().close(code);
        }
        if stuck { Err(Gone) } else { Ok(()) }
    }

    /// The node is going away.
    pub(super) fn shut_down(&self, net: &NetThread) {
        // A client that does not read its last replies cannot be helped.
        let _: Result<(), Gone> = self.end(net, FaultCode::ShuttingDown);
        self.wake.notify_one();
    }

    fn read(&self, net: &NetThread) -> Result<(), Gone> {
        let mut session = self.session.borrow_mut();
        let mut total = 0;
        while total < READ_TURN_BYTES {
            let buffer = session.read_buffer();
            let room = buffer.capacity() - buffer.len();
            match self.stream.try_read_buf(buffer) {
                Ok(0) => {
                    self.half_closed.set(true);
                    break;
                }
                Ok(bytes) => {
                    total += bytes;
                    if bytes < room {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        failpoint::reach(Point::NetRead);
        net.metrics().received_bytes.add(total as u64);
        self.moved.set(Instant::now());
        Ok(())
    }

    /// Takes whole frames to the desk.
    fn take_frames(&self, net: &NetThread) {
        let (mut frames, mut items, mut steps) = (0, 0, 0);
        loop {
            let mut session = self.session.borrow_mut();
            match session.step() {
                Ok(Step::Request { kind, correlation, budget_ms, ask }) => {
                    failpoint::reach(Point::NetFrame);
                    frames += 1;
                    items += ask.len();
                    net.metrics().items.add(ask.len() as u64);
                    net.metrics().frame_items.record(ask.len() as u64);
                    let caller = Caller { connection: self.id, correlation, kind, arrived_us: net.now_us() };
                    net.submit(caller, ask, budget_ms);
                }
                Ok(Step::Hello { name }) => {
                    tracing::debug!(connection = self.id, name, "hello");
                    let board = net.board();
                    session.welcome(NodeId(board.leader()), "", board.applied().time_ms);
                }
                Ok(Step::Ping) => {}
                Ok(Step::Starved | Step::Full) => break,
                Err(fault) => {
                    net.metrics().faults.of(fault.code()).increment();
                    tracing::debug!(connection = self.id, %fault, "closing");
                    break;
                }
            }
            steps += 1;
        }
        self.begun.set(match self.begun.get() {
            _ if !self.session.borrow().has_partial_frame() => None,
            // Bytes that trickle in do not make it another frame.
            Some(since) if steps == 0 => Some(since),
            _ => Some(Instant::now()),
        });
        if frames > 0 {
            net.metrics().frames.add(frames);
            if items < ALONE_ITEMS_MIN { net.pump_soon() } else { net.pump() }
        }
    }

    /// Writes what the socket takes now.
    fn write(&self) -> Result<usize, Gone> {
        let mut session = self.session.borrow_mut();
        let mut total = 0;
        while !session.outgoing().is_empty() {
            failpoint::reach(Point::ReplyWrite);
            failpoint::reach_with(Point::ReplyHalf, || {
                let half = &session.outgoing()[..session.outgoing().len().div_ceil(2)];
                // The process ends here, whatever the socket takes.
                let _: io::Result<usize> = self.stream.try_write(half);
            });
            match self.stream.try_write(session.outgoing()) {
                Ok(bytes) => {
                    failpoint::reach(Point::ReplyWritten);
                    session.wrote(bytes);
                    total += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if total > 0 {
            self.moved.set(Instant::now());
        }
        self.stalled.set(match self.stalled.get() {
            _ if session.outgoing().is_empty() => None,
            Some(since) if total == 0 => Some(since),
            _ => Some(Instant::now()),
        });
        Ok(total)
    }

    /// Queues a reply; [`Connection::flush`] sends it.
    pub(super) fn reply(&self, reply: &Reply) {
        let mut session = self.session.borrow_mut();
        session.reply(reply.caller.kind, reply.caller.correlation, &reply.answers);
    }

    /// Sends queued replies right away; what the socket does not take, and requests that waited for room, are the
    /// connection's own task's.
    pub(super) fn flush(&self, net: &NetThread) {
        match self.write() {
            Ok(bytes) => net.metrics().sent_bytes.add(bytes as u64),
            // The task will find the same, and end.
            Err(Gone) => self.wake.notify_one(),
        }
        let session = self.session.borrow();
        if !session.outgoing().is_empty() || session.has_buffered() || self.paused.get() {
            self.wake.notify_one();
        }
    }
}
