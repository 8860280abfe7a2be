//! Tools that other people trace off-CPU time with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::recorder::{Format, Tool};
use crate::tools;

/// A tool, and the arguments with which it traces one process.
#[derive(Debug)]
pub(super) struct Tracer {
    /// The tool.
    pub(super) tool: Tool,
    /// Its arguments.
    pub(super) args: Vec<String>,
}

/// Where bpftrace looks for tracepoints.
const TRACEFS: &str = "/sys/kernel/debug/tracing/events/sched";

/// Gives it them where nobody has mounted them, for itself only.
const MOUNT: &str = "mount -t debugfs debugfs /sys/kernel/debug && \
     mount -t tracefs tracefs /sys/kernel/debug/tracing && exec \"$@\"";

/// bpftrace with the program that people write for this: the time between the switch-out of a thread
/// and its switch-in, summed by the user stack that it was switched out with.
pub(super) fn bpftrace(pid: u32) -> Result<Tracer> {
    let exe = PathBuf::from("bpftrace");
    tools::output(Command::new(&exe).arg("--version"))
        .context("bpftrace does not run (Debian has it in bpftrace)")?;
    let program = format!(
        "tracepoint:sched:sched_switch /pid == {pid}/ {{ \
           @start[args->prev_pid] = nsecs; @stack[args->prev_pid] = ustack; }} \
         tracepoint:sched:sched_switch /@start[args->next_pid]/ {{ \
           @ns[@stack[args->next_pid]] = sum(nsecs - @start[args->next_pid]); \
           delete(@start[args->next_pid]); }}"
    );
    let format = Format::Tracer {
        holds: "anon_inode:[perf_event]",
    };
    let own = ["-e".to_owned(), program];
    if Path::new(TRACEFS).is_dir() {
        let args = own.to_vec();
        return Ok(Tracer {
            tool: Tool { exe, format },
            args,
        });
    }
    let wrapped = ["--mount", "sh", "-c", MOUNT, "sh", "bpftrace"];
    Ok(Tracer {
        tool: Tool {
            exe: PathBuf::from("unshare"),
            format,
        },
        args: wrapped.into_iter().map(str::to_owned).chain(own).collect(),
    })
}

/// offcputime of libbpf-tools.
pub(super) fn offcputime(pid: u32) -> Result<Tracer> {
    let exe = PathBuf::from("offcputime");
    let help = tools::output(Command::new(&exe).arg("--help"))
        .context("offcputime does not run (Debian has it in libbpf-tools)")?;
    // That of BCC, in Python, has another size of everything.
    ensure!(
        help.contains("--stack-storage-size") && help.contains("duration"),
        "this offcputime is not that of libbpf-tools"
    );
    Ok(Tracer {
        tool: Tool {
            exe,
            format: Format::Tracer {
                holds: "anon_inode:bpf_link",
            },
        },
        args: vec!["-p".to_owned(), pid.to_string()],
    })
}
