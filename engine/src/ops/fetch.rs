//! Asks an ops port: the smallest HTTP client that can, for `sluice status` and for tests.
//!
//! HTTP/1.0, so that the answer ends with the connection and is never chunked. Deliberately not here: everything
//! else that HTTP has.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes of an answer that are read at most; `/metrics` is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The status and the body of a GET.
///
/// # Errors
/// Whatever connecting, writing or reading meets; [`io::ErrorKind::InvalidData`] if the answer is not HTTP.
pub fn get(address: &str, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let mut stream = connect(address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, format!("{address} does not speak HTTP"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).ok_or_else(not_http)?;
    Ok((status.parse().map_err(|_| not_http())?, body.to_owned()))
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
