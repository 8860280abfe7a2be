//! A file of the cache on disk: see `pyscry_tests::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pyscry_tests::hostile::disk(data));
