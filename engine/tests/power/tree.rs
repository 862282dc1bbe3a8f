//! A directory tree in memory: cheap to copy, changed page by page, written out as a disk image.
//!
//! Names and contents are apart, as on a disk: a directory maps names to numbers of files, so a file can have its
//! bytes and no name, or a new name and its old bytes. Pages of zeros are not kept. Deliberately not here: what is
//! durable (see `disk`).

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Names a file or directory, whatever it is called.
pub type Ino = u32;

/// The directory at the top.
pub const ROOT: Ino = 0;

pub const PAGE_LEN: u64 = 4096;

#[derive(Clone)]
struct Page {
    bytes: [u8; PAGE_LEN as usize],
    /// Taken once; most pages are the same in thousands of images.
    hash: OnceLock<u64>,
}

impl Page {
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            if self.is_zero() {
                return 0;
            }
            let mut hasher = DefaultHasher::new();
            self.bytes.hash(&mut hasher);
            hasher.finish() | 1
        })
    }

    fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }
}

/// The bytes of a file. Behind its length all is zero.
#[derive(Clone, Default)]
pub struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(at, bytes);
            self.len = self.len.max(at + bytes.len() as u64);
        }
    }

    /// Writes without moving the length; the caller sets it.
    pub fn put(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = (at % PAGE_LEN) as usize;
            let part = bytes.len().min(PAGE_LEN as usize - within);
            let page = self.page(at / PAGE_LEN);
            page.bytes[within..within + part].copy_from_slice(&bytes[..part]);
            (at, bytes) = (at + part as u64, &bytes[part..]);
        }
    }

    pub fn set_len(&mut self, len: u64) {
        self.pages.split_off(&len.div_ceil(PAGE_LEN));
        if !len.is_multiple_of(PAGE_LEN) && self.pages.contains_key(&(len / PAGE_LEN)) {
            self.page(len / PAGE_LEN).bytes[(len % PAGE_LEN) as usize..].fill(0);
        }
        self.len = len;
    }

    pub fn flip(&mut self, at: u64, mask: u8) {
        self.page(at / PAGE_LEN).bytes[(at % PAGE_LEN) as usize] ^= mask;
    }

    pub fn read(&self, at: u64, len: u64) -> Vec<u8> {
        let byte =
            |at: u64| self.pages.get(&(at / PAGE_LEN)).map_or(0, |page| page.bytes[(at % PAGE_LEN) as usize]);
        (at..at + len).map(byte).collect()
    }

    /// Zeros from `from` up to `to`, the length staying as it is.
    pub fn zero(&mut self, from: u64, to: u64) {
        for number in from / PAGE_LEN..to.div_ceil(PAGE_LEN) {
            if self.pages.contains_key(&number) {
                let start = number * PAGE_LEN;
                let range = from.saturating_sub(start)..(to - start).min(PAGE_LEN);
                self.page(number).bytes[range.start as usize..range.end as usize].fill(0);
            }
        }
    }

    fn page(&mut self, number: u64) -> &mut Page {
        let zeros = || Arc::new(Page { bytes: [0; PAGE_LEN as usize], hash: OnceLock::new() });
        let page = Arc::make_mut(self.pages.entry(number).or_insert_with(zeros));
        page.hash = OnceLock::new();
        page
    }

    /// Where the pages begin that hold anything.
    pub fn used(&self) -> Vec<u64> {
        let used = self.pages.iter().filter(|(_, page)| !page.is_zero());
        used.map(|(number, _)| number * PAGE_LEN).collect()
    }

    fn load(path: &Path) -> Self {
        let mut content = Self::default();
        let mut file = fs::File::open(path).unwrap();
        let mut bytes = [0; PAGE_LEN as usize];
        let len = file.metadata().unwrap().len();
        for at in (0..len).step_by(PAGE_LEN as usize) {
            let part = (len - at).min(PAGE_LEN) as usize;
            file.read_exact(&mut bytes[..part]).unwrap();
            if bytes[..part].iter().any(|byte| *byte != 0) {
                content.put(at, &bytes[..part]);
            }
        }
        content.len = len;
        content
    }

    fn store(&self, path: &Path) {
        let file = fs::File::create(path).unwrap();
        file.set_len(self.len).unwrap();
        for (number, page) in self.pages.iter().filter(|(_, page)| page.hash() != 0) {
            let at = number * PAGE_LEN;
            let part = self.len.saturating_sub(at).min(PAGE_LEN) as usize;
            file.write_all_at(&page.bytes[..part], at).unwrap();
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.len.hash(&mut hasher);
        for (number, page) in self.pages.iter().filter(|(_, page)| page.hash() != 0) {
            (number, page.hash()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// See the module.
#[derive(Clone)]
pub struct Tree {
    dirs: BTreeMap<Ino, BTreeMap<String, Ino>>,
    files: BTreeMap<Ino, Arc<Content>>,
    next: Ino,
}

impl Tree {
    pub fn empty() -> Self {
        Self { dirs: BTreeMap::from([(ROOT, BTreeMap::new())]), files: BTreeMap::new(), next: ROOT + 1 }
    }

    pub fn load(path: &Path) -> Self {
        let mut tree = Self::empty();
        tree.load_dir(path, ROOT);
        tree
    }

    fn load_dir(&mut self, path: &Path, dir: Ino) {
        let mut items: Vec<_> = fs::read_dir(path).unwrap().map(Result::unwrap).collect();
        items.sort_by_key(fs::DirEntry::file_name);
        for item in items {
            let is_dir = item.file_type().unwrap().is_dir();
            let ino = self.fresh();
            self.make(ino, is_dir);
            self.dir_mut(dir).insert(item.file_name().into_string().unwrap(), ino);
            if is_dir {
                self.load_dir(&item.path(), ino);
            } else {
                self.files.insert(ino, Arc::new(Content::load(&item.path())));
            }
        }
    }

    /// Writes everything that has a name into a directory that exists.
    pub fn store(&self, path: &Path) {
        for (name, ino) in self.files_below("", ROOT) {
            let to = path.join(name);
            match self.files.get(&ino) {
                Some(content) => content.store(&to),
                None => fs::create_dir(&to).unwrap(),
            }
        }
    }

    /// Everything that has a name, directories before what is in them.
    fn files_below(&self, prefix: &str, dir: Ino) -> Vec<(String, Ino)> {
        let mut found = Vec::new();
        for (name, ino) in &self.dirs[&dir] {
            let path = format!("{prefix}{name}");
            found.push((path.clone(), *ino));
            if self.dirs.contains_key(ino) {
                found.extend(self.files_below(&format!("{path}/"), *ino));
            }
        }
        found
    }

    /// The files that have a name, with their paths.
    pub fn files(&self) -> Vec<(String, Ino)> {
        let all = self.files_below("", ROOT);
        all.into_iter().filter(|(_, ino)| self.files.contains_key(ino)).collect()
    }

    /// Two trees of the same fingerprint are the same, but for files whose name is in `except`.
    pub fn fingerprint(&self, except: &[&str]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, ino) in self.files_below("", ROOT) {
            let file = self.files.get(&ino).filter(|_| !except.iter().any(|end| name.ends_with(end)));
            (&name, file.map(|content| content.hash())).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub fn fresh(&mut self) -> Ino {
        self.next += 1;
        self.next
    }

    /// Brings a file or directory into being, empty and without a name.
    pub fn make(&mut self, ino: Ino, is_dir: bool) {
        self.next = self.next.max(ino);
        if is_dir {
            self.dirs.insert(ino, BTreeMap::new());
        } else {
            self.files.insert(ino, Arc::default());
        }
    }

    pub fn find(&self, path: &str) -> Option<Ino> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |dir, name| self.dirs.get(&dir)?.get(name).copied())
    }

    /// The directory that holds a path's last name, and that name.
    pub fn place(&self, path: &str) -> (Ino, String) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.find(dir).unwrap_or_else(|| panic!("{dir:?} is a directory")), name.to_owned())
    }

    pub fn dir_mut(&mut self, dir: Ino) -> &mut BTreeMap<String, Ino> {
        self.dirs.get_mut(&dir).unwrap()
    }

    pub fn is_file(&self, ino: Ino) -> bool {
        self.files.contains_key(&ino)
    }

    pub fn file(&self, ino: Ino) -> &Content {
        &self.files[&ino]
    }

    pub fn file_mut(&mut self, ino: Ino) -> &mut Content {
        Arc::make_mut(self.files.get_mut(&ino).unwrap())
    }
}
