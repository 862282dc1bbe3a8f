//! Starts the real server on a disk image and asks it for everything.
//!
//! A server that was recovered must know every id as the oracle allows, account for every unit, give the same outcome to
//! whoever asks again, and go on selling. Deliberately not here: which images there are.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluice_engine::wal::Backend;
use sluice_protocol::handshake::Hello;
use sluice_protocol::header::seal;
use sluice_protocol::request::{IdItem, Item, ProductItem, ReserveItem, StockItem};
use sluice_protocol::response::{self, ProductReply, ReservationReply};
use sluice_protocol::{
    Answer, HEADER_LEN, Kind, PROTOCOL_VERSION, ProductId, ReservationId, State, Status, UserId,
};

use super::oracle::{Found, Oracle, What};
use super::wire::take_frame;

/// Far longer than any start or answer takes. It only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Outcomes that are asked for again.
const AGAIN: usize = 24;

/// How the server's process says that it refuses its data.
const REFUSED: i32 = 4;

/// The flags of the server that is recorded and of those that recover, beside its log.
pub const FLAGS: &[&str] = &[
    "--disk-free-min",
    "0",
    "--net-threads",
    "1",
    "--records-expected",
    "1000",
    "--snapshot-every-bytes",
    "1MiB",
    "--log-filter",
    "error",
];

/// Which log is tried: SLUICE_TEST_BACKEND, or what users get.
pub fn backend() -> Backend {
    env::var("SLUICE_TEST_BACKEND").map_or(Backend::DEFAULT, |name| name.parse().unwrap())
}

/// The file that holds the newest entries, and the one that says what was acknowledged: only mutants and bit flips ask.
pub fn log() -> &'static str {
    match backend() {
        Backend::Sled => "wal/db",
        // A run is too short for a second one.
        Backend::Segments => "segments/0000000000000001.segment",
    }
}
pub const FENCE: &str = "wal.fence";

/// The data directory within a tree.
pub const DATA: &str = "data";

/// What became of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Recovered,
    /// The server said that it will not serve, and why.
    Refused(String),
    /// Something was lost or wrong, or the server neither served nor said why not.
    Failed(String),
}

/// The real binary by a command that takes its arguments.
pub fn serve(mut command: Command, tree: &Path) -> Command {
    command
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--data"])
        .arg(tree.join(DATA))
        .args(FLAGS)
        .args(["--log-backend", backend().name()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
}

/// Recovers the tree below `path` and compares with the oracle.
pub fn judge(path: &Path, oracle: &Oracle, more_flags: &[&str]) -> Verdict {
    let mut server = serve(binary(), path).args(more_flags).spawn().unwrap();
    let watch = Watch::over(&server);
    let verdict = match address_of(&mut server) {
        Some(address) => match Asker::connect(&address).and_then(|mut asker| asker.compare(oracle)) {
            Ok(()) => Verdict::Recovered,
            Err(wrong) => {
                let _ = server.kill();
                Verdict::Failed(format!("{wrong}\n{}", words(&mut server)))
            }
        },
        None => {
            let code = server.wait().unwrap().code();
            let said = words(&mut server);
            match code {
                Some(REFUSED) if said.contains("sluice: ") => Verdict::Refused(said),
                _ => Verdict::Failed(format!("neither served nor refused: code {code:?}: {said:?}")),
            }
        }
    };
    let _ = server.kill();
    let _ = server.wait();
    if watch.ended() { verdict } else { Verdict::Failed("it hangs".to_owned()) }
}

/// Where a server listens, once it serves.
pub fn address_of(server: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).ok()?;
    Some(said["url"].as_str().unwrap().trim_start_matches("sluice://").to_owned())
}

fn words(server: &mut Child) -> String {
    let mut text = Vec::new();
    server.stderr.take().unwrap().read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Kills a process that takes far too long.
struct Watch(mpsc::Sender<()>, thread::JoinHandle<bool>);

impl Watch {
    fn over(child: &Child) -> Self {
        let pid = Pid::from_child(child);
        let (sender, receiver) = mpsc::channel();
        let guard = thread::spawn(move || {
            let hangs = receiver.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs {
                let _ = kill_process(pid, Signal::KILL);
            }
            !hangs
        });
        Self(sender, guard)
    }

    fn ended(self) -> bool {
        drop(self.0);
        self.1.join().unwrap()
    }
}

/// A client that asks one frame at a time.
pub struct Asker {
    stream: TcpStream,
    bytes: Vec<u8>,
    asked: u64,
}

impl Asker {
    pub fn connect(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed without waiting: thousands of connections would use up the ports.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        let mut asker = Self { stream, bytes: Vec::new(), asked: 0 };
        let mut hello = vec![0; HEADER_LEN];
        Hello { version_min: 1, version_max: 1, name: "judge", credentials: b"" }.encode(&mut hello);
        seal(&mut hello, Kind::Hello, 0, 0, 0, 0);
        asker.exchange(&hello)?;
        Ok(asker)
    }

    fn exchange(&mut self, frame: &[u8]) -> Result<Vec<u8>, String> {
        self.stream.write_all(frame).map_err(|error| format!("cannot ask: {error}"))?;
        loop {
            if let Some((_, body)) = take_frame(&mut self.bytes) {
                return Ok(body);
            }
            let mut part = [0; 16384];
            match self.stream.read(&mut part) {
                Ok(0) => return Err("the server hung up".to_owned()),
                Ok(len) => self.bytes.extend_from_slice(&part[..len]),
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
    }

    fn ask<T: Item>(&mut self, kind: Kind, items: &[T]) -> Result<Vec<u8>, String> {
        self.asked += 1;
        let mut frame = vec![0; HEADER_LEN];
        items.iter().for_each(|item| frame.extend_from_slice(item.as_bytes()));
        seal(&mut frame, kind, PROTOCOL_VERSION, items.len() as u16, 10_000, self.asked);
        self.exchange(&frame)
    }

    fn answers<T: Item>(&mut self, kind: Kind, items: &[T]) -> Result<Vec<Answer>, String> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        Ok(response::items::<Answer>(&self.ask(kind, items)?).ok_or("not answers")?.to_vec())
    }

    /// Everything that the oracle has heard of, as the server has it.
    fn look(&mut self, oracle: &Oracle) -> Result<Found, String> {
        let mut found = Found::default();
        let ids: Vec<_> = oracle.ids().map(IdItem::new).collect();
        for ids in ids.chunks(1024) {
            let body = self.ask(Kind::QueryReservation, ids)?;
            for (id, reply) in
                ids.iter().zip(response::items::<ReservationReply>(&body).ok_or("not replies")?)
            {
                match reply.answer.status() {
                    Some(Status::Done) => {
                        let found_as = (reply.answer.state(), reply.record.into());
                        found.reservations.insert(id.id().0, found_as);
                    }
                    Some(Status::UnknownReservation) => {}
                    _ => return Err(format!("a query is answered {:?}", reply.answer)),
                }
            }
        }
        let products: Vec<_> = oracle.products().map(ProductItem::new).collect();
        if products.is_empty() {
            return Ok(found);
        }
        let body = self.ask(Kind::QueryProduct, &products)?;
        for (product, reply) in
            products.iter().zip(response::items::<ProductReply>(&body).ok_or("not replies")?)
        {
            match reply.answer.status() {
                Some(Status::Done) => drop(found.products.insert(product.product().0, reply.record.into())),
                Some(Status::UnknownProduct) => {}
                _ => return Err(format!("a query is answered {:?}", reply.answer)),
            }
        }
        Ok(found)
    }

    fn compare(&mut self, oracle: &Oracle) -> Result<(), String> {
        let found = self.look(oracle)?;
        oracle.check(&found)?;
        self.ask_again(oracle)?;
        let Some(product) = found.products.values().find(|product| product.free > 0) else { return Ok(()) };
        let item = ReserveItem::new(ReservationId(u128::MAX), product.product, UserId(u64::MAX), 1);
        match self.answers(Kind::Reserve, &[item])?[0].status() {
            Some(Status::Reserved) => Ok(()),
            other => Err(format!("it does not go on selling: {other:?}")),
        }
    }

    /// An id has one outcome, and whoever sends it again hears it.
    fn ask_again(&mut self, oracle: &Oracle) -> Result<(), String> {
        let settled = oracle.settled(AGAIN);
        let (mut reserves, mut restocks, mut write_offs) = (Vec::new(), Vec::new(), Vec::new());
        let mut expected: [Vec<State>; 3] = Default::default();
        for (id, what, state) in settled {
            match what {
                What::Reserve { product, user, quantity } => {
                    let mut item = ReserveItem::new(id, ProductId(product), UserId(user), quantity);
                    item.attempt = 1;
                    reserves.push(item);
                    expected[0].push(state);
                }
                What::Restock { product, quantity } => {
                    restocks.push(again(id, product, quantity));
                    expected[1].push(state);
                }
                What::WriteOff { product, quantity } => {
                    write_offs.push(again(id, product, quantity));
                    expected[2].push(state);
                }
            }
        }
        let heard = [
            self.answers(Kind::Reserve, &reserves)?,
            self.answers(Kind::Restock, &restocks)?,
            self.answers(Kind::WriteOff, &write_offs)?,
        ];
        for (answer, state) in heard.iter().flatten().zip(expected.iter().flatten()) {
            if answer.status() != Some(Status::Already) || answer.state() != *state {
                return Err(format!(
                    "wrong: what was {state:?} is answered {answer:?} when it is asked again"
                ));
            }
        }
        Ok(())
    }
}

fn again(id: ReservationId, product: u64, quantity: u32) -> StockItem {
    let mut item = StockItem::new(id, ProductId(product), quantity);
    item.attempt = 1;
    item
}
