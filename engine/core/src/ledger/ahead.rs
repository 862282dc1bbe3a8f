//! Waiting for memory once, not once for each command.
//!
//! The tables are larger than every cache, and a command needs a random line of each. Left to itself the processor
//! reaches the next command's lines only when it is done with this one's. So before a few commands are decided, the
//! lines of all of them are read in loops that depend on nothing: those waits overlap. What is read does not matter;
//! whatever is decided later looks again.
//!
//! Deliberately not here: what the commands do. Leaving all of this out changes no answer.

use std::hint::black_box;

use rkyv::rend::unaligned::u128_ule;
use sluice_protocol::{ProductId, ReservationId, UserId};

use super::Ledger;
use super::chunked::NONE;
use super::command::{ArchivedCancel, ArchivedReserve};
use super::effect::Effects;
use super::turn::{AHEAD, Turn};

impl<E: Effects> Turn<'_, E> {
    /// For reserves: their ids, their users, and what the watcher keeps of both.
    pub(super) fn await_reserves(&mut self, few: &[ArchivedReserve]) {
        let mut hashes = [0_u64; AHEAD];
        let ids = &self.ledger.records;
        for (hash, item) in hashes.iter_mut().zip(few) {
            *hash = ids.hash(item.id.to_native());
        }
        let mut sum = 0;
        for hash in &hashes[..few.len()] {
            sum += u32::from(ids.touch(*hash));
        }
        // Neighbours mostly want the same product.
        let (mut product, mut slot) = (0, None);
        let quotas = &self.ledger.quotas;
        for (hash, item) in hashes.iter_mut().zip(few) {
            if item.product != product {
                product = item.product.to_native();
                slot = self.ledger.products.find(product);
            }
            *hash = quotas.hash(item.user.to_native(), slot.unwrap_or(NONE));
        }
        for hash in &hashes[..few.len()] {
            sum += u32::from(quotas.touch(*hash));
        }
        black_box(sum);
        for item in few {
            self.effects.soon_known(ReservationId(item.id.to_native()));
        }
        for item in few {
            self.effects.soon_buyer(ProductId(item.product.to_native()), UserId(item.user.to_native()));
        }
    }

    /// For whatever names a record that is probably there: the record.
    pub(super) fn await_ids(&mut self, few: &[u128_ule]) {
        self.await_records(few.iter().map(|id| id.to_native()));
    }

    fn await_records(&mut self, few: impl ExactSizeIterator<Item = u128> + Clone) {
        let records = &self.ledger.records;
        let mut hashes = [0_u64; AHEAD];
        for (hash, id) in hashes.iter_mut().zip(few.clone()) {
            *hash = records.hash(id);
        }
        let mut sum = 0;
        for hash in &hashes[..few.len()] {
            sum += u32::from(records.touch(*hash));
        }
        for id in few {
            sum ^= records.find(id).unwrap_or(0);
        }
        black_box(sum);
    }

    /// For cancels: the record, and its user.
    pub(super) fn await_cancels(&mut self, few: &[ArchivedCancel]) {
        self.await_records(few.iter().map(|item| item.id.to_native()));
        let Ledger { records, quotas, .. } = &*self.ledger;
        let mut sum = 0;
        for item in few {
            if let Some(slot) = records.find(item.id.to_native()) {
                let record = records.get(slot);
                sum += u32::from(quotas.touch(quotas.hash(record.user, record.product)));
            }
        }
        black_box(sum);
    }
}
