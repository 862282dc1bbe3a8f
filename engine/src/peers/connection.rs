//! Both directions of one connection, once its greeting is over.
//!
//! Messages that wait are written together, without copying what they carry; long ones that arrive are cut out of the
//! buffer they were read into. Deliberately not here: who connects, and when again.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use sluice_core::replica::peer::{Envelope, Identity};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Post;
use super::book::Book;
use super::frame::{self, Frame, FrameError, Kind};
use super::link::Link;

/// Bytes read at a time.
const READ_CHUNK: usize = 256 * 1024;

/// Bytes gathered for one write, about: more would keep small messages waiting.
const WRITE_BYTES: usize = 1024 * 1024;

/// Slices handed to the system at a time.
const SLICES_MAX: usize = 64;

/// How long what was sent may stay unacknowledged: then the other side is gone, or the way to it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

/// How long nothing may be heard before the system asks, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Sets what every connection between nodes needs: nothing waits to be sent, and silence ends it.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

/// Waits for the next frame.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
    inbound: &mut BytesMut,
) -> io::Result<Frame> {
    loop {
        if let Some(frame) = frame::take(inbound)? {
            return Ok(frame);
        }
        inbound.reserve(HEADER_ROOM);
        if stream.read_buf(inbound).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a first read makes room for: greetings are short.
const HEADER_ROOM: usize = 4096;

/// Carries messages in both directions until the connection ends, and says why it did.
pub(super) async fn converse(
    post: &Post,
    stream: TcpStream,
    inbound: BytesMut,
    link: &Link,
    other: Identity,
) -> io::Error {
    let (read, write) = stream.into_split();
    let ended = tokio::select! {
        ended = receive(post, read, inbound, other) => ended,
        ended = send(post, write, link) => ended,
    };
    ended.expect_err("neither ends but by an error")
}

async fn receive(
    post: &Post,
    mut stream: OwnedReadHalf,
    mut inbound: BytesMut,
    other: Identity,
) -> io::Result<()> {
    loop {
        let mut any = false;
        while let Some(frame) = frame::take(&mut inbound)? {
            match frame.kind {
                Kind::Message => {
                    let len = frame.body.len();
                    let envelope = Envelope::decode(frame.body).map_err(strange)?;
                    if envelope.from != other {
                        return Err(FrameError::Damaged("it is from somebody else than who greeted").into());
                    }
                    post.deliver(envelope, len).await;
                    any = true;
                }
                Kind::Book => post.learn(&frame.read::<Book>()?),
                _ => return Err(FrameError::Damaged("it has no place in a conversation of nodes").into()),
            }
        }
        if any {
            post.wake_replica();
        }
        inbound.reserve(READ_CHUNK / 4);
        if stream.read_buf(&mut inbound).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn strange(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn send(post: &Post, mut stream: OwnedWriteHalf, link: &Link) -> io::Result<()> {
    let mut book = post.book.subscribe();
    // What was in the greeting may be old by now.
    book.mark_changed();
    let mut parts = Vec::new();
    loop {
        while gather(link, &mut parts) {
            write_all(&mut stream, &mut parts).await?;
        }
        tokio::select! {
            () = link.awake() => {}
            changed = book.changed() => {
                changed.map_err(strange)?;
                let book = frame::text(Kind::Book, &*book.borrow_and_update());
                stream.write_all(&book).await?;
            }
        }
    }
}

/// Gathers frames of messages that wait. Whether there are any.
fn gather(link: &Link, parts: &mut Vec<Bytes>) -> bool {
    let mut bytes = 0;
    while bytes < WRITE_BYTES
        && let Some(envelope) = link.pop()
    {
        let header = parts.len();
        parts.push(Bytes::new());
        envelope.encode_into(parts);
        let len = parts[header + 1..].iter().map(Bytes::len).sum();
        parts[header] = Bytes::copy_from_slice(&frame::message_header(len));
        bytes += len;
    }
    bytes > 0
}

/// Writes all parts, as many at a time as the system takes, and empties the list.
async fn write_all(stream: &mut (impl AsyncWrite + Unpin), parts: &mut Vec<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < parts.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let waiting = &parts[first..];
        for (slice, part) in slices.iter_mut().zip(waiting) {
            *slice = IoSlice::new(part);
        }
        let slices = &slices[..waiting.len().min(SLICES_MAX)];
        let mut written = poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, slices)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while first < parts.len() && written >= parts[first].len() {
            written -= parts[first].len();
            first += 1;
        }
        if written > 0 {
            parts[first].advance(written);
        }
    }
    parts.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn parts_are_written_whole_however_little_is_taken() {
        let (mut near, mut far) = duplex(7);
        let lens = (0..200).map(|n| n % 23);
        let mut parts: Vec<Bytes> = lens.map(|len| Bytes::from(vec![len as u8; len])).collect();
        let expected: Vec<u8> = parts.iter().flatten().copied().collect();
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            read
        });
        write_all(&mut near, &mut parts).await.unwrap();
        drop(near);
        assert!(parts.is_empty());
        assert_eq!(reading.await.unwrap(), expected);
    }
}
