//! Whoever must not take part in a cluster of real processes: who has lost its disk, or a part of it, who is there twice,
//! who belongs elsewhere, and who is nobody at all. Each is told why, and the cluster goes on as if nothing were.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod rig;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_engine::child::cluster::LocalCluster;

use self::rig::cluster::REFUSED;
use self::rig::rival::Copy;
use self::rig::{Callers, ClusterRig, PATIENCE, run, seed};

/// Answers before and after each step.
const ANSWERS: usize = 200;

/// Connections of nobody, at each port, at a time.
const FLOOD: usize = 120;

/// How long a flooded port may take to close a connection on which nothing sensible was said.
const CLOSED_MAX: Duration = Duration::from_secs(20);

/// What a process hears whose directory is not what it was when another one used it.
const TOO_OLD: [&str; 3] = [
    "a later process of this node has been seen",
    "has lost what it had acknowledged",
    "has lost log entries",
];

/// A cluster with callers, and the node that something happens to: a follower.
async fn with_callers() -> (ClusterRig, Callers, u64) {
    let rig = ClusterRig::start(seed(), &[]).await;
    let callers = Callers::start(&rig).await;
    rig.wait("answers", callers.answers(ANSWERS)).await;
    let follower = 1 + rig.leader().await % 3;
    (rig, callers, follower)
}

/// The cluster is unharmed: more answers, none failed, all true on every node.
async fn goes_on(mut rig: ClusterRig, callers: Callers) {
    rig.wait("answers", callers.answers(ANSWERS)).await;
    let account = callers.finish(&rig).await;
    rig.audit_everywhere(&[account]).await;
    rig.stop_and_compare().await;
}

#[test]
fn a_wiped_disk_is_refused_at_the_start() {
    run(async {
        let (mut rig, callers, node) = with_callers().await;
        rig.kill(node);
        fs::remove_dir_all(&rig.cluster.node(node).launch().data).unwrap();
        let before = rig.said(node).len();
        rig.start_only(node);
        let said = rig.ends_refused(node, before).await;
        assert!(said.contains("its disk was wiped: it must not come back under its old id"), "{said}");
        goes_on(rig, callers).await;
    });
}

#[test]
fn of_two_processes_on_copies_of_one_directory_the_second_is_refused() {
    run(async {
        let (mut rig, callers, node) = with_callers().await;
        rig.cluster.stop(node).await.unwrap();
        let copy = Copy::of(&rig, node, "copy");
        rig.start_again(node).await;
        rig.caught_up().await;
        // As old as the one that runs, and not the one that was there first. Who finds out first says so.
        let (code, said) = copy.is_refused().await;
        assert_eq!(code, Some(REFUSED), "{said}");
        assert!(TOO_OLD.iter().any(|words| said.contains(words)), "{said}");
        goes_on(rig, callers).await;
    });
}

#[test]
fn the_older_of_two_processes_on_copies_is_refused_when_the_later_one_has_all_it_needs() {
    run(async {
        let (mut rig, callers, node) = with_callers().await;
        rig.cluster.stop(node).await.unwrap();
        let copy = Copy::of(&rig, node, "copy");
        for _ in 0..2 {
            copy.serves().await.terminate(PATIENCE).unwrap();
        }
        let later = copy.serves().await;
        let before = rig.said(node).len();
        rig.start_only(node);
        let said = rig.ends_refused(node, before).await;
        assert!(said.contains("a later process of this node has been seen"), "{said}");
        rig.wait("answers", callers.answers(ANSWERS)).await;
        later.terminate(PATIENCE).unwrap();
        goes_on(rig, callers).await;
    });
}

#[test]
fn a_directory_that_was_set_back_is_refused_however_often_it_is_started() {
    run(async {
        let (mut rig, callers, node) = with_callers().await;
        rig.cluster.stop(node).await.unwrap();
        let copy = Copy::of(&rig, node, "copy");
        for _ in 0..2 {
            rig.start_again(node).await;
            rig.wait("answers", callers.answers(ANSWERS)).await;
            rig.caught_up().await;
            rig.kill(node);
        }
        copy.put_back(&rig, node);
        // As old as a process that was seen, then as old as the last, then later than any.
        for _ in 0..3 {
            let before = rig.said(node).len();
            rig.start_only(node);
            let said = rig.ends_refused(node, before).await;
            assert!(TOO_OLD.iter().any(|words| said.contains(words)), "{said}");
        }
        goes_on(rig, callers).await;
    });
}

#[test]
fn a_node_of_another_cluster_is_turned_away_with_words_on_both_sides() {
    run(async {
        let (mut rig, callers, node) = with_callers().await;
        rig.cluster.stop(node).await.unwrap();
        // Its operator mistook the machine: another cluster's node answers at the address that was this node's.
        let mut others = rig.launch.clone();
        others.dir = rig.dir.path().join("others");
        others.nodes = 1;
        fs::create_dir(&others.dir).unwrap();
        let mut other = LocalCluster::start(&others).await.unwrap();
        other.stop(1).await.unwrap();
        let address = rig.cluster.node(node).peers().to_string();
        let flags = &mut other.node_mut(1).launch_mut().flags;
        let at = flags.iter().position(|flag| flag == "--peer-listen").unwrap();
        flags[at + 1] = address;
        other.start_again(1).await.unwrap();
        let leader = rig.leader().await;
        let told = |log: &str, words: &str| log.contains(words).then_some(());
        let words = "check the addresses in both configurations";
        rig.until("the leader to say so", || told(&rig.said(leader), words)).await;
        let log = &other.node(1).launch().log;
        rig.until("the other to say so", || told(&fs::read_to_string(log).unwrap(), words)).await;
        rig.wait("answers", callers.answers(ANSWERS)).await;
        let status = other.stop(1).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "a stranger stops nobody");
        rig.start_again(node).await;
        goes_on(rig, callers).await;
    });
}

/// What nobody says to a port.
fn nonsense(nth: usize) -> Vec<u8> {
    match nth % 6 {
        0 => Vec::new(),
        1 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        2 => vec![0xff; 5000],
        // The beginning of a greeting of the largest length, and no more.
        3 => b"SLP\x01\x01\0\0\0\0\0\x04\0".to_vec(),
        // One longer than any.
        4 => b"SLP\x01\x04\0\0\0\xff\xff\xff\xff\0\0\0\0".to_vec(),
        _ => (0..3000).map(|at: usize| (at.wrapping_mul(nth) >> 3) as u8).collect(),
    }
}

/// So many connections at once, each with its nonsense.
fn flood(to: SocketAddr) -> Vec<TcpStream> {
    let connect = |nth| {
        let mut stream = TcpStream::connect(to).unwrap();
        // It may be closed at once.
        let _ = stream.write_all(&nonsense(nth));
        stream
    };
    (0..FLOOD).map(connect).collect()
}

#[test]
fn floods_of_connections_at_both_ports_disturb_nobody_who_is_known() {
    run(async {
        let (rig, callers, _) = with_callers().await;
        let mut held = Vec::new();
        for id in rig.cluster.ids() {
            held.push(flood(rig.cluster.node(id).peers()));
            held.push(flood(rig.cluster.node(id).launch().listen));
            rig.wait("answers", callers.answers(ANSWERS)).await;
        }
        rig.wait("answers", callers.answers(10 * ANSWERS)).await;
        drop(held);
        // Who lets go of what it was flooded with can be asked, and can change who leads.
        rig.caught_up().await;
        goes_on(rig, callers).await;
    });
}

#[test]
fn whoever_speaks_another_format_is_told_so_and_let_go_of() {
    run(async {
        let (rig, callers, node) = with_callers().await;
        let mut stream = TcpStream::connect(rig.cluster.node(node).peers()).unwrap();
        stream.set_read_timeout(Some(CLOSED_MAX)).unwrap();
        stream.write_all(b"SLP\x09\x01\0\0\0\0\0\0\0\0\0\0\0").unwrap();
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is not let go of"),
        }
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("speaks peer format 9, this build 1: bring both to one version"), "{said}");
        goes_on(rig, callers).await;
    });
}
