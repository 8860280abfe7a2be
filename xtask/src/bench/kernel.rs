//! What the kernel counts for a process.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds of CPU time of each thread of a process.
pub(super) fn cpu_times(pid: u32) -> Result<BTreeMap<u32, u64>> {
    each_thread(pid, "schedstat", |text| {
        text.split_whitespace().next()?.parse().ok()
    })
}

/// How often threads of a process were switched out, for any reason.
pub(super) fn switches(pid: u32) -> Result<u64> {
    let counts = each_thread(pid, "status", |text| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let counts = lines.filter(|(key, _)| key.ends_with("voluntary_ctxt_switches"));
        counts
            .map(|(_, value)| value.trim().parse::<u64>().ok())
            .sum()
    })?;
    Ok(counts.values().sum())
}

/// A number out of a file of each thread; a thread that ended meanwhile is left out.
fn each_thread(
    pid: u32,
    file: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<BTreeMap<u32, u64>> {
    let dir = format!("/proc/{pid}/task");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
        let path = entry?.path();
        let tid = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let value = fs::read_to_string(path.join(file))
            .ok()
            .and_then(|text| parse(&text));
        if let (Some(tid), Some(value)) = (tid, value) {
            found.insert(tid, value);
        }
    }
    Ok(found)
}

/// What each thread, or each key, has more than before.
pub(super) fn since(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    let difference = |(key, value): (&u32, &u64)| {
        let old = before.get(key).copied().unwrap_or(0);
        (*key, value.saturating_sub(old))
    };
    after.iter().map(difference).collect()
}
