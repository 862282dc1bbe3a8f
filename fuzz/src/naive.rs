//! The protocol read plainly from docs/PROTOCOL.md: the whole stream at once, byte by byte, without a type of Sluice's.
//!
//! Slow, and as simple as the page, so that a difference is a mistake of the other one. All numbers stand here a second
//! time on purpose. Deliberately not here: splits, limits of frames in flight, replies.

/// Bytes of a frame's header.
pub const HEADER: usize = 32;

/// Kind of a hello.
pub const HELLO: u8 = 0x01;

/// Kind of a ping.
pub const PING: u8 = 0x02;

const BAD_MAGIC: u16 = 1;
const BAD_VERSION: u16 = 2;
const BODY_TOO_LONG: u16 = 3;
const BAD_KIND: u16 = 4;
const RESERVED_NOT_ZERO: u16 = 5;
const BAD_CHECKSUM: u16 = 6;
const BAD_LENGTH: u16 = 7;
const BAD_COUNT: u16 = 8;
const BUDGET_TOO_LONG: u16 = 9;
const BAD_TEXT: u16 = 10;
const NO_COMMON_VERSION: u16 = 32;
const HELLO_EXPECTED: u16 = 33;
const HELLO_REPEATED: u16 = 34;

/// What the page says of one kind of frame.
#[derive(Clone, Copy, Debug)]
pub struct KindRow {
    /// Its number.
    pub kind: u8,
    /// Bytes of an item; 0 where the body is not a row of items.
    pub item: usize,
    /// How many items there may be.
    pub count: (u16, u16),
    /// Bytes of body, at most.
    pub body_max: usize,
    /// The bytes of an item that must be zero, each from and to.
    pub reserved: &'static [(usize, usize)],
}

const fn row(
    kind: u8,
    item: usize,
    count: (u16, u16),
    body_max: usize,
    reserved: &'static [(usize, usize)],
) -> KindRow {
    KindRow { kind, item, count, body_max, reserved }
}

const REQUEST: usize = 65_536;
const REPLY: usize = 1024 * 128;

/// All kinds, requests first.
pub const KINDS: [KindRow; 57] = [
    row(HELLO, 0, (0, 0), 4168, &[]),
    row(PING, 0, (0, 0), 0, &[]),
    row(0x10, 40, (1, 1024), REQUEST, &[(37, 40)]),
    row(0x11, 24, (1, 1024), REQUEST, &[(20, 24)]),
    row(0x12, 24, (1, 1024), REQUEST, &[(20, 24)]),
    row(0x13, 24, (1, 1024), REQUEST, &[(20, 24)]),
    row(0x14, 24, (1, 1024), REQUEST, &[(20, 24)]),
    row(0x15, 8, (1, 1024), REQUEST, &[]),
    row(0x20, 48, (1, 1024), REQUEST, &[(44, 48)]),
    row(0x21, 32, (1, 1024), REQUEST, &[(29, 32)]),
    row(0x22, 32, (1, 1024), REQUEST, &[(29, 32)]),
    row(0x23, 8, (1, 1024), REQUEST, &[]),
    row(0x24, 16, (1, 1), REQUEST, &[(12, 16)]),
    row(0x30, 168, (1, 1), REQUEST, &[(68, 72), (152, 168)]),
    row(0x31, 32, (1, 1), REQUEST, &[]),
    row(0x32, 32, (1, 1), REQUEST, &[]),
    row(0x33, 32, (1, 1), REQUEST, &[]),
    row(0x34, 48, (1, 1), REQUEST, &[(40, 48)]),
    row(0x35, 16, (1, 1), REQUEST, &[(8, 16)]),
    row(0x36, 48, (1, 1), REQUEST, &[(40, 48)]),
    row(0x37, 16, (1, 1), REQUEST, &[(4, 8)]),
    row(0x38, 48, (1, 1), REQUEST, &[(4, 8)]),
    row(0x39, 48, (1, 1024), REQUEST, &[(4, 8), (40, 48)]),
    row(0x3a, 128, (1, 512), REQUEST, &[(4, 8), (36, 48)]),
    row(0x3b, 24, (1, 1), REQUEST, &[]),
    row(0x3c, 24, (1, 1024), REQUEST, &[]),
    row(0x3d, 24, (1, 1024), REQUEST, &[]),
    row(0x3e, 24, (1, 1024), REQUEST, &[]),
    row(0x81, 0, (0, 0), 56 + 255, &[]),
    row(0x82, 0, (0, 0), 0, &[]),
    row(0x90, 48, (1, 1024), REPLY, &[]),
    row(0x91, 48, (1, 1024), REPLY, &[]),
    row(0x92, 48, (1, 1024), REPLY, &[]),
    row(0x93, 48, (1, 1024), REPLY, &[]),
    row(0x94, 112, (1, 1024), REPLY, &[]),
    row(0x95, 128, (1, 1024), REPLY, &[]),
    row(0xa0, 48, (1, 1024), REPLY, &[]),
    row(0xa1, 48, (1, 1024), REPLY, &[]),
    row(0xa2, 48, (1, 1024), REPLY, &[]),
    row(0xa3, 48, (1, 1024), REPLY, &[]),
    row(0xa4, 128, (0, 1024), REPLY, &[]),
    row(0xb0, 48, (1, 1), REPLY, &[]),
    row(0xb1, 48, (1, 1), REPLY, &[]),
    row(0xb2, 272, (0, 64), REPLY, &[]),
    row(0xb3, 80, (0, 64), REPLY, &[]),
    row(0xb4, 48, (1, 1), REPLY, &[]),
    row(0xb5, 48, (1, 1), REPLY, &[]),
    row(0xb6, 48, (1, 1), REPLY, &[]),
    row(0xb7, 48, (1, 1), REPLY, &[]),
    row(0xb8, 80, (1, 1024), REPLY, &[]),
    row(0xb9, 48, (1, 1024), REPLY, &[]),
    row(0xba, 48, (1, 1024), REPLY, &[]),
    row(0xbb, 152, (0, 512), REPLY, &[]),
    row(0xbc, 48, (1, 1024), REPLY, &[]),
    row(0xbd, 48, (1, 1024), REPLY, &[]),
    row(0xbe, 48, (1, 1024), REPLY, &[]),
    row(0xff, 0, (0, 0), 520, &[]),
];

/// The row of a kind.
pub fn kind(number: u8) -> Option<KindRow> {
    KINDS.into_iter().find(|row| row.kind == number)
}

/// A header that is sound by itself.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The page's row of its kind.
    pub row: KindRow,
    /// Bytes of body.
    pub length: usize,
    /// Protocol version.
    pub version: u8,
    /// Items.
    pub count: u16,
    /// Budget, milliseconds.
    pub budget_ms: u32,
    /// Correlation.
    pub correlation: u64,
}

/// Little-endian bytes as a number.
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The header at the start of `bytes`, or the number of the fault; `None` if it is not all there.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, u16> {
    if bytes.len() < HEADER {
        return Ok(None);
    }
    if &bytes[0..4] != b"SLC1" {
        return Err(BAD_MAGIC);
    }
    if number(&bytes[24..28]) != 0 {
        return Err(RESERVED_NOT_ZERO);
    }
    let Some(row) = kind(bytes[8]) else { return Err(BAD_KIND) };
    let length = number(&bytes[4..8]) as usize;
    if length > row.body_max {
        return Err(BODY_TOO_LONG);
    }
    Ok(Some(Head {
        row,
        length,
        version: bytes[9],
        count: number(&bytes[10..12]) as u16,
        budget_ms: number(&bytes[12..16]) as u32,
        correlation: number(&bytes[16..24]),
    }))
}

/// What is wrong with a whole frame beyond its header and before its items.
pub fn whole(head: &Head, frame: &[u8]) -> Result<(), u16> {
    let sum = crc(&[&frame[0..28], &frame[HEADER..]].concat());
    if number(&frame[28..32]) != u64::from(sum) {
        return Err(BAD_CHECKSUM);
    }
    if head.count < head.row.count.0 || head.count > head.row.count.1 {
        return Err(BAD_COUNT);
    }
    if head.row.item != 0 && head.length != head.row.item * usize::from(head.count) {
        return Err(BAD_LENGTH);
    }
    if head.budget_ms > 60_000 {
        return Err(BUDGET_TOO_LONG);
    }
    Ok(())
}

/// Where the flags of an item stand, and which there are.
pub fn flags(kind: u8) -> Option<(usize, u64)> {
    match kind {
        0x20 => Some((40, 3)),
        0x30 => Some((44, 1)),
        0x3a => Some((32, 1)),
        _ => None,
    }
}

/// What is wrong with the items of a request.
pub fn items(row: &KindRow, body: &[u8]) -> Result<(), u16> {
    for item in body.chunks(row.item) {
        let is_set = |(from, to): &(usize, usize)| item[*from..*to].iter().any(|byte| *byte != 0);
        let (at, known) = flags(row.kind).unwrap_or((0, u64::MAX));
        let flags = number(&item[at..at + 4]);
        // A reason goes with the flag that dead letters cancel.
        let is_idle = row.kind == 0x30 && flags == 0 && is_set(&(48, 52));
        if flags & !known != 0 || is_idle || row.reserved.iter().any(is_set) {
            return Err(RESERVED_NOT_ZERO);
        }
    }
    Ok(())
}

/// The name in a hello, or its fault.
pub fn hello(body: &[u8]) -> Result<String, u16> {
    if body.len() < 8 {
        return Err(BAD_LENGTH);
    }
    if body[3] != 0 || body[6] != 0 || body[7] != 0 {
        return Err(RESERVED_NOT_ZERO);
    }
    let (name, credentials) = (usize::from(body[2]), number(&body[4..6]) as usize);
    if name > 64 || credentials > 4096 || body.len() != 8 + name + credentials {
        return Err(BAD_LENGTH);
    }
    let name = String::from_utf8(body[8..8 + name].to_vec()).map_err(|_| BAD_TEXT)?;
    if body[0] > 1 || body[1] < 1 {
        return Err(NO_COMMON_VERSION);
    }
    Ok(name)
}

/// Something a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its hello, and its name.
    Hello(String),
    /// A ping.
    Ping(u64),
    /// A frame of requests.
    Request {
        /// Its kind.
        kind: u8,
        /// Its correlation.
        correlation: u64,
        /// Its budget, milliseconds.
        budget_ms: u32,
        /// Its items.
        body: Vec<u8>,
    },
    /// Something wrong: the number of the fault with which the connection ends.
    Wrong(u16),
}

/// All that a stream of bytes says, each with the number of bytes after which it can be known.
pub fn stream(bytes: &[u8]) -> Vec<(usize, Said)> {
    let mut heard = Vec::new();
    let mut greeted = false;
    let mut at = 0;
    loop {
        let said = match frame(&bytes[at..], greeted) {
            Ok(None) => return heard,
            Ok(Some((len, said))) => {
                greeted = true;
                at += len;
                (at, said)
            }
            Err((len, fault)) => {
                heard.push((at + len, Said::Wrong(fault)));
                return heard;
            }
        };
        heard.push(said);
    }
}

/// The next frame and its length; or its fault, and the bytes that it takes to see it.
fn frame(bytes: &[u8], greeted: bool) -> Result<Option<(usize, Said)>, (usize, u16)> {
    let Some(head) = head(bytes).map_err(|fault| (HEADER, fault))? else { return Ok(None) };
    let kind = head.row.kind;
    let early = |fault| Err((HEADER, fault));
    if kind >= 0x80 {
        return early(BAD_KIND);
    }
    if kind == HELLO && greeted {
        return early(HELLO_REPEATED);
    }
    if kind != HELLO && !greeted {
        return early(HELLO_EXPECTED);
    }
    if head.version != u8::from(kind != HELLO) {
        return early(BAD_VERSION);
    }
    let end = HEADER + head.length;
    if bytes.len() < end {
        return Ok(None);
    }
    let late = |fault| (end, fault);
    whole(&head, &bytes[..end]).map_err(late)?;
    let body = &bytes[HEADER..end];
    let said = match kind {
        HELLO => Said::Hello(hello(body).map_err(late)?),
        PING => Said::Ping(head.correlation),
        _ => {
            items(&head.row, body).map_err(late)?;
            let (correlation, budget_ms) = (head.correlation, head.budget_ms);
            Said::Request { kind, correlation, budget_ms, body: body.to_vec() }
        }
    };
    Ok(Some((end, said)))
}

/// CRC-32 of Ethernet, bit by bit.
pub fn crc(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = rest & 1;
            rest >>= 1;
            if carry == 1 {
                rest ^= 0xedb8_8320;
            }
        }
    }
    !rest
}

/// Makes `bytes` a frame that passes for one as far as its header goes: magic, length, reserved bytes, checksum.
pub fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEADER {
        return;
    }
    let length = (bytes.len() - HEADER) as u32;
    bytes[0..4].copy_from_slice(b"SLC1");
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[24..28].fill(0);
    let sum = crc(&[&bytes[0..28], &bytes[HEADER..]].concat());
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn the_page_s_checksum() {
    assert_eq!(crc(b"123456789"), 0xcbf4_3926);
}
