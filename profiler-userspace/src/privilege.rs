//! What this user may do, and the command that would work.

/// Whether we run as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: no arguments, never fails.
    unsafe { libc::geteuid() == 0 }
}

/// User and group who ran us through sudo; `None` where nobody did.
#[must_use]
pub fn behind_sudo() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    is_root().then_some(())?;
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// The effective capabilities of this process, a bit each (`linux/capability.h`).
fn capabilities() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?
                .trim();
            u64::from_str_radix(line, 16).ok()
        })
        .unwrap_or(0)
}

/// Whether we may load tracing programs, open perf events and read other processes' memory.
#[must_use]
pub fn can_trace() -> bool {
    const SYS_PTRACE: u32 = 19;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let own = capabilities();
    let has = |capability: u32| own >> capability & 1 == 1;
    has(SYS_PTRACE) && (has(SYS_ADMIN) || (has(BPF) && has(PERFMON)))
}

/// Whether process ids mean the same to us as to the kernel's programs.
#[must_use]
pub fn in_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO, include/linux/proc_ns.h.
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

/// The command line of this process, to be run again with privileges.
#[must_use]
pub fn with_sudo() -> String {
    let own = std::env::current_exe()
        .map_or_else(|_| "pyscry".to_owned(), |path| path.display().to_string());
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| quote(&arg.to_string_lossy()));
    std::iter::once("sudo".to_owned())
        .chain(std::iter::once(quote(&own)))
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Quotes a word for a POSIX shell, where it needs it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("--pid=12"), "--pid=12");
        assert_eq!(quote("my file"), "'my file'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
