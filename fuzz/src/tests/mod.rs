//! The targets without a fuzzer: `replay` runs them on what was kept, `seeds` makes first inputs.

mod replay;
mod seeds;
