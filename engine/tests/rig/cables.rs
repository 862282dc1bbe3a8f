//! A network of its own between the nodes of a cluster: each node is in a namespace, and a cable leads from there to the
//! hub, where the test is, with its clients and operators.
//!
//! A road that is closed is a wrong entry in the table by which the sender finds its neighbours: packets leave, and nobody
//! takes them. So nobody is told, connections stall in both directions once acknowledgements are missing, and what was said
//! is repeated by the system. Only within [`super::apart`]. Deliberately not here: delays, which need more than namespaces.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sluice_engine::child::cluster::Door;

/// The hub's own number among those whom cables lead to.
pub const HUB: u64 = 254;

/// The port for peers of every node. Each has an address of its own.
const PEERS_PORT: u16 = 7401;

/// See the module. They last as long as this.
pub struct Cables {
    pub doors: Vec<Door>,
    /// Starts the server in the namespace of the node that it is for.
    pub binary: PathBuf,
    namespaces: Vec<Namespace>,
    _dir: tempfile::TempDir,
}

/// A network namespace, kept by a process that ends with the test, in whatever way that ends.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        // The line says that it is there.
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        Self(keeper)
    }

    /// A command in it.
    fn command(&self) -> String {
        format!("nsenter --net=/proc/{}/ns/net", self.0.id())
    }

    /// Sets up its side of the network.
    fn ip(&self, line: &str) {
        ran(&format!("{} ip {line}", self.command()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cables {
    /// To so many nodes, all of them whole.
    pub fn lay(nodes: u64) -> Self {
        assert!(
            Command::new("ip").arg("-V").output().is_ok(),
            "this test lays cables: apt-get install iproute2"
        );
        ran("ip link set lo up");
        ran("ip link add hub type bridge");
        ran(&format!("ip link set hub address {} up", station(HUB)));
        ran(&format!("ip address add {}/24 dev hub", address(HUB)));
        let namespaces: Vec<Namespace> = (1..=nodes).map(|node| connected(node, nodes)).collect();
        let door = |node| {
            let peers = SocketAddr::from((address(node), PEERS_PORT));
            Door { listen: peers, advertise: peers, clients: None }
        };
        let doors: Vec<Door> = (1..=nodes).map(door).collect();
        let dir = tempfile::tempdir().unwrap();
        let binary = starter(dir.path(), &doors, &namespaces);
        Self { doors, binary, namespaces, _dir: dir }
    }

    /// Nothing gets from `from`, a node, to `to`, a node or the hub.
    pub fn close(&self, from: u64, to: u64) {
        // There is no such station.
        self.direct(from, to, "02:00:00:00:ff:ff");
    }

    /// The node's cable is pulled out: nobody hears it or is heard by it, clients included.
    pub fn unplug(&self, node: u64) {
        ran(&format!("ip link set cable{node} down"));
    }

    /// All cables are whole and plugged in, all roads are open.
    pub fn heal(&self) {
        let nodes = self.doors.len() as u64;
        for node in 1..=nodes {
            ran(&format!("ip link set cable{node} up"));
            others(node, nodes).for_each(|other| self.direct(node, other, &station(other)));
        }
    }

    /// What `from` sends to `to` goes to this station.
    fn direct(&self, from: u64, to: u64, station: &str) {
        self.namespaces[from as usize - 1].ip(&neighbour(to, station));
    }
}

/// A namespace with a cable to the hub, that knows its neighbours.
fn connected(node: u64, nodes: u64) -> Namespace {
    let namespace = Namespace::new();
    ran(&format!("ip link add cable{node} type veth peer name cable netns {}", namespace.0.id()));
    ran(&format!("ip link set cable{node} master hub up"));
    // For the ops port, and for clients in no other place.
    namespace.ip("link set lo up");
    namespace.ip(&format!("link set cable address {} up", station(node)));
    namespace.ip(&format!("address add {}/24 dev cable", address(node)));
    others(node, nodes).for_each(|other| namespace.ip(&neighbour(other, &station(other))));
    namespace
}

/// All whom a node may send to.
fn others(node: u64, nodes: u64) -> impl Iterator<Item = u64> {
    (1..=nodes).chain([HUB]).filter(move |other| *other != node)
}

fn address(node: u64) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node as u8)
}

/// The hardware address at the node's end of its cable.
fn station(node: u64) -> String {
    format!("02:00:00:00:00:{node:02x}")
}

fn neighbour(node: u64, station: &str) -> String {
    format!("neighbour replace {} lladdr {station} nud permanent dev cable", address(node))
}

/// A script that knows by the address where it is to listen which node the server is for. The process stays the same.
fn starter(dir: &Path, doors: &[Door], namespaces: &[Namespace]) -> PathBuf {
    let server = env!("CARGO_BIN_EXE_sluice");
    let mut script = "#!/bin/sh\ncase \"$*\" in\n".to_owned();
    for (door, namespace) in doors.iter().zip(namespaces) {
        let host = door.listen.ip();
        script += &format!("*\"--listen {host}:\"*) exec {} {server} \"$@\" ;;\n", namespace.command());
    }
    let path = dir.join("sluice");
    fs::write(&path, script + "esac\nexit 1\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a command whose words have no blanks.
fn ran(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
}
