//! The connection that this node makes to one peer, made again whenever it is lost.
//!
//! Quickly at first, then at intervals that double up to a bound, with some chance in them; at once when the peer's
//! address changes. Deliberately not here: what is said over it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Post;
use super::connection::{converse, read_frame, tune};
use super::frame::{self, Kind};
use super::greeting::{Card, Greeting, Purpose, Refusal, Welcome};
use super::link::Link;
use sluice_core::replica::peer::Identity;

/// How long a connection and its greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(1);

/// The first pause between two attempts, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(640);

/// Keeps a connection to the link's node, for as long as somebody else holds the link.
pub(super) async fn run(post: Arc<Post>, link: Arc<Link>) {
    let mut pause = PAUSE;
    let mut last = String::new();
    let mut book = post.book.subscribe();
    while Arc::strong_count(&link) > 1 {
        let address = book.borrow_and_update().get(link.node()).map(|entry| entry.peers.clone());
        let trouble = match &address {
            None => "its address is not known: it has to connect here first".to_owned(),
            Some(address) => match timeout(GREETING_MAX, greet(&post, address, link.node())).await {
                Err(_) => format!("{address} does not answer"),
                Ok(Err(error)) => format!("{address}: {error}"),
                Ok(Ok((stream, inbound, other))) => {
                    tracing::info!(node = link.node(), %address, "connected to a peer");
                    (pause, last) = (PAUSE, String::new());
                    link.up();
                    tokio::select! {
                        error = converse(&post, stream, inbound, &link, other) => {
                            format!("{address}: the connection was lost: {error}")
                        }
                        // Its later process says so: this connection is a dead one's, whose host may not have told.
                        () = changed(&mut book, link.node(), Some(address.as_str())) => {
                            format!("{address}: the node has moved from there")
                        }
                    }
                }
            },
        };
        link.down(&trouble);
        post.wake_replica();
        if trouble != last {
            tracing::warn!(node = link.node(), "no connection to a peer: {trouble}");
            last = trouble;
        }
        // Up to half as long again, so that nodes which lost each other do not come back in step.
        let chance = getrandom::u32().unwrap_or(0) % 128;
        let rest = pause + pause * chance / 256;
        pause = (pause * 2).min(PAUSE_MAX);
        // An address that changes ends the pause; a book that goes away ends the node.
        let _ = timeout(rest, changed(&mut book, link.node(), address.as_deref())).await;
    }
}

/// Waits until another address of the node is known.
async fn changed(book: &mut tokio::sync::watch::Receiver<super::Book>, node: u64, address: Option<&str>) {
    let is_other = |book: &super::Book| book.get(node).map(|entry| entry.peers.as_str()) != address;
    if book.wait_for(is_other).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Connects, and learns who is there.
async fn greet(post: &Post, address: &str, node: u64) -> io::Result<(TcpStream, BytesMut, Identity)> {
    let mut stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    let greeting =
        Greeting { purpose: Purpose::Peer, from: Some(Card::of(&post.own)), to: node, book: post.book() };
    stream.write_all(&frame::text(Kind::Greeting, &greeting)).await?;
    let mut inbound = BytesMut::new();
    let frame = read_frame(&mut stream, &mut inbound).await?;
    match frame.kind {
        Kind::Welcome => {
            let welcome: Welcome = frame.read()?;
            let other = welcome.from.identity().filter(|other| other.node == node);
            let other = other.filter(|other| other.cluster == post.own.cluster);
            post.learn(&welcome.book);
            let other = other.ok_or_else(|| io::Error::other("another node answers there"))?;
            Ok((stream, inbound, other))
        }
        Kind::Refusal => Err(io::Error::other(format!("it refuses: {}", frame.read::<Refusal>()?.why))),
        _ => Err(io::Error::other("it answers, but not as a node does")),
    }
}
