//! One connection to each node that stays, open before the leader dies, on which one reservation after the other is
//! asked for until one is granted.
//!
//! It shows when the servers sell on, whatever clients do. Deliberately not here: the client crate.

use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::line::{Line, connect};
use crate::speech::Speech;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// Between two questions, so that asking costs next to nothing.
const PAUSE: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub struct Probe {
    lines: Vec<(Line, SluiceSpeech)>,
}

impl Probe {
    /// Has the leader put products on sale, and connects to the others.
    ///
    /// # Errors
    /// If one of them does not answer.
    pub fn open(leader: SocketAddr, others: Vec<SocketAddr>) -> Result<Self, BenchError> {
        let open = |address| {
            let mut speech = SluiceSpeech::new(Workload::new(Kind::Hot));
            let mut stream: TcpStream = connect(leader)?;
            speech.prepare(&mut stream)?;
            Ok((Line::open(address, &mut speech)?, speech))
        };
        let lines = others.into_iter().map(open).collect::<Result<_, BenchError>>()?;
        Ok(Self { lines })
    }

    /// Asks from now on, on a thread of its own, until one says yes: when it did. `None` if none does in time.
    pub fn ask(mut self, by: Instant) -> JoinHandle<Result<Option<Instant>, BenchError>> {
        std::thread::spawn(move || {
            while Instant::now() < by {
                for (line, speech) in &mut self.lines {
                    if line.in_flight() == 0 {
                        line.ask(speech, 1, 0.0, 0.0);
                    }
                    line.write()?;
                    line.read(speech, |_| {})?;
                    if speech.tally().accepted > 0 {
                        return Ok(Some(Instant::now()));
                    }
                }
                std::thread::sleep(PAUSE);
            }
            Ok(None)
        })
    }
}
