//! libFuzzer's way into [`sluice_fuzz::snapshot`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::snapshot::target(data));
