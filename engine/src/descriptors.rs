//! Descriptors: how many this process may have, and how many connections that leaves room for.
//!
//! Connections are capped below the system's limit, so that files, snapshots, peers and the ops port always find a
//! descriptor, however many clients knock. Deliberately not here: counting connections.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::config::Config;
use crate::peers;

/// What the log, snapshots, events, the data directory, listeners and the standard streams need at most, generously; and the one
/// descriptor of a connection that is being turned away.
const OWN: usize = 64;

/// What the runtime of a net thread needs.
const PER_NET_THREAD: usize = 8;

/// With fewer connections than this a server is of no use.
const CONNECTIONS_MIN: usize = 16;

/// The system's limit leaves no room to serve.
#[derive(Debug, Error)]
#[error(
    "this process may have {limit} open files, and needs {} at least: raise the limit (`ulimit -n`, LimitNOFILE=)",
    .reserved + CONNECTIONS_MIN
)]
pub struct TooFew {
    limit: usize,
    reserved: usize,
}

/// Raises this process's own limit as far as the configuration asks for and the system allows. Returns how many connections
/// there may be.
///
/// # Errors
/// [`TooFew`] if hardly any.
pub(crate) fn connections_max(config: &Config) -> Result<usize, TooFew> {
    let peers = if config.peers.listen.is_some() { peers::DESCRIPTORS } else { 0 };
    let reserved = OWN + peers + PER_NET_THREAD * config.node.net_threads + config.ops.connections_max;
    let wanted = config.limits.connections_max;
    let limit = raise(reserved + wanted);
    let allowed = allowed(limit, reserved, wanted)?;
    if allowed < wanted {
        tracing::warn!(
            limit,
            reserved,
            "limits.connections_max is {wanted}, but this process may have only {limit} open files: {allowed} \
             connections will be served (raise the limit with `ulimit -n` or LimitNOFILE=)"
        );
    }
    Ok(allowed)
}

fn allowed(limit: usize, reserved: usize, wanted: usize) -> Result<usize, TooFew> {
    match limit.saturating_sub(reserved) {
        room if room >= wanted => Ok(wanted),
        room if room >= CONNECTIONS_MIN => Ok(room),
        _ => Err(TooFew { limit, reserved }),
    }
}

/// Raises the soft limit to `wanted`, or to the hard limit if that is lower. Returns what is in effect.
fn raise(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(soft) = current else { return usize::MAX };
    let target = maximum.map_or(wanted as u64, |hard| hard.min(wanted as u64));
    if target > soft {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum }).map_err(io::Error::from)
        {
            Ok(()) => return target as usize,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    usize::try_from(soft).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_is_not_reserved() {
        assert_eq!(allowed(20_000, 200, 10_000).ok(), Some(10_000));
        assert_eq!(allowed(1_024, 200, 10_000).ok(), Some(824));
        assert_eq!(allowed(210, 200, 5).ok(), Some(5), "fewer are no mistake if no more are wanted");
        let error = allowed(210, 200, 10_000).expect_err("ten are too few");
        assert!(error.to_string().contains("needs 216"), "{error}");
    }
}
