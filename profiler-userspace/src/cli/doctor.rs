//! `pyscry doctor`: what this kernel and this user can and cannot do, and what to run to fix it.

use std::process::ExitCode;

use super::FAILURE;
use super::args::DoctorArgs;
use super::say;
use crate::bpf::{LoadError, LoadOptions, Programs, verified};
use crate::kernel::KernelOffsets;
use crate::kernel::btf::{Btf, VMLINUX};
use crate::privilege;

/// The oldest kernel that the programs load on.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

struct Finding {
    what: &'static str,
    result: Result<String, String>,
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kernel() -> Finding {
    let release = kernel_release();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= OLDEST_KERNEL {
        Ok(format!("Linux {release}"))
    } else {
        Err(format!(
            "Linux {release} is older than {}.{}: run a newer kernel",
            OLDEST_KERNEL.0, OLDEST_KERNEL.1
        ))
    };
    Finding {
        what: "kernel",
        result,
    }
}

fn architecture() -> Finding {
    let result = if cfg!(target_arch = "x86_64") {
        Ok("x86_64".to_owned())
    } else {
        Err(format!(
            "{}: only x86_64 can be profiled",
            std::env::consts::ARCH
        ))
    };
    Finding {
        what: "processor",
        result,
    }
}

fn btf() -> Finding {
    let result = Btf::of_kernel()
        .and_then(|btf| KernelOffsets::from_btf(&btf))
        .map(|_| format!("the kernel describes its types ({VMLINUX})"))
        .map_err(|error| {
            format!("{error}: run a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount /sys")
        });
    Finding {
        what: "BTF",
        result,
    }
}

fn privileges() -> Finding {
    let result = if privilege::is_root() {
        Ok("root".to_owned())
    } else if privilege::can_trace() {
        Ok("CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE".to_owned())
    } else {
        Err(format!(
            "neither root nor the capabilities: {}",
            privilege::with_sudo()
        ))
    };
    Finding {
        what: "privileges",
        result,
    }
}

fn pid_namespace() -> Finding {
    let result = if privilege::in_initial_pid_namespace() {
        Ok("the host's".to_owned())
    } else {
        Err(
            "this is a container: run pyscry on the host, or with its pid namespace \
             (docker run --pid=host --privileged)"
                .to_owned(),
        )
    };
    Finding {
        what: "process ids",
        result,
    }
}

fn programs(loaded: &Result<Programs, LoadError>) -> Finding {
    let result = match loaded {
        Ok(_) => Ok("every BPF program loads".to_owned()),
        Err(LoadError::NotPermitted) => Err(format!(
            "loading BPF programs is not permitted: {}",
            privilege::with_sudo()
        )),
        Err(error) => Err(error.to_string()),
    };
    Finding {
        what: "programs",
        result,
    }
}

fn sampling(programs: &mut Result<Programs, LoadError>) -> Finding {
    let result = match programs {
        Ok(programs) => programs
            .sample_cpus(1)
            .map(|()| "the software clock samples every CPU".to_owned())
            .map_err(|error| format!("{error}: sysctl kernel.perf_event_paranoid=1, or root")),
        Err(_) => Err("not tried, as the programs do not load".to_owned()),
    };
    Finding {
        what: "sampling",
        result,
    }
}

fn switches(programs: &mut Result<Programs, LoadError>) -> Finding {
    let result = match programs {
        Ok(programs) => programs
            .attach_life()
            .and_then(|()| programs.attach_off_cpu())
            .map(|()| "switches, forks, executions and exits can be seen".to_owned())
            .map_err(|error| error.to_string()),
        Err(_) => Err("not tried, as the programs do not load".to_owned()),
    };
    Finding {
        what: "off-CPU",
        result,
    }
}

/// Everything that a recording may ask of the kernel.
fn options() -> LoadOptions {
    LoadOptions {
        off_cpu: true,
        native: true,
        kernel: true,
        ..LoadOptions::default()
    }
}

/// Runs the subcommand: exit code 0 when everything works.
#[must_use]
pub fn main(args: &DoctorArgs) -> ExitCode {
    let mut loaded = Programs::load(&options());
    if args.programs {
        return print_programs(&loaded);
    }
    let findings = [
        kernel(),
        architecture(),
        btf(),
        privileges(),
        pid_namespace(),
        programs(&loaded),
        sampling(&mut loaded),
        switches(&mut loaded),
    ];
    let mut good = true;
    for Finding { what, result } in findings {
        match result {
            Ok(text) => say::result(&format!("ok    {what}: {text}")),
            Err(text) => {
                good = false;
                say::result(&format!("FAIL  {what}: {text}"));
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    }
}

fn print_programs(loaded: &Result<Programs, LoadError>) -> ExitCode {
    match loaded {
        Ok(programs) => {
            let mut counts = programs.verified_instructions();
            if counts.iter().any(|(_, count)| count.is_none())
                && let Ok(by_log) = verified::by_log(&options())
            {
                counts = by_log;
            }
            for (name, count) in counts {
                let count = count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
                say::result(&format!("program {name} verified {count} instructions"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            say::result(&format!("pyscry: {error}"));
            ExitCode::from(FAILURE)
        }
    }
}
