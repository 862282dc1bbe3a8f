//! From a server's system calls to what they did to the disk, and to what was asked and answered.
//!
//! Both come from one trace, so they have one order: what had been synced when an answer left is exact. A call that
//! could change files in a way not understood here fails the test: nothing is passed over. Deliberately not here: what
//! a loss of power leaves (see `disk`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Op, Step};
use super::trace::{Arg, Call, Moment};
use super::tree::{Ino, Tree};
use super::wire::{Said, Wire};

/// What happened, in order.
pub enum Event {
    /// A call that concerns the disk began.
    Began(usize, Step),
    Ended(usize, Step),
    /// Bytes came from a client or went to one, and completed these frames.
    Said(Vec<Said>),
    /// The signal to stop arrived.
    ToldToStop,
}

/// See the module.
struct Recorder {
    /// Ends with `/`.
    root: String,
    /// As the process sees it.
    live: Tree,
    /// Of open files, where the next plain write goes.
    offsets: HashMap<i64, u64>,
    wire: Wire,
    events: Vec<Event>,
}

/// What a trace tells.
pub struct Told {
    pub events: Vec<Event>,
    /// The tree that the process left.
    pub left: Tree,
    /// Whether every call has returned: of one that was killed within it, nobody knows what it did.
    pub is_certain: bool,
}

/// What the trace tells of a process that began with `base` below `root`.
pub fn events(calls: &[Call], moments: &[Moment], root: &Path, base: &Tree) -> Told {
    let mut recorder = Recorder {
        root: format!("{}/", root.to_str().unwrap()),
        live: base.clone(),
        offsets: HashMap::new(),
        wire: Wire::default(),
        events: Vec::new(),
    };
    let mut steps: HashMap<usize, Step> = HashMap::new();
    for moment in moments {
        match moment {
            Moment::Began(number) if !calls[*number].failed() => {
                recorder.answer(&calls[*number]);
                if let Some(step) = recorder.step(&calls[*number]) {
                    steps.insert(*number, step.clone());
                    recorder.events.push(Event::Began(*number, step));
                }
            }
            Moment::Ended(number) if !calls[*number].failed() => {
                recorder.opened(&calls[*number]);
                recorder.request(&calls[*number]);
                if let Some(step) = steps.remove(number) {
                    recorder.events.push(Event::Ended(*number, step));
                }
            }
            Moment::Began(_) | Moment::Ended(_) => {}
            Moment::ToldToStop => recorder.events.push(Event::ToldToStop),
        }
    }
    Told { events: recorder.events, left: recorder.live, is_certain: steps.is_empty() }
}

impl Recorder {
    /// An answer may be read from the moment at which it begins to be sent.
    fn answer(&mut self, call: &Call) {
        let (connection, bytes) = match call.name.as_str() {
            "sendto" | "write" | "writev" | "sendmsg" => {
                let (_, path) = call.fd(0);
                if !path.starts_with("socket:") {
                    return;
                }
                assert_ne!(call.name, "sendmsg", "replies are sent by other calls");
                (path, call.bytes(1))
            }
            "sendmmsg" | "sendfile" | "splice" => panic!("{} is not understood", call.name),
            _ => return,
        };
        let sent = call.returned.unwrap_or(bytes.len() as i64);
        assert_eq!(sent, bytes.len() as i64, "a reply is sent whole");
        let said = self.wire.sent(connection, bytes);
        self.push_said(said);
    }

    /// A descriptor is there once the call has ended: until then the number may be that of one that is being closed.
    fn opened(&mut self, call: &Call) {
        if let ("openat", Some(fd)) = (call.name.as_str(), call.returned) {
            self.offsets.insert(fd, 0);
        }
    }

    /// A request is there once it has been read.
    fn request(&mut self, call: &Call) {
        match call.name.as_str() {
            "recvfrom" | "read" if call.fd(0).1.starts_with("socket:") => {
                let said = match &call.args[1] {
                    // The thread was killed where it stood: what follows from what it read is nothing at all.
                    Arg::Bytes(bytes) if call.is_doubtful => self.wire.received_at_most(call.fd(0).1, bytes),
                    _ if call.returned > Some(0) => self.wire.received(call.fd(0).1, call.bytes(1)),
                    _ => return,
                };
                self.push_said(said);
            }
            "recvmsg" | "readv" if call.fd(0).1.starts_with("socket:") => {
                panic!("{} is not understood", call.name);
            }
            _ => {}
        }
    }

    fn push_said(&mut self, said: Vec<Said>) {
        if !said.is_empty() {
            self.events.push(Event::Said(said));
        }
    }

    /// What a call does to the disk. What a process sees changes when the call begins: no two of its threads work on
    /// the same name or bytes.
    fn step(&mut self, call: &Call) -> Option<Step> {
        let step = match call.name.as_str() {
            "open" | "openat" | "openat2" | "creat" | "close" | "lseek" | "read" | "mmap" => {
                self.descriptor(call)
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => self.write(call),
            "ftruncate" | "truncate" | "fallocate" => self.resize(call),
            "fsync" | "fdatasync" => {
                let path = self.inside(call.fd(0).1)?;
                let ino = self.live.find(&path)?;
                let is_dir = !self.live.is_file(ino);
                Some(Step::Sync { ino, path, is_dir })
            }
            "sendto" | "recvfrom" | "readv" | "sendmsg" | "recvmsg" | "msync" => None,
            // A thread that was killed before its call had begun: strace never learnt which.
            "???" => None,
            "io_uring_setup" | "sync" | "syncfs" | "copy_file_range" => {
                panic!("{} is not understood", call.name)
            }
            _ => self.rename(call),
        };
        if let Some(Step::Change { made, ops }) = &step {
            for (ino, is_dir) in made {
                self.live.make(*ino, *is_dir);
            }
            ops.iter().for_each(|op| op.apply(&mut self.live));
        }
        step
    }

    /// The path within the tree that is watched, if it lies there and the file still has its name.
    fn inside(&self, path: &str) -> Option<String> {
        if format!("{path}/") == self.root {
            return Some(String::new());
        }
        path.strip_prefix(&self.root).filter(|path| !path.ends_with("(deleted)")).map(str::to_owned)
    }

    /// A path that is given relative to a descriptor, or by itself.
    fn at(&self, call: &Call, fd: usize, name: usize) -> Option<String> {
        let name = call.text(name);
        if name.starts_with('/') {
            return self.inside(name);
        }
        self.inside(&format!("{}/{name}", call.fd(fd).1))
    }

    fn descriptor(&mut self, call: &Call) -> Option<Step> {
        match call.name.as_str() {
            "openat" => return self.open(call),
            "open" | "openat2" | "creat" => panic!("{} is not understood", call.name),
            "close" => drop(self.offsets.remove(&call.fd(0).0)),
            "lseek" => drop(self.offsets.insert(call.fd(0).0, u64::try_from(call.returned?).unwrap())),
            "read" => {
                if let Some(offset) = self.offsets.get_mut(&call.fd(0).0) {
                    *offset += u64::try_from(call.returned?).unwrap();
                }
            }
            _ => {
                let file = call
                    .args
                    .iter()
                    .any(|arg| matches!(arg, Arg::Fd(_, path) if path.starts_with(&self.root)));
                assert!(!file, "a file in the data directory is mapped into memory: its writes are not seen");
            }
        }
        None
    }

    fn open(&mut self, call: &Call) -> Option<Step> {
        let path = self.at(call, 0, 1)?;
        let flags: Vec<&str> = call.flags(2).split('|').collect();
        for unknown in ["O_SYNC", "O_DSYNC", "O_APPEND", "O_TMPFILE"] {
            assert!(!flags.contains(&unknown), "{unknown} is not understood");
        }
        match self.live.find(&path) {
            Some(ino)
                if flags.contains(&"O_TRUNC") && self.live.is_file(ino) && self.live.file(ino).len() > 0 =>
            {
                Some(Step::Change { made: Vec::new(), ops: vec![Op::SetLen { ino, len: 0 }] })
            }
            None if flags.contains(&"O_CREAT") => Some(self.make(&path, false)),
            _ => None,
        }
    }

    fn make(&mut self, path: &str, is_dir: bool) -> Step {
        let (dir, name) = self.live.place(path);
        let ino = self.live.fresh();
        Step::Change { made: vec![(ino, is_dir)], ops: vec![Op::Link { dir, name, ino }] }
    }

    fn write(&mut self, call: &Call) -> Option<Step> {
        let (fd, path) = call.fd(0);
        let ino = self.file(path)?;
        let bytes = call.bytes(1);
        let bytes: Arc<[u8]> = bytes[..call.returned.map_or(bytes.len(), |len| len as usize)].into();
        let at = match call.name.as_str() {
            "pwrite64" | "pwritev" => call.number(3),
            "pwritev2" => panic!("pwritev2 is not understood"),
            _ => {
                let offset = self.offsets.get_mut(&fd).expect("the file was opened in the trace");
                *offset += bytes.len() as u64;
                *offset - bytes.len() as u64
            }
        };
        Some(Step::Change { made: Vec::new(), ops: vec![Op::Write { ino, at, bytes }] })
    }

    fn file(&self, path: &str) -> Option<Ino> {
        let path = self.inside(path)?;
        Some(self.live.find(&path).unwrap_or_else(|| panic!("{path} is written to, and nobody made it")))
    }

    fn resize(&mut self, call: &Call) -> Option<Step> {
        assert_ne!(call.name, "truncate", "a file is resized by its descriptor");
        let ino = self.file(call.fd(0).1)?;
        let len = self.live.file(ino).len();
        let op = if call.name == "ftruncate" {
            Op::SetLen { ino, len: call.number(1) }
        } else {
            let (at, count) = (call.number(2), call.number(3));
            match call.flags(1) {
                "" => Op::SetLen { ino, len: len.max(at + count) },
                "FALLOC_FL_KEEP_SIZE" => return None,
                "FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE" => {
                    let count = count.min(len.saturating_sub(at)) as usize;
                    Op::Write { ino, at, bytes: vec![0; count].into() }
                }
                other => panic!("fallocate with {other} is not understood"),
            }
        };
        Some(Step::Change { made: Vec::new(), ops: vec![op] })
    }

    fn rename(&mut self, call: &Call) -> Option<Step> {
        let (from, to) = match call.name.as_str() {
            "mkdir" => return self.inside(call.text(0)).map(|path| self.make(&path, true)),
            "mkdirat" => return self.at(call, 0, 1).map(|path| self.make(&path, true)),
            "unlink" | "rmdir" => return self.unlink(&self.inside(call.text(0))?),
            "unlinkat" => return self.unlink(&self.at(call, 0, 1)?),
            "rename" => (self.inside(call.text(0))?, self.inside(call.text(1))),
            "renameat" | "renameat2" => (self.at(call, 0, 1)?, self.at(call, 2, 3)),
            other => panic!("{other} is not understood"),
        };
        let ino = self.live.find(&from).expect("what is renamed exists");
        let op = Op::Rename {
            from: self.live.place(&from),
            to: self.live.place(&to.expect("nothing leaves the tree")),
            ino,
        };
        Some(Step::Change { made: Vec::new(), ops: vec![op] })
    }

    fn unlink(&self, path: &str) -> Option<Step> {
        let (dir, name) = self.live.place(path);
        Some(Step::Change { made: Vec::new(), ops: vec![Op::Unlink { dir, name }] })
    }
}
