//! The task behind one connection: it owns a socket, feeds a [`Session`], and connects again when it must.
//!
//! It lives as long as a client that could call. While nothing is asked it waits without a timer; if the
//! server closes meanwhile, it connects again only when somebody calls. Calls that were not written survive
//! any number of failed connections, up to their own deadline. Deliberately not here: what bytes mean
//! ([`crate::session`]), which server to choose ([`crate::router`]), whether a call is made again
//! ([`crate::retry`]).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use sluice_protocol::Kind;
use sluice_protocol::limits::ITEMS_MAX;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::call::{Call, Lost};
use crate::error::{Trouble, TroubleKind};
use crate::lanes::Lanes;
use crate::retry::{Jitter, connect_pause};
use crate::router::Router;
use crate::session::{self, Session};
use crate::url::Address;

/// Calls that may wait in the queue before further callers wait for room.
const QUEUE_MAX: usize = 4 * ITEMS_MAX;

/// Calls that the task takes out of its queue ahead of writing them: enough to fill a few frames of each kind.
const LANES_MAX: usize = 4 * ITEMS_MAX;

/// The kind of row with the longest items: what fits of these fits of any.
const LONGEST_ROW: Kind = Kind::Reserve;

/// How long connecting and being welcomed may take, together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// A peer that vanished is noticed by TCP after this long of silence, and a few probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Room made for reading at a time, bytes.
const READ_CHUNK: usize = 64 * 1024;

/// What all connections of a client share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) credentials: Vec<u8>,
    pub(crate) patience: Duration,
    pub(crate) router: Router,
    pub(crate) jitter: Jitter,
}

/// A client's end of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) queue: mpsc::Sender<Call>,
    health: Arc<Health>,
}

/// What a connection's task lets callers know.
#[derive(Debug)]
struct Health {
    failing: AtomicBool,
    row_max: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
}

impl Link {
    /// Starts the task on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn open(common: Arc<Common>) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE_MAX);
        let health = Arc::new(Health {
            failing: AtomicBool::new(false),
            row_max: AtomicUsize::new(ITEMS_MAX),
            trouble: Mutex::new(None),
        });
        let task = Connection {
            common,
            health: Arc::clone(&health),
            queue: calls,
            lanes: Lanes::default(),
            taken: Vec::new(),
            failures: 0,
            not_before: Instant::now(),
        };
        tokio::spawn(task.run());
        Self { queue, health }
    }

    /// Whether the last attempt to connect failed, and calls wait for the next.
    pub(crate) fn is_failing(&self) -> bool {
        self.health.failing.load(Ordering::Relaxed)
    }

    /// How many items of a row the server allows in a frame, whatever row it is.
    pub(crate) fn row_max(&self) -> usize {
        self.health.row_max.load(Ordering::Relaxed)
    }

    /// What keeps the connection from serving, if anything does.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Health {
    fn is_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    fn note(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

struct Connection {
    common: Arc<Common>,
    health: Arc<Health>,
    queue: mpsc::Receiver<Call>,
    lanes: Lanes,
    /// Where calls stand for a moment between queue and lanes; kept for its memory.
    taken: Vec<Call>,
    /// Connections in a row that came to nothing.
    failures: u32,
    not_before: Instant,
}

/// A connection that was welcomed.
struct Welcomed {
    stream: TcpStream,
    session: Session,
    inbound: BytesMut,
    address: Address,
}

/// Why a connection that served does so no longer.
enum Parting {
    /// No client is left.
    Unwanted,
    /// The server does not lead, and there is another to try.
    Elsewhere,
    /// Something happened to it.
    Trouble(TroubleKind),
}

impl Connection {
    async fn run(mut self) {
        while self.wait_for_calls().await {
            sleep_until(self.not_before).await;
            let welcomed = match self.connect().await {
                Ok(welcomed) => welcomed,
                Err(trouble) => {
                    self.health.is_failing(true);
                    self.failed(trouble);
                    continue;
                }
            };
            self.health.is_failing(false);
            self.health.note(None);
            let address = welcomed.address.clone();
            match self.serve(welcomed).await {
                Parting::Unwanted => return,
                Parting::Elsewhere => self.back_off(),
                Parting::Trouble(kind) => self.failed(Trouble { address: address.to_string(), kind }),
            }
        }
    }

    /// Waits until somebody calls. `false`: nobody can any more.
    async fn wait_for_calls(&mut self) -> bool {
        self.take_waiting();
        self.lanes.purge();
        if self.lanes.is_empty() {
            // Nothing is known against the next attempt, and only a caller can bring it about.
            self.health.is_failing(false);
            match self.queue.recv().await {
                Some(call) => self.lanes.push(call),
                None => return false,
            }
        }
        true
    }

    /// Notes a failure, and when to try again.
    fn failed(&mut self, trouble: Trouble) {
        let hopeless = trouble.is_hopeless();
        // Whoever is told that it is hopeless looks up why.
        self.health.note(Some(trouble));
        if hopeless {
            self.take_waiting();
            self.lanes.fail_all(Lost::Hopeless);
        }
        self.back_off();
    }

    fn back_off(&mut self) {
        self.not_before = Instant::now() + connect_pause(self.failures, &self.common.jitter);
        self.failures += 1;
    }

    /// Connects and greets; follows one hint to a leader elsewhere.
    async fn connect(&mut self) -> Result<Welcomed, Trouble> {
        let first = self.common.router.pick();
        let (welcomed, hint) = self.greet(first).await?;
        // A hint that is no address is the server's mistake, not a reason to do without the server.
        let Some(leader) = hint.and_then(|hint| hint.parse().ok()) else { return Ok(welcomed) };
        if !self.common.router.learn(leader) {
            return Ok(welcomed);
        }
        let leader = self.common.router.pick();
        Ok(self.greet(leader).await.map_or(welcomed, |(at_leader, _)| at_leader))
    }

    async fn greet(&mut self, address: Address) -> Result<(Welcomed, Option<String>), Trouble> {
        let greeting = timeout(CONNECT_TIME_MAX, greet(&self.common, &address)).await;
        let kind = match greeting {
            Ok(Ok((stream, session, inbound, greeting))) => {
                let row_max = greeting.limits.items_of(LONGEST_ROW).expect("rows have items");
                self.health.row_max.store(row_max, Ordering::Relaxed);
                return Ok((Welcomed { stream, session, inbound, address }, greeting.leader_elsewhere));
            }
            Ok(Err(kind)) => kind,
            Err(_) => TroubleKind::Io(format!("no welcome within {} s", CONNECT_TIME_MAX.as_secs())),
        };
        self.common.router.disappointed(&address);
        Err(Trouble { address: address.to_string(), kind })
    }

    /// Moves bytes and calls until the connection ends. Whoever waits for a reply then is told so by the
    /// session's end.
    async fn serve(&mut self, welcomed: Welcomed) -> Parting {
        let Welcomed { mut stream, mut session, mut inbound, address } = welcomed;
        let (mut reader, mut writer) = stream.split();
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        let mut out = Vec::new();
        let mut written = 0;
        let mut leaving = false;
        loop {
            if out.is_empty() && !leaving {
                session.pack(&mut self.lanes, Instant::now(), &mut out);
            }
            if leaving && out.is_empty() && session.is_quiet() {
                return Parting::Elsewhere;
            }
            let alarm_at = session.alarm_at();
            if let Some(at) = alarm_at.filter(|at| *at != alarm.deadline()) {
                alarm.as_mut().reset(at);
            }
            inbound.reserve(READ_CHUNK);
            let room = LANES_MAX.saturating_sub(self.lanes.len());
            tokio::select! {
                read = reader.read_buf(&mut inbound) => {
                    if let Err(kind) = arrived(read, &mut session, &mut inbound) {
                        self.common.router.disappointed(&address);
                        return Parting::Trouble(kind);
                    }
                    if session.saw_not_leader() {
                        leaving = leaving || self.common.router.disappointed(&address);
                    } else if session.was_heard() {
                        self.failures = 0;
                    }
                }
                wrote = writer.write(&out[written..]), if !out.is_empty() => match wrote {
                    Ok(count) => {
                        written += count;
                        if written == out.len() {
                            out.clear();
                            written = 0;
                        }
                    }
                    Err(error) => return Parting::Trouble(TroubleKind::Io(error.to_string())),
                },
                count = self.queue.recv_many(&mut self.taken, room), if room > 0 && !leaving => {
                    if count == 0 {
                        return Parting::Unwanted;
                    }
                    // Whoever else is about to call gets to, and shares the frame. When nobody is, this costs
                    // one look at the scheduler.
                    tokio::task::yield_now().await;
                    self.take_waiting();
                }
                () = &mut alarm, if alarm_at.is_some() => {
                    if session.is_overdue(Instant::now()) {
                        self.common.router.disappointed(&address);
                        return Parting::Trouble(TroubleKind::Io("it did not reply in time".to_owned()));
                    }
                }
            }
        }
    }

    /// Moves what waits in the queue into the lanes, as far as they want.
    fn take_waiting(&mut self) {
        self.taken.drain(..).for_each(|call| self.lanes.push(call));
        while self.lanes.len() < LANES_MAX {
            let Ok(call) = self.queue.try_recv() else { return };
            self.lanes.push(call);
        }
    }
}

/// Deals with the end of a read.
fn arrived(
    read: io::Result<usize>,
    session: &mut Session,
    inbound: &mut BytesMut,
) -> Result<(), TroubleKind> {
    match read {
        Ok(0) => Err(TroubleKind::Io("it closed the connection".to_owned())),
        Ok(_) => session.receive(inbound, Instant::now()),
        Err(error) => Err(TroubleKind::Io(error.to_string())),
    }
}

/// Connects to one address and reads its welcome.
async fn greet(
    common: &Common,
    address: &Address,
) -> Result<(TcpStream, Session, BytesMut, session::Greeting), TroubleKind> {
    let io = |error: io::Error| TroubleKind::Io(error.to_string());
    let mut stream = TcpStream::connect((address.host(), address.port())).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(io)?;
    stream.write_all(&session::hello(&common.name, &common.credentials)).await.map_err(io)?;
    let mut inbound = BytesMut::with_capacity(READ_CHUNK);
    loop {
        if let Some((session, greeting)) = Session::welcome(&mut inbound, common.patience)? {
            return Ok((stream, session, inbound, greeting));
        }
        if stream.read_buf(&mut inbound).await.map_err(io)? == 0 {
            return Err(TroubleKind::Io("it closed the connection before its welcome".to_owned()));
        }
    }
}
