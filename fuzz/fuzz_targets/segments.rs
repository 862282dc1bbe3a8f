//! libFuzzer's way into [`sluice_fuzz::segments`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::segments::target(data));
