//! The small files below `/proc/PID`.

use std::io;
use std::path::PathBuf;

/// Thread ids of a process, in the order of the kernel's listing.
///
/// # Errors
/// `ENOENT` when the process is gone.
pub fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Some(tid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            tids.push(tid);
        }
    }
    Ok(tids)
}

/// Numbers of all processes.
#[must_use]
pub fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let number =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(number).collect()
}

/// Whether there is a process of a number.
#[must_use]
pub fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// State letter of a thread (`R`, `S`, `D`, `T`, …), from `/proc/PID/task/TID/stat`.
#[must_use]
pub fn thread_state(pid: u32, tid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The command may hold anything, parentheses too: the last one ends it.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Nanoseconds that a thread ran so far, from `/proc/PID/task/TID/schedstat`.
#[must_use]
pub fn thread_cpu_ns(pid: u32, tid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    stat.split_whitespace().next()?.parse().ok()
}

/// Nanoseconds that a thread ran so far, and how often it was put on a CPU: while neither changes,
/// and it does not run, it has not run. From `/proc/PID/task/TID/schedstat`.
#[must_use]
pub fn thread_turns(pid: u32, tid: u32) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let mut words = stat.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.nth(1)?.ok()?))
}

/// The process that a thread belongs to; a process's own number is one of its threads'.
#[must_use]
pub fn process_of(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// The name of a thread as the kernel has it: at most 15 bytes.
#[must_use]
pub fn thread_comm(pid: u32, tid: u32) -> Option<String> {
    let comm = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end().to_owned())
}

/// Arguments of a process, joined by spaces; empty for a kernel thread.
#[must_use]
pub fn command_line(pid: u32) -> Option<String> {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let joined = raw
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>();
    Some(joined.join(" ").trim_end().to_owned())
}

/// The executable as the process sees it.
///
/// # Errors
/// `ENOENT` when the process is gone or is a kernel thread, `EACCES` without the right to look.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe"))
}

/// The number that a thread has in its own pid namespace; `tid` itself where that is not told.
#[must_use]
pub fn innermost_tid(pid: u32, tid: u32) -> u32 {
    let read = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        line.split_whitespace().last()?.parse().ok()
    };
    read().unwrap_or(tid)
}
