//! What strace writes down, as calls with their arguments: each with the lines at which it began and ended.
//!
//! strace is told to print all strings in hexadecimal and whole, and the path behind each descriptor. The order of its
//! lines is the order of things: a call's first line is written before the kernel begins it, its last after it has
//! ended. Deliberately not here: what the calls mean (see `record`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

/// All calls by which files, directories and connections change, or that would have to be understood if they came up.
const CALLS: &str = "open,openat,?openat2,creat,close,read,lseek,write,pwrite64,writev,pwritev,?pwritev2,truncate,\
    ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,\
    fsync,fdatasync,sync,syncfs,msync,mmap,copy_file_range,sendfile,splice,?io_uring_setup,\
    sendto,sendmsg,sendmmsg,recvfrom,recvmsg,readv";

/// A command that runs what is given to it as arguments and writes down what it does.
pub fn recorder(trace: &Path) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["--follow-forks", "--seccomp-bpf", "--decode-fds=path", "-xx", "-s", "20000000"])
        .args(["-e", &format!("trace={CALLS}"), "-e", "signal=SIGTERM", "-o"])
        .arg(trace);
    command
}

/// A call as it was written down.
pub struct Call {
    pub name: String,
    pub args: Vec<Arg>,
    /// `None` if it never returned; an error is negative.
    pub returned: Option<i64>,
}

/// An argument.
pub enum Arg {
    /// A descriptor, and the path behind it.
    Fd(i64, String),
    /// Bytes: a buffer or a path. Buffers of one call are joined.
    Bytes(Vec<u8>),
    Number(i64),
    /// Names of flags, and whatever else nobody needs.
    Other(String),
}

impl Call {
    pub fn failed(&self) -> bool {
        self.returned.is_some_and(|returned| returned < 0)
    }

    pub fn fd(&self, at: usize) -> (i64, &str) {
        match &self.args[at] {
            Arg::Fd(fd, path) => (*fd, path),
            _ => panic!("{}: argument {at} is no descriptor", self.name),
        }
    }

    pub fn bytes(&self, at: usize) -> &[u8] {
        match &self.args[at] {
            Arg::Bytes(bytes) => bytes,
            _ => panic!("{}: argument {at} is no buffer", self.name),
        }
    }

    pub fn text(&self, at: usize) -> &str {
        std::str::from_utf8(self.bytes(at)).unwrap()
    }

    pub fn number(&self, at: usize) -> u64 {
        match &self.args[at] {
            Arg::Number(number) => u64::try_from(*number).unwrap(),
            _ => panic!("{}: argument {at} is no number", self.name),
        }
    }

    pub fn flags(&self, at: usize) -> &str {
        match &self.args[at] {
            Arg::Other(flags) => flags,
            Arg::Number(0) => "",
            _ => panic!("{}: argument {at} are no flags", self.name),
        }
    }
}

/// What happened, in order.
pub enum Moment {
    Began(usize),
    Ended(usize),
    /// The signal to stop arrived.
    ToldToStop,
}

/// Reads a trace: the calls, and their order.
pub fn read(trace: &Path) -> (Vec<Call>, Vec<Moment>) {
    let mut calls = Vec::new();
    let mut moments = Vec::new();
    let mut unfinished: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for line in BufReader::new(File::open(trace).unwrap()).lines() {
        let line = line.unwrap();
        let (thread, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("--- SIGTERM") {
            moments.push(Moment::ToldToStop);
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").unwrap();
            if let Some((number, begun)) = unfinished.remove(thread) {
                calls[number] = parse(&format!("{begun}{rest}"));
                // One that was killed within a call returns nothing; whether it was carried out is not known.
                if calls[number].returned.is_some() {
                    moments.push(Moment::Ended(number));
                }
            }
        } else if let Some(begun) = text.strip_suffix(" <unfinished ...>") {
            moments.push(Moment::Began(calls.len()));
            unfinished.insert(thread.to_owned(), (calls.len(), begun.to_owned()));
            calls.push(parse(begun));
        } else if !text.starts_with("+++") && !text.starts_with("---") {
            let call = parse(text);
            moments.push(Moment::Began(calls.len()));
            moments.extend(call.returned.map(|_| Moment::Ended(calls.len())));
            calls.push(call);
        }
    }
    (calls, moments)
}

fn parse(text: &str) -> Call {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("{text:?} is a call"));
    let (args, returned) = match rest.rsplit_once(" = ") {
        Some((args, returned)) if args.trim_end().ends_with(')') => {
            (args.trim_end().strip_suffix(')').unwrap(), leading_number(returned))
        }
        _ => (rest, None),
    };
    Call { name: name.to_owned(), args: arguments(args), returned }
}

fn leading_number(text: &str) -> Option<i64> {
    let end = text.char_indices().skip(1).find(|(_, c)| !c.is_ascii_digit()).map_or(text.len(), |(at, _)| at);
    text[..end].parse().ok()
}

/// Strings are hexadecimal, so commas, brackets and quotes in the text mean what they seem to.
fn arguments(text: &str) -> Vec<Arg> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(argument(text[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        found.push(argument(text[start..].trim()));
    }
    found
}

fn argument(text: &str) -> Arg {
    if let Some((fd, path)) = text.split_once('<') {
        let (path, after) = path.rsplit_once('>').unwrap();
        let path = String::from_utf8(decode(path)).unwrap();
        return Arg::Fd(leading_number(fd).unwrap_or(-1), format!("{path}{after}"));
    }
    if text.contains('"') {
        return Arg::Bytes(text.split('"').skip(1).step_by(2).flat_map(decode).collect());
    }
    text.parse().map_or_else(|_| Arg::Other(text.to_owned()), Arg::Number)
}

/// The bytes of `\x61\x62…`; what is printed plainly is taken as it stands.
fn decode(hex: &str) -> Vec<u8> {
    if !hex.starts_with("\\x") {
        return hex.as_bytes().to_vec();
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks_exact(4).map(|code| digit(code[2]) << 4 | digit(code[3])).collect()
}
