//! A node that was away while a lot of log was written: it gets the log.
//!
//! The log is made of the same reservations asked for again and again, as by somebody who tries again: each is decided
//! in the log, and memory does not grow with it. Deliberately not here: snapshots, which are kept from being taken.

use std::time::Instant;

use serde::Serialize;

use super::steady::{Seen, Steady};
use super::{BEFORE, CatchUpArgs, bytes_in, load};
use crate::error::BenchError;
use crate::line::connect;
use crate::speech::sluice::SluiceSpeech;
use crate::workload::{Kind, Workload};

/// More log than is ever written here.
const NEVER: &str = "1TiB";

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Behind {
    /// Bytes of log that the node lacked.
    pub log_bytes: u64,
    /// From its start until it follows.
    pub restart_seconds: f64,
    /// From then until it has all that was committed a moment before.
    pub catch_up_seconds: f64,
    /// Who led before, and who after.
    pub led: [u64; 2],
    /// With the node away.
    pub before: Seen,
    /// While it catches up.
    pub meanwhile: Seen,
}

impl CatchUpArgs {
    pub(super) fn behind(&self) -> Result<Behind, BenchError> {
        let mut cluster = self.cluster(NEVER)?;
        let mut speech = SluiceSpeech::new(Workload::new(Kind::Hot));
        speech.prepare(&mut connect(cluster.address(cluster.leader()?))?)?;
        self.fill(&cluster, &mut speech)?;
        let leader = cluster.leader()?;
        let away = cluster.ids().find(|id| *id != leader).expect("there are others");
        cluster.kill(away)?;
        speech.repeat();
        let had = bytes_in(cluster.data(leader));
        let wrote = || bytes_in(cluster.data(leader)).saturating_sub(had);
        load(&cluster, &mut speech, self.log_bytes, "writing log, bytes", |_| wrote())?;
        let log_bytes = wrote();
        // Another may lead by now.
        let leader = cluster.leader()?;
        let steady = Steady::start(cluster.address(leader), speech, self.rate);
        std::thread::sleep(BEFORE);
        let (before, speech) = steady.finish()?;
        let steady = Steady::start(cluster.address(leader), speech, self.rate);
        let began = Instant::now();
        cluster.start_again(away)?;
        let restart_seconds = began.elapsed().as_secs_f64();
        let caught_up = cluster.caught_up(away)?;
        let (meanwhile, _) = steady.finish()?;
        let led = [leader, cluster.leader()?];
        Ok(Behind {
            log_bytes,
            restart_seconds,
            catch_up_seconds: caught_up.as_secs_f64(),
            led,
            before,
            meanwhile,
        })
    }
}
