//! `sluice relay` as a process of its own, killed, stopped in its tracks and asked to stop, between a server and a NATS that
//! are killed as well: the stream has each event once and in order, whatever happens.
//!
//! Another seed each time; SLUICE_TEST_SEED repeats one, as far as the machine does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_core::Stream;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluice_client::{Client, GroupTerms, Start};
use sluice_engine::audit::Promise;
use sluice_outside::Nats;
use sluice_relay::event_json;

use self::rig::command::sluice;
use self::rig::taker::{last_sequence, taken_by_another};
use self::rig::{Rig, run, seed};

/// Times that somebody is killed.
const KILLS: u64 = 24;

/// Answers between kills, at most.
const ANSWERS_MAX: u64 = 4_000;

/// How long a relay that died keeps its seat: short, so that the next goes on.
const SESSION_MS: u32 = 500;

const GROUP: &str = "relay-nats";

const POLL: Duration = Duration::from_millis(20);

/// What is sold: stock, limit, hold time.
const PRODUCTS: [Promise; 3] = [
    Promise { stock: 200, per_user_limit: 4, hold_ms: 300 },
    Promise { stock: 30, per_user_limit: 0, hold_ms: 200 },
    Promise { stock: 1_000_000, per_user_limit: 0, hold_ms: 600_000 },
];

/// A relay. It is killed if the test fails.
struct Relay(Child);

impl Relay {
    fn start(rig: &Rig, nats: &Nats) -> Self {
        let log = File::options().create(true).append(true).open(rig.dir.path().join("relay")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        // Messages are known by their ids for a tenth of a second only: that is not what keeps them from being stored twice.
        command.args(["relay", "--duplicate-window", "100ms", "--source", "shop", "--to", &nats.url()]);
        command.args(["--server", &rig.url, "--json"]);
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn kill(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has: well, and with everything acknowledged.
    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // One that was waited for needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A group whose members are soon missed.
async fn make_group(client: &Client) {
    let terms = GroupTerms { session_ms: SESSION_MS, attempts_max: 0, ..GroupTerms::default() };
    assert!(client.put_group(GROUP, Start::Beginning, &terms).await.is_ok());
}

/// What relays said.
fn said(rig: &Rig) -> String {
    std::fs::read_to_string(rig.dir.path().join("relay")).unwrap()
}

/// Waits until everything up to a sequence is acknowledged, which is after it was stored.
async fn acknowledged(client: &Client, last: u64) {
    while client.group(GROUP).await.unwrap().unwrap().cursor < last {
        tokio::time::sleep(POLL).await;
    }
}

/// The sequence and the content of each message, in the order of the stream.
async fn stored(nats: &Nats) -> Vec<(u64, Value)> {
    let stream =
        jetstream::new(async_nats::connect(nats.url()).await.unwrap()).get_stream("SLUICE").await.unwrap();
    let count = stream.cached_info().state.messages as usize;
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    };
    let mut messages = Box::pin(stream.create_consumer(config).await.unwrap().messages().await.unwrap());
    let mut stored = Vec::with_capacity(count);
    while stored.len() < count {
        let next = std::future::poll_fn(|context| messages.as_mut().poll_next(context)).await;
        let message = next.unwrap().unwrap();
        let headers = message.headers.as_ref().unwrap();
        let sequence = headers.get("Sluice-Sequence").unwrap().as_str().parse().unwrap();
        stored.push((sequence, serde_json::from_slice(&message.payload).unwrap()));
    }
    stored
}

/// That the stream has what another consumer gets, each event once and in order.
async fn is_copy(client: &Client, nats: &Nats, last: u64) {
    let taken = taken_by_another(client, "others", last).await;
    let wanted: BTreeMap<u64, Value> =
        taken.iter().map(|(sequence, event)| (*sequence, event_json(event))).collect();
    let stored = stored(nats).await;
    let sequences: Vec<u64> = stored.iter().map(|(sequence, _)| *sequence).collect();
    let first_wrong = sequences.iter().zip(1..).position(|(got, wanted)| *got != wanted);
    assert_eq!((sequences.len() as u64, first_wrong), (last, None), "not a copy");
    assert!(stored.into_iter().eq(wanted), "an event differs");
}

#[test]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
fn whoever_is_killed_the_stream_has_each_event_once() {
    run(async {
        let mut rig = Rig::start(seed(), &[]).await;
        let mut nats = Nats::start();
        make_group(&rig.client().await).await;
        let mut relay = Relay::start(&rig, &nats);
        let load = rig.under_load(&PRODUCTS).await;
        for kill in 0..KILLS {
            let answers = load.crowd.answers(1 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            match kill % 4 {
                1 => {
                    nats.kill();
                    nats.restart();
                }
                3 => {
                    rig.kill();
                    rig.start_again();
                }
                _ => {
                    relay.kill();
                    relay = Relay::start(&rig, &nats);
                }
            }
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        rig.audit(&account).await;
        let client = rig.client().await;
        let (_, last) = rig.quiet_books(&client, &account).await;
        rig.wait("everything to be stored", acknowledged(&client, last)).await;
        relay.stop();
        is_copy(&client, &nats, last).await;
        assert_eq!(client.group(GROUP).await.unwrap().unwrap().members, 0, "it has not left");
        eprintln!("{last} events, {KILLS} kills");
    });
}

#[test]
#[ignore = "needs nats-server: apt-get install --no-install-recommends nats-server"]
fn a_relay_that_was_stopped_and_wakes_up_behind_its_successor_changes_nothing() {
    run(async {
        let rig = Rig::start(seed(), &[]).await;
        let nats = Nats::start();
        let client = rig.client().await;
        make_group(&client).await;
        let mut relays = [Relay::start(&rig, &nats), Relay::start(&rig, &nats)];
        let load = rig.under_load(&PRODUCTS).await;
        for _ in 0..6 {
            let answers = load.crowd.answers(1_000 + rig.dice.below(ANSWERS_MAX) as usize);
            rig.wait("answers", answers).await;
            relays[0].signal(Signal::STOP);
            // The other may be the one that waited: it is at work when what there is now is acknowledged.
            let now = last_sequence(&client).await;
            rig.wait("the other to go on", acknowledged(&client, now)).await;
            relays[0].signal(Signal::CONT);
            // With its successor at work, and in the next round with the one that it becomes the successor of.
            relays.swap(0, 1);
        }
        let account = rig.wait("everybody to be answered", load.finish()).await;
        let (_, last) = rig.quiet_books(&client, &account).await;
        rig.wait("everything to be stored", acknowledged(&client, last)).await;
        let begun = said(&rig).matches("\"begins\"").count();
        for relay in relays {
            relay.stop();
        }
        is_copy(&client, &nats, last).await;
        assert!(begun > 3, "they did not take turns: {begun}");
        eprintln!("{last} events; a relay began {begun} times");
    });
}

#[test]
fn what_cannot_be_relayed_to_is_named_and_no_password_is_repeated() {
    let told = sluice(&["relay", "--to", "kafka://me:s3cret@host:9092"]);
    assert_eq!(told.short(), (2, "usage"));
    assert_eq!(told.message(), "cannot relay to kafka://: supported are nats:// and tls:// (NATS JetStream)");
    let told = sluice(&["relay", "--to", "nats://me:s3cret@host:port"]);
    assert_eq!(told.short(), (2, "usage"));
    assert!(!told.json.to_string().contains("s3cret"), "{}", told.json);
}

#[test]
fn a_relay_waits_for_a_broker_that_is_not_there_and_ends_when_it_is_told_to() {
    run(async {
        let rig = Rig::start(seed(), &[]).await;
        let nobody = sluice_engine::child::free_address().unwrap();
        let log = rig.dir.path().join("relay");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["relay", "--to", &format!("nats://me:s3cret@{nobody}"), "--server", &rig.url]);
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let relay = Relay(child);
        let complains = async {
            while complaints(&log) < 2 {
                tokio::time::sleep(POLL).await;
            }
        };
        rig.wait("it to complain twice", complains).await;
        relay.stop();
        assert!(!said(&rig).contains("s3cret"));
        assert_eq!(rig.client().await.group(GROUP).await.unwrap(), None, "it took a seat for nobody");
    });
}

fn complaints(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().matches("NATS cannot be reached at").count()
}
