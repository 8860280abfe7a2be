//! What processes can be chosen by: each of these is what a person types behind an option.

use std::fmt;
use std::str::FromStr;

use wildmatch::WildMatch;

use crate::process::container::ContainerId;
use crate::process::identity::Identity;
use crate::process::users;

/// Where control groups are mounted, which people type with the path.
const MOUNT: &str = "/sys/fs/cgroup";
/// Hierarchies of version 1, by the names of their directories below [`MOUNT`].
const HIERARCHIES: [&str; 17] = [
    "blkio",
    "cpu",
    "cpu,cpuacct",
    "cpuacct",
    "cpuacct,cpu",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls,net_prio",
    "perf_event",
    "pids",
    "rdma",
    "systemd",
    "unified",
];
/// Digits of a container's id from which on they are a beginning.
const FEWEST_DIGITS: usize = 4;

/// Why what was typed is no criterion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CriterionError {
    /// Nothing was typed.
    #[error("a name is missing: {0}")]
    Empty(&'static str),
    /// No such user.
    #[error(
        "this host has no user {0}; a user that only a container knows has a number here, which \
         `ps -o uid,comm -p PID` shows"
    )]
    NoUser(String),
    /// A path that is none of a control group.
    #[error(
        "{0} is not a control group: type its path below /sys/fs/cgroup, as /proc/PID/cgroup shows \
         it, such as /system.slice/app.service"
    )]
    NoCgroup(String),
    /// What cannot be a container.
    #[error(
        "{0} is not a container: type the beginning of its id, at least 4 digits (docker ps, \
         crictl ps, podman ps), or the name of an LXC container or of a machine"
    )]
    NoContainer(String),
    /// Not a process id.
    #[error("a process id is a number from 1 on")]
    NoPid,
}

/// Names of programs: exact, or a pattern with `*` and `?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comm(WildMatch);

impl Comm {
    /// Whether it is the kernel's name of a process, its first argument's or its executable's.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        // The kernel's name is cut at 15 bytes, and is a script's where the others are Python's.
        self.0.matches(&identity.comm)
            || self.0.matches(&identity.program)
            || identity
                .executable
                .as_deref()
                .is_some_and(|name| self.0.matches(name))
    }
}

impl FromStr for Comm {
    type Err = CriterionError;

    fn from_str(text: &str) -> Result<Self, CriterionError> {
        match text {
            "" => Err(CriterionError::Empty(
                "type a program's, such as gunicorn or 'python3*'",
            )),
            _ => Ok(Self(WildMatch::new(text))),
        }
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserId(pub u32);

impl UserId {
    /// Whether a process is the user's.
    #[must_use]
    pub fn matches(self, identity: &Identity) -> bool {
        self.0 == identity.uid
    }
}

impl FromStr for UserId {
    type Err = CriterionError;

    fn from_str(text: &str) -> Result<Self, CriterionError> {
        if text.is_empty() {
            return Err(CriterionError::Empty("type a user's, or a number"));
        }
        let number = text.parse().ok().or_else(|| users::number(text));
        number
            .map(Self)
            .ok_or_else(|| CriterionError::NoUser(text.to_owned()))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&users::name(self.0))
    }
}

/// A control group and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup(String);

impl Cgroup {
    /// Whether a process is in it or in one below.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        identity
            .cgroup
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Cgroup {
    type Err = CriterionError;

    fn from_str(text: &str) -> Result<Self, CriterionError> {
        if text.is_empty() {
            return Err(CriterionError::Empty("type a control group's path"));
        }
        let mounted = text
            .strip_prefix(MOUNT)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut parts: Vec<&str> = mounted
            .unwrap_or(text)
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(CriterionError::NoCgroup(text.to_owned()));
        }
        let is_hierarchy = parts.first().is_some_and(|part| HIERARCHIES.contains(part));
        if mounted.is_some() && is_hierarchy {
            parts.remove(0);
        }
        // The root is the beginning of all: no text in front of the others' first slash.
        Ok(Self(parts.iter().flat_map(|part| ["/", part]).collect()))
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// A container: the beginning of its id, or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container(String);

impl Container {
    /// Whether a process is in it, or in a container in it.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        // Most processes of most hosts are in none.
        identity.container.is_some()
            && ContainerId::of_path(&identity.cgroup).any(|id| self.is(&id))
    }

    fn is(&self, id: &ContainerId) -> bool {
        match id {
            ContainerId::Digits(digits) => {
                self.0.len() >= FEWEST_DIGITS && digits.starts_with(&self.0.to_ascii_lowercase())
            }
            ContainerId::Name(name) => *name == self.0,
        }
    }
}

impl FromStr for Container {
    type Err = CriterionError;

    fn from_str(text: &str) -> Result<Self, CriterionError> {
        if text.is_empty() {
            return Err(CriterionError::Empty(
                "type a container's, or the beginning of its id",
            ));
        }
        let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.contains(strange) {
            return Err(CriterionError::NoContainer(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Exclude {
    /// A process.
    Pid(u32),
    /// Programs of a name.
    Comm(Comm),
    /// A user's processes.
    User(UserId),
    /// A control group's processes.
    Cgroup(Cgroup),
    /// A container's processes.
    Container(Container),
}

impl Exclude {
    /// Whether a process is left out.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::Pid(pid) => identity.pid == *pid,
            Self::Comm(comm) => comm.matches(identity),
            Self::User(user) => user.matches(identity),
            Self::Cgroup(cgroup) => cgroup.matches(identity),
            Self::Container(container) => container.matches(identity),
        }
    }
}

impl FromStr for Exclude {
    type Err = CriterionError;

    /// `KIND=VALUE`, or a name. What stands in front of another `=` is part of a name.
    fn from_str(text: &str) -> Result<Self, CriterionError> {
        match text.split_once('=') {
            Some(("pid", value)) => pid(value).map(Self::Pid).ok_or(CriterionError::NoPid),
            Some(("comm", value)) => value.parse().map(Self::Comm),
            Some(("user", value)) => value.parse().map(Self::User),
            Some(("cgroup", value)) => value.parse().map(Self::Cgroup),
            Some(("container", value)) => value.parse().map(Self::Container),
            _ => text.parse().map(Self::Comm),
        }
    }
}

impl fmt::Display for Exclude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Comm(comm) => comm.fmt(f),
            Self::User(user) => write!(f, "user {user}"),
            Self::Cgroup(cgroup) => write!(f, "control group {cgroup}"),
            Self::Container(container) => write!(f, "container {container}"),
        }
    }
}

/// A process id: decimal, or hexadecimal with 0x.
#[must_use]
pub fn pid(text: &str) -> Option<u32> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let is_pid = |pid: &u32| *pid > 0 && i32::try_from(*pid).is_ok();
    parsed.ok().filter(is_pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none() {
        for (error, words) in [
            ("".parse::<Comm>().err(), "gunicorn"),
            ("".parse::<UserId>().err(), "a user's"),
            (
                "nobody has this name".parse::<UserId>().err(),
                "no user nobody has",
            ),
            ("".parse::<Cgroup>().err(), "path"),
            ("/a/../b".parse::<Cgroup>().err(), "/proc/PID/cgroup"),
            ("".parse::<Container>().err(), "id"),
            ("/docker/3b1d".parse::<Container>().err(), "docker ps"),
            ("my container".parse::<Container>().err(), "docker ps"),
            ("".parse::<Exclude>().err(), "gunicorn"),
            ("comm=".parse::<Exclude>().err(), "gunicorn"),
            ("pid=0".parse::<Exclude>().err(), "from 1 on"),
            ("pid=all".parse::<Exclude>().err(), "from 1 on"),
        ] {
            let text = error.expect(words).to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn process_ids() {
        assert_eq!(pid("12"), Some(12));
        assert_eq!(pid("0x10"), Some(16));
        for text in [
            "0",
            "-1",
            "me",
            "99999999999",
            "2147483648",
            "",
            "0x",
            "1.5",
            " 1",
        ] {
            assert_eq!(pid(text), None, "{text}");
        }
    }
}
