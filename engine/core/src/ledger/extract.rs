//! What an auditor reads of an image: products, and the reservations that events have made, without a ledger.
//!
//! Works on an image's sections one after the other, so that a state of any size is read in the memory of one section and a
//! number for each product. It trusts their checksums, and what somebody who loads an image must know is not checked here:
//! whoever counts the rows sees whether they add up.
//!
//! Deliberately not here: refusals, fences and changes of stock, which took no units, and consumer groups.

use rkyv::{deserialize, rancor};
use sluice_protocol::response::{ProductView, ReservationView};
use sluice_protocol::{ProductId, ReservationId, State, UserId};

use super::image::{
    ArchivedHeader, ArchivedProductRows, ArchivedRecordRows, Header, ImageError, SectionKind,
};
use super::load::{archived, check_place, open};
use super::product::Product;
use super::records::{Kind, Record};

use ImageError::Damaged;

/// A row that is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// A product. Comes before its reservations.
    Product(ProductView),
    /// A reservation that is held, confirmed, cancelled or expired, as the last event has left it: a hold whose deadline has
    /// come, and whose expiry no event has told yet, is held.
    Reservation(State, ReservationView),
}

/// An image that is being read.
#[derive(Debug)]
pub struct Extract {
    header: Header,
    /// Ids by slot.
    products: Vec<ProductId>,
    records: u32,
}

impl Extract {
    /// Begins with the first section.
    ///
    /// # Errors
    /// [`ImageError`] if it is not the header of an image of a format that this build reads.
    pub fn begin(section: &[u8]) -> Result<Self, ImageError> {
        let (_, SectionKind::Header, archive) = open(section)? else {
            return Err(Damaged("it does not begin with its header"));
        };
        let header = archived::<ArchivedHeader>(archive)?;
        let header = deserialize::<_, rancor::Failure>(header).map_err(|_| Damaged("its header"))?;
        Ok(Self { header, products: Vec::new(), records: 0 })
    }

    /// The sequence of the last event in the image.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// Reads the next section.
    ///
    /// # Errors
    /// [`ImageError`] if it is not what follows.
    pub fn section(&mut self, section: &[u8], mut each: impl FnMut(Row)) -> Result<(), ImageError> {
        let (_, kind, archive) = open(section)?;
        let index = self.header.index;
        match kind {
            SectionKind::Header => Err(Damaged("it has two headers")),
            SectionKind::Groups => Ok(()),
            SectionKind::Products => {
                let rows = archived::<ArchivedProductRows<'_>>(archive)?;
                let len = self.products.len() as u32;
                check_place(index, len, rows.index.to_native(), rows.first.to_native())?;
                for row in rows.rows.iter() {
                    let row: Product =
                        deserialize::<_, rancor::Failure>(row).map_err(|_| Damaged("a row of products"))?;
                    self.products.push(ProductId(row.id));
                    each(Row::Product(row.view()));
                }
                Ok(())
            }
            SectionKind::Records => {
                let rows = archived::<ArchivedRecordRows<'_>>(archive)?;
                check_place(index, self.records, rows.index.to_native(), rows.first.to_native())?;
                for row in rows.rows.iter() {
                    let record =
                        Record::from_archived(row).ok_or(Damaged("a record has no state that there is"))?;
                    self.records += 1;
                    self.reservation(&record)?.into_iter().for_each(&mut each);
                }
                Ok(())
            }
        }
    }

    /// Ends behind the last section.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] if rows were missing.
    pub fn finish(self) -> Result<(), ImageError> {
        let rows = (self.products.len() as u32, self.records);
        match rows == (self.header.products_len, self.header.records_len) {
            true => Ok(()),
            false => Err(Damaged("rows are missing")),
        }
    }

    fn reservation(&self, record: &Record) -> Result<Option<Row>, ImageError> {
        let state = record.state();
        let is_told = matches!(state, State::Held | State::Confirmed | State::Cancelled | State::Expired);
        if record.kind() != Kind::Reserve || !is_told {
            return Ok(None);
        }
        let product = self.products.get(record.product as usize);
        let (deadline_ms, ended_ms) = match state {
            State::Held => (record.time_ms, 0),
            _ => (0, record.time_ms),
        };
        let view = ReservationView {
            id: ReservationId(record.id),
            product: *product.ok_or(Damaged("a record is of a product that is not there"))?,
            user: UserId(record.user),
            quantity: record.quantity,
            reason: record.reason,
            sequence: record.sequence,
            deadline_ms,
            ended_ms,
        };
        Ok(Some(Row::Reservation(state, view)))
    }
}
