//! A target that must fail: a reader of frames with one planted mistake, which lives here and nowhere else.
//!
//! A fuzzer that does not find it does not work: its coverage is not wired, its inputs do not arrive, or its failures
//! are not noticed. The smoke run fails if this target passes. The mistake can only be met by bytes of the right kind
//! and length, with a number of 32 bits at the right place: hopeless for chance, easy for whoever sees comparisons.

use sluice_protocol::Kind;
use sluice_protocol::header::FrameHeader;

use crate::naive;

const ITEM_LEN: usize = 24;

/// The reason at which the mistake is made.
const REASON: u32 = 0x0bad_cafe;

/// See the module.
pub fn target(data: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some((head, body)) = bytes.split_at_mut_checked(naive::HEADER) {
        let count = (body.len() / ITEM_LEN) as u16;
        head[10..12].copy_from_slice(&count.to_le_bytes());
        head[12..16].fill(0);
    }
    naive::mend(&mut bytes);
    let Ok(Some(header)) = FrameHeader::parse(&bytes) else { return };
    if header.kind != Kind::Confirm || header.check_body(&bytes).is_err() {
        return;
    }
    let body = &bytes[naive::HEADER..];
    let plain: Vec<u64> = body.chunks(ITEM_LEN).map(|item| naive::number(&item[..16])).collect();
    assert_eq!(ids(body).len(), plain.len(), "canary: the planted mistake was found");
}

/// The ids of the items. The mistake: one too few if the reason of another than the first and the last is a certain one.
fn ids(body: &[u8]) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut at = 0;
    while let Some(item) = body.get(at..at + ITEM_LEN) {
        let is_mistaken = !ids.is_empty() && item[16..20] == REASON.to_le_bytes();
        ids.push(naive::number(&item[..16]));
        at += ITEM_LEN + usize::from(is_mistaken);
    }
    ids
}
