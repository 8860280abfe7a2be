//! Which processes are recorded.

use std::fmt;

use super::criteria::{Cgroup, Comm, Container, Exclude, UserId};
use crate::process::identity::Identity;

/// Which processes are recorded: those that agree with each kind of criterion that there is, by any
/// one of the kind, unless they are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// All of the host, those that come included.
    pub all: bool,
    /// Processes by number.
    pub pids: Vec<u32>,
    /// Also the children of `pids`, or of a launched program, those that come included.
    pub subprocesses: bool,
    /// By the program's name.
    pub comms: Vec<Comm>,
    /// By user.
    pub users: Vec<UserId>,
    /// By control group.
    pub cgroups: Vec<Cgroup>,
    /// By container.
    pub containers: Vec<Container>,
    /// What is left out.
    pub excludes: Vec<Exclude>,
}

impl Selection {
    /// One process.
    #[must_use]
    pub fn pid(pid: u32) -> Self {
        Self {
            pids: vec![pid],
            ..Self::default()
        }
    }

    /// Whether a process is recorded for what it is itself. Of a child of one that is, ask
    /// [`Self::admits`].
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        let listed = match self.pids.is_empty() {
            true => self.is_host_wide(),
            false => self.pids.contains(&identity.pid),
        };
        listed && self.admits(identity)
    }

    /// Whether all but the number agrees: of a process that is known to be wanted by number, as a
    /// child of one that is, or as the launched program.
    #[must_use]
    pub fn admits(&self, identity: &Identity) -> bool {
        fn any<T>(kind: &[T], matches: impl Fn(&T) -> bool) -> bool {
            kind.is_empty() || kind.iter().any(matches)
        }
        any(&self.comms, |comm| comm.matches(identity))
            && any(&self.users, |user| user.matches(identity))
            && any(&self.cgroups, |cgroup| cgroup.matches(identity))
            && any(&self.containers, |container| container.matches(identity))
            && !self
                .excludes
                .iter()
                .any(|exclude| exclude.matches(identity))
    }

    /// Whether processes are looked for all over the host: of each new one is to be asked whether
    /// it matches.
    #[must_use]
    pub fn is_host_wide(&self) -> bool {
        self.pids.is_empty() && (self.all || self.has_filters())
    }

    /// Whether all processes of the host are recorded.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.is_host_wide() && !self.has_filters() && self.excludes.is_empty()
    }

    /// Whether a name, a user, a control group or a container is asked for.
    #[must_use]
    pub fn has_filters(&self) -> bool {
        !(self.comms.is_empty()
            && self.users.is_empty()
            && self.cgroups.is_empty()
            && self.containers.is_empty())
    }

    /// All but the numbers, behind what they are criteria of.
    pub(super) fn criteria(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (before, names) in [
            (" called ", list(&self.comms, " or ")),
            (" of user ", list(&self.users, " or ")),
            (" in control group ", list(&self.cgroups, " or ")),
            (" in container ", list(&self.containers, " or ")),
            (", without ", list(&self.excludes, " and ")),
        ] {
            if !names.is_empty() {
                write!(f, "{before}{names}")?;
            }
        }
        Ok(())
    }

    /// Whether it can be more than one process.
    #[must_use]
    pub fn can_be_many(&self) -> bool {
        self.is_host_wide() || self.subprocesses || self.pids.len() > 1
    }
}

/// As part of a sentence: `all processes`, `process 12 and its subprocesses`, `processes of user
/// www-data`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pids.as_slice(), self.subprocesses) {
            ([], _) if self.has_filters() => f.write_str("processes")?,
            ([], _) => f.write_str("all processes")?,
            ([pid], false) => write!(f, "process {pid}")?,
            ([pid], true) => write!(f, "process {pid} and its subprocesses")?,
            (pids, false) => write!(f, "processes {}", list(pids, " and "))?,
            (pids, true) => write!(f, "processes {} and their subprocesses", list(pids, ", "))?,
        }
        self.criteria(f)
    }
}

/// `a, b or c`.
fn list<T: ToString>(items: &[T], last: &str) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    match items.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{}{last}{end}", start.join(", ")),
        _ => items.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::container::ContainerId;

    const ID: &str = "3b1d2e4a5c6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";

    /// A worker of gunicorn in a container.
    fn worker() -> Identity {
        let cgroup = format!("/system.slice/docker-{ID}.scope");
        Identity {
            pid: 12,
            parent: 11,
            start_ticks: 5,
            comm: "gunicorn".to_owned(),
            command: "/usr/bin/python3 /usr/bin/gunicorn app".to_owned(),
            program: "python3".to_owned(),
            executable: Some("python3.12".to_owned()),
            uid: 33,
            user: "www-data".into(),
            container: ContainerId::innermost(&cgroup),
            cgroup,
            inner_pid: Some(2),
            kernel_thread: false,
        }
    }

    fn parse<T: std::str::FromStr<Err: fmt::Debug>>(texts: &[&str]) -> Vec<T> {
        let parsed = texts.iter().map(|text| text.parse().expect("valid"));
        parsed.collect()
    }

    #[test]
    fn names() {
        for (names, expected) in [
            (&["gunicorn"][..], true),
            (&["python3"], true),
            (&["python3.12"], true),
            (&["python3.*"], true),
            (&["gun?corn"], true),
            (&["*"], true),
            (&["uwsgi", "g*"], true),
            (&["gunicor"], false),
            (&["unicorn"], false),
            (&["python3.1"], false),
            (&["Gunicorn"], false),
        ] {
            let selection = Selection {
                comms: parse(names),
                ..Selection::default()
            };
            assert_eq!(selection.matches(&worker()), expected, "{names:?}");
            assert!(selection.is_host_wide() && !selection.is_everything());
        }
    }

    #[test]
    fn users() {
        for (users, expected) in [
            (&["33"][..], true),
            (&["0", "33"], true),
            (&["root"], false),
        ] {
            let selection = Selection {
                users: parse(users),
                ..Selection::default()
            };
            assert_eq!(selection.matches(&worker()), expected, "{users:?}");
        }
    }

    #[test]
    fn cgroups() {
        let whole = format!("/sys/fs/cgroup/system.slice/docker-{ID}.scope");
        for (path, expected) in [
            (whole.as_str(), true),
            ("/system.slice", true),
            ("system.slice/", true),
            ("/sys/fs/cgroup/pids/system.slice", true),
            ("/", true),
            ("/sys/fs/cgroup", true),
            ("/system", false),
            ("/pids/system.slice", false),
            ("/user.slice", false),
            ("/system.slice/docker", false),
        ] {
            let selection = Selection {
                cgroups: parse(&[path]),
                ..Selection::default()
            };
            assert_eq!(selection.matches(&worker()), expected, "{path}");
        }
    }

    #[test]
    fn containers() {
        let outer = "00ff".repeat(16);
        let nested = Identity {
            cgroup: format!("/docker/{outer}/docker/{ID}"),
            ..worker()
        };
        let machine = Identity {
            cgroup: "/lxc.payload.cafe/init.scope".to_owned(),
            container: Some(ContainerId::Name("cafe".to_owned())),
            ..worker()
        };
        let host = Identity {
            cgroup: "/init.scope".to_owned(),
            container: None,
            ..worker()
        };
        for (text, in_worker, in_nested, in_machine) in [
            (ID, true, true, false),
            ("3b1d2e4a5c6f", true, true, false),
            ("3B1D", true, true, false),
            ("00ff", false, true, false),
            ("3b1", false, false, false),
            ("cafe", false, false, true),
            ("caf", false, false, false),
        ] {
            let selection = Selection {
                containers: parse(&[text]),
                ..Selection::default()
            };
            assert_eq!(selection.matches(&worker()), in_worker, "{text}");
            assert_eq!(selection.matches(&nested), in_nested, "{text}");
            assert_eq!(selection.matches(&machine), in_machine, "{text}");
            assert!(!selection.matches(&host), "{text}");
        }
    }

    #[test]
    fn kinds_agree_and_excludes_win() {
        let both = Selection {
            comms: parse(&["gunicorn"]),
            users: parse(&["root"]),
            ..Selection::default()
        };
        assert!(!both.matches(&worker()));
        for (exclude, expected) in [
            ("gunicorn", false),
            ("comm=python*", false),
            ("pid=12", false),
            ("pid=0xc", false),
            ("user=33", false),
            ("cgroup=/system.slice", false),
            ("container=3b1d", false),
            ("nginx", true),
            ("pid=11", true),
            ("user=root", true),
            ("odd=gunicorn", true),
        ] {
            let selection = Selection {
                all: true,
                excludes: parse(&[exclude]),
                ..Selection::default()
            };
            assert_eq!(selection.matches(&worker()), expected, "{exclude}");
            assert!(selection.is_host_wide() && !selection.is_everything());
        }
    }

    #[test]
    fn numbers_and_children() {
        let listed = Selection {
            pids: vec![11, 12],
            ..Selection::default()
        };
        assert!(listed.matches(&worker()) && listed.can_be_many() && !listed.is_host_wide());
        let children = Selection {
            subprocesses: true,
            comms: parse(&["gunicorn"]),
            ..Selection::pid(11)
        };
        assert!(!children.matches(&worker()));
        assert!(children.admits(&worker()));
        assert!(children.can_be_many() && !children.is_host_wide());
        assert!(!Selection::pid(12).can_be_many());
        // Nothing that is asked for is nothing.
        assert!(!Selection::default().matches(&worker()));
        let all = Selection {
            all: true,
            ..Selection::default()
        };
        assert!(all.is_everything() && all.matches(&worker()));
    }
}
