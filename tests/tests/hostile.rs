//! Files that nobody's tools wrote: the fuzzer's seeds, and thousands of mutations of each.

#![allow(clippy::expect_used, reason = "what a test reads has to be there")]

use std::fs;
use std::path::Path;

use pyscry_tests::hostile::READERS;

/// Mutations of each seed.
const MUTATIONS: u64 = 4000;

/// Bytes of address space that this process may have, of which the tests' threads have some.
const MEMORY: u64 = 1 << 30;

#[test]
fn seeds_and_their_mutations() {
    let limit = libc::rlimit {
        rlim_cur: MEMORY,
        rlim_max: MEMORY,
    };
    // SAFETY: the call reads a structure of ours.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(status, 0);
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, reader) in READERS {
        let mut found = 0;
        let directory = fs::read_dir(seeds.join(name)).expect("a directory of seeds");
        let mut paths: Vec<_> = directory.map(|seed| seed.expect("a seed").path()).collect();
        paths.sort();
        for path in paths {
            let seed = fs::read(&path).expect("a seed");
            reader(&seed);
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            for round in 0..MUTATIONS {
                let mutated = mutate(&seed, &mut random);
                let outcome = std::panic::catch_unwind(|| reader(&mutated));
                assert!(outcome.is_ok(), "round {round} of {}", path.display());
            }
            found += 1;
        }
        assert!(found > 0, "{name} has seeds");
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// A few bytes changed, to what numbers at their limits have or to anything; at times an end cut
/// off, or a part put elsewhere.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(data.len());
        let len = 1 << random.below(4);
        let value = match random.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << random.below(64),
            _ => random.next(),
        };
        for (byte, new) in data.iter_mut().skip(at).take(len).zip(value.to_le_bytes()) {
            *byte = new;
        }
    }
    match random.below(16) {
        0 => data.truncate(random.below(seed.len())),
        1 => {
            let (from, to) = (random.below(data.len()), random.below(data.len()));
            let len = random.below(data.len() - from.max(to));
            data.copy_within(from..from + len, to);
        }
        _ => {}
    }
    data
}
