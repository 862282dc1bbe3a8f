//! One connection from its welcome to its end: bytes and calls are moved until there is a reason to part.
//!
//! Deliberately not here: what bytes mean ([`crate::session`]), where to go next ([`crate::connection`]).

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use sluice_protocol::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use crate::dial::Wire;
use crate::greet::Welcomed;
use crate::intake::Intake;
use crate::session::Session;
use crate::trouble::Trouble;
use crate::vigil::Vigil;

/// Room made for reading at a time, bytes.
const READ_CHUNK: usize = 64 * 1024;

/// How long a server that does not lead any more may take over what it has not answered.
const LEAVE_TIME: Duration = Duration::from_millis(50);

/// Why a connection that served does so no longer.
pub(crate) enum Parting {
    /// No client is left.
    Unwanted,
    /// The server does not lead; it may have said who does.
    Elsewhere(Option<NodeId>),
    /// The server fell silent, and another one leads.
    Moved(Box<Welcomed>),
    /// Something happened to it.
    Trouble(Trouble),
}

/// A connection in service.
pub(crate) struct Service {
    session: Session,
    inbound: BytesMut,
    out: Vec<u8>,
    written: usize,
    vigil: Vigil,
    /// Whether a server that does not lead is of no use.
    needs_leader: bool,
    leave_by: Option<Instant>,
    /// Whether the server ever answered anything else than that it does not lead.
    served: bool,
}

impl Service {
    pub(crate) fn new(session: Session, inbound: BytesMut, vigil: Vigil, needs_leader: bool) -> Self {
        Self {
            session,
            inbound,
            out: Vec::new(),
            written: 0,
            vigil,
            needs_leader,
            leave_by: None,
            served: false,
        }
    }

    /// Runs until there is a reason to part; whether the server was of use comes with it. `served` is called
    /// when it first is. Whoever waits for a reply in the end is told so by the session's.
    pub(crate) async fn run(mut self, wire: Wire, intake: &mut Intake, served: impl Fn()) -> (Parting, bool) {
        let parting = self.serve(wire, intake, served).await;
        (parting, self.served)
    }

    async fn serve(&mut self, wire: Wire, intake: &mut Intake, served: impl Fn()) -> Parting {
        let Wire { mut reader, mut writer } = wire;
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        loop {
            if self.out.is_empty() && self.leave_by.is_none() {
                self.session.pack(&mut intake.lanes, Instant::now(), &mut self.out);
            }
            if self.leave_by.is_some() && self.out.is_empty() && self.session.is_quiet() {
                return Parting::Elsewhere(self.session.not_leader().flatten());
            }
            let alarm_at = self.alarm_at();
            if let Some(at) = alarm_at.filter(|at| *at != alarm.deadline()) {
                alarm.as_mut().reset(at);
            }
            self.inbound.reserve(READ_CHUNK);
            tokio::select! {
                read = reader.read_buf(&mut self.inbound) => {
                    if let Err(trouble) = self.arrived(read, &served) {
                        return Parting::Trouble(trouble);
                    }
                }
                wrote = writer.write(&self.out[self.written..]), if !self.out.is_empty() => match wrote {
                    Ok(count) => self.wrote(count),
                    Err(error) => return Parting::Trouble(Trouble::Io(error.to_string())),
                },
                called = intake.more(), if self.leave_by.is_none() && intake.has_room() => {
                    if !called {
                        return Parting::Unwanted;
                    }
                    // Whoever else is about to call gets to, and shares the frame. When nobody is, this costs
                    // one look at the scheduler.
                    tokio::task::yield_now().await;
                    intake.take_waiting();
                }
                welcomed = self.vigil.found() => return Parting::Moved(Box::new(welcomed)),
                () = &mut alarm, if alarm_at.is_some() => {
                    if let Some(parting) = self.look(Instant::now()) {
                        return parting;
                    }
                }
            }
        }
    }

    fn alarm_at(&self) -> Option<Instant> {
        let alarms = [self.session.alarm_at(), self.vigil.next_at(&self.session), self.leave_by];
        alarms.into_iter().flatten().min()
    }

    /// Something is due.
    fn look(&mut self, now: Instant) -> Option<Parting> {
        if self.leave_by.is_some_and(|by| by <= now) {
            return Some(Parting::Elsewhere(self.session.not_leader().flatten()));
        }
        if self.session.alarm_at().is_some_and(|at| at <= now) && self.session.is_overdue(now) {
            return Some(Parting::Trouble(Trouble::Io("it did not reply in time".to_owned())));
        }
        self.vigil.look(&mut self.session, now, &mut self.out);
        None
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Deals with the end of a read.
    fn arrived(&mut self, read: io::Result<usize>, served: impl Fn()) -> Result<(), Trouble> {
        match read {
            Ok(0) => return Err(Trouble::Io("it closed the connection".to_owned())),
            Ok(_) => self.session.receive(&mut self.inbound, Instant::now())?,
            Err(error) => return Err(Trouble::Io(error.to_string())),
        }
        self.vigil.heard();
        if self.needs_leader && self.session.not_leader().is_some() {
            self.leave_by = self.leave_by.or_else(|| Some(Instant::now() + LEAVE_TIME));
        } else if !self.served && self.session.was_heard() {
            self.served = true;
            served();
        }
        Ok(())
    }
}
