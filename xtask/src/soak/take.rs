//! What a recorder takes of a machine.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What it has at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Take {
    /// Since the beginning.
    pub(super) at: Duration,
    /// Its memory, bytes.
    pub(super) memory: u64,
    /// What its maps take in the kernel, bytes.
    pub(super) maps_memory: u64,
    /// Its maps.
    pub(super) maps: u64,
    /// Its descriptors.
    pub(super) descriptors: u64,
    /// Its threads.
    pub(super) threads: u64,
    /// Its CPU time, seconds.
    pub(super) cpu: f64,
    /// Short processes that were started until then.
    pub(super) started: u32,
}

impl Take {
    /// Looks at a process.
    pub(super) fn of(pid: u32, at: Duration, started: u32) -> Result<Self> {
        let mut maps = BTreeMap::new();
        let mut descriptors = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("pyscry is gone")? {
            descriptors += 1;
            // A descriptor that was closed meanwhile is no map.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            if let (Some(id), Some(bytes)) = (field(&text, "map_id"), field(&text, "memlock")) {
                maps.insert(id, bytes);
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        // Exact, where the number in `status` lags behind.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kilobytes = field(&rollup, "Rss").context("no memory")?;
        Ok(Self {
            at,
            memory: kilobytes * 1024,
            maps_memory: maps.values().sum(),
            maps: maps.len() as u64,
            descriptors,
            threads: field(&status, "Threads").context("no threads")?,
            cpu: cpu(pid)?,
            started,
        })
    }
}

/// The number behind `name:` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    value.split_whitespace().next()?.parse().ok()
}

/// Seconds that all threads of a process have run.
fn cpu(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("no name")?;
    // proc(5): utime and stime are the fields 14 and 15, and the state, the first one here, is 3.
    let times = fields.split(' ').skip(11).take(2);
    let ticks: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / ticks_a_second())
}

/// Seconds of CPU time of the whole machine: what somebody used, and what a hypervisor took meanwhile.
/// A CPU that was taken runs the same thread before and after, and a clock may tick of it once.
pub(super) fn busy() -> Result<[f64; 2]> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("no CPU")?;
    let times: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
    let used = [0, 1, 2, 5, 6].iter().filter_map(|at| times.get(*at));
    let stolen = times.get(7).copied().unwrap_or(0);
    Ok([used.sum::<u64>(), stolen].map(|ticks| ticks as f64 / ticks_a_second()))
}

fn ticks_a_second() -> f64 {
    // SAFETY: no arguments but a number.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields() {
        let text = "map_type:\t1\nmap_id:\t12\nmemlock:\t4096\nVmRSS:\t   77 kB\n";
        assert_eq!(field(text, "map_id"), Some(12));
        assert_eq!(field(text, "VmRSS"), Some(77));
        assert_eq!(field(text, "id"), None);
    }
}
