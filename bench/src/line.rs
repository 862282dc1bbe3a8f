//! One connection of the generator: bytes out, bytes in, and the volleys in between.
//!
//! Deliberately not here: when to send, and what answers mean.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::BenchError;
use crate::speech::{Heard, Speech};

/// Bytes read at a time; a reply frame of 1024 answers has 48 KiB.
const READ_BYTES: usize = 256 * 1024;

/// How long a server may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// A volley that has not been answered completely.
#[derive(Clone, Copy, Debug)]
pub struct Flying {
    tag: u64,
    /// When its first unanswered request was due, nanoseconds since the start.
    due_ns: f64,
    /// From one request's due time to the next one's.
    step_ns: f64,
    left: u32,
}

/// Requests that were answered together: they were due from `due_ns` on, `step_ns` apart.
#[derive(Clone, Copy, Debug)]
pub struct Landed {
    /// When the first of them was due, nanoseconds since the start.
    pub due_ns: f64,
    /// From one to the next.
    pub step_ns: f64,
    /// How many.
    pub items: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    flying: VecDeque<Flying>,
    heard: Vec<Heard>,
}

impl Line {
    /// Connects, greets, and blocks no longer.
    ///
    /// # Errors
    /// If the server is not there, or answers the greeting with something else.
    pub fn open(address: SocketAddr, speech: &mut impl Speech) -> Result<Self, BenchError> {
        let mut stream = connect(address)?;
        speech.greet(&mut stream)?;
        stream.set_nonblocking(true).map_err(BenchError::io("setting up a connection"))?;
        Ok(Self {
            stream,
            out: Vec::new(),
            written: 0,
            input: vec![0; READ_BYTES],
            filled: 0,
            flying: VecDeque::new(),
            heard: Vec::new(),
        })
    }

    /// The socket, to wait for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Volleys on their way.
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Requests on their way.
    pub fn unanswered(&self) -> u64 {
        self.flying.iter().map(|flying| u64::from(flying.left)).sum()
    }

    /// Queues a volley of at most `items` requests; how many it has.
    pub fn ask(&mut self, speech: &mut impl Speech, items: u32, due_ns: f64, step_ns: f64) -> u32 {
        let asked = speech.ask(items, &mut self.out);
        self.flying.push_back(Flying { tag: asked.tag, due_ns, step_ns, left: asked.items });
        asked.items
    }

    /// Writes what the socket takes. Whether everything is out.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn write(&mut self) -> Result<bool, BenchError> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(BenchError::io("sending requests")(error)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads what is there and says what was answered. Whether there may be more.
    ///
    /// # Errors
    /// If the connection is gone, or the bytes are not replies.
    pub fn read(
        &mut self,
        speech: &mut impl Speech,
        mut landed: impl FnMut(Landed),
    ) -> Result<bool, BenchError> {
        let room = self.input.len() - self.filled;
        let bytes = match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => {
                return Err(BenchError::io("awaiting replies")(io::Error::from(ErrorKind::UnexpectedEof)));
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(BenchError::io("awaiting replies")(error)),
        };
        self.filled += bytes;
        self.heard.clear();
        let taken = speech.hear(&self.input[..self.filled], &mut self.heard)?;
        self.input.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        for heard in &self.heard {
            land(&mut self.flying, *heard, &mut landed)?;
        }
        Ok(bytes == room)
    }
}

/// Takes answers off the volleys they belong to.
fn land(
    flying: &mut VecDeque<Flying>,
    heard: Heard,
    landed: &mut impl FnMut(Landed),
) -> Result<(), BenchError> {
    let mut items = heard.items;
    while items > 0 {
        let at = match heard.tag {
            None => 0,
            Some(tag) => flying.iter().position(|flying| flying.tag == tag).unwrap_or(usize::MAX),
        };
        let Some(volley) = flying.get_mut(at) else {
            return Err(BenchError::Protocol(format!("an answer to what was not asked: {heard:?}")));
        };
        let taken = volley.left.min(items);
        landed(Landed { due_ns: volley.due_ns, step_ns: volley.step_ns, items: taken });
        volley.left -= taken;
        volley.due_ns += volley.step_ns * f64::from(taken);
        items -= taken;
        if volley.left == 0 {
            flying.remove(at);
        }
    }
    Ok(())
}

/// A connection that blocks, without Nagle's delay, and that does not wait for ever.
///
/// # Errors
/// If nobody listens there.
pub fn connect(address: SocketAddr) -> Result<TcpStream, BenchError> {
    let stream = TcpStream::connect(address).map_err(BenchError::io("connecting"))?;
    stream.set_nodelay(true).map_err(BenchError::io("setting up a connection"))?;
    stream.set_read_timeout(Some(GREETING_TIMEOUT)).map_err(BenchError::io("setting up a connection"))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landings(flying: &mut VecDeque<Flying>, tag: Option<u64>, items: u32) -> Option<Vec<(f64, u32)>> {
        let mut all = Vec::new();
        let ok = land(flying, Heard { tag, items }, &mut |landed| all.push((landed.due_ns, landed.items)));
        ok.is_ok().then_some(all)
    }

    #[test]
    fn answers_in_order_reach_over_volleys_and_keep_each_due_time() {
        let volley = |tag, due_ns| Flying { tag, due_ns, step_ns: 10.0, left: 4 };
        let mut flying = VecDeque::from([volley(0, 0.0), volley(4, 40.0)]);
        assert_eq!(landings(&mut flying, None, 3), Some(vec![(0.0, 3)]));
        assert_eq!(landings(&mut flying, None, 2), Some(vec![(30.0, 1), (40.0, 1)]));
        assert_eq!(landings(&mut flying, None, 3), Some(vec![(50.0, 3)]));
        assert_eq!(landings(&mut flying, None, 1), None, "nothing is open any more");
    }

    #[test]
    fn answers_by_name_find_their_volley_in_any_order() {
        let volley = |tag| Flying { tag, due_ns: 0.0, step_ns: 0.0, left: 1 };
        let mut flying = VecDeque::from([volley(7), volley(8)]);
        assert_eq!(landings(&mut flying, Some(8), 1), Some(vec![(0.0, 1)]));
        assert_eq!(landings(&mut flying, Some(8), 1), None, "it was answered before");
        assert_eq!(landings(&mut flying, Some(7), 1), Some(vec![(0.0, 1)]));
    }
}
