//! `sluice-sim`: see the library.

fn main() {}
