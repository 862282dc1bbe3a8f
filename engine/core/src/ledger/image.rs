//! The ledger's bytes: a row of sections, each of which checks itself.
//!
//! ```text
//! 0 1 version    of products and records 1, of groups FORMAT; of the header FORMAT if there are groups, otherwise 1
//! 1 1 kind       1 header (exactly one, first), 2 products, 3 records, 4 consumer groups
//! 2 2 reserved   zero
//! 4 4 length     bytes of the archive
//! 8 4 checksum   CRC-32 (IEEE) of the eight bytes before and of the archive
//! 12 … rkyv archive (little-endian, 32-bit offsets, unaligned)
//! ```
//!
//! Every section names the image's index and its own first row, so sections of two images, or in another order,
//! do not pass. Where no consumer group ever was, there is no section of them, and older builds read the image; where one was,
//! they refuse its header. Tables that can be built again from the rows are not in an image, so the same state has the same
//! bytes whatever the hash seed: [`Ledger::digest`] is taken of them.
//!
//! Deliberately not here: files, and the way back (`load`).

use std::fmt;

use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Serialize, rancor};
use thiserror::Error;

use super::Ledger;
use super::chunked::Frozen;
use super::groups::Groups;
use super::product::Product;
use super::records::{Ends, Record};
use super::settings::Settings;

/// The newest format that this build reads and writes.
pub const FORMAT: u8 = 2;

/// The format of everything in an image without consumer groups, and of all but header and groups in one with them.
pub const FORMAT_WITHOUT_GROUPS: u8 = 1;

/// Bytes before a section's archive.
pub(super) const PREFIX_LEN: usize = 12;

/// The bytes of the prefix that the checksum covers.
pub(super) const CHECKED_LEN: usize = 8;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SectionKind {
    Header = 1,
    Products = 2,
    Records = 3,
    Groups = 4,
}

/// Everything but rows.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) settings: Settings,
    pub(super) index: u64,
    pub(super) now_ms: u64,
    pub(super) sequence: u64,
    pub(super) products_len: u32,
    pub(super) records_len: u32,
    pub(super) ends: Ends,
}

/// Rows of products.
#[derive(Archive, Serialize)]
pub(super) struct ProductRows<'a> {
    pub(super) index: u64,
    pub(super) first: u32,
    #[rkyv(with = InlineAsBox)]
    pub(super) rows: &'a [Product],
}

/// Rows of records.
#[derive(Archive, Serialize)]
pub(super) struct RecordRows<'a> {
    pub(super) index: u64,
    pub(super) first: u32,
    #[rkyv(with = InlineAsBox)]
    pub(super) rows: &'a [Record],
}

/// Why bytes are not an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Written by a later version of Sluice.
    #[error("image has format {got}; this build reads up to {FORMAT}: run the newer version")]
    Newer {
        /// The format found.
        got: u8,
    },
    /// Not what was written, or not all of it.
    #[error("image is damaged: {0}; use an older snapshot, or let the node rejoin under a new id")]
    Damaged(&'static str),
}

/// A frozen ledger: the state at one index, to be written elsewhere while the ledger goes on.
pub struct Image {
    header: Header,
    products: Vec<Frozen<Product>>,
    records: Vec<Frozen<Record>>,
    groups: Groups,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("index", &self.header.index).finish_non_exhaustive()
    }
}

impl Image {
    /// The index of the last entry in it.
    pub fn index(&self) -> u64 {
        self.header.index
    }

    /// The image's bytes, section by section. What has been written is let go at once, so that the ledger need
    /// not copy it any more.
    pub fn sections(self) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
        let index = self.header.index;
        let products = self.products.into_iter();
        let records = self.records.into_iter();
        std::iter::once(header_section(&self.header, &self.groups))
            .chain(products.map(move |chunk| product_section(index, chunk.first, chunk.rows())))
            .chain(records.map(move |chunk| record_section(index, chunk.first, chunk.rows())))
            .chain(group_sections(index, self.groups))
    }

    /// What [`Ledger::digest`] was when it was frozen. Lets go of the image as it goes on.
    pub fn digest(self) -> u64 {
        self.sections().fold(0, |digest, section| absorb(digest, &section))
    }
}

impl Ledger {
    /// Shares the state as of now with an image. Costs a pointer for each chunk of rows; afterwards the first
    /// write to a chunk copies that chunk, for as long as the image holds it.
    pub fn freeze(&mut self) -> Image {
        Image {
            header: self.header(),
            products: self.products.rows.freeze(),
            records: self.records.rows.freeze(),
            groups: self.groups.clone(),
        }
    }

    /// A number of the whole state: the same on every replica at the same index. Encodes every row, so it costs
    /// about as much as writing an image.
    pub fn digest(&self) -> u64 {
        let products = self.products.rows.slices();
        let records = self.records.rows.slices();
        std::iter::once(header_section(&self.header(), &self.groups))
            .chain(products.map(|(first, rows)| product_section(self.index, first, rows)))
            .chain(records.map(|(first, rows)| record_section(self.index, first, rows)))
            .chain(group_sections(self.index, self.groups.clone()))
            .fold(0, |digest, section| absorb(digest, &section))
    }

    fn header(&self) -> Header {
        Header {
            settings: self.settings,
            index: self.index,
            now_ms: self.now_ms,
            sequence: self.sequence,
            products_len: self.products.len(),
            records_len: self.records.rows.len(),
            ends: self.records.ends,
        }
    }
}

/// Folds bytes into a digest, eight at a time: xor, multiply, and bring the high half down. Fixed for good, because
/// digests of different versions are compared; good against accidents, not against an adversary.
fn absorb(digest: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |digest: u64, word: u64| {
        let mixed = (digest ^ word).wrapping_mul(ODD);
        mixed ^ mixed >> 32
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let digest = words.iter().fold(digest, |digest, word| step(digest, u64::from_le_bytes(*word)));
    let digest = rest.iter().fold(digest, |digest, byte| step(digest, u64::from(*byte)));
    step(digest, bytes.len() as u64)
}

fn header_section(header: &Header, groups: &Groups) -> Vec<u8> {
    let format = if groups.is_used() { FORMAT } else { FORMAT_WITHOUT_GROUPS };
    section(format, SectionKind::Header, header)
}

fn product_section(index: u64, first: u32, rows: &[Product]) -> Vec<u8> {
    section(FORMAT_WITHOUT_GROUPS, SectionKind::Products, &ProductRows { index, first, rows })
}

fn record_section(index: u64, first: u32, rows: &[Record]) -> Vec<u8> {
    section(FORMAT_WITHOUT_GROUPS, SectionKind::Records, &RecordRows { index, first, rows })
}

fn group_sections(index: u64, groups: Groups) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    groups.sections(index).map(|rows| section(FORMAT, SectionKind::Groups, &rows))
}

/// What can be written into a section.
trait Section: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Failure>> {}

impl<T> Section for T where T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Failure>> {}

fn section(format: u8, kind: SectionKind, content: &impl Section) -> Vec<u8> {
    let bytes = vec![0; PREFIX_LEN];
    let mut bytes =
        to_bytes_in::<_, rancor::Failure>(content, bytes).expect("rows in memory can be written to memory");
    let length = u32::try_from(bytes.len() - PREFIX_LEN).expect("a chunk of rows is far below 4 GiB");
    bytes[0] = format;
    bytes[1] = kind as u8;
    bytes[4..CHECKED_LEN].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[CHECKED_LEN..PREFIX_LEN].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The checksum that belongs into a section's prefix.
pub(super) fn checksum(section: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&section[..CHECKED_LEN]);
    hasher.update(&section[PREFIX_LEN..]);
    hasher.finalize()
}
