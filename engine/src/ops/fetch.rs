//! Asks an ops port: the smallest HTTP client that can, for the command line and for tests.
//!
//! HTTP/1.0, so that the answer ends with the connection and is never chunked. Deliberately not here: everything
//! else that HTTP has.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes of an answer that are read at most; `/metrics` is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a head that are read at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The status and the body of a GET.
///
/// # Errors
/// Whatever connecting, writing or reading meets; [`io::ErrorKind::InvalidData`] if the answer is not HTTP.
pub fn get(address: &str, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let (status, answer) = open(address, path, timeout, timeout)?;
    let mut body = String::new();
    answer.take(ANSWER_BYTES_MAX).read_to_string(&mut body)?;
    Ok((status, body))
}

/// The status of a GET, and its body as it comes, for as long as it comes: `timeout` is for connecting, `silence` for
/// each read.
///
/// # Errors
/// As those of [`get`].
pub fn open(
    address: &str,
    path: &str,
    timeout: Duration,
    silence: Duration,
) -> io::Result<(u16, BufReader<TcpStream>)> {
    let mut stream = connect(address, timeout)?;
    stream.set_read_timeout(Some(silence))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, format!("{address} does not speak HTTP"));
    let mut answer = BufReader::with_capacity(HEAD_BYTES_MAX, stream);
    let (mut line, mut status, mut left) = (String::new(), None, HEAD_BYTES_MAX);
    loop {
        line.clear();
        let len = (&mut answer).take(left as u64).read_line(&mut line)?;
        left -= len;
        match line.trim_end() {
            "" if len > 0 => break,
            "" => return Err(not_http()),
            head if status.is_none() => {
                let word = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
                status = Some(word.and_then(|word| word.parse().ok()).ok_or_else(not_http)?);
            }
            _ => {}
        }
    }
    Ok((status.ok_or_else(not_http)?, answer))
}

/// Connects to the first address of a name that can be connected to; `timeout` is for each.
pub(crate) fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
