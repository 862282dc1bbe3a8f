//! What strace writes down, as calls with their arguments: each with the lines at which it began and ended.
//!
//! strace is told to print all strings in hexadecimal and whole, and the path behind each descriptor. The order of its
//! lines is the order of things: a call's first line is written before the kernel begins it, its last after it has
//! ended. What it says of threads that were killed needs doubt (see `doubt`). Deliberately not here: what the calls mean
//! (see `record`).

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

/// A call of which strace never learnt which.
const UNKNOWN: &str = "???(";

/// A call as it was written down.
pub struct Call {
    pub name: String,
    pub args: Vec<Arg>,
    /// `None` if it never returned, or nobody knows what; an error is negative.
    pub returned: Option<i64>,
    /// What it returned may be another's, and so how much of a buffer it filled.
    pub is_doubtful: bool,
}

/// An argument.
#[derive(PartialEq, Eq)]
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

/// How a line ends whose call goes on in another, or never does.
const NEVER_ENDED: [&str; 2] = [" <unfinished ...>", " <detached ...>"];

/// The latest line of a thread.
struct Latest {
    line: usize,
    call: usize,
    has_ended: bool,
}

/// Reads a trace: the calls, and their order.
pub fn read(trace: &Path) -> (Vec<Call>, Vec<Moment>) {
    read_lines(BufReader::new(File::open(trace).unwrap()).lines().map(Result::unwrap))
}

/// Reads the lines of a trace.
pub fn read_lines(lines: impl Iterator<Item = String>) -> (Vec<Call>, Vec<Moment>) {
    let mut calls = Vec::new();
    let mut moments = Vec::new();
    let mut unfinished: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut latest: BTreeMap<String, Latest> = BTreeMap::new();
    let mut lines_of_calls = 0;
    for line in lines {
        let (thread, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("+++") || text.starts_with("---") {
            moments.extend(text.starts_with("--- SIGTERM").then_some(Moment::ToldToStop));
            continue;
        }
        let call = if let Some(rest) = text.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").unwrap();
            let Some((number, begun)) = unfinished.remove(thread) else { continue };
            calls[number] = parse(&format!("{begun}{rest}"));
            number
        } else {
            let begun = NEVER_ENDED.iter().find_map(|end| text.strip_suffix(end));
            if let Some(begun) = begun {
                unfinished.insert(thread.to_owned(), (calls.len(), begun.to_owned()));
            }
            moments.push(Moment::Began(calls.len()));
            calls.push(parse(begun.unwrap_or(text)));
            calls.len() - 1
        };
        // One that was killed within a call returns nothing; whether it was carried out is not known.
        let has_ended = calls[call].returned.is_some();
        moments.extend(has_ended.then_some(Moment::Ended(call)));
        latest.insert(thread.to_owned(), Latest { line: lines_of_calls, call, has_ended });
        lines_of_calls += 1;
    }
    doubt(&mut calls, latest.into_values().collect(), lines_of_calls);
    (calls, moments)
}

/// Takes back what strace says of calls at which their threads were killed and cannot know.
///
/// At each stop strace asks the kernel which call it is (`PTRACE_GET_SYSCALL_INFO`). A thread that is killed between its
/// stop and the question has gone on to where it exits. There the kernel tells of no call, leaves strace's buffer as it
/// was, and strace (6.1; 7.2 does the same) prints what it holds: the call of the thread that was asked before, or its value.
/// *That* the thread stood at the beginning or the end of a call is true all the same, so:
///
/// - What has ended has ended, a sync is a sync; only the value is nobody's.
/// - What had only begun is not carried out any more. If it is another's it is nothing, else it stays open.
///
/// This befalls only last lines of threads, and nothing else comes behind them.
fn doubt(calls: &mut [Call], mut latest: Vec<Latest>, lines_of_calls: usize) {
    latest.sort_by_key(|latest| latest.line);
    for (line, latest) in (0..lines_of_calls).rev().zip(latest.into_iter().rev()) {
        if latest.line != line {
            break;
        }
        if latest.has_ended {
            calls[latest.call].returned = None;
            calls[latest.call].is_doubtful = true;
        } else if is_anothers(calls, latest.call) {
            calls[latest.call] = parse(UNKNOWN);
        }
    }
}

/// Whether what a killed thread had begun is another's call.
///
/// It is the one that was asked for before, as it was; or with what that returned in the place of its number and whether
/// it failed in that of its first argument, which makes that 0 or 1, and neither is a file or a connection here.
fn is_anothers(calls: &[Call], number: usize) -> bool {
    let call = &calls[number];
    let before = number.checked_sub(1).map(|number| &calls[number]);
    let is_mixture = matches!(call.args.first(), Some(Arg::Fd(0 | 1, _) | Arg::Number(0 | 1)));
    is_mixture || before.is_some_and(|before| before.name == call.name && before.args == call.args)
}

fn parse(text: &str) -> Call {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("{text:?} is a call"));
    let (args, returned) = match rest.rsplit_once(" = ") {
        Some((args, returned)) if args.trim_end().ends_with(')') => {
            (args.trim_end().strip_suffix(')').unwrap(), leading_number(returned))
        }
        _ => (rest, None),
    };
    Call { name: name.to_owned(), args: arguments(args), returned, is_doubtful: false }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::disk::Step;
    use crate::power::record::{Event, Told, events};
    use crate::power::tree::Tree;

    fn told(lines: &[&str]) -> Told {
        let (calls, moments) = read_lines(lines.iter().map(|line| (*line).to_owned()));
        events(&calls, &moments, Path::new("/dir"), &Tree::empty())
    }

    fn synced(told: &Told) -> usize {
        let is_sync = |event: &&Event| matches!(event, Event::Ended(_, Step::Sync { .. }));
        told.events.iter().filter(is_sync).count()
    }

    /// How every trace here begins; two threads, one file.
    const OPENED: &str =
        r#"7 openat(AT_FDCWD</>, "\x2f\x64\x69\x72\x2f\x6c\x6f\x67", O_RDWR|O_CREAT, 0666) = 3</dir/log>"#;

    #[test]
    fn a_killed_threads_value_is_nobodys() {
        let told = told(&[
            OPENED,
            r#"7 pwrite64(3</dir/log>, "\x61\x62\x63\x64", 4, 0 <unfinished ...>"#,
            r#"8 recvfrom(9<socket:[1]>, "\x53\x4c", 65568, 0, NULL, NULL) = 2"#,
            r#"8 sendto(9<socket:[1]>, "\x53\x4c\x43\x31", 4, MSG_NOSIGNAL, NULL, 0 <unfinished ...>"#,
            r"7 <... pwrite64 resumed>) = 2",
            r"8 <... sendto resumed>) = 2",
            "7 +++ killed by SIGKILL +++",
        ]);
        assert!(told.is_certain);
        assert_eq!(told.left.file(told.left.find("log").unwrap()).read(0, 4), b"abcd");
    }

    #[test]
    fn a_killed_threads_sync_has_ended_whatever_it_returned() {
        let lines = [
            OPENED,
            r"7 fdatasync(3</dir/log> <unfinished ...>",
            r"8 recvfrom(9<socket:[1]>, 0x1234, 65568, 0, NULL, NULL) = -1 EAGAIN (Try again)",
            r"7 <... fdatasync resumed>) = -1 EAGAIN (Try again)",
        ];
        assert_eq!(synced(&told(&lines)), 1);
        assert!(told(&lines).is_certain);
        assert_eq!(synced(&told(&lines[..3])), 0);
        assert!(!told(&lines[..3]).is_certain);
    }

    #[test]
    fn a_killed_threads_call_may_be_anothers() {
        let begun = told(&[
            OPENED,
            r#"7 mkdir("\x2f\x64\x69\x72\x2f\x61", 0777 <unfinished ...>"#,
            r#"8 mkdir("\x2f\x64\x69\x72\x2f\x61", 0777 <unfinished ...>"#,
            r"7 <... mkdir resumed>) = 83",
            r#"9 sendfile(0</dev/null>, 3</dir/log>, NULL, 65568 <detached ...>"#,
        ]);
        assert!(begun.is_certain);
        let made = |event: &&Event| matches!(event, Event::Began(_, Step::Change { .. }));
        assert_eq!(begun.events.iter().filter(made).count(), 2, "the file and one directory");
    }

    #[test]
    fn a_call_at_which_a_thread_was_killed_stays_open() {
        let told = told(&[OPENED, r#"7 pwrite64(3</dir/log>, "\x61", 1, 0 <detached ...>"#]);
        assert!(!told.is_certain);
        assert_eq!(told.left.file(told.left.find("log").unwrap()).len(), 1);
    }

    #[test]
    #[should_panic(expected = "a reply is sent whole")]
    fn what_is_said_of_a_thread_that_goes_on_is_true() {
        told(&[
            r#"8 sendto(9<socket:[1]>, "\x53\x4c\x43\x31", 4, MSG_NOSIGNAL, NULL, 0) = 2"#,
            r#"8 recvfrom(9<socket:[1]>, 0x1234, 65568, 0, NULL, NULL) = -1 EAGAIN (Try again)"#,
        ]);
    }

    #[test]
    fn a_request_that_nobody_can_have_acted_on_is_read_as_far_as_it_goes() {
        let told = told(&[
            r#"8 recvfrom(9<socket:[1]>, "\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61\x61", 65568, 0, NULL, NULL) = 34"#,
        ]);
        assert!(told.events.is_empty());
    }
}
