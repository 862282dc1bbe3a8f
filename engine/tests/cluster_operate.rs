//! A cluster of real processes in the hands of an operator: made, grown, shrunk and repaired by the command line, and
//! what it says to whoever asks for what cannot be.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod events_support;
mod rig;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_engine::child::{Launch, ServerProcess, free_address};
use sluice_engine::peers::operator::Ask;

use self::events_support::files;
use self::rig::cluster::REFUSED;
use self::rig::command::{Told, sluice, sluice_says};
use self::rig::{Callers, ClusterRig, PATIENCE, run, seed, snapshots_in};

/// Answers before and after each step.
const ANSWERS: usize = 300;

/// How often the members are looked at while they are to change.
const POLL: Duration = Duration::from_millis(20);

/// Nodes that an operator has made by hand.
struct Hand {
    dir: tempfile::TempDir,
    /// Where the first one's port for peers is.
    cluster: String,
}

/// One of them.
struct Made {
    launch: Launch,
    peers: SocketAddr,
}

impl Hand {
    fn node(&self, name: &str) -> Made {
        let path = |suffix: &str| self.dir.path().join(format!("{name}{suffix}"));
        let (listen, peers) = (free_address().unwrap(), free_address().unwrap());
        let flags = ["--disk-free-min", "0", "--peer-listen", &peers.to_string()].map(str::to_owned);
        let launch = Launch {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_sluice")),
            data: path(""),
            log: path(".log"),
            listen,
            flags: flags.to_vec(),
            variables: Vec::new(),
        };
        Made { launch, peers }
    }

    /// `sluice node …`
    fn node_command(&self, line: &str) -> Told {
        let mut args = vec!["node"];
        args.extend(line.split_whitespace());
        args.extend(["--cluster", &self.cluster]);
        sluice(&args)
    }

    /// The ids of the members and the role of each.
    fn roles(&self) -> Vec<(u64, String)> {
        let list = self.node_command("list");
        let members = list.json["members"].as_array().unwrap();
        let role = |row: &Value| (row["node"].as_u64().unwrap(), row["role"].as_str().unwrap().to_owned());
        members.iter().map(role).collect()
    }

    /// Waits until these are the members: an election may come in between, on a machine that is busy enough.
    async fn roles_become(&self, roles: &[(u64, &str)]) {
        let by = Instant::now() + PATIENCE;
        loop {
            let seen = self.roles();
            if seen.iter().map(|(id, role)| (*id, role.as_str())).eq(roles.iter().copied()) {
                return;
            }
            assert!(Instant::now() < by, "{seen:?} instead of {roles:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Made {
    fn serve(&self) -> ServerProcess {
        ServerProcess::start(&self.launch).unwrap()
    }

    async fn serves(&self) -> ServerProcess {
        let mut process = self.serve();
        process.ready(PATIENCE).await.unwrap();
        process
    }

    fn init(&self) -> Told {
        self.make(&["init"])
    }

    fn join(&self, cluster: &str, deadline: &str) -> Told {
        self.make(&["join", "--cluster", cluster, "--deadline", deadline])
    }

    fn make(&self, command: &[&str]) -> Told {
        let (listen, data) = (self.launch.listen.to_string(), text(&self.launch.data));
        let mut args = command.to_vec();
        args.extend(["--data", data, "--listen", &listen]);
        args.extend(self.launch.flags.iter().map(String::as_str));
        sluice(&args)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.launch.log).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An address behind which everything that is said arrives at `to`, and no answer comes back.
fn deaf(to: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut from, mut to) = (stream.unwrap(), TcpStream::connect(to).unwrap());
            let mut asked = vec![0; 64 * 1024];
            let len = from.read(&mut asked).unwrap();
            to.write_all(&asked[..len]).unwrap();
            // Until the node has answered all of it and closes.
            let _ = to.read_to_end(&mut asked);
            let _ = from.shutdown(Shutdown::Both);
        }
    });
    address
}

#[test]
fn a_cluster_is_made_grown_and_shrunk_by_commands() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = Hand { dir, cluster: String::new() };
        let first = hand.node("n1");
        hand.cluster = first.peers.to_string();
        let _first = made(&first).await;
        let second = hand.node("n2");
        let _second = joined_after_a_lost_answer(&hand, &first, &second).await;
        let third = hand.node("n3");
        assert_eq!(third.join(&hand.cluster, "10s").json["node"], 3);
        let third_process = third.serves().await;
        assert_eq!(hand.node_command("promote 3").short(), (0, "promoted"));
        shown(&hand);
        refused(&hand);
        assert_eq!(hand.node_command("transfer 2").short(), (0, "leads"));
        assert_eq!(hand.node_command("list").json["leader"], 2);
        replaced(&hand, &third, third_process).await;
    });
}

async fn made(first: &Made) -> ServerProcess {
    let told = first.init();
    assert_eq!(told.short(), (0, "made"));
    assert_eq!((&told.json["ok"], &told.json["node"]), (&json!(true), &json!(1)));
    assert_eq!(told.json["cluster"].as_str().unwrap().len(), 32, "{told:?}");
    assert_eq!(told.json["data"], text(&first.launch.data));
    let again = first.init();
    assert_eq!(again.short(), (1, "exists"));
    assert!(again.message().contains("`sluice serve` starts it"), "{again:?}");
    first.serves().await
}

/// The cluster has heard of the new node, and the new node has not heard the answer: the same command goes on.
async fn joined_after_a_lost_answer(hand: &Hand, first: &Made, second: &Made) -> ServerProcess {
    let nobody = free_address().unwrap().to_string();
    assert_eq!(second.join(&nobody, "200ms").short(), (3, "unavailable"));
    let unheard = second.join(&deaf(first.peers), "500ms");
    assert_eq!(unheard.short(), (3, "unavailable"), "{unheard:?}");
    assert!(unheard.message().contains("the same command goes on"), "{unheard:?}");
    let roles = [(1, "leader"), (2, "learner")];
    // It was heard.
    hand.roles_become(&roles).await;
    let told = second.join(&hand.cluster, "10s");
    assert_eq!((told.short(), &told.json["node"]), ((0, "joined"), &json!(2)), "{told:?}");
    assert_eq!(second.join(&hand.cluster, "10s").short(), (1, "exists"));
    // And nobody joined twice.
    hand.roles_become(&roles).await;
    let early = hand.node_command("promote 2 --deadline 500ms");
    assert_eq!((early.short(), &early.json["reason"]), ((3, "refused"), &json!("silent")), "{early:?}");
    assert!(early.message().contains("is it running"), "{early:?}");
    let process = second.serves().await;
    assert_eq!(hand.node_command("promote 2").short(), (0, "promoted"));
    process
}

fn shown(hand: &Hand) {
    let told = hand.node_command("list");
    assert_eq!(told.short(), (0, "cluster"));
    for key in ["cluster", "term", "leader", "commit_index", "told_by", "members"] {
        assert!(!told.json[key].is_null(), "no {key} in {told:?}");
    }
    for (row, id) in told.json["members"].as_array().unwrap().iter().zip(1..) {
        assert_eq!(row["node"], id);
        for key in ["role", "peers", "clients", "connected"] {
            assert!(!row[key].is_null(), "no {key} in {row}");
        }
    }
    let (code, said) = sluice_says(&["node", "list", "--cluster", &hand.cluster]);
    assert!(code == 0 && said.contains("leader") && said.contains("voter"), "{said}");
    let (code, said) = sluice_says(&["node", "list", "--cluster", &free_address().unwrap().to_string()]);
    assert!(code == 3 && said.contains("--cluster names their ports for peers"), "{said}");
}

/// What cannot be is refused, for good and with the reason.
fn refused(hand: &Hand) {
    let remove_leader = format!("remove {}", hand.node_command("list").json["leader"]);
    for (line, reason, words) in [
        (remove_leader.as_str(), "leads", "transfer the leadership first"),
        ("remove 77", "unknown", "not a member"),
        ("promote 77", "unknown", "not a member"),
        ("promote 2", "unknown", "not a member of the kind"),
        ("replace 3 --by 2", "unknown", "not a member of the kind"),
        ("transfer 77", "unknown", "not a member"),
    ] {
        let told = hand.node_command(line);
        assert_eq!(told.short(), (1, "refused"), "{line}: {told:?}");
        assert_eq!(
            (&told.json["reason"], &told.json["retryable"]),
            (&json!(reason), &json!(false)),
            "{line}"
        );
        assert!(told.message().contains(words), "{line}: {told:?}");
    }
}

/// A learner takes a voter's place; the voter ends itself, and its id is gone for good.
async fn replaced(hand: &Hand, third: &Made, process: ServerProcess) {
    let fourth = hand.node("n4");
    assert_eq!(fourth.join(&hand.cluster, "10s").json["node"], 4);
    let _fourth = fourth.serves().await;
    let told = hand.node_command("replace 3 --by 4");
    assert_eq!(told.short(), (0, "replaced"), "{told:?}");
    assert!(told.json["index"].is_u64(), "{told:?}");
    assert_eq!(process.ended(PATIENCE).await.unwrap().code(), Some(REFUSED), "{}", third.said());
    assert!(third.said().contains("removed from the cluster"), "{}", third.said());
    let before = third.said().len();
    assert_eq!(third.serve().ended(PATIENCE).await.unwrap().code(), Some(REFUSED), "{}", third.said());
    assert!(third.said()[before..].contains("removed"), "{}", third.said());
    assert_eq!(hand.node_command("promote 3").short(), (1, "refused"));
    let fifth = hand.node("n5");
    assert_eq!(fifth.join(&hand.cluster, "10s").json["node"], 5);
    assert_eq!(hand.node_command("remove 5").short(), (0, "removed"));
    let ids: Vec<u64> = hand.roles().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [1, 2, 4]);
    let sixth = hand.node("n6");
    assert_eq!(sixth.join(&hand.cluster, "10s").json["node"], 6, "no id is given twice");
}

#[test]
fn three_nodes_become_five_and_three_others_without_a_call_that_fails() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &["--snapshot-every-bytes", "1MiB"]).await;
        let callers = Callers::start(&rig).await;
        rig.wait("answers", callers.answers(ANSWERS)).await;
        for id in [4, 5] {
            let launch = rig.launch.clone();
            assert_eq!(rig.cluster.add(&launch).await.unwrap(), id);
            rig.cluster.operate(Ask::Promote { node: id }).await.unwrap();
            rig.wait("answers", callers.answers(ANSWERS)).await;
        }
        rig.transfer(5).await;
        for id in [1, 2] {
            let before = rig.said(id).len();
            rig.cluster.operate(Ask::Remove { node: id }).await.unwrap();
            let said = rig.ends_refused(id, before).await;
            assert!(said.contains("removed from the cluster"), "{said}");
            rig.wait("answers", callers.answers(ANSWERS)).await;
        }
        let account = callers.finish(&rig).await;
        rig.shop.url = rig.cluster.url();
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
    });
}

#[test]
fn a_node_that_was_away_for_long_gets_a_snapshot_and_catches_up_under_load() {
    run(async {
        let mut rig = ClusterRig::start(seed(), &["--snapshot-every-bytes", "1MiB"]).await;
        let callers = Callers::start(&rig).await;
        rig.wait("answers", callers.answers(ANSWERS)).await;
        let leader = rig.leader().await;
        let away = 1 + leader % 3;
        rig.kill(away);
        // It cannot have more.
        let had = rig.cluster.look(leader).unwrap().commit;
        let data = rig.cluster.node(leader).launch().data.clone();
        // The log goes back to the older of two snapshots.
        while snapshots_in(&data).into_iter().min().unwrap() <= had {
            rig.wait("answers of two nodes", callers.answers(ANSWERS)).await;
        }
        let before = rig.said(away).len();
        rig.start_again(away).await;
        let in_use = || rig.said(away)[before..].contains("a snapshot from a peer is in use").then_some(());
        rig.until("a snapshot to arrive", in_use).await;
        rig.caught_up().await;
        let account = callers.finish(&rig).await;
        rig.audit_everywhere(&[account]).await;
        rig.stop_and_compare().await;
        let data = |id| rig.cluster.node(id).launch().data.clone();
        let whole = files::read_whole(&data(leader)).unwrap();
        // What was made while it was away it fetches from the others, as far as there was time: `stream_gaps`.
        let gappy = files::all(&data(away)).unwrap();
        // The one that stops first may lack the other's last.
        let same = gappy.iter().filter(|(sequence, event)| whole.get(sequence) == Some(event)).count();
        let behind = gappy.range(whole.len() as u64 + 1..).count();
        assert_eq!(same + behind, gappy.len());
        assert!(rig.said(away)[before..].contains("events are missing on this node"));
    });
}
