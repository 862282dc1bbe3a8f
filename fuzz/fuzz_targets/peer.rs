//! libFuzzer's way into [`sluice_fuzz::peer`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::peer::target(data));
