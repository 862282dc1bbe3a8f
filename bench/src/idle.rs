//! `sluice-bench idle`: what a node uses while its clients are connected and silent.
//!
//! Deliberately not here: load.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::error::BenchError;
use crate::given::OwnServer;
use crate::line::connect;
use crate::machine::Machine;
use crate::server::sluice::SluiceServer;
use crate::speech::Speech;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// What starting leaves to be done is over by then.
const SETTLE: Duration = Duration::from_secs(1);

/// Measure a node without load.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Connected clients that ask nothing
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Seconds of measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[command(flatten)]
    server: OwnServer,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    settings: &'a [String],
    clients: usize,
    seconds: f64,
    /// Processor time for each second, milliseconds.
    cpu_ms_per_second: f64,
    /// The server's memory without and with its clients, bytes.
    resident_bytes_alone: u64,
    resident_bytes: u64,
}

impl IdleArgs {
    /// Measures and reports.
    ///
    /// # Errors
    /// If the server cannot be started or reached.
    pub fn run(self) -> Result<(), BenchError> {
        let OwnServer { given, settings } = self.server;
        let server = SluiceServer::start(&given.folder, &settings)?;
        let process = server.process();
        let gone = || BenchError::Protocol("the server is gone".to_owned());
        let mut speech = SluiceSpeech::new(Workload::new(Kind::Hot));
        speech.prepare(&mut connect(server.address())?)?;
        let resident_bytes_alone = process.resident_bytes().ok_or_else(gone)?;
        let clients = (0..self.clients).map(|_| {
            let mut stream = connect(server.address())?;
            speech.greet(&mut stream)?;
            Ok(stream)
        });
        let clients: Vec<TcpStream> = clients.collect::<Result<_, BenchError>>()?;
        std::thread::sleep(SETTLE);
        let (began, before) = (Instant::now(), process.cpu_seconds().ok_or_else(gone)?);
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        let used = process.cpu_seconds().ok_or_else(gone)? - before;
        let seconds = began.elapsed().as_secs_f64();
        let report = Report {
            machine: Machine::here(&given.folder),
            settings: &settings,
            clients: clients.len(),
            seconds,
            cpu_ms_per_second: used * 1000.0 / seconds,
            resident_bytes_alone,
            resident_bytes: process.resident_bytes().ok_or_else(gone)?,
        };
        given.tell(&report, |report| {
            format!(
                "{}\n{} silent clients: {:.2} ms of CPU a second, {} MiB of memory ({} without them)",
                report.machine.line(),
                report.clients,
                report.cpu_ms_per_second,
                report.resident_bytes >> 20,
                report.resident_bytes_alone >> 20
            )
        });
        Ok(())
    }
}
