//! `sluice reconcile` with a real server, a real PostgreSQL and a hand-off between them: what is equal is found equal, each
//! order that somebody has tampered with is named, and nothing is changed unless it is asked for.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use sluice_client::{Client, ReservationId, Terms};
use sluice_engine::testing::Server;
use sluice_outside::Postgres;
use sluice_postgres::HandOff;
use sluice_postgres::orders::Orders;
use sluice_postgres::tokio_postgres::{self, NoTls};
use tokio::sync::oneshot;

const TERMS: Terms =
    Terms { opens_ms: 0, closes_ms: 0, per_user_limit: 0, hold_ms: 600_000, unlimited: false };

/// Digests every version of every row: also one that was written again as it was.
const ROWS: &str = "SELECT coalesce(md5(string_agg(o::text || o.xmin::text, ',' ORDER BY reservation)), '') \
                    FROM sluice_orders o";

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A hand-off at work on a thread of its own.
struct Hand {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Hand {
    fn start(server: &Server, postgres: &Postgres) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (server, postgres) = (server.url(), postgres.url());
        let (at_work, begun) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            run(async {
                let client = Client::connect(&server).await.unwrap();
                let looks = client.clone();
                tokio::spawn(async move {
                    while looks.group("orders").await.unwrap().is_none() {
                        tokio::task::yield_now().await;
                    }
                    at_work.send(()).unwrap();
                });
                let hand_off = HandOff::new(&client, postgres.parse().unwrap(), "orders", Orders::default());
                hand_off
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await
                    .unwrap();
            });
        });
        begun.recv().unwrap();
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn reconcile(server: &Server, postgres: &Postgres, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["reconcile", "--postgres", &postgres.url(), "--server", &server.url()])
        .args(["--ops", &server.ops_address().to_string()])
        .args(more)
        .output()
        .unwrap()
}

/// The exit code, and the lines that were printed.
fn lines(output: &Output) -> (Option<i32>, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty() || output.status.code() == Some(3), "{said}");
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

/// Reservations in every state.
async fn sell(client: &Client) -> Vec<ReservationId> {
    let mut ids = Vec::new();
    for product in 1..=8_u64 {
        assert!(client.put_product(product, 1_000_000, TERMS).await.unwrap().is_done());
        for user in 0..8_u64 {
            let id = client.reserve(product, user, 2).await.unwrap();
            let sluice_client::ReserveOutcome::Reserved { id, .. } = id else { panic!("{id:?}") };
            match user % 4 {
                0 => assert!(client.confirm(id).await.unwrap().is_confirmed()),
                1 => assert!(client.cancel(id, 5).await.unwrap().is_released()),
                _ => {}
            }
            ids.push(id);
        }
    }
    ids
}

async fn database(postgres: &Postgres) -> tokio_postgres::Client {
    let (db, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    db
}

async fn rows(db: &tokio_postgres::Client) -> String {
    db.query_one(ROWS, &[]).await.unwrap().get(0)
}

/// Changes one row.
async fn change(db: &tokio_postgres::Client, what: &str, id: ReservationId) {
    let changed = db.execute(&format!("{what} WHERE reservation = '{id}'"), &[]).await.unwrap();
    assert_eq!(changed, 1, "{what}");
}

/// Does to orders of product 1 whatever can be done to them. Its users 0 to 3 have one that is sold, one that is cancelled and two
/// that are held; the next four likewise. Returns the id of an order that the server does not have.
async fn tamper(db: &tokio_postgres::Client, ids: &[ReservationId]) -> ReservationId {
    change(db, "DELETE FROM sluice_orders", ids[0]).await;
    change(db, "DELETE FROM sluice_orders", ids[1]).await;
    change(db, "UPDATE sluice_orders SET quantity = 3", ids[2]).await;
    change(db, "UPDATE sluice_orders SET state = 'sold'", ids[3]).await;
    change(db, "UPDATE sluice_orders SET user_id = 18446744073709551615", ids[4]).await;
    change(db, "UPDATE sluice_orders SET product = 2, reason = 6", ids[5]).await;
    change(db, "UPDATE sluice_orders SET deadline = deadline + interval '1 ms'", ids[6]).await;
    let extra = ReservationId(0xab);
    let copy = format!(
        "INSERT INTO sluice_orders SELECT '{extra}', product, user_id, quantity, state, reason, deadline, sequence, \
         reserved_at, updated_at FROM sluice_orders WHERE reservation = '{}'",
        ids[7]
    );
    assert_eq!(db.execute(&copy, &[]).await.unwrap(), 1);
    extra
}

#[test]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
fn each_order_that_was_tampered_with_is_named_and_only_a_repair_changes_the_table() {
    let (server, postgres) = (Server::start(), Postgres::start());
    let hand = Hand::start(&server, &postgres);
    run(async {
        let client = Client::connect(&server.url()).await.unwrap();
        let ids = sell(&client).await;
        let (exit, said) = lines(&reconcile(&server, &postgres, &[]));
        assert_eq!(exit, Some(0), "{said:?}");
        assert!(said[0].contains(": 64 equal, 0 missing, 0 extra, 0 different"), "{said:?}");

        let db = database(&postgres).await;
        let extra = tamper(&db, &ids).await;
        let before = rows(&db).await;
        let (exit, said) = lines(&reconcile(&server, &postgres, &[]));
        assert_eq!((exit, rows(&db).await), (Some(1), before.clone()), "a comparison changes nothing");
        let deadline = client.reservation(ids[6]).await.unwrap().unwrap().deadline_ms;
        let expected = BTreeSet::from([
            format!("missing {}  2 of product 1 for user 0, sold", ids[0]),
            format!("missing {}  2 of product 1 for user 1, cancelled", ids[1]),
            format!("differs {}  quantity: 2 / 3", ids[2]),
            format!("differs {}  state: held / sold", ids[3]),
            format!("differs {}  user: 4 / 18446744073709551615", ids[4]),
            format!("differs {}  product: 1 / 2; reason: 5 / 6", ids[5]),
            format!("differs {}  deadline: {deadline} / {}", ids[6], deadline + 1),
            format!("extra   {extra}  2 of product 1 for user 7, held"),
        ]);
        assert_eq!(said[..8].iter().cloned().collect::<BTreeSet<_>>(), expected);
        // Held: 8 of ours; one more unit, one row less, two more. Sold: 4 of ours; two less, two more.
        assert_eq!(said[8], "product 1  held: 8 / 9; sold: 4 / 4");
        assert!(said[9].contains(": 57 equal, 2 missing, 1 extra, 5 different"), "{said:?}");
        assert_eq!(said.len(), 10);

        let (exit, said) = lines(&reconcile(&server, &postgres, &["--limit", "3", "--json"]));
        let last: serde_json::Value = serde_json::from_str(said.last().unwrap()).unwrap();
        assert_eq!(
            (exit, said.len(), &last["different"], &last["ok"]),
            (Some(1), 4, &5.into(), &false.into())
        );

        let (exit, said) = lines(&reconcile(&server, &postgres, &["--repair", "--limit", "0"]));
        assert_eq!(exit, Some(1));
        assert_eq!(said.last().unwrap(), "repaired: 7 written, 0 left; compare again to be sure");
        let (exit, said) = lines(&reconcile(&server, &postgres, &[]));
        assert_eq!(exit, Some(1), "what is extra stays");
        assert_eq!(said[0], format!("extra   {extra}  2 of product 1 for user 7, held"));
        assert!(said[2].contains(": 64 equal, 0 missing, 1 extra, 0 different"), "{said:?}");
        change(&db, "DELETE FROM sluice_orders", extra).await;
        assert_eq!(lines(&reconcile(&server, &postgres, &[])).0, Some(0));
    });
    hand.stop();
}

#[test]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
fn a_hand_off_that_is_behind_is_told_and_the_past_can_still_be_compared() {
    let (server, postgres) = (Server::start(), Postgres::start());
    let hand = Hand::start(&server, &postgres);
    run(async {
        let client = Client::connect(&server.url()).await.unwrap();
        sell(&client).await;
        assert_eq!(lines(&reconcile(&server, &postgres, &[])).0, Some(0));
        hand.stop();
        let handed = client.stream_bounds().await.unwrap().last;
        assert!(client.reserve(1_u64, 99_u64, 1).await.unwrap().is_reserved());
        let output = reconcile(&server, &postgres, &["--wait", "50ms"]);
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("the hand-off is at sequence {handed}")), "{said}");
        let at = handed.to_string();
        assert_eq!(lines(&reconcile(&server, &postgres, &["--at", &at])).0, Some(0));
        let long_ago = (handed / 2).to_string();
        assert_eq!(lines(&reconcile(&server, &postgres, &["--at", &long_ago])).0, Some(0));
        let none = reconcile(&server, &postgres, &["--group", "nobody"]);
        assert_eq!(none.status.code(), Some(1), "there is no such group");
    });
}

#[test]
#[ignore = "needs PostgreSQL: apt-get install --no-install-recommends postgresql"]
fn a_sale_and_a_hand_off_that_go_on_do_not_disturb_a_comparison() {
    let (server, postgres) = (Server::start(), Postgres::start());
    let hand = Hand::start(&server, &postgres);
    let over = Arc::new(AtomicBool::new(false));
    let sale = thread::spawn({
        let (url, over) = (server.url(), Arc::clone(&over));
        move || {
            run(async {
                let client = Client::connect(&url).await.unwrap();
                let mut sold = 0;
                while !over.load(Ordering::Relaxed) {
                    sold += sell(&client).await.len();
                }
                sold
            })
        }
    });
    for _ in 0..10 {
        let (exit, said) = lines(&reconcile(&server, &postgres, &[]));
        assert_eq!(exit, Some(0), "{said:?}");
    }
    over.store(true, Ordering::Relaxed);
    let sold = sale.join().unwrap();
    let (exit, said) = lines(&reconcile(&server, &postgres, &[]));
    assert_eq!(exit, Some(0));
    assert!(said[0].contains(&format!(": {sold} equal")), "{said:?} of {sold}");
    hand.stop();
}
