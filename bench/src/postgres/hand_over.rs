//! The hand-off, from the making of its group until everything is committed.
//!
//! Deliberately not here: what it is compared with ([`super::rows`]).

use std::sync::Arc;
use std::time::Instant;

use sluice_client::Client;
use sluice_postgres::orders::Orders;
use sluice_postgres::tokio_postgres::{self, Config, NoTls};
use sluice_postgres::{HandOff, News, TableName};
use tokio::sync::Notify;

use super::Scene;
use crate::error::BenchError;

impl Scene {
    /// Events that there are.
    pub(super) async fn events(&self) -> Result<u64, BenchError> {
        Ok(Client::connect(&self.servers).await?.stream_bounds().await?.last)
    }

    /// PostgreSQL's version.
    pub(super) async fn version(&self) -> Result<String, BenchError> {
        let row = self.connect().await?.query_one("SHOW server_version", &[]).await?;
        Ok(row.try_get(0)?)
    }

    pub(super) async fn connect(&self) -> Result<tokio_postgres::Client, BenchError> {
        let (client, connection) = self.config()?.connect(NoTls).await?;
        // It ends with the client, who hears of its errors.
        tokio::spawn(async {
            let _ = connection.await;
        });
        Ok(client)
    }

    fn config(&self) -> Result<Config, BenchError> {
        Ok(self.database.parse()?)
    }

    /// Hands over this many events under a new group, into a new table; events a second.
    pub(super) async fn hand_over(&self, group: &str, events: u64) -> Result<f64, BenchError> {
        let client = Client::connect(&self.servers).await?;
        let done = Arc::new(Notify::new());
        let (all, mut committed) = (Arc::clone(&done), 0);
        let hand_off = HandOff::new(&client, self.config()?, group, Orders::new(TableName::new(group)));
        let hand_off = hand_off.batch_max(self.batch).observe(move |news| {
            if let News::Committed { done, .. } = news {
                committed += *done as u64;
                if committed >= events {
                    all.notify_one();
                }
            }
        });
        let began = Instant::now();
        let counts = hand_off.run(done.notified()).await?;
        Ok(counts.events as f64 / began.elapsed().as_secs_f64())
    }
}
