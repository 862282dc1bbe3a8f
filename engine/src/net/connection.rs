//! One client connection: a session with a socket and deadlines.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::BufMut;
use sluice_core::desk::line::Place;
use sluice_core::desk::{Caller, Reply};
use sluice_core::session::{Demand, Held, Session, Step};
use sluice_protocol::header::HEADER_LEN;
use sluice_protocol::limits::REQUEST_BODY_MAX;
use sluice_protocol::{FaultCode, NodeId};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::stall::Stall;
use super::thread::NetThread;
use crate::config::LimitsConfig;
use crate::failpoint::{self, Point};

/// Bytes read from one connection before the others get their turn.
const READ_TURN_BYTES: usize = 256 * 1024;

/// Bytes of one system call: a largest frame fits.
const READ_BYTES: usize = HEADER_LEN + REQUEST_BODY_MAX;

/// What may be read from a connection that holds nothing however short memory is: single requests fit.
const READ_MIN: usize = 4 * 1024;

/// How long a client may take over a frame or over its replies before it counts as slow. Only if memory is short does that
/// matter.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// Requests of one connection that are worth waking the replica for at once. Fewer wait for what the other connections
/// bring in the same turn: waking it costs more than they do.
const ALONE_ITEMS_MIN: usize = 32;

/// See the module.
pub(super) struct Connection {
    pub(super) id: u64,
    /// The other half is the task's own.
    stream: OwnedWriteHalf,
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
    /// Whether replies wait that the client should have taken.
    stall: Cell<Stall>,
    /// Why the next request is not taken.
    waits: Cell<Waits>,
    /// It is not read because what it has begun takes too much memory.
    choked: Cell<bool>,
    /// It is to end because memory is short.
    dismissed: Cell<bool>,
    /// The bytes it holds, as they were counted last.
    counted: Cell<Held>,
    born: Instant,
}

/// What a request that has come whole waits for.
#[derive(Clone, Copy, Debug, Default)]
enum Waits {
    /// Nothing.
    #[default]
    No,
    /// Answers to the connection's own requests, or its client's taking them.
    Own,
    /// Its place in line, since so many of the clock's microseconds.
    InLine(Place, u64),
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
    pub(super) fn new(id: u64, stream: TcpStream, session: Session) -> (Self, OwnedReadHalf) {
        let now = Instant::now();
        let (reader, stream) = stream.into_split();
        let connection = Self {
            id,
            stream,
            session: RefCell::new(session),
            wake: Notify::new(),
            paused: Cell::new(false),
            half_closed: Cell::new(false),
            moved: Cell::new(now),
            begun: Cell::new(None),
            stall: Cell::default(),
            waits: Cell::default(),
            choked: Cell::new(false),
            dismissed: Cell::new(false),
            counted: Cell::default(),
            born: now,
        };
        (connection, reader)
    }

    /// Serves the connection until either side ends it.
    pub(super) async fn run(self: Rc<Self>, reader: OwnedReadHalf, net: Rc<NetThread>) {
        // A dead peer is no error here: whoever it was will ask what became of its requests.
        let _: Result<(), Gone> = self.serve(reader, &net).await;
        if let Waits::InLine(place, _) = self.waits.take() {
            net.room.leave(place);
        }
        net.room.moved(self.counted.take(), Held::default());
        self.choke(&net, false);
        net.forget(self.id);
    }

    async fn serve(&self, mut reader: OwnedReadHalf, net: &NetThread) -> Result<(), Gone> {
        let mut alarm = std::pin::pin!(sleep_until(self.deadline(&net.limits).0));
        loop {
            self.take_frames(net);
            net.metrics().sent_bytes.add(self.write(net)? as u64);
            let (pending, ended, is_answered) = {
                let session = self.session.borrow();
                (session.outgoing().len(), session.is_ended(), session.in_flight() == 0)
            };
            let waits = !matches!(self.waits.get(), Waits::No);
            if pending == 0 && (ended || self.half_closed.get() && is_answered && !waits) {
                return Ok(());
            }
            // Looked at after the desk had the frames: it may have answered them at once.
            let reads = !ended && !waits && !self.half_closed.get() && self.may_read(net, pending);
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
                        self.read(&mut reader, net).await?;
                    }
                }
                () = self.wake.notified() => {
                    if self.dismissed.get() {
                        self.end(net, FaultCode::SlowClient)?;
                    }
                }
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
        if let Some(since) = self.begun.get().into_iter().chain(self.stall.get().since()).min() {
            return (since + limits.frame_timeout, FaultCode::IdleTimeout);
        }
        if session.in_flight() > 0 || !matches!(self.waits.get(), Waits::No) {
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

    /// Whether more may be read now, by the connection's own limits and by the memory there is.
    fn may_read(&self, net: &NetThread, pending: usize) -> bool {
        let session = self.session.borrow();
        let share = net.room.share();
        let choked = session.has_buffered() && self.read_bytes_max(&session, share.input) == 0;
        self.choke(net, choked);
        let takes = pending == 0 || pending < net.limits.reply_bytes_max.min(share.replies);
        takes && !choked && !session.is_full()
    }

    /// Bytes that may be read in one turn. What is begun and takes its share of the memory must wait for more of it.
    fn read_bytes_max(&self, session: &Session, share: usize) -> usize {
        share.max(READ_MIN).saturating_sub(session.buffered()).min(READ_TURN_BYTES)
    }

    fn choke(&self, net: &NetThread, choked: bool) {
        match (self.choked.replace(choked), choked) {
            (false, true) => {
                net.room.choked.set(net.room.choked.get() + 1);
                net.stir();
            }
            (true, false) => net.room.choked.set(net.room.choked.get() - 1),
            _ => {}
        }
    }

    /// Reads what is there. Does not wait for more.
    async fn read(&self, reader: &mut OwnedReadHalf, net: &NetThread) -> Result<(), Gone> {
        let most = self.read_bytes_max(&self.session.borrow(), net.room.share().input);
        let mut shared = net.room.shared.take();
        let mut total = 0;
        while total < most {
            shared.reserve(READ_BYTES);
            let room = (shared.capacity() - shared.len()).min(most - total);
            // Unlike `try_read`, this takes a read that fills less than its room for the last one, and spares asking the
            // kernel whether it was.
            let mut limited = (&mut shared).limit(room);
            let mut reading = pin!(reader.read_buf(&mut limited));
            let Poll::Ready(read) = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await
            else {
                break;
            };
            match read {
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
                Err(error) => return Err(error.into()),
            }
        }
        failpoint::reach(Point::NetRead);
        self.session.borrow_mut().receive(&mut shared);
        net.room.shared.set(shared);
        net.metrics().received_bytes.add(total as u64);
        self.moved.set(Instant::now());
        Ok(())
    }

    /// Takes whole frames to the desk, and has them carried on.
    fn take_frames(&self, net: &NetThread) {
        let items = self.take(net, None);
        if items > 0 {
            if items < ALONE_ITEMS_MIN { net.pump_soon() } else { net.pump() }
        }
    }

    /// Its turn in line has come.
    pub(super) fn called(&self, net: &NetThread) {
        let Waits::InLine(_, since_us) = self.waits.take() else { unreachable!("only who waits is called") };
        self.take(net, Some(since_us));
        // It may be read again.
        self.wake.notify_one();
    }

    /// Takes whole frames to the desk, as many as there is room for; the first one in any case if its turn in line has
    /// come. Returns how many items are in them.
    fn take(&self, net: &NetThread, turn: Option<u64>) -> usize {
        if matches!(self.waits.get(), Waits::InLine(..)) {
            return 0;
        }
        let (mut frames, mut items, mut steps, mut turn) = (0, 0, 0, turn);
        self.waits.set(Waits::No);
        loop {
            let mut session = self.session.borrow_mut();
            if turn.is_none()
                && let Some(demand) = session.demand()
            {
                self.waits.set(self.waits_for(net, &session, demand));
            }
            if !matches!(self.waits.get(), Waits::No) {
                break;
            }
            match session.step() {
                Ok(Step::Request { kind, correlation, budget_ms, ask }) => {
                    failpoint::reach(Point::NetFrame);
                    frames += 1;
                    items += ask.len();
                    net.metrics().items.add(ask.len() as u64);
                    net.metrics().frame_items.record(ask.len() as u64);
                    let now_us = net.now_us();
                    let arrived_us = turn.take().unwrap_or(now_us);
                    let caller = Caller { connection: self.id, correlation, kind, arrived_us };
                    net.submit(caller, ask, budget_ms, now_us.saturating_sub(arrived_us) / 1000);
                }
                Ok(Step::Hello { name }) => {
                    tracing::debug!(connection = self.id, name, "hello");
                    let board = net.board();
                    let leader = NodeId(board.leader());
                    let address = net.address_of(leader);
                    session.welcome(leader, &address, board.applied().time_ms);
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
        net.metrics().frames.add(frames);
        self.keep(net, steps);
        items
    }

    /// What the next request, which has come whole, must wait for.
    fn waits_for(&self, net: &NetThread, session: &Session, demand: Demand) -> Waits {
        let owed = session.owed();
        let replies = owed.reply_bytes + session.outgoing().len();
        let replies_max = net.limits.reply_bytes_max.min(net.room.share().replies);
        let too_many = owed.items > 0 && owed.items + demand.items > net.limits.connection_requests_max;
        let too_large = replies > 0 && replies + demand.reply_bytes > replies_max;
        if too_many || too_large {
            return Waits::Own;
        }
        match net.enter(self.id, owed.items, demand) {
            Ok(()) => Waits::No,
            Err(place) => Waits::InLine(place, net.now_us()),
        }
    }

    /// Keeps what could not be taken, and when that began.
    fn keep(&self, net: &NetThread, steps: usize) {
        let mut session = self.session.borrow_mut();
        let mut shared = net.room.shared.take();
        session.give_back(&mut shared);
        net.room.shared.set(shared);
        let partial = session.has_partial_frame() && matches!(self.waits.get(), Waits::No);
        self.begun.set(match self.begun.get() {
            _ if !partial => None,
            // Bytes that trickle in do not make it another frame.
            Some(since) if steps == 0 => Some(since),
            _ => Some(Instant::now()),
        });
        self.tell_held(net, &session);
    }

    /// Tells how much memory the connection holds now.
    fn tell_held(&self, net: &NetThread, session: &Session) {
        let now = session.held();
        net.room.moved(self.counted.replace(now), now);
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> Held {
        self.counted.get()
    }

    /// Whether its client takes long over a frame or over its replies.
    pub(super) fn is_slow(&self) -> bool {
        let since = self.begun.get().into_iter().chain(self.stall.get().since()).min();
        since.is_some_and(|since| since.elapsed() >= SLOW_AFTER)
    }

    /// Ends it because memory is short.
    pub(super) fn dismiss(&self) {
        self.dismissed.set(true);
        self.wake.notify_one();
    }

    /// Whether it is not read for want of memory.
    pub(super) fn is_choked(&self) -> bool {
        self.choked.get()
    }

    /// There may be memory for it now.
    pub(super) fn look_again(&self) {
        self.wake.notify_one();
    }

    /// Writes what the socket takes now.
    fn write(&self, net: &NetThread) -> Result<usize, Gone> {
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
        self.stall.set(self.stall.get().wrote(total, session.outgoing().len(), Instant::now()));
        self.tell_held(net, &session);
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
        match self.write(net) {
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
