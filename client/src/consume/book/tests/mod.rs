//! Bookkeeping tests.
