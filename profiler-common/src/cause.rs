//! Why a thread does not run: from what the scheduler says, the system call that it is in with its
//! arguments, what a descriptor is, and the interpreter's lock. Names of functions play no part.
//!
//! Numbers are those of x86_64 (`arch/x86/entry/syscalls/syscall_64.tbl`, Linux 7.0).

/// Why a thread is off-CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// None of the others.
    #[default]
    Other = 0,
    /// It could run: preempted, out of its quota, or woken and not on a CPU yet.
    RunQueue = 1,
    /// The interpreter's global lock.
    Gil = 2,
    /// A lock, a condition or a semaphore.
    Lock = 3,
    /// Time that shall pass.
    Sleep = 4,
    /// A socket.
    Network = 5,
    /// A file.
    Disk = 6,
    /// A pipe, or a message queue.
    Pipe = 7,
    /// Any of several events.
    Poll = 8,
    /// A child process.
    Child = 9,
    /// Memory that was not there.
    PageFault = 10,
    /// A signal or a tracer stopped it, or its control group is frozen.
    Stopped = 11,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Other,
        Self::RunQueue,
        Self::Gil,
        Self::Lock,
        Self::Sleep,
        Self::Network,
        Self::Disk,
        Self::Pipe,
        Self::Poll,
        Self::Child,
        Self::PageFault,
        Self::Stopped,
    ];

    /// From the wire.
    #[must_use]
    pub fn from_u8(raw: u8) -> Self {
        Self::ALL.get(raw as usize).copied().unwrap_or_default()
    }

    /// The frame that says so, at the leaf of a stack.
    #[must_use]
    pub const fn frame(self) -> &'static str {
        match self {
            Self::Other => "[other]",
            Self::RunQueue => "[run queue]",
            Self::Gil => "[gil]",
            Self::Lock => "[lock]",
            Self::Sleep => "[sleep]",
            Self::Network => "[network]",
            Self::Disk => "[disk]",
            Self::Pipe => "[pipe]",
            Self::Poll => "[poll]",
            Self::Child => "[child]",
            Self::PageFault => "[page fault]",
            Self::Stopped => "[stopped]",
        }
    }
}

/// What a system call can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SyscallKind {
    /// Nothing that has a name.
    Other = 0,
    /// A word in memory: whose, the address tells.
    Futex = 1,
    /// Another kind of lock.
    Lock = 2,
    /// Time.
    Sleep = 3,
    /// A socket.
    Network = 4,
    /// A file system.
    Disk = 5,
    /// What the first argument is open at.
    Descriptor = 6,
    /// A message queue.
    Queue = 7,
    /// Events; as many descriptors as the second argument says.
    Poll = 8,
    /// Events; descriptors below the first argument.
    Select = 9,
    /// Events of a set that is in the kernel.
    Events = 10,
    /// A child that ends, or executes its program.
    Child = 11,
    /// A file system, or somebody who opens a pipe's other end.
    Open = 12,
    /// A lock on a file, if the second argument says so.
    FileLock = 13,
    /// From a file to a socket.
    SendFile = 14,
    /// What the thread was in before a signal, where that is not known.
    Restart = 15,
}

/// How many system calls the table knows; a power of two.
pub const SYSCALLS: usize = 512;

/// In place of a system call's number: none.
pub const NO_SYSCALL: u16 = u16::MAX;

/// What each system call can wait for, a [`SyscallKind`] by number.
pub const SYSCALL_KINDS: [u8; SYSCALLS] = {
    const KINDS: [(SyscallKind, &[u16]); 15] = [
        // futex, futex_waitv, futex_wait
        (SyscallKind::Futex, &[202, 449, 455]),
        // semop, flock, semtimedop
        (SyscallKind::Lock, &[65, 73, 220]),
        // nanosleep, clock_nanosleep
        (SyscallKind::Sleep, &[35, 230]),
        // connect, accept, sendto, recvfrom, sendmsg, recvmsg, shutdown, accept4, recvmmsg,
        // sendmmsg
        (
            SyscallKind::Network,
            &[42, 43, 44, 45, 46, 47, 48, 288, 299, 307],
        ),
        (
            SyscallKind::Disk,
            &[
                // stat, fstat, lstat, access, msync, execve, fsync, fdatasync, truncate,
                // ftruncate, getdents, getcwd, chdir, fchdir, rename, mkdir, rmdir, link, unlink,
                // symlink, readlink, chmod, fchmod, chown, fchown, lchown
                4, 5, 6, 21, 26, 59, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 86, 87, 88, 89, 90,
                91, 92, 93, 94, //
                // utime, mknod, statfs, fstatfs, sync, mount, umount2, readahead, setxattr to
                // fremovexattr, io_getevents, getdents64, fadvise64, utimes
                132, 133, 137, 138, 162, 165, 166, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196,
                197, 198, 199, 208, 217, 221, 235, //
                // mkdirat, mknodat, fchownat, futimesat, newfstatat, unlinkat, renameat, linkat,
                // symlinkat, readlinkat, fchmodat, faccessat, sync_file_range, utimensat, fallocate
                258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 277, 280, 285, //
                // syncfs, renameat2, execveat, copy_file_range, statx, io_pgetevents, faccessat2
                306, 316, 322, 326, 332, 333, 439, //
                // What has a position is a file: pread64, pwrite64, preadv, pwritev, preadv2,
                // pwritev2
                17, 18, 295, 296, 327, 328,
            ],
        ),
        // read, write, close, ioctl, readv, writev, splice, tee, vmsplice
        (
            SyscallKind::Descriptor,
            &[0, 1, 3, 16, 19, 20, 275, 276, 278],
        ),
        // msgsnd, msgrcv, mq_timedsend, mq_timedreceive
        (SyscallKind::Queue, &[69, 70, 242, 243]),
        // poll, ppoll
        (SyscallKind::Poll, &[7, 271]),
        // select, pselect6
        (SyscallKind::Select, &[23, 270]),
        // epoll_wait, epoll_pwait, io_uring_enter, epoll_pwait2
        (SyscallKind::Events, &[232, 281, 426, 441]),
        // clone, fork, vfork, wait4, waitid, clone3
        (SyscallKind::Child, &[56, 57, 58, 61, 247, 435]),
        // open, creat, openat, openat2
        (SyscallKind::Open, &[2, 85, 257, 437]),
        // fcntl
        (SyscallKind::FileLock, &[72]),
        // sendfile
        (SyscallKind::SendFile, &[40]),
        // restart_syscall
        (SyscallKind::Restart, &[219]),
    ];
    let mut table = [SyscallKind::Other as u8; SYSCALLS];
    let mut kind = 0;
    while kind < KINDS.len() {
        let mut index = 0;
        while index < KINDS[kind].1.len() {
            table[KINDS[kind].1[index] as usize] = KINDS[kind].0 as u8;
            index += 1;
        }
        kind += 1;
    }
    table
};

/// What a descriptor is open at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileKind {
    /// Not known, or a device such as a terminal.
    Other = 0,
    /// A socket.
    Socket = 1,
    /// A pipe, named or not.
    Pipe = 2,
    /// A file, a directory, or a device of blocks.
    File = 3,
    /// An object of the kernel's that reports events (`eventfd`, `timerfd`, `inotify`, …).
    Events = 4,
}

/// `s_magic` of the file system of such objects (`include/uapi/linux/magic.h`). From 6.16 on their
/// inodes say that they are files (`fs/anon_inodes.c`), before that nothing.
pub const ANON_INODE_MAGIC: u64 = 0x0904_1934;

impl FileKind {
    /// From an inode's mode and, where that does not tell, the magic number of its file system;
    /// `None` where there is none to be had.
    #[inline(always)]
    #[must_use]
    pub fn of_inode(mode: u32, magic: impl FnOnce() -> Option<u64>) -> Option<Self> {
        let kind = match mode & 0o17_0000 {
            0o14_0000 => return Some(Self::Socket),
            0o01_0000 => return Some(Self::Pipe),
            0o10_0000 | 0o04_0000 | 0o06_0000 => Self::File,
            _ => Self::Other,
        };
        Some(if magic()? == ANON_INODE_MAGIC {
            Self::Events
        } else {
            kind
        })
    }

    /// From the number.
    #[inline(always)]
    #[must_use]
    pub fn from_u32(raw: u32) -> Self {
        match raw {
            1 => Self::Socket,
            2 => Self::Pipe,
            3 => Self::File,
            4 => Self::Events,
            _ => Self::Other,
        }
    }
}

/// `__TASK_STOPPED | __TASK_TRACED | TASK_FROZEN` (`include/linux/sched.h`; the last from 6.1 on,
/// and no other state before).
const STATES_STOPPED: u32 = 0x4 | 0x8 | 0x8000;
/// `TASK_INTERRUPTIBLE`.
const STATE_INTERRUPTIBLE: u32 = 0x1;
/// `JOBCTL_TRAP_FREEZE` (`include/linux/sched/jobctl.h`): the control group is frozen.
const JOBCTL_FREEZE: u64 = 1 << 23;

/// `restart_syscall`.
pub const RESTART_SYSCALL: i64 = 219;

/// `F_SETLKW` and `F_OFD_SETLKW` (`include/uapi/asm-generic/fcntl.h`).
const FCNTL_WAITS: [u64; 2] = [7, 38];

/// What is known of a thread that is switched out and could not run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Blocked {
    /// `task_struct.jobctl`.
    pub jobctl: u64,
    /// `orig_ax`: the system call's number, negative in an exception.
    pub syscall: i64,
    /// The call's first two arguments.
    pub args: [u64; 2],
    /// Its state, `TASK_*` bits.
    pub state: u32,
    /// The number of the system call that it was in before, for `restart_syscall`, which says
    /// neither in its number nor elsewhere what it goes on with; [`NO_SYSCALL`] where that is not
    /// known.
    pub earlier: u32,
}

impl Blocked {
    /// The number of the system call, or [`NO_SYSCALL`]. That of a call that goes on after a signal
    /// is its own: its arguments are still in their registers.
    #[inline(always)]
    #[must_use]
    pub fn number(&self) -> u16 {
        if self.syscall < 0 || self.syscall >= NO_SYSCALL as i64 {
            NO_SYSCALL
        } else if self.syscall == RESTART_SYSCALL && self.earlier < NO_SYSCALL as u32 {
            self.earlier as u16
        } else {
            self.syscall as u16
        }
    }

    /// Why it waits. `kind` is the [`SyscallKind`] of [`Blocked::number`], `file` tells what a descriptor is,
    /// `is_gil` whether a futex is one of the interpreter's lock.
    #[inline(always)]
    #[must_use]
    pub fn cause(
        &self,
        kind: u8,
        file: impl FnOnce(u64) -> FileKind,
        is_gil: impl FnOnce(u64) -> bool,
    ) -> Cause {
        if self.state & STATES_STOPPED != 0 {
            return Cause::Stopped;
        }
        let interruptible = self.state & STATE_INTERRUPTIBLE != 0;
        if interruptible && self.jobctl & JOBCTL_FREEZE != 0 {
            return Cause::Stopped;
        }
        if self.syscall < 0 {
            return Cause::PageFault;
        }
        const FUTEX: u8 = SyscallKind::Futex as u8;
        const LOCK: u8 = SyscallKind::Lock as u8;
        const SLEEP: u8 = SyscallKind::Sleep as u8;
        const NETWORK: u8 = SyscallKind::Network as u8;
        const DISK: u8 = SyscallKind::Disk as u8;
        const DESCRIPTOR: u8 = SyscallKind::Descriptor as u8;
        const QUEUE: u8 = SyscallKind::Queue as u8;
        const POLL: u8 = SyscallKind::Poll as u8;
        const SELECT: u8 = SyscallKind::Select as u8;
        const EVENTS: u8 = SyscallKind::Events as u8;
        const CHILD: u8 = SyscallKind::Child as u8;
        const OPEN: u8 = SyscallKind::Open as u8;
        const FILE_LOCK: u8 = SyscallKind::FileLock as u8;
        const SEND_FILE: u8 = SyscallKind::SendFile as u8;
        const RESTART: u8 = SyscallKind::Restart as u8;
        match kind {
            FUTEX => {
                if is_gil(self.args[0]) {
                    Cause::Gil
                } else {
                    Cause::Lock
                }
            }
            LOCK => Cause::Lock,
            SLEEP => Cause::Sleep,
            NETWORK => Cause::Network,
            DISK => Cause::Disk,
            QUEUE => Cause::Pipe,
            EVENTS => Cause::Poll,
            CHILD => Cause::Child,
            // Without a descriptor it is a way to let time pass, and Python's up to 3.10.
            POLL if self.args[1] == 0 => Cause::Sleep,
            SELECT if self.args[0] == 0 => Cause::Sleep,
            POLL | SELECT => Cause::Poll,
            OPEN if interruptible => Cause::Pipe,
            OPEN => Cause::Disk,
            FILE_LOCK if self.args[1] == FCNTL_WAITS[0] || self.args[1] == FCNTL_WAITS[1] => {
                Cause::Lock
            }
            FILE_LOCK => Cause::Disk,
            // A full socket can be left by a signal, a read of the file cannot.
            SEND_FILE if interruptible => Cause::Network,
            SEND_FILE => Cause::Disk,
            DESCRIPTOR => match file(self.args[0]) {
                FileKind::Socket => Cause::Network,
                FileKind::Pipe => Cause::Pipe,
                FileKind::File => Cause::Disk,
                FileKind::Events => Cause::Poll,
                FileKind::Other => Cause::Other,
            },
            RESTART => {
                if is_gil(self.args[0]) {
                    Cause::Gil
                } else {
                    Cause::Other
                }
            }
            _ => Cause::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTIBLE: u32 = 1;
    const UNINTERRUPTIBLE: u32 = 2;
    const GIL: u64 = 0x7000;

    fn cause_of(state: u32, syscall: i64, args: [u64; 2], file: FileKind) -> Cause {
        let blocked = Blocked {
            state,
            earlier: NO_SYSCALL as u32,
            jobctl: 0,
            syscall,
            args,
        };
        cause_from(blocked, file)
    }

    fn cause_from(blocked: Blocked, file: FileKind) -> Cause {
        let kind = SYSCALL_KINDS.get(blocked.number() as usize).copied();
        let kind = kind.unwrap_or(0);
        blocked.cause(kind, |_| file, |address| address == GIL)
    }

    #[test]
    fn causes_are_their_own_index() {
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, index);
            assert_eq!(Cause::from_u8(index as u8), *cause);
        }
        assert_eq!(Cause::from_u8(200), Cause::Other);
    }

    #[test]
    fn by_system_call_and_arguments() {
        let none = FileKind::Other;
        for (syscall, args, expected) in [
            (libc::SYS_futex, [GIL, 0], Cause::Gil),
            (libc::SYS_futex, [GIL + 8, 0], Cause::Lock),
            (libc::SYS_semop, [3, 0], Cause::Lock),
            (libc::SYS_flock, [3, 2], Cause::Lock),
            (libc::SYS_fcntl, [3, 7], Cause::Lock),
            (libc::SYS_fcntl, [3, 38], Cause::Lock),
            (libc::SYS_fcntl, [3, 6], Cause::Disk),
            (libc::SYS_clock_nanosleep, [1, 0], Cause::Sleep),
            (libc::SYS_select, [0, 0], Cause::Sleep),
            (libc::SYS_select, [5, 0], Cause::Poll),
            (libc::SYS_pselect6, [0, 0], Cause::Sleep),
            (libc::SYS_poll, [0x1000, 0], Cause::Sleep),
            (libc::SYS_poll, [0, 1], Cause::Poll),
            (libc::SYS_epoll_wait, [4, 0], Cause::Poll),
            (libc::SYS_recvfrom, [4, 0], Cause::Network),
            (libc::SYS_accept4, [4, 0], Cause::Network),
            (libc::SYS_wait4, [77, 0], Cause::Child),
            (libc::SYS_vfork, [0, 0], Cause::Child),
            (libc::SYS_fsync, [4, 0], Cause::Disk),
            (libc::SYS_pread64, [4, 0], Cause::Disk),
            (libc::SYS_newfstatat, [4, 0], Cause::Disk),
            (libc::SYS_mq_timedreceive, [4, 0], Cause::Pipe),
            (libc::SYS_sendfile, [4, 5], Cause::Network),
            (libc::SYS_openat, [4, 5], Cause::Pipe),
            (libc::SYS_pause, [0, 0], Cause::Other),
            (libc::SYS_restart_syscall, [GIL, 0], Cause::Gil),
            (libc::SYS_restart_syscall, [1, 0], Cause::Other),
            (700, [0, 0], Cause::Other),
        ] {
            let found = cause_of(INTERRUPTIBLE, syscall, args, none);
            assert_eq!(found, expected, "{syscall} {args:?}");
        }
        for (syscall, expected) in [
            (libc::SYS_openat, Cause::Disk),
            (libc::SYS_sendfile, Cause::Disk),
            (libc::SYS_mmap, Cause::Other),
        ] {
            assert_eq!(cause_of(UNINTERRUPTIBLE, syscall, [0, 0], none), expected);
        }
    }

    #[test]
    fn what_goes_on_after_a_signal() {
        for (earlier, args, expected) in [
            (libc::SYS_clock_nanosleep, [1, 0], Cause::Sleep),
            (libc::SYS_poll, [0x1000, 1], Cause::Poll),
            (libc::SYS_poll, [0, 0], Cause::Sleep),
            (libc::SYS_futex, [GIL, 0], Cause::Gil),
            (libc::SYS_futex, [GIL + 8, 0], Cause::Lock),
        ] {
            let blocked = Blocked {
                state: INTERRUPTIBLE,
                syscall: libc::SYS_restart_syscall,
                args,
                earlier: earlier as u32,
                jobctl: 0,
            };
            assert_eq!(i64::from(blocked.number()), earlier);
            assert_eq!(cause_from(blocked, FileKind::Other), expected);
        }
    }

    #[test]
    fn by_descriptor() {
        for (mode, magic, expected) in [
            (0o14_0777, 0x534f_434b, Cause::Network),
            (0o01_0600, 0x5049_5045, Cause::Pipe),
            (0o10_0644, 0xef53, Cause::Disk),
            (0o06_0644, 0xef53, Cause::Disk),
            (0o02_0620, 0x1cd1, Cause::Other),
            (0o00_0600, ANON_INODE_MAGIC, Cause::Poll),
            (0o10_0600, ANON_INODE_MAGIC, Cause::Poll),
        ] {
            let file = FileKind::of_inode(mode, || Some(magic)).expect("a magic number");
            let file = FileKind::from_u32(file as u32);
            let found = cause_of(INTERRUPTIBLE, libc::SYS_read, [0, 0], file);
            assert_eq!(found, expected, "{mode:o} {magic:x}");
        }
    }

    #[test]
    fn only_files_need_the_magic_number() {
        let unread = |mode| FileKind::of_inode(mode, || None);
        assert_eq!(unread(0o14_0777), Some(FileKind::Socket));
        assert_eq!(unread(0o01_0600), Some(FileKind::Pipe));
        assert_eq!(unread(0o10_0644), None);
    }

    #[test]
    fn states_come_first() {
        let file = FileKind::File;
        for state in [0x4, 0x8, 0x104, 0x108, 0x8000] {
            assert_eq!(cause_of(state, 0, [0, 0], file), Cause::Stopped);
        }
        assert_eq!(cause_of(2, -1, [0, 0], file), Cause::PageFault);
        let frozen = Blocked {
            state: 1,
            jobctl: JOBCTL_FREEZE,
            ..Blocked::default()
        };
        assert_eq!(frozen.cause(0, |_| file, |_| false), Cause::Stopped);
        assert_eq!(frozen.number(), 0);
        let fault = Blocked {
            syscall: -1,
            ..frozen
        };
        assert_eq!(fault.number(), NO_SYSCALL);
    }
}
