//! The ready-made effect: a table with one row for each reservation.
//!
//! - `row`: a row, and the table's shape

mod row;

pub(crate) use row::{COLUMNS, ORDERS};
pub use row::{Order, OrderState};
