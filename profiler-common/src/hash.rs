//! The 64-bit content hash that names a stack.
//!
//! Not a secret-keyed hash: a target that wants two of its own stacks to collide can have that.
//! For stacks that do not try, two of a million differ with a chance of 1 - 3e-8.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds one word into `state`: xor, an odd multiplication, and a shift that brings the high
/// half down, so that every bit of every word reaches every bit of the result.
#[inline(always)]
#[must_use]
pub fn fold(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 29)
}

/// Hashes below this one name no stack that was walked: see `STACK_*` and `WAKER_*` in
/// [`crate::thread`].
pub const FIRST: u64 = 16;

/// Ends a hash: mixes once more and keeps those below [`FIRST`] free.
#[inline(always)]
#[must_use]
pub fn finish(state: u64) -> u64 {
    let mixed = fold(fold(state, 0x5851_f42d_4c95_7f2d), state >> 32);
    if mixed < FIRST { FIRST } else { mixed }
}

/// What stands for a process that is no target: the hash of its name, as two words of zero-padded
/// text.
#[inline(always)]
#[must_use]
pub fn of_command_words(first: u64, second: u64) -> u64 {
    finish(fold(fold(1, first), second))
}

/// The same of the name as text; what is longer than the kernel's 15 bytes is cut off.
#[must_use]
pub fn of_command(name: &[u8]) -> u64 {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().take(15).zip(name) {
        *to = *from;
    }
    let [first, second] = [0, 8].map(|from| {
        let bytes = padded.iter().skip(from).take(8);
        bytes
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    });
    of_command_words(first, second)
}

/// Half the bits of a word, both halves used.
#[inline(always)]
#[must_use]
pub fn half(word: u64) -> u32 {
    (word ^ (word >> 32)) as u32
}
