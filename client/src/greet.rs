//! The beginning of a connection: one address, a hello, a welcome of the right cluster.
//!
//! The first welcome that a client ever hears decides which cluster is its own. Deliberately not here: which
//! address, and what to do with a server that does not lead ([`crate::search`]).

use std::sync::OnceLock;
use std::time::Duration;

use bytes::BytesMut;
use sluice_protocol::ClusterId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connection::Common;
use crate::dial::Wire;
use crate::session::{self, Greeting, Session};
use crate::trouble::Trouble;
use crate::url::Address;

/// Room for the welcome, bytes, and for what may follow it.
const WELCOME_CHUNK: usize = 4 * 1024;

/// A connection that was welcomed.
pub(crate) struct Welcomed {
    pub(crate) address: Address,
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    /// What came behind the welcome.
    pub(crate) inbound: BytesMut,
    pub(crate) greeting: Greeting,
}

/// Which cluster a client talks to: that of the first welcome.
#[derive(Debug, Default)]
pub(crate) struct OwnCluster(OnceLock<ClusterId>);

impl OwnCluster {
    fn check(&self, got: ClusterId) -> Result<(), Trouble> {
        let expected = *self.0.get_or_init(|| got);
        if got == expected { Ok(()) } else { Err(Trouble::OtherCluster { expected, got }) }
    }

    /// Which one, once there was a welcome.
    pub(crate) fn known(&self) -> Option<ClusterId> {
        self.0.get().copied()
    }
}

/// Connects to one address and reads its welcome, within `time`.
pub(crate) async fn greet(common: &Common, address: Address, time: Duration) -> Result<Welcomed, Trouble> {
    let silent = |_| Trouble::Io(format!("no welcome within {} ms", time.as_millis()));
    timeout(time, shake_hands(common, address)).await.map_err(silent)?
}

async fn shake_hands(common: &Common, address: Address) -> Result<Welcomed, Trouble> {
    let io = |error: std::io::Error| Trouble::Io(error.to_string());
    let mut wire = common.dial.dial(&address).await.map_err(io)?;
    wire.writer.write_all(&session::hello(&common.name, &common.credentials)).await.map_err(io)?;
    let mut inbound = BytesMut::with_capacity(WELCOME_CHUNK);
    loop {
        if let Some((session, greeting)) = Session::welcome(&mut inbound, common.patience)? {
            common.cluster.check(greeting.cluster)?;
            return Ok(Welcomed { address, wire, session, inbound, greeting });
        }
        if wire.reader.read_buf(&mut inbound).await.map_err(io)? == 0 {
            return Err(Trouble::Io("it closed the connection before its welcome".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cluster_is_the_own_one() {
        let own = OwnCluster::default();
        assert_eq!(own.known(), None);
        assert_eq!(own.check(ClusterId(7)), Ok(()));
        assert_eq!(own.known(), Some(ClusterId(7)));
        assert_eq!(own.check(ClusterId(7)), Ok(()));
        let (expected, got) = (ClusterId(7), ClusterId(8));
        assert_eq!(own.check(got), Err(Trouble::OtherCluster { expected, got }));
    }
}
