//! A connection to PostgreSQL, made ready.
//!
//! It is thrown away after any error: a new one costs milliseconds, and what state an old one is in need not be known.
//! Deliberately not here: when to try again ([`crate::run`]).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

/// The task that moves the bytes of a connection.
type Life = Pin<Box<dyn Future<Output = ()> + Send>>;
type Dialing = Pin<Box<dyn Future<Output = Result<(Client, Life), Error>> + Send>>;

/// Connects, with TLS or without.
pub(crate) type Dial = Arc<dyn Fn(Config) -> Dialing + Send + Sync>;

/// Connects with this TLS.
pub(crate) fn dial<T>(tls: T) -> Dial
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Arc::new(move |config| {
        let tls = tls.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let life: Life = Box::pin(async {
                // Whoever uses the client hears of it.
                let _ = connection.await;
            });
            Ok((client, life))
        })
    })
}

/// A connection.
pub(crate) struct Link {
    pub(crate) client: Client,
    life: JoinHandle<()>,
}

impl Link {
    /// # Errors
    /// What PostgreSQL says, or that nobody is there.
    pub(crate) async fn open(dial: &Dial, config: &Config, patience: Duration) -> Result<Self, Error> {
        let (client, life) = dial(config.clone()).await?;
        let link = Self { client, life: tokio::spawn(life) };
        link.client.batch_execute(&session(patience)).await?;
        Ok(link)
    }

    /// Ends it at once, whatever is under way.
    pub(crate) fn cut(&self) {
        self.life.abort();
    }
}

/// How a session must be, whatever the server's settings are.
fn session(patience: Duration) -> String {
    // A member that stands still in the midst of a transaction would hold up its successor.
    let idle_ms = patience.as_millis();
    // A commit must be on disk before it is acknowledged. Stricter settings stay. Where the server can, it looks whether
    // somebody is still there while a statement waits for a lock.
    format!(
        "SET idle_in_transaction_session_timeout = {idle_ms}; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT set_config(name, '2s', false) FROM pg_settings WHERE name = 'client_connection_check_interval';"
    )
}
