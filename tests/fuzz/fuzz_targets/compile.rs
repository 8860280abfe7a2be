//! An ELF file: see `pyscry_tests::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pyscry_tests::hostile::compile(data));
