//! The options that choose processes.

use super::{PROCESSES, parse_pid};
use crate::record::Selection;
use crate::record::criteria::{Cgroup, Comm, Container, Exclude, UserId};

/// Which processes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Which {
    /// Process to look at; several with commas, or by more of this option.
    #[arg(
        short, long, value_name = "PID", value_parser = parse_pid, value_delimiter = ',',
        help_heading = PROCESSES
    )]
    pub pid: Vec<u32>,
    /// Every process of the host, those that come included.
    #[arg(short, long, conflicts_with_all = ["pid", "program"], help_heading = PROCESSES)]
    pub all: bool,
    /// Also the subprocesses of --pid or of PROGRAM, those that come included.
    #[arg(short, long, help_heading = PROCESSES)]
    pub subprocesses: bool,
    /// Processes whose program has this name, or one like this pattern ('python3*'). Repeat it for
    /// more names; --comm, --user, --cgroup and --container together: those that agree with each.
    #[arg(long, value_name = "NAME", help_heading = PROCESSES)]
    pub comm: Vec<Comm>,
    /// Processes of this user, by name or number. Can be repeated.
    #[arg(long, value_name = "USER", help_heading = PROCESSES)]
    pub user: Vec<UserId>,
    /// Processes in this control group and those below it, such as /system.slice/app.service. Can
    /// be repeated.
    #[arg(long, value_name = "PATH", help_heading = PROCESSES)]
    pub cgroup: Vec<Cgroup>,
    /// Processes in this container: the beginning of its id, 4 digits or more (docker ps), or the
    /// name of an LXC container or of a machine. Can be repeated.
    #[arg(long, value_name = "ID", help_heading = PROCESSES)]
    pub container: Vec<Container>,
    /// Leave out what would be looked at: a program's name or pattern, or KIND=VALUE with KIND pid,
    /// comm, user, cgroup or container. Can be repeated.
    #[arg(long, value_name = "[KIND=]VALUE", help_heading = PROCESSES)]
    pub exclude: Vec<Exclude>,
}

impl Which {
    /// The same as a recording wants it; each process once.
    #[must_use]
    pub fn selection(&self) -> Selection {
        let mut pids: Vec<u32> = Vec::new();
        for pid in &self.pid {
            if !pids.contains(pid) {
                pids.push(*pid);
            }
        }
        Selection {
            all: self.all,
            pids,
            subprocesses: self.subprocesses,
            comms: self.comm.clone(),
            users: self.user.clone(),
            cgroups: self.cgroup.clone(),
            containers: self.container.clone(),
            excludes: self.exclude.clone(),
        }
    }
}
