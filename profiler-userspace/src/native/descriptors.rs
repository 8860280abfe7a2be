//! Descriptors: every file whose code is mapped stays open, and so does its table, while the usual
//! limit is 1,024 and programs with a thousand libraries exist.

/// Raises our own limit as far as we may. What was launched before keeps its own.
pub fn allow_many() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // Refused, it stays as it was: what then finds no descriptor is counted.
        // SAFETY: `limit` is valid for reads.
        let _as_it_was = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}
