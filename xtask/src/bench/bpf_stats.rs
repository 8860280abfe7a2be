//! The kernel's statistics of BPF programs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// `BPF_PROG_TYPE_PERF_EVENT`, `include/uapi/linux/bpf.h`.
pub(super) const PERF_EVENT: u32 = 7;
/// `BPF_PROG_TYPE_TRACING`.
pub(super) const TRACING: u32 = 26;

/// The kernel keeps statistics for as long as this lives.
#[derive(Debug)]
pub(super) struct Enabled(#[allow(dead_code, reason = "held open")] OwnedFd);

impl Enabled {
    /// Switches them on.
    pub(super) fn new() -> Result<Self> {
        const BPF_ENABLE_STATS: libc::c_int = 32;
        const BPF_STATS_RUN_TIME: u32 = 0;
        let attr = BPF_STATS_RUN_TIME;
        // SAFETY: the attribute of this command is one u32, and its size is passed along.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_ENABLE_STATS,
                &raw const attr,
                size_of::<u32>() as libc::c_uint,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error())
                .context("the kernel does not switch its statistics of BPF programs on");
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }
}

/// Whether somebody switched them on for good: then every program costs a little more.
pub(super) fn always_on() -> bool {
    fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.trim() == "1")
}

/// Runs of a program and their time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Runs {
    kind: u32,
    /// How often it ran.
    pub(super) count: u64,
    /// Nanoseconds in all.
    pub(super) ns: u64,
}

impl Runs {
    /// Nanoseconds of one.
    pub(super) fn each(&self) -> f64 {
        self.ns as f64 / self.count as f64
    }
}

/// Statistics of the programs that a process holds, by the program's id.
#[derive(Clone, Debug)]
pub(super) struct Reading(BTreeMap<u32, Runs>);

impl Reading {
    /// Reads them.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let dir = format!("/proc/{pid}/fdinfo");
        let mut programs = BTreeMap::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
            // A descriptor that was closed meanwhile is no program.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.split_once(':'));
                lines
                    .find(|(key, _)| *key == name)?
                    .1
                    .trim()
                    .parse::<u64>()
                    .ok()
            };
            if let (Some(kind), Some(id)) = (field("prog_type"), field("prog_id")) {
                let runs = Runs {
                    kind: u32::try_from(kind)?,
                    count: field("run_cnt").unwrap_or(0),
                    ns: field("run_time_ns").unwrap_or(0),
                };
                programs.insert(u32::try_from(id)?, runs);
            }
        }
        Ok(Self(programs))
    }

    /// Of all programs of a type the one with the most runs since `before`: those of the life of
    /// threads run seldom.
    pub(super) fn busiest(&self, kind: u32, before: &Self) -> Result<Runs> {
        let all = self.since(before).into_values();
        let all = all.filter(|runs| runs.kind == kind);
        all.max_by_key(|runs| runs.count)
            .filter(|runs| runs.count != 0)
            .context("no BPF program of that type ran")
    }

    /// Before anything ran.
    pub(super) fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// What each program ran since `before`, by the name that the kernel has of it.
    pub(super) fn by_name(&self, before: &Self) -> Result<BTreeMap<String, Runs>> {
        let mut runs = BTreeMap::new();
        for (id, since) in self.since(before) {
            runs.insert(name(id)?, since);
        }
        Ok(runs)
    }

    fn since(&self, before: &Self) -> BTreeMap<u32, Runs> {
        let since = |(id, runs): (&u32, &Runs)| {
            let old = before.0.get(id).copied().unwrap_or_default();
            let runs = Runs {
                kind: runs.kind,
                count: runs.count.saturating_sub(old.count),
                ns: runs.ns.saturating_sub(old.ns),
            };
            (*id, runs)
        };
        self.0.iter().map(since).collect()
    }

    /// Nanoseconds of all programs since `before`.
    pub(super) fn total_ns(&self, before: &Self) -> u64 {
        let sum = |reading: &Self| reading.0.values().map(|runs| runs.ns).sum::<u64>();
        sum(self).saturating_sub(sum(before))
    }
}

/// The first 15 characters of a program's name.
fn name(id: u32) -> Result<String> {
    const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    /// `struct bpf_prog_info` up to its name, and where that begins (include/uapi/linux/bpf.h).
    const BYTES: u32 = 80;
    const NAME: usize = 64;
    // `prog_id`, `next_id` and `open_flags`.
    let fd = call(BPF_PROG_GET_FD_BY_ID, &[id, 0, 0])?;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0u8; BYTES as usize];
    let to = info.as_mut_ptr() as u64;
    let words = [fd.as_raw_fd() as u32, BYTES, to as u32, (to >> 32) as u32];
    call(BPF_OBJ_GET_INFO_BY_FD, &words)?;
    let name = &info[NAME..];
    let end = name.iter().position(|byte| *byte == 0);
    let name = &name[..end.unwrap_or(name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn call(command: libc::c_int, attr: &[u32]) -> Result<i32> {
    // SAFETY: the attribute's size is passed along; what it points to is valid for what is said.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(attr)) };
    if result < 0 {
        return Err(io::Error::last_os_error()).context("the kernel does not tell of a program");
    }
    Ok(result as i32)
}
