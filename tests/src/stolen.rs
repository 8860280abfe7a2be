//! What the hypervisor took of the CPUs: time in which a thread runs by the scheduler's switches,
//! and does not by the clock of its CPU time.

use std::time::Duration;

/// How exactly the kernel tells it: `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// Measures from its making on.
#[derive(Clone, Copy, Debug)]
pub struct Stolen {
    ticks: u64,
}

/// Of all CPUs (`/proc/stat`, the eighth number).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let ticks = stat.split_whitespace().nth(8).expect("eight numbers");
    ticks.parse().expect("ticks")
}

impl Stolen {
    /// From now on.
    #[must_use]
    pub fn from_now() -> Self {
        Self { ticks: ticks() }
    }

    /// What was taken of all CPUs until now, at most: parts of ticks that had begun before, or have not
    /// ended, are in it. Nothing, where no tick was counted.
    #[must_use]
    pub fn until_now(self) -> Duration {
        match ticks().saturating_sub(self.ticks) {
            0 => Duration::ZERO,
            counted => TICK * (counted as u32 + 1),
        }
    }
}
