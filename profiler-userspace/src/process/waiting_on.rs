//! What a thread waits for that the kernel does not show to programs in time: one that waited already
//! when a recording began.

use std::os::unix::fs::MetadataExt as _;

use profiler_common::cause::{
    ANON_INODE_MAGIC, Blocked, Cause, FileKind, NO_SYSCALL, RESTART_SYSCALL, SYSCALL_KINDS,
};

/// Why a thread in a state (a letter of `/proc/PID/stat`) waits, and the number of the system call
/// that it waits in; `None` where the kernel does not tell. `is_gil` tells whether a futex is one of the interpreter's lock.
#[must_use]
pub fn cause(
    pid: u32,
    tid: u32,
    state: Option<char>,
    is_gil: impl FnOnce(u64) -> bool,
) -> Option<(Cause, u16)> {
    let (syscall, args) = entered(pid, tid)?;
    let blocked = Blocked {
        state: match state {
            Some('T') => 4,
            Some('t') => 8,
            _ if is_frozen(pid, tid, state) => 4,
            Some('D') => 2,
            _ => 1,
        },
        earlier: u32::from(restarted(pid, tid, syscall)),
        jobctl: 0,
        syscall,
        args,
    };
    Some(decide(pid, &blocked, is_gil))
}

/// What a thread waits for in a system call with these first two arguments.
#[must_use]
pub fn cause_in(
    pid: u32,
    syscall: i64,
    args: [u64; 2],
    is_gil: impl FnOnce(u64) -> bool,
) -> (Cause, u16) {
    let blocked = Blocked {
        state: 1,
        earlier: u32::from(NO_SYSCALL),
        jobctl: 0,
        syscall,
        args,
    };
    decide(pid, &blocked, is_gil)
}

fn decide(pid: u32, blocked: &Blocked, is_gil: impl FnOnce(u64) -> bool) -> (Cause, u16) {
    let number = blocked.number();
    let kind = SYSCALL_KINDS.get(usize::from(number)).copied();
    let cause = blocked.cause(kind.unwrap_or(0), |fd| file_kind(pid, fd), is_gil);
    (cause, number)
}

/// The number of the system call that a thread is in, or was as a signal stopped it; `NO_SYSCALL`
/// where that is not known.
#[must_use]
pub fn earlier(pid: u32, tid: u32) -> u16 {
    let Some((syscall, _)) = entered(pid, tid) else {
        return NO_SYSCALL;
    };
    if syscall == RESTART_SYSCALL {
        restarted(pid, tid, syscall)
    } else {
        u16::try_from(syscall).unwrap_or(NO_SYSCALL)
    }
}

/// Stack pointer and instruction of a thread that does not run, as it left them; `None` for one that
/// runs. The kernel tells no other register of a thread that is not stopped.
#[must_use]
pub fn left_at(pid: u32, tid: u32) -> Option<(u64, u64)> {
    parse_left_at(&std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?)
}

fn parse_left_at(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().rev();
    let mut word = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (instruction, stack) = (word()?, word()?);
    Some((stack, instruction))
}

/// What `restart_syscall` goes on with, from the function of the kernel that the thread waits in:
/// `futex_wait_restart`, `hrtimer_nanosleep_restart` and `do_restart_poll` are all that there are
/// for calls that Python makes. `NO_SYSCALL` for other calls.
fn restarted(pid: u32, tid: u32, syscall: i64) -> u16 {
    if syscall != RESTART_SYSCALL {
        return NO_SYSCALL;
    }
    let function = wchan(pid, tid);
    let holds = |(word, _): &(&str, i64)| function.contains(word);
    let call = [
        ("futex", libc::SYS_futex),
        ("nanosleep", libc::SYS_clock_nanosleep),
        ("poll", libc::SYS_poll),
    ];
    let found = call.into_iter().find(holds);
    found.map_or(NO_SYSCALL, |(_, number)| number as u16)
}

/// The function of the kernel that a thread waits in; empty where that is not told.
fn wchan(pid: u32, tid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default()
}

/// Whether the thread's control group is frozen. The state says something else: `D` for the freezer
/// of version 1 (`fs/proc/array.c` tells nobody of `TASK_FROZEN`), `S` for version 2, whose
/// `do_freezer_trap` is part of `get_signal` in most builds.
fn is_frozen(pid: u32, tid: u32, state: Option<char>) -> bool {
    match (state, wchan(pid, tid).as_str()) {
        (Some('D'), "__refrigerator") => true,
        (Some('S'), function) => matches!(function, "do_freezer_trap" | "get_signal"),
        _ => false,
    }
}

/// The number of the system call that a thread is in, negative where it is in none, and its first
/// two arguments.
fn entered(pid: u32, tid: u32) -> Option<(i64, [u64; 2])> {
    let path = format!("/proc/{pid}/task/{tid}/syscall");
    parse(&std::fs::read_to_string(path).ok()?)
}

/// `NUMBER ARGUMENT… STACK PC` in a system call, `-1 STACK PC` elsewhere; `running` tells nothing
/// (`fs/proc/base.c`, `proc_pid_syscall`).
fn parse(text: &str) -> Option<(i64, [u64; 2])> {
    let mut words = text.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    if number < 0 {
        return Some((number, [0; 2]));
    }
    let mut arg = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some((number, [arg()?, arg()?]))
}

/// What a descriptor of a process is open at.
fn file_kind(pid: u32, descriptor: u64) -> FileKind {
    let path = format!("/proc/{pid}/fd/{}", descriptor & 0xffff_ffff);
    let events = || {
        let target = std::fs::read_link(&path).ok()?;
        let events = target.to_string_lossy().starts_with("anon_inode:");
        Some(if events { ANON_INODE_MAGIC } else { 0 })
    };
    let mode = std::fs::metadata(&path).map_or(0, |data| data.mode());
    // One that is closed meanwhile, too.
    FileKind::of_inode(mode, events).unwrap_or(FileKind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes() {
        let futex = "202 0x7f1 0x89 0x0 0x7f2 0x0 0xffffffff 0x7ffe 0x7f3\n";
        assert_eq!(parse(futex), Some((202, [0x7f1, 0x89])));
        assert_eq!(parse("-1 0x7ffe 0x7f3\n"), Some((-1, [0, 0])));
        assert_eq!(parse_left_at(futex), Some((0x7ffe, 0x7f3)));
        assert_eq!(parse_left_at("-1 0x7ffe 0x7f3\n"), Some((0x7ffe, 0x7f3)));
        assert_eq!(parse_left_at("running\n"), None);
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_thread_of_our_own() {
        let (reader, _writer) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let (sender, receiver) = std::sync::mpsc::channel();
        let _waits = std::thread::spawn(move || {
            // SAFETY: a system call without arguments.
            sender.send(unsafe { libc::gettid() } as u32).expect("told");
            std::io::Read::read(&mut { reader }, &mut [0]).expect("an end");
        });
        let pid = std::process::id();
        let tid = receiver.recv().expect("a thread");
        let state = || super::super::proc_file::thread_state(pid, tid);
        while state() != Some('S') {
            std::thread::yield_now();
        }
        let mut found = cause(pid, tid, state(), |_| false);
        // It may have been in the channel still.
        while found.is_some_and(|found| found.0 == Cause::Lock) {
            found = cause(pid, tid, state(), |_| false);
        }
        let call = libc::SYS_recvfrom as u16;
        assert!(
            found == Some((Cause::Network, call))
                || found == Some((Cause::Network, libc::SYS_read as u16)),
            "{found:?}"
        );
    }
}
