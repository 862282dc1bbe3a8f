//! Many connections on one thread, closed or open loop.
//!
//! *Closed*: each connection keeps so many volleys in flight; the peak rate comes out. *Open*: each request has the
//! time at which it is due, whatever the server does meanwhile; its latency counts from then, so a stalled server
//! cannot hide the requests that it kept from being sent (coordinated omission). What is due leaves at once, packed as
//! a client would pack it: up to `frame` requests in a volley, the connections taking turns.
//!
//! Deliberately not here: what is said ([`crate::speech`]).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::error::BenchError;
use crate::line::{Landed, Line};
use crate::measure::{Measured, Meter};
use crate::process::Process;
use crate::speech::Speech;

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;

/// The longest that the generator sleeps: it has a clock to look at.
const NAP_MAX: Duration = Duration::from_millis(20);

/// How long it waits for the last answers when nothing more is due.
const DRAIN: Duration = Duration::from_secs(2);

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// As soon as others have been answered.
    Closed,
    /// So many a second, evenly.
    Open {
        /// Requests a second.
        per_second: f64,
    },
}

/// How load is put on a server.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Plan {
    /// When requests are sent.
    pub pace: Pace,
    /// Connections.
    pub connections: usize,
    /// Requests in a volley, at most.
    pub frame: u32,
    /// Volleys in flight on a connection.
    pub pipeline: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub measure: Duration,
}

/// Puts load on a server. `watch` hears now and then how it goes.
///
/// # Errors
/// If the server is not there, breaks off, or speaks something else.
pub fn drive(
    speech: &mut impl Speech,
    address: SocketAddr,
    plan: &Plan,
    server: Option<&Process>,
    watch: &mut dyn FnMut(&Meter),
) -> Result<Measured, BenchError> {
    let mut driver = Driver::open(speech, address, plan)?;
    let meter = driver.run(speech, server, watch)?;
    let unsent = driver.overdue(meter.ends_ns());
    let unanswered = driver.lines.iter().map(Line::unanswered).sum();
    Ok(meter.finish(unsent, unanswered))
}

struct Driver {
    plan: Plan,
    epoll: OwnedFd,
    lines: Vec<Line>,
    began: Instant,
    /// Open loop: requests sent so far.
    sent: u64,
    /// Open loop: the connection whose turn it is.
    turn: usize,
}

impl Driver {
    fn open(speech: &mut impl Speech, address: SocketAddr, plan: &Plan) -> Result<Self, BenchError> {
        let waiting = |errno: rustix::io::Errno| BenchError::io("setting up epoll")(errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(waiting)?;
        let mut lines = Vec::with_capacity(plan.connections);
        for at in 0..plan.connections {
            let line = Line::open(address, speech)?;
            let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, line.stream(), epoll::EventData::new_u64(at as u64), wanted)
                .map_err(waiting)?;
            lines.push(line);
        }
        Ok(Self { plan: *plan, epoll, lines, began: Instant::now(), sent: 0, turn: 0 })
    }

    fn run(
        &mut self,
        speech: &mut impl Speech,
        server: Option<&Process>,
        watch: &mut dyn FnMut(&Meter),
    ) -> Result<Meter, BenchError> {
        self.began = Instant::now();
        let mut meter = Meter::new(self.plan.warm_up, self.plan.measure, self.plan.pace == Pace::Closed);
        if self.plan.pace == Pace::Closed {
            for at in 0..self.lines.len() {
                self.refill(at, speech)?;
            }
        }
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now_ns = self.now_ns();
            if meter.turn(now_ns, speech.tally(), server) {
                watch(&meter);
            }
            if self.is_over(&meter, now_ns) {
                return Ok(meter);
            }
            let is_ahead = self.send_due(now_ns, meter.ends_ns(), speech)?;
            self.wait(&mut events, now_ns, is_ahead)?;
            for event in events.drain(..) {
                self.serve(event.data.u64() as usize, speech, &mut meter)?;
            }
        }
    }

    /// A closed loop ends with its time; an open one when what was due has been answered, or will not be.
    fn is_over(&self, meter: &Meter, now_ns: f64) -> bool {
        if now_ns < meter.ends_ns() {
            return false;
        }
        let answered =
            || self.overdue(meter.ends_ns()) == 0 && self.lines.iter().all(|line| line.in_flight() == 0);
        self.plan.pace == Pace::Closed || now_ns > meter.ends_ns() + DRAIN.as_nanos() as f64 || answered()
    }

    /// Open loop: requests that were due until then and have not been sent.
    fn overdue(&self, until_ns: f64) -> u64 {
        match self.plan.pace {
            Pace::Closed => 0,
            Pace::Open { per_second } => ((until_ns * per_second / 1e9) as u64).saturating_sub(self.sent),
        }
    }

    /// Open loop: sends what is due, as far as connections have room. Whether all of it is sent.
    fn send_due(&mut self, now_ns: f64, ends_ns: f64, speech: &mut impl Speech) -> Result<bool, BenchError> {
        let Pace::Open { per_second } = self.plan.pace else { return Ok(true) };
        let step_ns = 1e9 / per_second;
        let mut due = self.overdue(now_ns.min(ends_ns));
        for _ in 0..self.lines.len() {
            if due == 0 {
                break;
            }
            let at = self.turn;
            self.turn = (self.turn + 1) % self.lines.len();
            let line = &mut self.lines[at];
            if line.in_flight() >= self.plan.pipeline {
                continue;
            }
            let items = due.min(u64::from(self.plan.frame)) as u32;
            let asked = u64::from(line.ask(speech, items, self.sent as f64 * step_ns, step_ns));
            line.write()?;
            self.sent += asked;
            due -= asked;
        }
        Ok(due == 0)
    }

    /// Sleeps until a socket moves or, if the generator is ahead of its plan, a request is due.
    fn wait(&self, events: &mut Vec<epoll::Event>, now_ns: f64, is_ahead: bool) -> Result<(), BenchError> {
        let nap = match self.plan.pace {
            Pace::Open { per_second } if is_ahead => {
                let next_ns = (self.sent + 1) as f64 * 1e9 / per_second;
                Duration::from_nanos((next_ns - now_ns).max(0.0) as u64).min(NAP_MAX)
            }
            _ => NAP_MAX,
        };
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(BenchError::io("waiting for sockets")(errno.into())),
        }
    }

    fn serve(&mut self, at: usize, speech: &mut impl Speech, meter: &mut Meter) -> Result<(), BenchError> {
        let began = self.began;
        let line = &mut self.lines[at];
        loop {
            let mut now_ns = None;
            let more = line.read(speech, |landed: Landed| {
                let now_ns = *now_ns.get_or_insert_with(|| began.elapsed().as_nanos() as f64);
                meter.record(landed, now_ns);
            })?;
            // The kernel tells of a socket once, so it is read until it is empty.
            if !more {
                break;
            }
        }
        match self.plan.pace {
            Pace::Closed => self.refill(at, speech),
            Pace::Open { .. } => self.lines[at].write().map(drop),
        }
    }

    /// Closed loop: as many volleys in flight as there should be.
    fn refill(&mut self, at: usize, speech: &mut impl Speech) -> Result<(), BenchError> {
        let now_ns = self.now_ns();
        let line = &mut self.lines[at];
        while line.in_flight() < self.plan.pipeline {
            line.ask(speech, self.plan.frame, now_ns, 0.0);
        }
        line.write().map(drop)
    }

    fn now_ns(&self) -> f64 {
        self.began.elapsed().as_nanos() as f64
    }
}
