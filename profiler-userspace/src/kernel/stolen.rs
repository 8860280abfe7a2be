//! What a hypervisor took of the CPUs: time in which a thread is on one, and does not run.

use std::time::Duration;

/// Clock ticks of all CPUs since the system started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    taken: u64,
    all: u64,
}

/// What was taken in a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stolen {
    /// Added up over the CPUs.
    pub time: Duration,
    /// Of the time of all CPUs, 0 to 1.
    pub share: f64,
}

impl Ticks {
    /// Those of now; none where `/proc/stat` cannot be read.
    #[must_use]
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&stat).unwrap_or_default()
    }

    /// From `/proc/stat`, whose first line has all CPUs: user, nice, system, idle, iowait, irq, softirq and
    /// steal. What guests got, which is behind that, is in there already (`fs/proc/stat.c`, kernel 6.18).
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        Some(Self {
            taken: *ticks.get(7)?,
            all: ticks.iter().sum(),
        })
    }

    /// What was taken since, of which the kernel tells where there is a hypervisor that does.
    #[must_use]
    pub fn taken_since(self) -> Stolen {
        self.taken_until(Self::now(), ticks_per_second())
    }

    fn taken_until(self, now: Self, ticks_per_second: u32) -> Stolen {
        let taken = now.taken.saturating_sub(self.taken);
        let all = now.all.saturating_sub(self.all);
        Stolen {
            time: Duration::from_secs(taken) / ticks_per_second,
            share: taken as f64 / all.max(1) as f64,
        }
    }
}

/// `USER_HZ`.
fn ticks_per_second() -> u32 {
    // SAFETY: no memory is involved.
    let found = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u32::try_from(found)
        .ok()
        .filter(|&found| found != 0)
        .unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_a_share_of_all_cpus() {
        let before = "cpu  100 0 50 800 10 5 5 30 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let after = "cpu  150 0 60 900 10 5 5 70 57 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let before = Ticks::parse(before).expect("ticks");
        assert_eq!(
            before,
            Ticks {
                taken: 30,
                all: 1000
            }
        );
        let stolen = before.taken_until(Ticks::parse(after).expect("ticks"), 100);
        assert_eq!(stolen.time, Duration::from_millis(400));
        assert!((stolen.share - 0.2).abs() < 1e-9, "{stolen:?}");
    }

    #[test]
    fn without_a_hypervisor_nothing_is_taken() {
        let none = Ticks::default().taken_until(Ticks::default(), 100);
        assert_eq!((none.time, none.share), (Duration::ZERO, 0.0));
        for stat in ["", "cpu  1 2 3 4\n", "cpu  1 2 3 4 5 6 7 x\n", "intr 1\n"] {
            assert_eq!(Ticks::parse(stat), None, "{stat:?}");
        }
        assert_ne!(Ticks::now(), Ticks::default());
    }
}
