//! Connections to the ops port, each with bounds that HTTP itself has not: at most so many at a time, so many bytes
//! of request, so much time from accept to close.
//!
//! One connection carries one request, so that these are bounds on the request. They hold below HTTP, whatever
//! stage it is in: a peer that sends its headers a byte a minute meets the same deadline as one that never reads. What
//! takes longer by its nature is granted [`Leave`], once it is known what was asked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Bytes of one request, headers and all. Nobody needs a tenth of it to ask for `/metrics`.
pub(super) const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Accepts connections while there is room for them; the others wait in the kernel's backlog.
#[derive(Debug)]
pub(super) struct BoundedListener {
    listener: TcpListener,
    room: Arc<Semaphore>,
    lifetime: Duration,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, connections_max: usize, lifetime: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections_max)), lifetime }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        // Axum's own listener waits a second where accepting fails for want of descriptors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(tokio::time::sleep_until(Instant::now() + self.lifetime));
        let leave = Leave::default();
        (BoundedStream { stream, deadline, leave, readable: REQUEST_BYTES_MAX, _room: room }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// More time for one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave(Arc<AtomicU64>);

impl Leave {
    /// Adds to the time that the connection may live, once.
    pub(super) fn grant(&self, more: Duration) {
        self.0.store(u64::try_from(more.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn take(&self) -> Duration {
        Duration::from_millis(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Leave {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().leave.clone()
    }
}

/// A connection that fails once it has lived too long or sent too much.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    leave: Leave,
    readable: usize,
    _room: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.deadline.as_mut().poll(context).is_ready() {
            let more = self.leave.take();
            if more.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the request took too long"));
            }
            let until = self.deadline.deadline() + more;
            self.deadline.as_mut().reset(until);
        }
        Ok(())
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        match self.readable.checked_sub(buffer.filled().len() - before) {
            Some(left) => self.readable = left,
            None => return Poll::Ready(Err(io::Error::other("the request is too long"))),
        }
        polled
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
