//! Where what threads did is counted: in the profile, and in the recording file, where there is one.

use super::log::Log;
use super::profile::{Key, Profile};

/// Both.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) profile: &'a mut Profile,
    pub(super) log: Option<&'a mut Log>,
}

impl<'a> Tally<'a> {
    /// Without a recording file.
    #[cfg(test)]
    pub(super) fn of(profile: &'a mut Profile) -> Self {
        Self { profile, log: None }
    }

    /// A thread was on a CPU at `time_ns`.
    pub(super) fn sample(&mut self, key: Key, tid: u32, time_ns: u64) {
        if let Some(log) = &mut self.log {
            log.sample(&key, tid, time_ns);
        }
        self.profile.sample(key);
    }

    /// A thread did not run for `ns` from `from_ns` on.
    pub(super) fn wait(&mut self, key: Key, tid: u32, from_ns: u64, ns: u64) {
        if let Some(log) = &mut self.log {
            log.wait(&key, tid, from_ns, ns);
        }
        self.profile.stretch(key, ns);
    }
}
