//! One connection's conversation without its socket: calls in, bytes out; bytes in, replies out.
//!
//! The order of calls:
//! 1. [`hello`] makes the first bytes to write; [`Session::welcome`] reads the first frame that comes back.
//! 2. [`Session::pack`] whenever the socket can take more: it writes waiting calls into frames of one kind,
//!    as many items in each as are there and fit. There is no timer: one call alone makes a frame at once.
//! 3. [`Session::receive`] whenever bytes arrived: it cuts frames, finds who waits by correlation, in any
//!    order, and fulfils their promises. An error ends the conversation.
//! 4. [`Session::is_overdue`] when the time of [`Session::alarm_at`] comes.
//! 5. Dropping the session tells everybody who still waits that their request is in doubt.
//!
//! Nothing in here panics on any bytes. Deliberately not here: sockets, clocks, retries.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use sluice_protocol::handshake::{Fault, Hello, Welcome};
use sluice_protocol::header::seal;
use sluice_protocol::limits::{BUDGET_MS_MAX, FRAMES_IN_FLIGHT_MAX, ITEMS_MAX, REQUEST_BODY_MAX};
use sluice_protocol::{ClusterId, DecodeError, FrameHeader, HEADER_LEN, Kind, NodeId, PROTOCOL_VERSION};
use tokio::time::Instant;

use crate::call::{Call, Lost};
use crate::lanes::Lanes;
use crate::trouble::Trouble;
use crate::url::Address;
use crate::waiter::Promise;

use fulfil::{fulfil, has_rows_of_its_own};

mod fulfil;
#[cfg(test)]
mod tests;

/// Bytes to write after which no further frame is begun: the socket decides how fast they go, and what waits
/// meanwhile fills the frames behind.
const OUT_MAX: usize = 256 * 1024;

/// A server is given this part of a call's remaining time less, so that its "busy" arrives before the
/// deadline instead of just behind it.
const BUDGET_MARGIN: u32 = 8;

/// What a server allows on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) items_max: usize,
    pub(crate) body_max: usize,
    pub(crate) frames_in_flight_max: usize,
}

impl Limits {
    /// How many items one frame of a kind may hold; `None` for the kinds that have no items.
    pub(crate) fn items_of(&self, kind: Kind) -> Option<usize> {
        let (_, count_max) = kind.count_range();
        kind.item_len().map(|len| self.items_max.min(self.body_max / len).min(count_max))
    }
}

/// Who the server is, as far as routing cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) limits: Limits,
    pub(crate) cluster: ClusterId,
    /// Who answers.
    pub(crate) node: NodeId,
    /// Who leads, if that is known.
    pub(crate) leader: Option<NodeId>,
    /// Where the leader is, if that is known and elsewhere.
    pub(crate) leader_address: Option<Address>,
}

impl Greeting {
    /// Whether the server says that it leads itself.
    pub(crate) fn leads(&self) -> bool {
        self.leader == Some(self.node)
    }
}

/// The first bytes of a connection.
pub(crate) fn hello(name: &str, credentials: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    Hello { version_min: PROTOCOL_VERSION, version_max: PROTOCOL_VERSION, name, credentials }
        .encode(&mut frame);
    seal(&mut frame, Kind::Hello, 0, 0, 0, 0);
    frame
}

/// The conversation after the welcome.
pub(crate) struct Session {
    limits: Limits,
    /// How long a reply may be late, beyond what the server was given.
    patience: Duration,
    frames: Vec<Frame>,
    /// Numbers of the entries of `frames` that are not in flight.
    idle: Vec<u16>,
    /// Frames written so far. Makes every correlation unique.
    written: u64,
    /// No unanswered frame is due before this. A bound, so that keeping it costs one comparison a frame.
    alarm_at: Option<Instant>,
    heard: bool,
    /// The server answered that it does not lead; and who does, if it knew.
    not_leader: Option<Option<NodeId>>,
    /// While frames that are answered at once are unanswered: when the first of them was written, or when anything last came.
    silent_since: Instant,
    /// Unanswered frames that are answered at once.
    prompt: usize,
}

/// A frame that was written, and who waits for it.
#[derive(Debug)]
struct Frame {
    /// The number of the write and of this entry; 0 when not in flight.
    correlation: u64,
    kind: Kind,
    count: u16,
    written_at: Instant,
    /// How long its answer may rightly be waited for: until then its silence says nothing.
    wait: Duration,
    due: Instant,
    waiters: Vec<Waiter>,
}

/// Who waits for items of a frame.
struct Waiter {
    promise: Promise,
    items: u16,
    row: bool,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiter({} items)", self.items)
    }
}

/// Bits of a correlation that name the entry of `frames`.
const ENTRY_BITS: u32 = 16;

const _: () = assert!(FRAMES_IN_FLIGHT_MAX < 1 << ENTRY_BITS);

impl Session {
    /// Reads the server's first frame. `None` until it is whole.
    ///
    /// # Errors
    /// A fault instead of a welcome; or anything that is not a welcome of a version and limits that work.
    pub(crate) fn welcome(
        inbound: &mut BytesMut,
        patience: Duration,
    ) -> Result<Option<(Self, Greeting)>, Trouble> {
        let strange = |what: String| Trouble::Handshake(what);
        let Some(header) = whole_frame(inbound).map_err(|error| strange(error.to_string()))? else {
            return Ok(None);
        };
        let body = &inbound[HEADER_LEN..header.frame_len()];
        let welcome = match header.kind {
            Kind::Welcome => Welcome::decode(body).map_err(|error| strange(error.to_string()))?,
            Kind::Fault => return Err(fault(body)),
            other => return Err(strange(format!("{other:?} came before the welcome"))),
        };
        if welcome.version != PROTOCOL_VERSION {
            return Err(strange(format!(
                "it chose version {}, this client speaks {PROTOCOL_VERSION}",
                welcome.version
            )));
        }
        let limits = Limits {
            items_max: usize::from(welcome.items_max).min(ITEMS_MAX),
            body_max: (welcome.body_max as usize).min(REQUEST_BODY_MAX),
            frames_in_flight_max: (welcome.frames_in_flight_max as usize).min(FRAMES_IN_FLIGHT_MAX),
        };
        let is_cramped = |kind: Kind| kind.is_request() && limits.items_of(kind) == Some(0);
        if limits.frames_in_flight_max == 0 || Kind::ALL.into_iter().any(is_cramped) {
            return Err(strange(format!("its limits leave no room for a request: {limits:?}")));
        }
        let greeting = Greeting {
            limits,
            cluster: welcome.cluster,
            node: welcome.node,
            leader: known(welcome.leader),
            // An address that is none is the server's mistake, not a reason to do without the server.
            leader_address: welcome.leader_address.parse().ok(),
        };
        inbound.advance(header.frame_len());
        Ok(Some((Self::new(limits, patience), greeting)))
    }

    fn new(limits: Limits, patience: Duration) -> Self {
        Self {
            limits,
            patience,
            frames: Vec::new(),
            idle: Vec::new(),
            written: 0,
            alarm_at: None,
            heard: false,
            not_leader: None,
            silent_since: Instant::now(),
            prompt: 0,
        }
    }

    /// Whether a whole reply ever came: the server does serve.
    pub(crate) fn was_heard(&self) -> bool {
        self.heard
    }

    /// Whether the server answered that it does not lead; and who does, if it knew.
    pub(crate) fn not_leader(&self) -> Option<Option<NodeId>> {
        self.not_leader
    }

    /// Since when replies are due and nothing at all has come; `None` while nothing is unanswered. Of answers that may
    /// wait for news it is the time at which the first of them has waited enough.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        if self.prompt > 0 {
            return Some(self.silent_since);
        }
        let enough = self.in_flight().map(|frame| frame.written_at + frame.wait).min()?;
        Some(enough.max(self.silent_since))
    }

    fn in_flight(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|frame| frame.correlation != 0)
    }

    /// Writes a ping that nobody waits for: a server that lives answers it, however long the others take.
    /// It has as long as the longest of them.
    pub(crate) fn ping(&mut self, now: Instant, out: &mut Vec<u8>) {
        if !self.has_room() {
            return;
        }
        let due = self.in_flight().map(|frame| frame.due).max();
        // The silence that is being looked into goes on.
        self.silent_since = self.silent_since().unwrap_or(now);
        let start = out.len();
        out.resize(start + HEADER_LEN, 0);
        let entry = self.take_entry(Kind::Ping, now);
        let correlation = self.begin(entry, 0, due.unwrap_or(now + self.patience));
        seal(&mut out[start..], Kind::Ping, PROTOCOL_VERSION, 0, 0, correlation);
    }

    /// Whether any frame is unanswered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.idle.len() == self.frames.len()
    }

    /// Whether another frame may be written.
    fn has_room(&self) -> bool {
        !self.idle.is_empty() || self.frames.len() < self.limits.frames_in_flight_max
    }

    /// Writes waiting calls into `out` until none waits, the server's limit of unanswered frames is reached, or
    /// `out` is long enough to keep the socket busy.
    pub(crate) fn pack(&mut self, lanes: &mut Lanes, now: Instant, out: &mut Vec<u8>) {
        while self.has_room() && out.len() < OUT_MAX {
            let Some(kind) = lanes.next_kind() else { return };
            self.pack_frame(kind, lanes, now, out);
        }
    }

    fn pack_frame(&mut self, kind: Kind, lanes: &mut Lanes, now: Instant, out: &mut Vec<u8>) {
        // A ping has no items and travels alone.
        let (items_max, calls_max) = self.limits.items_of(kind).map_or((0, 1), |max| (max, max));
        let start = out.len();
        out.resize(start + HEADER_LEN, 0);
        let was_patient = self.prompt == 0;
        let entry = self.take_entry(kind, now);
        let frame = &mut self.frames[usize::from(entry)];
        let mut count = 0;
        let mut deadline = None;
        frame.wait = Duration::ZERO;
        while frame.waiters.len() < calls_max {
            let room = items_max - count;
            // A row that could not fit into any frame is taken as well, and given back below.
            let fits = |call: &Call| call.asked.items() <= room || call.asked.items() > items_max;
            let Some(Call { asked, deadline: by, promise, .. }) = lanes.pop_if(kind, fits) else { break };
            if asked.items() > items_max || by <= now {
                promise.fulfil(Err(Lost::Unsent));
                continue;
            }
            if !promise.claim() {
                continue;
            }
            asked.write(out);
            frame.wait = asked.wait();
            count += asked.items();
            deadline = Some(deadline.map_or(by, |earliest: Instant| earliest.min(by)));
            frame.waiters.push(Waiter { promise, items: asked.items() as u16, row: asked.is_row() });
        }
        let Some(deadline) = deadline else {
            out.truncate(start);
            self.idle.push(entry);
            return;
        };
        if was_patient {
            self.silent_since = now;
        }
        let budget_ms = budget_ms(deadline - now);
        let due = now + Duration::from_millis(u64::from(budget_ms)) + self.patience;
        let correlation = self.begin(entry, count as u16, due);
        seal(&mut out[start..], kind, PROTOCOL_VERSION, count as u16, budget_ms, correlation);
    }

    /// Puts a frame in flight, and gives it its correlation.
    fn begin(&mut self, entry: u16, count: u16, due: Instant) -> u64 {
        self.written += 1;
        let frame = &mut self.frames[usize::from(entry)];
        frame.correlation = (self.written << ENTRY_BITS) | u64::from(entry);
        (frame.count, frame.due) = (count, due);
        self.prompt += usize::from(frame.wait.is_zero());
        self.alarm_at = Some(self.alarm_at.map_or(due, |earliest| earliest.min(due)));
        frame.correlation
    }

    fn take_entry(&mut self, kind: Kind, now: Instant) -> u16 {
        let Some(entry) = self.idle.pop() else {
            let waiters = Vec::new();
            let wait = Duration::ZERO;
            self.frames.push(Frame {
                correlation: 0,
                kind,
                count: 0,
                written_at: now,
                wait,
                due: now,
                waiters,
            });
            return (self.frames.len() - 1) as u16;
        };
        let frame = &mut self.frames[usize::from(entry)];
        (frame.kind, frame.written_at, frame.wait) = (kind, now, Duration::ZERO);
        entry
    }

    /// Takes every whole frame out of `inbound` and fulfils the promises it answers.
    ///
    /// # Errors
    /// A fault frame, or anything the protocol does not allow. The connection must be closed.
    pub(crate) fn receive(&mut self, inbound: &mut BytesMut, now: Instant) -> Result<(), Trouble> {
        while let Some(header) = whole_frame(inbound).map_err(malformed)? {
            self.accept(header, &inbound[HEADER_LEN..header.frame_len()], now)?;
            inbound.advance(header.frame_len());
            self.heard = true;
            self.silent_since = now;
        }
        Ok(())
    }

    fn accept(&mut self, header: FrameHeader, body: &[u8], now: Instant) -> Result<(), Trouble> {
        if header.kind == Kind::Fault {
            return Err(fault(body));
        }
        if header.version != PROTOCOL_VERSION {
            let error = DecodeError::BadVersion { got: header.version, agreed: PROTOCOL_VERSION };
            return Err(malformed(error));
        }
        let entry = (header.correlation & ((1 << ENTRY_BITS) - 1)) as u16;
        let frame = self
            .frames
            .get_mut(usize::from(entry))
            .filter(|frame| frame.correlation != 0 && frame.correlation == header.correlation)
            .ok_or_else(|| {
                Trouble::Protocol(format!("a reply to {:#x}, which nothing asked", header.correlation))
            })?;
        if header.kind != frame.kind.reply() {
            let what = format!("{:?} was answered by {:?}", frame.kind, header.kind);
            return Err(Trouble::Protocol(what));
        }
        if header.count != frame.count && !has_rows_of_its_own(header.kind) {
            let what = format!("{} items were answered by {}", frame.count, header.count);
            return Err(Trouble::Protocol(what));
        }
        frame.correlation = 0;
        self.prompt -= usize::from(frame.wait.is_zero());
        self.idle.push(entry);
        let not_leader = fulfil(frame, body, now)?;
        if let Some(answer) = not_leader {
            self.not_leader = Some(known(NodeId(answer.leader())));
        }
        Ok(())
    }

    /// When to ask [`Session::is_overdue`] next; `None` while nothing is unanswered.
    pub(crate) fn alarm_at(&self) -> Option<Instant> {
        if self.is_quiet() { None } else { self.alarm_at }
    }

    /// Whether a reply is so late that the connection is not worth keeping. Sets the next alarm.
    pub(crate) fn is_overdue(&mut self, now: Instant) -> bool {
        self.alarm_at = self.in_flight().map(|frame| frame.due).min();
        self.alarm_at.is_some_and(|due| due <= now)
    }
}

/// A node's id as answers and welcomes carry it, where 0 means that it is not known.
fn known(node: NodeId) -> Option<NodeId> {
    Some(node).filter(|node| *node != NodeId(0))
}

/// The header of the frame at the start of `inbound`, once the frame is whole and found sound.
fn whole_frame(inbound: &BytesMut) -> Result<Option<FrameHeader>, DecodeError> {
    let Some(header) = FrameHeader::parse(inbound)? else { return Ok(None) };
    if header.kind.is_request() {
        return Err(DecodeError::BadKind { got: header.kind as u8 });
    }
    let Some(frame) = inbound.get(..header.frame_len()) else { return Ok(None) };
    header.check_body(frame)?;
    Ok(Some(header))
}

fn malformed(error: DecodeError) -> Trouble {
    Trouble::Protocol(error.to_string())
}

fn fault(body: &[u8]) -> Trouble {
    match Fault::decode(body) {
        Ok(fault) => Trouble::Fault { code: fault.code, text: fault.text.to_owned() },
        Err(error) => malformed(error),
    }
}

/// What of a call's remaining time the server gets. Never 0, which would mean the server's default.
fn budget_ms(remaining: Duration) -> u32 {
    let remaining_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).min(BUDGET_MS_MAX);
    (remaining_ms - remaining_ms / BUDGET_MARGIN).max(1)
}
