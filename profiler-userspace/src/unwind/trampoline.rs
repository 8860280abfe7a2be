//! Where signal handlers return to: `__restore_rt` of musl, which no call frame information
//! describes (musl 1.2.5, `src/signal/x86_64/restore.s`), is found by its code.

use memchr::memmem::Finder;

use super::functions::{Functions, TooMany};
use super::image::Image;
use super::rule::{SIGCONTEXT, signal};

/// `mov $15, %rax; syscall`: `rt_sigreturn`.
const CODE: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// Adds the trampolines that are in code which no function of `known` covers.
pub(super) fn add(
    image: &Image<'_, '_>,
    known: &Functions,
    found: &mut Functions,
) -> Result<(), TooMany> {
    let code = Finder::new(&CODE);
    for segment in image.code() {
        for (start, end) in known.gaps(segment.start, segment.end) {
            let bytes = usize::try_from(start - segment.start)
                .ok()
                .zip(usize::try_from(end - segment.start).ok())
                .and_then(|(from, to)| segment.data.get(from..to.min(segment.data.len())));
            for at in code.find_iter(bytes.unwrap_or_default()) {
                let first = start + at as u64;
                // An address is looked up as if it had returned from a call, one byte early.
                found.add(
                    first.saturating_sub(1),
                    first + CODE.len() as u64,
                    signal(SIGCONTEXT),
                )?;
            }
        }
    }
    Ok(())
}
