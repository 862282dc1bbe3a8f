//! Sockets: net threads, each with its own runtime, sessions and desk.
//!
//! - `thread`: one of them
//! - `connection`: one of its connections
//! - `stall`: since when it does not take its replies
//! - `room`: who must wait when there is no room for all
//!
//! The first thread also accepts, and deals connections out in turn. Deliberately not here: the protocol, decisions.

mod connection;
mod room;
mod stall;
mod thread;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_core::desk::DeskLimits;
use sluice_core::session::{Facts, Session};
use sluice_protocol::FaultCode;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::thread::NetThread;
use crate::config::LimitsConfig;
use crate::node::shared::Shared;

/// Connections that may wait to be accepted. The system may allow fewer.
const BACKLOG: i32 = 4096;
/// What the system may keep of one connection in each direction, bytes; it takes as much again for its own books. Enough for
/// the largest frame or reply. Left to itself it would keep megabytes for a client that writes and does not read.
const SOCKET_BYTES: usize = 128 * 1024;
/// How long accepting rests when the system has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How long connections have to take their last replies when the node goes away.
const FAREWELL: Duration = Duration::from_millis(500);

/// Listens on an address, without accepting yet.
///
/// # Errors
/// The system's: the address is in use, or not this machine's.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart need not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Those that are accepted inherit it.
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts the net threads.
///
/// # Errors
/// The system's, if it has no threads left.
pub(crate) fn start(
    listener: TcpListener,
    limits: &LimitsConfig,
    facts: &Facts,
    shared: &Arc<Shared>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..shared.nets.len()).map(|_| mpsc::unbounded_channel()).unzip();
    let mut acceptor = Some(Acceptor { listener, limits: limits.clone(), facts: facts.clone(), senders });
    let mut handles = Vec::new();
    for (index, adopted) in receivers.into_iter().enumerate() {
        let (limits, facts, shared) = (limits.clone(), facts.clone(), Arc::clone(shared));
        let acceptor = acceptor.take();
        let run = move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs a few descriptors, and this is the start of the process");
            let local = LocalSet::new();
            local.block_on(&runtime, serve(index, limits, facts, shared, acceptor, adopted));
        };
        handles.push(std::thread::Builder::new().name(format!("net-{index}")).spawn(run)?);
    }
    Ok(handles)
}

/// What one net thread does from start to end.
async fn serve(
    index: usize,
    limits: LimitsConfig,
    facts: Facts,
    shared: Arc<Shared>,
    acceptor: Option<Acceptor>,
    mut adopted: mpsc::UnboundedReceiver<std::net::TcpStream>,
) {
    let desk = DeskLimits {
        flights_max: flights_max(&limits),
        requests_max: limits.requests_in_flight_max,
        parked_max: limits.parked_max,
        budget_default_ms: millis(limits.request_budget_default),
        budget_max_ms: millis(limits.request_budget_max),
    };
    let net = Rc::new(NetThread::new(index, limits, desk, facts, Arc::clone(&shared)));
    if let Some(acceptor) = acceptor {
        tokio::task::spawn_local(acceptor.run(shared));
    }
    tokio::task::spawn_local(Rc::clone(&net).carry());
    let adopter = Rc::clone(&net);
    tokio::task::spawn_local(async move {
        while let Some(stream) = adopted.recv().await {
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => adopter.adopt(stream),
                Err(error) => {
                    adopter.metrics().connections_open.decrement();
                    tracing::warn!(%error, "a connection could not be taken over");
                }
            }
        }
    });
    Rc::clone(&net).dispatch().await;
    let patience = tokio::time::Instant::now() + FAREWELL;
    while !net.is_empty() && tokio::time::Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Flights that one desk may have away; its return queue holds that many and what one frame can add.
pub(crate) fn flights_max(limits: &LimitsConfig) -> usize {
    limits.flights_queue_max
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).expect("budgets are bounded by the protocol")
}

/// Accepts connections and deals them out.
struct Acceptor {
    listener: TcpListener,
    limits: LimitsConfig,
    facts: Facts,
    senders: Vec<mpsc::UnboundedSender<std::net::TcpStream>>,
}

impl Acceptor {
    async fn run(self, shared: Arc<Shared>) {
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .expect("the listener was made non-blocking, and the runtime is running");
        for turn in 0.. {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly EMFILE: connections end, descriptors come back.
                    tracing::warn!(%error, "accepting failed");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let metrics = &shared.metrics;
            if shared.is_stopping() {
                continue;
            }
            if metrics.connections_open.get() >= self.limits.connections_max as u64 {
                metrics.connections_refused.increment();
                turn_away(&stream, &self.facts);
                continue;
            }
            metrics.connections_accepted.increment();
            metrics.connections_open.increment();
            // Small frames must not wait for an acknowledgement. A socket that refuses is about to fail anyway.
            let _: io::Result<()> = stream.set_nodelay(true);
            let deal = stream.into_std().map(|stream| self.senders[turn % self.senders.len()].send(stream));
            if !matches!(deal, Ok(Ok(()))) {
                metrics.connections_open.decrement();
            }
        }
    }
}

/// Tells a client why it is not served, as far as its socket takes it at once.
fn turn_away(stream: &tokio::net::TcpStream, facts: &Facts) {
    let mut session = Session::new(facts.clone());
    session.close(FaultCode::TooManyConnections);
    // Whoever floods this port is not worth waiting for.
    let _: io::Result<usize> = stream.try_write(session.outgoing());
}
