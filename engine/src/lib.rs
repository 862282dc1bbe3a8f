//! (being written)

pub mod datadir;
mod files;
pub mod snapshot;
pub mod wal;
