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
use super::command::{ArchivedCancel, ArchivedReserve, Reserve};
use super::effect::Effects;
use super::turn::Turn;

/// Commands whose memory is awaited together. More would overlap only if the processor looked that far ahead; other
/// numbers were not measured.
pub(crate) const AHEAD: usize = 16;

impl Ledger {
    /// Awaits what is needed to decide reserves: their ids and their users.
    pub(crate) fn await_reserves(&self, few: impl Iterator<Item = Reserve> + Clone) {
        let Self { records, quotas, products, .. } = self;
        let mut hashes = [0; AHEAD];
        let mut count = 0;
        for (hash, item) in hashes.iter_mut().zip(few.clone()) {
            *hash = records.hash(item.id);
            count += 1;
        }
        let mut sum = 0;
        for hash in &hashes[..count] {
            sum += u32::from(records.touch(*hash));
        }
        // Neighbours mostly want the same product.
        let (mut product, mut slot) = (0, NONE);
        for (hash, item) in hashes.iter_mut().zip(few) {
            if item.product != product {
                product = item.product;
                slot = products.find(product).unwrap_or(NONE);
            }
            *hash = quotas.hash(item.user, slot);
        }
        for hash in &hashes[..count] {
            sum += u32::from(quotas.touch(*hash));
        }
        black_box(sum);
    }

    /// Awaits records that are probably there.
    fn await_records(&self, few: impl Iterator<Item = u128> + Clone) {
        let mut hashes = [0; AHEAD];
        let mut count = 0;
        for (hash, id) in hashes.iter_mut().zip(few.clone()) {
            *hash = self.records.hash(id);
            count += 1;
        }
        let mut sum = 0;
        for hash in &hashes[..count] {
            sum += u32::from(self.records.touch(*hash));
        }
        for id in few {
            sum ^= self.records.find(id).unwrap_or(0);
        }
        black_box(sum);
    }

    /// Awaits where records that are being loaded will be entered: ids, users, slots of products.
    pub(super) fn await_loaded(&self, few: impl Iterator<Item = (u128, u64, u32)> + Clone) {
        let mut sum = 0;
        for (id, ..) in few.clone() {
            sum += u32::from(self.records.touch(self.records.hash(id)));
        }
        for (_, user, product) in few {
            sum += u32::from(self.quotas.touch(self.quotas.hash(user, product)));
        }
        black_box(sum);
    }

    /// Awaits the users of records.
    fn await_users(&self, slots: impl Iterator<Item = u32>) {
        let mut sum = 0;
        for slot in slots {
            let record = self.records.get(slot);
            sum += u32::from(self.quotas.touch(self.quotas.hash(record.user, record.product)));
        }
        black_box(sum);
    }

    /// A list from one of its records on.
    fn list(&self, first: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(first), |slot| {
            let next = self.records.get(*slot).next;
            (next != NONE).then_some(next)
        })
    }

    /// Awaits the users of the next holds in a FIFO.
    pub(super) fn await_holds(&self, first: u32) {
        self.await_users(self.list(first).take(AHEAD));
    }

    /// Awaits the ids of the records that will be forgotten next.
    pub(super) fn await_ended(&self, first: u32) {
        let mut sum = 0;
        for slot in self.list(first).take(AHEAD) {
            let hash = self.records.hash(self.records.get(slot).id);
            sum += u32::from(self.records.touch(hash));
        }
        black_box(sum);
    }
}

impl<E: Effects> Turn<'_, E> {
    /// For reserves: what they need, and what the watcher keeps of ids and users.
    pub(super) fn await_reserves(&mut self, few: &[ArchivedReserve]) {
        self.ledger.await_reserves(few.iter().map(|item| Reserve {
            id: item.id.to_native(),
            product: item.product.to_native(),
            user: item.user.to_native(),
            quantity: 0,
        }));
        for item in few {
            self.effects.soon_known(ReservationId(item.id.to_native()));
        }
        for item in few {
            self.effects.soon_buyer(ProductId(item.product.to_native()), UserId(item.user.to_native()));
        }
    }

    /// For whatever names a record.
    pub(super) fn await_ids(&mut self, few: &[u128_ule]) {
        self.ledger.await_records(few.iter().map(|id| id.to_native()));
    }

    /// For cancels: the record, and its user.
    pub(super) fn await_cancels(&mut self, few: &[ArchivedCancel]) {
        let ids = few.iter().map(|item| item.id.to_native());
        self.ledger.await_records(ids.clone());
        self.ledger.await_users(ids.filter_map(|id| self.ledger.records.find(id)));
    }
}
