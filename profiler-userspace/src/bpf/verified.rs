//! How many instructions the verifier looked at, on every kernel.
//!
//! Kernels from 5.16 on tell it of a loaded program. Older ones only write it into the
//! verifier's log, which the loader keeps when a load fails. So a load is made to fail behind the
//! verifier: with no file descriptor left, the kernel verifies the program and then finds no
//! number for it.

use std::io;
use std::os::fd::AsRawFd;

use aya::VerifierLogLevel;
use aya::programs::ProgramError;

use super::loader::{LoadError, LoadOptions, Prepared};

/// Forbids new descriptors until dropped.
struct NoMoreDescriptors {
    before: libc::rlimit,
}

impl NoMoreDescriptors {
    fn begin() -> io::Result<Self> {
        // The lowest free number is the one that the next descriptor would get.
        let next = std::fs::File::open("/proc/self/stat")?.as_raw_fd();
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `before` is valid for writes.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let limit = libc::rlimit {
            rlim_cur: next as libc::rlim_t,
            ..before
        };
        // SAFETY: `limit` is valid for reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { before })
    }
}

impl Drop for NoMoreDescriptors {
    fn drop(&mut self) {
        // SAFETY: as above. Raising the limit again to what it was cannot be refused.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.before) };
    }
}

/// The number in `processed 2578 insns (limit 1000000) …`.
fn processed(log: &str) -> Option<u32> {
    let (_, rest) = log.rsplit_once("processed ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Verified instructions of each program, from the verifier's log.
///
/// # Errors
/// See [`LoadError`]; a program that the verifier refuses is one.
pub fn by_log(options: &LoadOptions) -> Result<Vec<(&'static str, Option<u32>)>, LoadError> {
    let mut prepared = Prepared::new(options, VerifierLogLevel::STATS)?;
    let mut counts = Vec::new();
    for (name, caller) in prepared.names() {
        let result = {
            let _limit = NoMoreDescriptors::begin();
            prepared.load_one(name, caller)
        };
        let count = match result {
            Err(LoadError::Program { source, .. })
                if matches!(&source.0, ProgramError::LoadError { io_error, .. }
                    if io_error.raw_os_error() == Some(libc::EMFILE)) =>
            {
                processed(&format!("{:?}", source.0))
            }
            Err(error) => return Err(error),
            Ok(()) => None,
        };
        counts.push((name, count));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::processed;

    #[test]
    fn the_last_line_of_a_log() {
        let log = "func#1 @30\nprocessed 2578 insns (limit 1000000) max_states_per_insn 4";
        assert_eq!(processed(log), Some(2578));
        assert_eq!(processed("nothing"), None);
    }
}
