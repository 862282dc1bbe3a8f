//! Real sockets on loopback, and no replica behind them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use sluice_core::replica::peer::Hello;

use super::operator::{Answer, Ask};
use super::*;

const CLUSTER: ClusterId = ClusterId(7);

/// Longer than anything here takes: it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of the talk, without a node.
struct End {
    post: Arc<Post>,
    peers: Peers,
    thread: PeerThread,
    _data: tempfile::TempDir,
}

fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node, incarnation: node, boot: 1, nonce: 100 + node }
}

fn end(own: Identity, knows: &[(u64, &End)]) -> End {
    let data = tempfile::tempdir().unwrap();
    let mut book = Book::default();
    for (node, other) in knows {
        book.learn(*node, Entry { boot: 1, ..entry(other.post.address) });
    }
    book.save(data.path()).unwrap();
    let listener = crate::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let entry = entry(listener.local_addr().unwrap());
    let (post, peers, thread) = start(Start {
        listener,
        own,
        entry,
        data: data.path().to_owned(),
        queue_bytes_max: 1 << 20,
        replica: Arc::default(),
    })
    .unwrap();
    End { post, peers, thread, _data: data }
}

fn entry(address: SocketAddr) -> Entry {
    Entry { boot: 1, peers: address.to_string(), clients: format!("clients-of-{}", address.port()) }
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < by, "{what} does not happen");
        std::thread::yield_now();
    }
}

impl End {
    fn say(&mut self, to: u64, body: Body) {
        self.peers.send(Envelope { from: self.post.own, to, body });
        self.peers.flush();
    }

    fn hears(&self) -> Envelope {
        wait("a message", || self.post.take()).envelope
    }

    fn connected(&self, node: u64) {
        wait("a connection", || self.peers.standing(node).filter(|standing| standing.is_up));
    }

    fn trouble(&self, node: u64, words: &str) {
        wait(words, || self.peers.standing(node).filter(|standing| standing.trouble.contains(words)));
    }

    fn over(self) {
        drop(self.peers);
        self.thread.join().unwrap();
    }
}

const HELLO: Body = Body::Hello(Hello { term: 3, last_index: 9 });

#[test]
fn messages_arrive_and_answers_find_the_process_that_asked() {
    let two = end(identity(2), &[]);
    let mut one = end(identity(1), &[(2, &two)]);
    one.peers.introduce();
    one.connected(2);
    one.say(2, HELLO);
    let heard = two.hears();
    assert_eq!((heard.from, heard.body), (identity(1), HELLO));
    // A copy of node 1, elsewhere: what answers it must not go to the original.
    let copy = Identity { nonce: 999, ..identity(1) };
    let mut clone = end(copy, &[(2, &two)]);
    clone.peers.introduce();
    clone.connected(2);
    clone.say(2, HELLO);
    let mut two = two;
    let asked = two.hears().from;
    assert_eq!(asked, copy);
    two.say(1, Body::WhoAreYou { nonce: asked.nonce });
    assert_eq!(clone.hears().body, Body::WhoAreYou { nonce: 999 });
    two.say(1, Body::Welcome { nonce: 101 });
    assert_eq!(one.hears().body, Body::Welcome { nonce: 101 });
    assert!(clone.post.take().is_none());
    [one, two, clone].into_iter().for_each(End::over);
}

#[test]
fn whoever_is_met_is_remembered_and_passed_on() {
    let two = end(identity(2), &[]);
    let mut one = end(identity(1), &[(2, &two)]);
    one.peers.introduce();
    wait("an introduction", || two.post.entry(1));
    // The third knows the second only, and the first hears of it.
    let mut three = end(identity(3), &[(2, &two)]);
    three.peers.introduce();
    let told = wait("word of the third", || one.post.entry(3));
    assert_eq!(told, entry(three.post.address));
    wait("word of the first", || three.post.entry(1));
    one.peers.introduce();
    one.connected(3);
    wait("what is known on disk", || (Book::load(&one.post.data) == one.post.book()).then_some(()));
    [one, two, three].into_iter().for_each(End::over);
}

#[test]
fn what_is_lost_is_told_and_a_peer_that_comes_back_elsewhere_is_found() {
    let two = end(identity(2), &[]);
    let mut one = end(identity(1), &[(2, &two)]);
    one.peers.introduce();
    one.connected(2);
    assert_eq!(one.peers.failed().count(), 0);
    two.over();
    wait("the loss", || one.peers.standing(2).filter(|standing| !standing.is_up));
    one.say(2, HELLO);
    assert_eq!(one.peers.failed().collect::<Vec<_>>(), [2]);
    // The same node, its next process, on another port.
    let mut again = end(Identity { boot: 2, nonce: 5, ..identity(2) }, &[(1, &one)]);
    again.post.change(|book| {
        let entry = Entry { boot: 2, ..entry(again.post.address) };
        book.learn(2, entry)
    });
    again.peers.introduce();
    one.connected(2);
    one.say(2, HELLO);
    assert_eq!(again.hears().body, HELLO);
    [one, again].into_iter().for_each(End::over);
}

#[test]
fn a_peer_that_moved_is_followed_before_its_old_connection_ends() {
    let old = end(identity(2), &[]);
    let mut one = end(identity(1), &[(2, &old)]);
    one.peers.introduce();
    one.connected(2);
    let mut new = end(Identity { boot: 2, nonce: 5, ..identity(2) }, &[(1, &one)]);
    new.post.change(|book| book.learn(2, Entry { boot: 2, ..entry(new.post.address) }));
    new.peers.introduce();
    wait("a message to the later process", || {
        one.say(2, HELLO);
        new.post.take()
    });
    [old, one, new].into_iter().for_each(End::over);
}

#[test]
fn nodes_that_changed_places_find_each_other() {
    let [mut one, mut two] = [1, 2].map(|node| {
        let end = end(identity(node), &[]);
        end.post.change(|book| book.learn(node, Entry { boot: 2, ..entry(end.post.address) }));
        end
    });
    // Each knows the other at the place that is its own now, and a third at the other's.
    for (this, that) in [(&one, 2), (&two, 1)] {
        let other = if that == 2 { two.post.address } else { one.post.address };
        this.post.change(|book| book.learn(that, entry(this.post.address)) | book.learn(3, entry(other)));
    }
    one.peers.introduce();
    two.peers.introduce();
    one.connected(2);
    two.connected(1);
    [one, two].into_iter().for_each(End::over);
}

#[test]
fn the_wrong_ones_are_told_so() {
    let two = end(identity(2), &[]);
    let stranger = Identity { cluster: ClusterId(8), ..identity(1) };
    let mut one = end(stranger, &[(2, &two)]);
    one.peers.introduce();
    one.trouble(2, "check the addresses in both configurations");
    let mut lost = end(identity(1), &[(3, &two)]);
    lost.peers.introduce();
    lost.trouble(3, "this is node 2, not node 3");
    [one, two, lost].into_iter().for_each(End::over);
}

#[test]
fn an_operator_gets_past_whoever_stands_still_or_names_a_leader_that_has_gone() {
    let [one, two] = [1, 2].map(|node| end(identity(node), &[]));
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    // It can be connected to, and says nothing.
    let still = listener();
    let gone = listener().local_addr().unwrap().to_string();
    let addresses = [still.local_addr().unwrap(), one.post.address, two.post.address];
    let addresses = addresses.map(|address| address.to_string());
    let by = Instant::now() + PATIENCE;
    let asking = std::thread::spawn(move || operator::ask_leader(&addresses, &Ask::List, by, Duration::ZERO));
    let call = wait("a question to the last", || {
        if let Some(call) = one.post.take_call() {
            call.reply.send(Answer::NotLeader { leader: 9, address: Some(gone.clone()) }).unwrap();
        }
        two.post.take_call()
    });
    call.reply.send(Answer::Transferring).unwrap();
    assert_eq!(asking.join().unwrap().unwrap(), Answer::Transferring);
    [one, two].into_iter().for_each(End::over);
}

#[test]
fn noise_harms_nobody() {
    let mut two = end(identity(2), &[]);
    let connect = || TcpStream::connect(two.post.address).unwrap();
    let mut web = connect();
    web.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    web.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("is it the port for clients"));
    let mut newer = connect();
    let mut frame = frame::text(frame::Kind::Greeting, &"whatever");
    frame[3] = 200;
    newer.write_all(&frame).unwrap();
    answer.clear();
    newer.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("speaks peer format 200"));
    // More than there are places: they are let go of, and a peer comes through.
    let crowd: Vec<TcpStream> = (0..2 * ACCEPTED_MAX).map(|_| connect()).collect();
    let mut one = end(identity(1), &[(2, &two)]);
    one.peers.introduce();
    drop(crowd);
    one.connected(2);
    // What failed so far is no news.
    let _ = one.peers.failed().count();
    // A message in another's name ends the connection it came by, and is not taken.
    one.peers.send(Envelope { from: identity(3), to: 2, body: HELLO });
    one.peers.flush();
    wait("the end of the connection", || (one.peers.failed().count() > 0).then_some(()));
    one.connected(2);
    one.say(2, HELLO);
    assert_eq!(two.hears().from, identity(1));
    two.peers.introduce();
    two.connected(1);
    two.say(1, HELLO);
    assert_eq!(one.hears().from, identity(2));
    [one, two].into_iter().for_each(End::over);
}
