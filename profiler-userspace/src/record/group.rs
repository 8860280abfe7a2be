//! What of a process and a thread is shown at the root of their stacks.

use crate::output::text::clean;
use crate::process::container::ContainerId;
use crate::process::identity::Identity;

/// By what stacks are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Group {
    /// The process.
    Process,
    /// The process where it runs Python, and the program's name of all others together.
    ProcessOrCommand,
    /// The program's name.
    Command,
    /// The container.
    Container,
    /// The control group.
    Cgroup,
    /// The user.
    User,
    /// The thread.
    Thread,
}

/// What of a process its frames say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner<'a> {
    /// Its number; 0 of several that ended and are kept together.
    pub pid: u32,
    /// The kernel's name of it.
    pub comm: &'a str,
    /// Its command line.
    pub command: &'a str,
    /// Its user.
    pub user: &'a str,
    /// Its control group.
    pub cgroup: &'a str,
    /// Its container, short.
    pub container: Option<&'a str>,
    /// It is one of the kernel's threads.
    pub kernel_thread: bool,
    /// It runs Python.
    pub runs_python: bool,
}

impl<'a> Owner<'a> {
    /// As it is known.
    #[must_use]
    pub fn new(identity: &'a Identity, runs_python: bool) -> Self {
        Self {
            pid: identity.pid,
            comm: &identity.comm,
            command: &identity.command,
            user: &identity.user,
            cgroup: &identity.cgroup,
            container: identity.container.as_ref().map(ContainerId::short),
            kernel_thread: identity.kernel_thread,
            runs_python,
        }
    }
}

/// The frames at the root, outermost first. A thread that is not told has no frame.
#[must_use]
pub fn frames(
    groups: &[Group],
    owner: &Owner<'_>,
    thread: Option<(u32, Option<&str>)>,
) -> Vec<String> {
    let frame = |group: &Group| match group {
        Group::Process => Some(process_frame(owner)),
        Group::ProcessOrCommand if owner.runs_python => Some(process_frame(owner)),
        Group::ProcessOrCommand => Some(command_frame(owner)),
        Group::Command => Some(command_frame(owner)),
        Group::Container => Some(match owner.container {
            Some(id) => format!("container {}", clean(id)),
            None => "no container (host)".to_owned(),
        }),
        Group::Cgroup => Some(format!("cgroup {}", clean(owner.cgroup))),
        Group::User => Some(format!("user {}", clean(owner.user))),
        Group::Thread => thread.map(|(tid, name)| thread_frame(tid, name)),
    };
    groups.iter().filter_map(frame).collect()
}

/// As py-spy writes it: `process 12:"python app.py"`. Processes that ended and are kept together have
/// no number.
#[must_use]
pub fn process_frame(owner: &Owner<'_>) -> String {
    let command = match owner.command {
        "" => owner.comm,
        command => command,
    };
    match owner.pid {
        0 => format!("ended processes:\"{}\"", clean(command)),
        pid => format!("process {pid}:\"{}\"", clean(command)),
    }
}

/// All that is shown of a program that is not Python: `command nginx`. The kernel's threads of one
/// kind, of which each CPU has its own, have one name.
#[must_use]
pub fn command_frame(owner: &Owner<'_>) -> String {
    let name = match owner.kernel_thread {
        true => kernel_thread(owner.comm),
        false => owner.comm,
    };
    format!("command {}", clean(name))
}

/// The same of a program of which the kernel's name only is known. Names of the kernel's own threads
/// say what they are.
#[must_use]
pub fn command_of(comm: &str) -> String {
    const PER_CPU: [&str; 9] = [
        "kworker",
        "ksoftirqd",
        "migration",
        "cpuhp",
        "irq",
        "idle_inject",
        "rcuog",
        "rcuop",
        "rcuos",
    ];
    let kind = kernel_thread(comm);
    let name = if PER_CPU.contains(&kind) { kind } else { comm };
    format!("command {}", clean(name))
}

/// A thread's: `thread (12): MainThread`.
#[must_use]
pub fn thread_frame(tid: u32, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("thread ({tid}): {}", clean(name)),
        None => format!("thread ({tid})"),
    }
}

/// The name of a kernel thread without its CPU, pool or device.
fn kernel_thread(comm: &str) -> &str {
    match comm.split_once('/') {
        Some((kind, _)) if !kind.is_empty() => kind,
        _ => comm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            pid: 12,
            parent: 1,
            start_ticks: 5,
            comm: "gunicorn".to_owned(),
            command: "python3 -c 'a; b\nc'".to_owned(),
            program: "python3".to_owned(),
            executable: None,
            uid: 33,
            user: "www-data".into(),
            cgroup: "/".to_owned(),
            container: Some(ContainerId::Digits("3b1d2e4a5c6f708192a3".to_owned())),
            inner_pid: None,
            kernel_thread: false,
        }
    }

    #[test]
    fn the_root_of_a_stack() {
        let groups = [
            Group::Container,
            Group::Cgroup,
            Group::User,
            Group::Command,
            Group::Process,
            Group::Thread,
        ];
        let found = frames(
            &groups,
            &Owner::new(&identity(), true),
            Some((15, Some("a;b"))),
        );
        let expected = [
            "container 3b1d2e4a5c6f",
            "cgroup /",
            "user www-data",
            "command gunicorn",
            "process 12:\"python3 -c 'a: b c'\"",
            "thread (15): a:b",
        ];
        assert_eq!(found, expected);
        let on_host = Identity {
            container: None,
            command: String::new(),
            ..identity()
        };
        let found = frames(&groups, &Owner::new(&on_host, true), None);
        let expected = [
            "no container (host)",
            "cgroup /",
            "user www-data",
            "command gunicorn",
            "process 12:\"gunicorn\"",
        ];
        assert_eq!(found, expected);
        assert!(frames(&[], &Owner::new(&on_host, true), Some((15, None))).is_empty());
        let either = [Group::ProcessOrCommand];
        let process = frames(&either, &Owner::new(&on_host, true), None);
        assert_eq!(process, ["process 12:\"gunicorn\""]);
        let command = frames(&either, &Owner::new(&on_host, false), None);
        assert_eq!(command, ["command gunicorn"]);
        assert_eq!(thread_frame(15, None), "thread (15)");
    }

    #[test]
    fn programs_that_are_not_python() {
        for (comm, kernel_thread, expected) in [
            ("kworker/u8:3-events", true, "command kworker"),
            ("kworker/R-rcu_gp", true, "command kworker"),
            ("ksoftirqd/1", true, "command ksoftirqd"),
            ("migration/0", true, "command migration"),
            ("cpuhp/1", true, "command cpuhp"),
            ("rcuog/3", true, "command rcuog"),
            ("irq/27-nvme0q1", true, "command irq"),
            ("kswapd0", true, "command kswapd0"),
            ("nginx", false, "command nginx"),
            ("java/7", false, "command java/7"),
            ("/odd", true, "command /odd"),
        ] {
            let identity = Identity {
                comm: comm.to_owned(),
                kernel_thread,
                ..identity()
            };
            assert_eq!(command_frame(&Owner::new(&identity, false)), expected);
        }
    }
}
