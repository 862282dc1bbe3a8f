//! A message's bytes on their way out: small things packed together, large ones as they lie in memory.
//!
//! What is large is an entry's data or a part of a snapshot file. It is not copied: a part of the message shares its
//! buffer with the log, and is let go when the transport has written it. Deliberately not here: what a message says.

use bytes::{BufMut, Bytes};

/// Data of so many bytes is a part of its own. Copying less costs less than handing a part on.
pub(super) const SHARED_LEN_MIN: usize = 512;

/// See the module.
pub(super) struct Parts {
    small: Vec<u8>,
    /// What is large, and where it belongs: before this byte of what is small.
    shared: Vec<(usize, Bytes)>,
}

impl Parts {
    /// None yet. So many bytes of small things need no growing.
    pub(super) fn with_capacity(small: usize) -> Self {
        Self { small: Vec::with_capacity(small), shared: Vec::new() }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.small.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.small.put_u32_le(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.small.put_u64_le(value);
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.small.put_u128_le(value);
    }

    pub(super) fn u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.u64(*value));
    }

    /// Their number, and the bytes.
    pub(super) fn bytes(&mut self, bytes: &Bytes) {
        self.u32(bytes.len() as u32);
        if bytes.len() < SHARED_LEN_MIN {
            self.small.extend_from_slice(bytes);
        } else {
            self.shared.push((self.small.len(), bytes.clone()));
        }
    }

    /// Replaces small bytes that stand before everything large.
    pub(super) fn replace(&mut self, at: usize, bytes: &[u8]) {
        self.small[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// All bytes, in pieces. The first piece ends before the first part that is shared.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.shared.iter().map(|(end, bytes)| (*end, &bytes[..]));
        let ends = ends.chain(std::iter::once((self.small.len(), &[][..])));
        ends.scan(0, |from, (end, shared)| {
            let small = &self.small[std::mem::replace(from, end)..end];
            Some([small, shared])
        })
        .flatten()
    }

    /// Hands all out, in order.
    pub(super) fn hand_out(self, out: &mut Vec<Bytes>) {
        let mut small = Bytes::from(self.small);
        let mut from = 0;
        for (end, shared) in self.shared {
            out.push(small.split_to(end - from));
            out.push(shared);
            from = end;
        }
        if !small.is_empty() {
            out.push(small);
        }
    }
}
