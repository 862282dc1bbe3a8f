//! libFuzzer's way into [`sluice_fuzz::session`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::session::target(data));
