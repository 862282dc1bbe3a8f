//! Where nodes can be reached: what each says of itself, passed on by all.
//!
//! Nothing is decided by an address: who answers there proves who it is. So a book may be old. Of two entries for a node
//! the one of its later process stands. It is kept in a file, so that nodes that all start at once find each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::datadir::{open_text, seal_text};
use crate::files;

/// Its file in the data directory.
pub(crate) const BOOK_FILE: &str = "PEERS";
pub(crate) const BOOK_FILE_ASIDE: &str = "PEERS.tmp";

/// The format this build writes.
const FORMAT: u32 = 1;

/// Nodes in one book: far more than a cluster has, and not too many for one frame.
const ENTRIES_MAX: usize = 128;

/// Bytes of an address.
const ADDRESS_LEN_MAX: usize = 256;

/// Where one node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// How often its data directory was opened when it said so.
    pub(crate) boot: u64,
    /// Where other nodes connect.
    pub(crate) peers: String,
    /// Where clients connect.
    pub(crate) clients: String,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book(BTreeMap<u64, Entry>);

impl Book {
    /// Where a node can be reached.
    pub(crate) fn get(&self, node: u64) -> Option<&Entry> {
        self.0.get(&node)
    }

    /// The nodes in it.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.keys().copied()
    }

    /// Takes an entry over if it is the later one. Whether it was news.
    pub(crate) fn learn(&mut self, node: u64, entry: Entry) -> bool {
        let is_news = self.0.get(&node).is_none_or(|known| known.boot < entry.boot);
        let is_sound = [&entry.peers, &entry.clients].into_iter().all(|address| is_sound(address));
        let has_room = self.0.len() < ENTRIES_MAX || self.0.contains_key(&node);
        if is_news && is_sound && has_room {
            self.0.insert(node, entry);
        }
        is_news && is_sound && has_room
    }

    /// Takes over what is later of all nodes but these. Whether anything was.
    pub(crate) fn merge(&mut self, other: &Self, but: &BTreeSet<u64>) -> bool {
        let entries = other.0.iter().filter(|(node, _)| !but.contains(node));
        entries.fold(false, |news, (node, entry)| self.learn(*node, entry.clone()) || news)
    }

    /// Strikes a node out.
    pub(crate) fn forget(&mut self, node: u64) -> bool {
        self.0.remove(&node).is_some()
    }

    /// Reads the file; an empty book if there is none. One that is damaged is as good as none: others know more.
    pub(crate) fn load(dir: &Path) -> Self {
        let file = dir.join(BOOK_FILE);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(%error, "the addresses of the other nodes cannot be read: they have to connect here first");
                return Self::default();
            }
        };
        let lines = open_text(&bytes, &file, dir, FORMAT);
        match lines {
            Ok(lines) => Self(lines.lines().filter_map(parse).collect()),
            Err(error) => {
                tracing::warn!(%error, "the addresses of the other nodes are lost: they have to connect here first");
                Self::default()
            }
        }
    }

    /// Writes the file. Durable on return.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        files::replace(&dir.join(BOOK_FILE), &dir.join(BOOK_FILE_ASIDE), self.print().as_bytes(), None)
    }

    fn print(&self) -> String {
        let mut text = format!("format={FORMAT}\n");
        for (node, entry) in &self.0 {
            text.push_str(&format!("node={node} {} {} {}\n", entry.boot, entry.peers, entry.clients));
        }
        seal_text(text)
    }
}

fn parse(line: &str) -> Option<(u64, Entry)> {
    let mut words = line.strip_prefix("node=")?.split(' ');
    let mut word = || words.next();
    let (node, boot) = (word()?.parse().ok()?, word()?.parse().ok()?);
    Some((node, Entry { boot, peers: word()?.to_owned(), clients: word()?.to_owned() }))
}

fn is_sound(address: &str) -> bool {
    (1..=ADDRESS_LEN_MAX).contains(&address.len()) && address.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(boot: u64, peers: &str) -> Entry {
        Entry { boot, peers: peers.to_owned(), clients: "c:1".to_owned() }
    }

    #[test]
    fn what_a_later_process_says_stands() {
        let mut book = Book::default();
        assert!(book.learn(2, entry(4, "b:1")));
        assert!(!book.learn(2, entry(3, "old:1")));
        assert!(!book.learn(2, entry(4, "b:1")));
        let mut other = Book::default();
        assert!(other.learn(2, entry(5, "b:2")) && other.learn(3, entry(1, "c:1")));
        let nobody = BTreeSet::new();
        assert!(!Book::default().merge(&other, &BTreeSet::from([2, 3])));
        assert!(book.merge(&other, &nobody) && !book.merge(&other, &nobody));
        assert_eq!(book.get(2), Some(&entry(5, "b:2")));
        assert_eq!(book.nodes().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_address_with_a_line_in_it_is_none() {
        let mut book = Book::default();
        for address in ["", "a b:1", "a\nnode=1 9 x y", "ä:1"] {
            assert!(!book.learn(2, entry(1, address)), "{address:?}");
        }
    }

    #[test]
    fn it_outlives_the_process_and_damage_empties_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Book::load(dir.path()), Book::default());
        let mut book = Book::default();
        book.learn(2, entry(4, "b:1"));
        book.learn(7, entry(1, "[::1]:9"));
        book.save(dir.path()).unwrap();
        assert_eq!(Book::load(dir.path()), book);
        let file = dir.path().join(BOOK_FILE);
        let mut bytes = fs::read(&file).unwrap();
        bytes[12] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(Book::load(dir.path()), Book::default());
    }
}
