//! libFuzzer's way into [`sluice_fuzz::wal`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::wal::target(data));
