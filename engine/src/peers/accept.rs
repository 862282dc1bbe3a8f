//! Connections that peers and operators make to this node.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use sluice_core::replica::peer::Identity;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::connection::{converse, read_frame, tune};
use super::frame::{self, Frame, FrameError, Kind};
use super::greeting::{Card, Greeting, Refusal, Welcome, judge};
use super::link::Link;
use super::operator::{Answer, Ask, Call};
use super::{ACCEPTED_MAX, Post};

/// How long somebody may take to greet, and an operator to ask.
const GREETING_MAX: Duration = Duration::from_secs(2);

/// How long an operator's question may take to be answered.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long accepting rests after it failed: mostly for want of descriptors.
const REST: Duration = Duration::from_millis(50);

/// Accepts for as long as the node lives.
pub(super) async fn run(post: Arc<Post>, listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener)
        .expect("the listener was made non-blocking, and the runtime is running");
    let places = Arc::new(Semaphore::new(ACCEPTED_MAX));
    let post = Rc::new(post);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // Whoever finds no place tries again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let post = Rc::clone(&post);
        tokio::task::spawn_local(async move {
            if let Err(error) = receive(&post, stream).await {
                tracing::debug!(%error, "a connection from a peer or an operator ended");
            }
            drop(place);
        });
    }
}

async fn receive(post: &Arc<Post>, mut stream: TcpStream) -> io::Result<()> {
    tune(&stream)?;
    let mut inbound = BytesMut::new();
    let greeting: Greeting = match timeout(GREETING_MAX, read_frame(&mut stream, &mut inbound)).await? {
        Ok(Frame { kind: Kind::Greeting, body }) => Frame { kind: Kind::Greeting, body }.read()?,
        Ok(_) => return Err(FrameError::Damaged("it is no greeting").into()),
        Err(error) => return refuse(&mut stream, error.to_string()).await,
    };
    if greeting.is_of(post.own.cluster) {
        // Also from whoever looks for another node here: it has moved, and where is what that one has to learn.
        post.learn(&greeting.book);
    }
    let other = match judge(&greeting, &post.own) {
        Ok(other) => other,
        Err(Refusal { why }) => {
            tracing::warn!("somebody was turned away from the port for peers: {why}");
            return refuse(&mut stream, why).await;
        }
    };
    let welcome = Welcome { from: Card::of(&post.own), book: post.book() };
    stream.write_all(&frame::text(Kind::Welcome, &welcome)).await?;
    match other {
        Some(other) => Err(exchange(post, stream, inbound, other).await),
        None => answer(post, stream, inbound).await,
    }
}

async fn refuse(stream: &mut TcpStream, why: String) -> io::Result<()> {
    stream.write_all(&frame::text(Kind::Refusal, &Refusal { why })).await?;
    stream.shutdown().await
}

/// Exchanges messages with a peer. What goes back over this connection is meant for that very process.
async fn exchange(post: &Post, stream: TcpStream, inbound: BytesMut, other: Identity) -> io::Error {
    let back = Arc::new(Link::new(other.node, post.queue_bytes_max));
    back.up();
    post.returns.lock().insert(other.nonce, Arc::clone(&back));
    let error = converse(post, stream, inbound, &back, other).await;
    let mut returns = post.returns.lock();
    if returns.get(&other.nonce).is_some_and(|known| Arc::ptr_eq(known, &back)) {
        returns.remove(&other.nonce);
    }
    error
}

/// Has an operator's question answered.
async fn answer(post: &Post, mut stream: TcpStream, mut inbound: BytesMut) -> io::Result<()> {
    // So many at a time, that there are always places for peers.
    let Ok(_place) = post.operators.try_acquire() else {
        return refuse(&mut stream, "too many operators ask this node at once: try again".to_owned()).await;
    };
    let frame = timeout(GREETING_MAX, read_frame(&mut stream, &mut inbound)).await??;
    if frame.kind != Kind::Ask {
        return Err(FrameError::Damaged("it is no question").into());
    }
    let ask: Ask = frame.read()?;
    let (reply, told) = oneshot::channel();
    let answer = match post.calls.push(Call { ask, reply }) {
        Ok(()) => {
            post.wake_replica();
            timeout(ANSWER_MAX, told).await.ok().and_then(Result::ok)
        }
        Err(_) => None,
    };
    let answer = answer.unwrap_or_else(Answer::none);
    stream.write_all(&frame::text(Kind::Answer, &answer)).await?;
    stream.shutdown().await
}
