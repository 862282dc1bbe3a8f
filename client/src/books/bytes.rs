//! The stream in which books travel: records of 64 bytes, little-endian. docs/OPERATIONS.md has the tables.
//!
//! A heading, the reservations in no order, the products by their ids, and a trailer with the counts, the hash and a checksum
//! of all before it: a stream that was cut off anywhere, or has a wrong bit, is noticed. Whoever reads needs no memory for it.
//!
//! Deliberately not here: HTTP, and which books.

use std::io::{self, Read};

use sluice_protocol::{ClusterId, NodeId, ProductId, ReservationId, State, UserId};
use zerocopy::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BooksError, Entry, ProductSums, Sums};

/// Bytes of every record.
pub const RECORD_LEN: usize = 64;

const MAGIC: [u8; 8] = *b"SLUBOOK1";
const KIND_AT: usize = 56;
const CHECKSUM_AT: usize = 60;

const HEADING: u8 = 1;
const ENTRY: u8 = 2;
const PRODUCT: u8 = 3;
const TRAILER: u8 = 4;

/// Whose books they are, and of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that tells them.
    pub node: NodeId,
    /// The last event in them.
    pub sequence: u64,
    /// The log index that made it; 0 if the node has that event no more, or there was none.
    pub index: u64,
    /// Its ledger time, milliseconds since 1970; 0 likewise.
    pub time_ms: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadingRecord {
    magic: [u8; 8],
    cluster: U128,
    node: U64,
    sequence: U64,
    index: U64,
    time_ms: U64,
    kind: u8,
    zero: [u8; 7],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryRecord {
    id: U128,
    product: U64,
    user: U64,
    sequence: U64,
    detail: U64,
    quantity: U32,
    zero: [u8; 4],
    kind: u8,
    state: u8,
    more_zero: [u8; 6],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ProductRecord {
    product: U64,
    stock: U64,
    free: U64,
    held: U64,
    sold: U64,
    hash: U128,
    kind: u8,
    zero: [u8; 7],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TrailerRecord {
    entries: U64,
    products: U64,
    hash: U128,
    zero: [u8; 24],
    kind: u8,
    more_zero: [u8; 3],
    checksum: U32,
}

const _: () = assert!(
    size_of::<HeadingRecord>() == RECORD_LEN
        && size_of::<EntryRecord>() == RECORD_LEN
        && size_of::<ProductRecord>() == RECORD_LEN
        && size_of::<TrailerRecord>() == RECORD_LEN
);

/// Writes books into memory, from where they are taken as they come.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    checksum: crc32fast::Hasher,
    entries: u64,
}

impl Writer {
    /// Begins.
    pub fn new(heading: &Heading) -> Self {
        let mut writer = Self { bytes: Vec::new(), checksum: crc32fast::Hasher::new(), entries: 0 };
        writer.put(&HeadingRecord {
            magic: MAGIC,
            cluster: U128::new(heading.cluster.0),
            node: U64::new(heading.node.0),
            sequence: U64::new(heading.sequence),
            index: U64::new(heading.index),
            time_ms: U64::new(heading.time_ms),
            kind: HEADING,
            zero: [0; 7],
        });
        writer
    }

    /// Writes a reservation.
    pub fn entry(&mut self, entry: &Entry) {
        self.entries += 1;
        self.put(&EntryRecord {
            id: U128::new(entry.id.0),
            product: U64::new(entry.product.0),
            user: U64::new(entry.user.0),
            sequence: U64::new(entry.sequence),
            detail: U64::new(entry.detail),
            quantity: U32::new(entry.quantity),
            zero: [0; 4],
            kind: ENTRY,
            state: entry.state as u8,
            more_zero: [0; 6],
        });
    }

    /// Bytes that wait to be taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes what has been written so far.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Writes the products and the end.
    pub fn finish(mut self, sums: &Sums) -> Vec<u8> {
        for product in &sums.products {
            self.put(&ProductRecord {
                product: U64::new(product.product.0),
                stock: U64::new(product.stock),
                free: U64::new(product.free),
                held: U64::new(product.held),
                sold: U64::new(product.sold),
                hash: U128::new(product.hash),
                kind: PRODUCT,
                zero: [0; 7],
            });
        }
        let mut trailer = TrailerRecord {
            entries: U64::new(self.entries),
            products: U64::new(sums.products.len() as u64),
            hash: U128::new(sums.hash()),
            zero: [0; 24],
            kind: TRAILER,
            more_zero: [0; 3],
            checksum: U32::ZERO,
        };
        self.checksum.update(&trailer.as_bytes()[..CHECKSUM_AT]);
        trailer.checksum = U32::new(self.checksum.finalize());
        self.bytes.extend_from_slice(trailer.as_bytes());
        self.bytes
    }

    fn put(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.checksum.update(record.as_bytes());
        self.bytes.extend_from_slice(record.as_bytes());
    }
}

/// Reads books to their end. `each` hears every reservation as it comes; believe none of it before this returns.
///
/// # Errors
/// [`BooksError::Damaged`] if they are not whole, or not what was sent; [`BooksError::Io`].
pub fn read(mut source: impl Read, mut each: impl FnMut(Entry)) -> Result<(Heading, Sums), BooksError> {
    let mut checksum = crc32fast::Hasher::new();
    let first = record(&mut source)?;
    checksum.update(&first);
    let heading = heading(&first)?;
    let (mut entries, mut sums, mut hashes) = (0_u64, Sums::default(), 0_u128);
    loop {
        let bytes = record(&mut source)?;
        match bytes[KIND_AT] {
            ENTRY if sums.products.is_empty() => {
                let entry = entry(&bytes)?;
                entries += 1;
                sums.live += u64::from(entry.is_live());
                hashes = hashes.wrapping_add(entry.share());
                each(entry);
            }
            PRODUCT => {
                let product = product(&bytes)?;
                if sums.products.last().is_some_and(|last| last.product >= product.product) {
                    return Err(BooksError::Damaged("products are out of order"));
                }
                hashes = hashes.wrapping_sub(product.hash);
                sums.products.push(product);
            }
            TRAILER => {
                checksum.update(&bytes[..CHECKSUM_AT]);
                let trailer = parse::<TrailerRecord>(&bytes)?;
                let is_whole = trailer.checksum.get() == checksum.finalize()
                    && trailer.entries.get() == entries
                    && trailer.products.get() == sums.products.len() as u64
                    && trailer.hash.get() == sums.hash()
                    && hashes == 0;
                let nothing_follows = source.read(&mut [0])? == 0;
                return match is_whole && nothing_follows {
                    true => Ok((heading, sums)),
                    false => Err(BooksError::Damaged("their end is not that of what came before")),
                };
            }
            _ => return Err(BooksError::Damaged("a record is of no kind that may come here")),
        }
        checksum.update(&bytes);
    }
}

fn record(source: &mut impl Read) -> Result<[u8; RECORD_LEN], BooksError> {
    let mut bytes = [0; RECORD_LEN];
    match source.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(BooksError::Damaged("they were cut off before their end"))
        }
        Err(error) => Err(error.into()),
    }
}

fn parse<T: FromBytes + Unaligned>(bytes: &[u8; RECORD_LEN]) -> Result<T, BooksError> {
    T::read_from_bytes(bytes).map_err(|_| BooksError::Damaged("a record is too short"))
}

fn heading(bytes: &[u8; RECORD_LEN]) -> Result<Heading, BooksError> {
    let record = parse::<HeadingRecord>(bytes)?;
    if record.magic != MAGIC || record.kind != HEADING {
        return Err(BooksError::Damaged("they do not begin as books of this version do"));
    }
    Ok(Heading {
        cluster: ClusterId(record.cluster.get()),
        node: NodeId(record.node.get()),
        sequence: record.sequence.get(),
        index: record.index.get(),
        time_ms: record.time_ms.get(),
    })
}

fn entry(bytes: &[u8; RECORD_LEN]) -> Result<Entry, BooksError> {
    let record = parse::<EntryRecord>(bytes)?;
    let state = State::from_byte(record.state)
        .filter(|state| matches!(state, State::Held | State::Confirmed | State::Cancelled | State::Expired));
    Ok(Entry {
        id: ReservationId(record.id.get()),
        product: ProductId(record.product.get()),
        user: UserId(record.user.get()),
        quantity: record.quantity.get(),
        state: state.ok_or(BooksError::Damaged("a reservation is in no state that there is"))?,
        sequence: record.sequence.get(),
        detail: record.detail.get(),
    })
}

fn product(bytes: &[u8; RECORD_LEN]) -> Result<ProductSums, BooksError> {
    let record = parse::<ProductRecord>(bytes)?;
    Ok(ProductSums {
        product: ProductId(record.product.get()),
        stock: record.stock.get(),
        free: record.free.get(),
        held: record.held.get(),
        sold: record.sold.get(),
        hash: record.hash.get(),
    })
}
