//! The way back from an image's bytes to a ledger.
//!
//! Nothing is believed. Each section is checked by its checksum and its shape; then the whole: every list is
//! walked, every record is in the one place where its state belongs, and the counters of every product are those
//! that its records add up to. A ledger that loads is one that could have been reached by applying entries.
//!
//! Deliberately not here: how the bytes are laid out (`image`), and files.

use rkyv::{access, deserialize, rancor};
use sluice_protocol::limits::{HOLD_MS_MAX, QUANTITY_MAX, STOCK_MAX};
use sluice_protocol::{State, Status};

use super::Ledger;
use super::admin::out_of_range;
use super::ahead::AHEAD;
use super::chunked::NONE;
use super::expiry::Fifo;
use super::groups::{ArchivedGroupRows, Bounds};
use super::image::{
    ArchivedHeader, ArchivedProductRows, ArchivedRecordRows, CHECKED_LEN, FORMAT, FORMAT_WITHOUT_GROUPS,
    Header, ImageError, PREFIX_LEN, SectionKind, checksum,
};
use super::product::Product;
use super::records::{Kind, Record};
use super::settings::PRODUCTS_MAX;
use crate::fault::{self, Mutant};

use ImageError::Damaged;

/// No log is so long, and whoever goes on counting from here does not come to the end of the numbers.
pub(super) const COUNT_MAX: u64 = u64::MAX / 2;

impl Ledger {
    /// Reads an image. `capacity` and `seed` are as in [`Ledger::with_capacity`]. Afterwards every product
    /// counts as changed.
    ///
    /// # Errors
    /// [`ImageError`] if the sections are not exactly those of one image of a format that this build reads.
    pub fn from_sections<'a>(
        sections: impl Iterator<Item = &'a [u8]>,
        capacity: usize,
        seed: u64,
    ) -> Result<Self, ImageError> {
        let mut sections = sections.map(open);
        let (format, kind, archive) = sections.next().ok_or(Damaged("it is empty"))??;
        if kind != SectionKind::Header {
            return Err(Damaged("it does not begin with its header"));
        }
        let header = archived::<ArchivedHeader>(archive)?;
        let header: Header = deserialize::<_, rancor::Failure>(header).map_err(|_| Damaged("its header"))?;

        if header.index > COUNT_MAX || header.sequence > COUNT_MAX {
            return Err(Damaged("its header counts further than any log goes"));
        }

        // The tables grow with the rows that are really there: a header alone must not make them large.
        let mut ledger = Self::with_capacity(header.settings, seed, capacity);
        ledger.index = header.index;
        ledger.now_ms = header.now_ms;
        ledger.sequence = header.sequence;
        let mut groups_len = None;
        for section in sections {
            let (_, kind, archive) = section?;
            match kind {
                SectionKind::Header => return Err(Damaged("it has two headers")),
                SectionKind::Groups => {
                    let len = ledger.load_groups(archived(archive)?)?;
                    if groups_len.replace(len).is_some_and(|before| before != len) {
                        return Err(Damaged("its sections of groups contradict each other"));
                    }
                }
                _ if groups_len.is_some() => return Err(Damaged("its groups do not come last")),
                SectionKind::Products => ledger.load_products(archived(archive)?)?,
                SectionKind::Records => ledger.load_records(archived(archive)?)?,
            }
        }
        let rows = (ledger.products.len(), ledger.records.rows.len());
        if rows != (header.products_len, header.records_len) {
            return Err(Damaged("rows are missing"));
        }
        let is_of_groups = format == FORMAT;
        if groups_len.is_some() != is_of_groups || groups_len.unwrap_or(0) != ledger.groups.len() {
            return Err(Damaged("groups are missing, or there are some that the header does not tell of"));
        }
        ledger.records.ends = header.ends;
        ledger.check_lists()?;
        ledger.check_counters()?;
        Ok(ledger)
    }

    fn load_products(&mut self, section: &ArchivedProductRows<'_>) -> Result<(), ImageError> {
        check_place(self.index, self.products.len(), section.index.to_native(), section.first.to_native())?;
        for row in section.rows.iter() {
            let product: Product =
                deserialize::<_, rancor::Failure>(row).map_err(|_| Damaged("a row of products"))?;
            if product.id == 0 || self.products.find(product.id).is_some() {
                return Err(Damaged("two products have the same id"));
            }
            if self.products.len() as usize == PRODUCTS_MAX {
                return Err(Damaged("it has more products than there may be"));
            }
            if !product.is_balanced() {
                return Err(Damaged("a product's free, held and sold units are not its stock"));
            }
            if product.stock() > STOCK_MAX
                || out_of_range(product.stock_at_creation, &product.terms()).is_some()
            {
                return Err(Damaged("a product's stock or terms are out of their range"));
            }
            if !product.holds.is_in_order() {
                return Err(Damaged("a product's hold times are not in their order"));
            }
            let due_ms = product.holds.due_ms();
            let slot = self.products.insert(product);
            self.agenda.move_due(slot, 0, due_ms);
            self.agenda.add_windows(slot, self.products.get(slot));
        }
        Ok(())
    }

    fn load_records(&mut self, section: &ArchivedRecordRows<'_>) -> Result<(), ImageError> {
        check_place(
            self.index,
            self.records.rows.len(),
            section.index.to_native(),
            section.first.to_native(),
        )?;
        for (number, row) in section.rows.iter().enumerate() {
            if number % AHEAD == 0 {
                let few = section.rows[number..].iter().take(AHEAD);
                let keys = few.map(|row| (row.id.to_native(), row.user.to_native(), row.product.to_native()));
                self.await_loaded(keys);
            }
            let record = Record::from_archived(row).ok_or(Damaged("a record has no state that there is"))?;
            if !self.is_sound(&record) {
                return Err(Damaged("a record's fields contradict its state"));
            }
            if self.records.rows.len() == self.settings.records_max {
                return Err(Damaged("it has more records than its settings allow"));
            }
            let slot = self.records.rows.push(record);
            if record.is(State::None) {
                continue;
            }
            if fault::is_on(Mutant::IdsNotInSnapshot)
                && !matches!(record.state(), State::Held | State::Confirmed)
            {
                continue;
            }
            if !self.records.index_loaded(slot) {
                return Err(Damaged("two records have the same id"));
            }
            if matches!(record.state(), State::Held | State::Confirmed) {
                let counted = self.quotas.add(record.user, record.product, record.quantity);
                counted.map_err(|_| Damaged("a user has more units than can be counted"))?;
            }
        }
        Ok(())
    }

    /// Loads a section of groups, and returns how many groups it says there are.
    fn load_groups(&mut self, section: &ArchivedGroupRows) -> Result<u32, ImageError> {
        check_place(self.index, self.groups.len(), section.index.to_native(), section.first.to_native())?;
        if self.groups.is_used() && section.len() <= self.groups.len() {
            return Err(Damaged("it has more sections of groups than groups"));
        }
        self.groups.load(section, Bounds { sequence: self.sequence, now_ms: self.now_ms })?;
        Ok(section.len())
    }

    /// Whether the record could have been written, as far as the record and its product can tell.
    fn is_sound(&self, record: &Record) -> bool {
        if record.is(State::None) {
            return *record == Record::free(record.next);
        }
        let (state, kind) = (record.state(), record.kind());
        let is_told = (1..=self.sequence).contains(&record.sequence);
        let is_of_product = record.product < self.products.len() && is_told;
        let is_of_none = record.product == NONE;
        let is_linked = record.next != NONE || record.prev != NONE;
        let fits = match (state, kind) {
            (State::Fenced, Kind::None) => {
                is_of_none && (record.user, record.sequence, record.quantity) == (0, 0, 0)
            }
            (State::Confirmed, Kind::Reserve) => is_of_product && !is_linked && record.time_ms <= self.now_ms,
            (State::Held | State::Cancelled | State::Expired, Kind::Reserve) => is_of_product,
            (State::Applied, Kind::Restock | Kind::WriteOff) => {
                is_of_product && !self.products.get(record.product).is_unlimited()
            }
            (State::Refused, Kind::Reserve | Kind::Restock | Kind::WriteOff) => {
                is_of_none && record.sequence != 0 && is_kept_refusal(record.refused())
            }
            _ => false,
        };
        fits && record.id != 0
            && (kind == Kind::None || (1..=QUANTITY_MAX).contains(&record.quantity))
            && (kind == Kind::Reserve || record.user == 0)
            && record.has_only_what_its_state_has()
    }

    /// Every record stands in the list of its state, and nowhere else. Each list has as many members as its
    /// state has records, and each link is walked from both sides, so none can be in two lists.
    fn check_lists(&self) -> Result<(), ImageError> {
        let ends = self.records.ends;
        let mut free = 0;
        let mut at = ends.free;
        while at != NONE {
            let row = self.row(at)?;
            if !row.is(State::None) || free == self.records.rows.len() {
                return Err(Damaged("the free rows are not a list"));
            }
            free += 1;
            at = row.next;
        }
        let ended = self.walk(ends.ended.head, ends.ended.tail, |row| {
            !matches!(row.state(), State::None | State::Held | State::Confirmed) && row.time_ms <= self.now_ms
        })?;
        if (free, ended) != (ends.free_len, ends.ended_len) {
            return Err(Damaged("a list is not as long as it should be"));
        }
        let mut held = 0;
        for (slot, product) in (0..).zip(self.products.rows.iter()) {
            for fifo in &product.holds.fifos {
                held += self.check_fifo(slot, fifo)?;
            }
        }
        let mut counts = [0_u32; 3];
        for row in self.records.rows.iter() {
            match row.state() {
                State::None => counts[0] += 1,
                State::Held => counts[1] += 1,
                State::Confirmed => {}
                _ => counts[2] += 1,
            }
        }
        if counts != [free, held, ended] {
            return Err(Damaged("a record is in no list"));
        }
        Ok(())
    }

    fn check_fifo(&self, product: u32, fifo: &Fifo) -> Result<u32, ImageError> {
        // Each hold began between 0 and now. A later one goes behind it, so none may end later than that one will.
        let hold_ms = u64::from(fifo.hold_ms);
        if hold_ms == 0 || fifo.hold_ms > HOLD_MS_MAX {
            return Err(Damaged("a hold time is out of its range"));
        }
        let deadlines = hold_ms..=self.now_ms.saturating_add(hold_ms);
        let mut last_ms = fifo.due_ms;
        let held = self.walk(fifo.head, fifo.tail, |row| {
            let is_in_order = row.time_ms >= last_ms && deadlines.contains(&row.time_ms);
            last_ms = row.time_ms;
            row.is(State::Held) && row.product == product && is_in_order
        })?;
        if held == 0 || self.row(fifo.head)?.time_ms != fifo.due_ms {
            return Err(Damaged("holds are not in the order of their deadlines"));
        }
        Ok(held)
    }

    /// Walks a doubly linked list, and returns how many records are in it.
    fn walk(&self, head: u32, tail: u32, mut fits: impl FnMut(&Record) -> bool) -> Result<u32, ImageError> {
        let (mut at, mut last, mut len) = (head, NONE, 0);
        while at != NONE {
            let row = self.row(at)?;
            if row.prev != last || len == self.records.rows.len() || !fits(row) {
                return Err(Damaged("records are linked wrongly"));
            }
            len += 1;
            (last, at) = (at, row.next);
        }
        if last != tail {
            return Err(Damaged("a list ends elsewhere than it should"));
        }
        Ok(len)
    }

    fn row(&self, slot: u32) -> Result<&Record, ImageError> {
        if slot >= self.records.rows.len() {
            return Err(Damaged("a list leads out of the table"));
        }
        Ok(self.records.get(slot))
    }

    /// The counters of every product are what its records add up to.
    fn check_counters(&self) -> Result<(), ImageError> {
        let mut sums = vec![(0_u64, 0_u64); self.products.len() as usize];
        for row in self.records.rows.iter() {
            match row.state() {
                State::Held => sums[row.product as usize].0 += u64::from(row.quantity),
                State::Confirmed => sums[row.product as usize].1 += u64::from(row.quantity),
                _ => {}
            }
        }
        let mut products = self.products.rows.iter().zip(sums);
        if products.any(|(product, sums)| (product.held(), product.sold()) != sums) {
            return Err(Damaged("a product's counters are not those of its reservations"));
        }
        Ok(())
    }
}

/// Whether the ledger remembers refusals with this status.
fn is_kept_refusal(status: Status) -> bool {
    matches!(
        status,
        Status::Insufficient
            | Status::SoldOut
            | Status::LimitReached
            | Status::NotOpen
            | Status::Closed
            | Status::UnknownProduct
            | Status::Sealed
    )
}

/// Checks a section's prefix, and returns its format, kind and archive.
pub(super) fn open(section: &[u8]) -> Result<(u8, SectionKind, &[u8]), ImageError> {
    let Some((prefix, archive)) = section.split_at_checked(PREFIX_LEN) else {
        return Err(Damaged("a section is shorter than its prefix"));
    };
    if prefix[0] > FORMAT {
        return Err(ImageError::Newer { got: prefix[0] });
    }
    if checksum(section).to_le_bytes() != prefix[CHECKED_LEN..] {
        return Err(Damaged("a section's checksum does not match"));
    }
    if prefix[2..4] != [0; 2] {
        return Err(Damaged("a section's prefix"));
    }
    if prefix[4..CHECKED_LEN] != (archive.len() as u32).to_le_bytes() {
        return Err(Damaged("a section is not as long as it says"));
    }
    let kind = match (prefix[1], prefix[0]) {
        (1, FORMAT_WITHOUT_GROUPS | FORMAT) => SectionKind::Header,
        (2, FORMAT_WITHOUT_GROUPS) => SectionKind::Products,
        (3, FORMAT_WITHOUT_GROUPS) => SectionKind::Records,
        (4, FORMAT) => SectionKind::Groups,
        _ => return Err(Damaged("a section is of no kind that there is in its format")),
    };
    Ok((prefix[0], kind, archive))
}

pub(super) fn archived<T>(archive: &[u8]) -> Result<&T, ImageError>
where
    T: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rancor::Failure>>,
{
    access::<T, rancor::Failure>(archive).map_err(|_| Damaged("a section is not an archive of its kind"))
}

/// A section belongs to this image, and follows the rows already read.
pub(super) fn check_place(index: u64, len: u32, section_index: u64, first: u32) -> Result<(), ImageError> {
    if section_index != index {
        return Err(Damaged("a section belongs to another image"));
    }
    if first != len {
        return Err(Damaged("a section is missing, or out of order"));
    }
    Ok(())
}
