//! Everything to one consumer: what the server has in memory, and what it has in files alone.
//!
//! After a clean stop a server begins with a snapshot and an empty memory. The files are in the page cache: reading them
//! is the disk's business. Deliberately not here: the consumer ([`super::take`]).

use super::StreamArgs;
use super::fill::{fill, sale};
use super::take::{Taken, take};
use crate::error::BenchError;
use crate::given::OwnServer;
use crate::server::sluice::{SluiceServer, folder};

impl StreamArgs {
    /// One round on a new server, and at how many reservations a second its events were made.
    pub(super) fn memory_round(&self) -> Result<(Taken, f64), BenchError> {
        let OwnServer { given, settings } = &self.server;
        let server = SluiceServer::start(&given.folder, settings)?;
        let reserved = fill(&mut sale(server.address())?, server.address(), self.events)?;
        Ok((take(&server)?, reserved))
    }

    pub(super) fn disk(&self) -> Result<Taken, BenchError> {
        let OwnServer { given, settings } = &self.server;
        let place = folder(&given.folder)?;
        let data = place.path().join("data");
        let server = SluiceServer::start_on(&data, settings)?;
        fill(&mut sale(server.address())?, server.address(), self.disk_events)?;
        drop(server);
        take(&SluiceServer::start_on(&data, settings)?)
    }
}
