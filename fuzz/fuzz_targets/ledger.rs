//! libFuzzer's way into [`sluice_fuzz::ledger`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::ledger::target(data));
