//! How bytes reach a server: TCP.
//!
//! A seam, so that tests can put a network in memory behind it and let time stand still. Deliberately not here:
//! what the bytes say, how long an attempt may take.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::url::Address;

/// A peer that vanished is noticed by TCP after this long of silence, and a few probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The two directions of a connection.
pub(crate) struct Wire {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// An attempt to connect. Dropped, it is given up.
pub(crate) type Dialling = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

/// Connects to addresses.
pub(crate) trait Dial: Debug + Send + Sync {
    /// Starts an attempt, without any limit of time.
    fn dial(&self, address: &Address) -> Dialling;
}

/// The network.
#[derive(Debug)]
pub(crate) struct Tcp;

impl Dial for Tcp {
    fn dial(&self, address: &Address) -> Dialling {
        Box::pin(connect(address.clone()))
    }
}

async fn connect(address: Address) -> io::Result<Wire> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let (reader, writer) = stream.into_split();
    Ok(Wire { reader: Box::new(reader), writer: Box::new(writer) })
}
