//! libFuzzer's way into [`sluice_fuzz::canary`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::canary::target(data));
