//! CPU quotas of control groups, and how often they held a process up: both versions of control
//! groups (`Documentation/admin-guide/cgroup-v2.rst`, `Documentation/scheduler/sched-bwc.rst`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A control group with a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// Its directory in the file system of control groups.
    directory: PathBuf,
    /// Its name: the path below the mount.
    name: String,
    quota: Quota,
    before: Stat,
}

/// How much CPU time a group may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// So much time of CPUs …
    pub time: Duration,
    /// … in each such period.
    pub period: Duration,
}

/// What a group was held up so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    times: u64,
    time: Duration,
}

/// A group that was held up during a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// The group.
    pub group: String,
    /// Its quota.
    pub quota: Quota,
    /// How often its threads were held up.
    pub times: u64,
    /// How long, added up over the CPUs on which they were.
    pub time: Duration,
}

/// The quotas that a process is under.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    groups: Vec<Group>,
}

impl Quotas {
    /// Those of some processes now; none where that cannot be told.
    #[must_use]
    pub fn of_all(pids: impl Iterator<Item = u32>) -> Self {
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        let mounts = read("/proc/self/mountinfo".to_owned());
        let memberships: BTreeSet<String> = pids
            .map(|pid| read(format!("/proc/{pid}/cgroup")))
            .collect();
        let mut known = BTreeSet::new();
        let mut groups = Vec::new();
        let of_all = memberships
            .iter()
            .flat_map(|membership| places(&mounts, membership));
        for (mount, path) in of_all {
            // A quota of each level counts.
            for level in Path::new(&path).ancestors() {
                let name = level.to_string_lossy().into_owned();
                let directory = mount.join(name.trim_start_matches('/'));
                if !known.insert(directory.clone()) {
                    continue;
                }
                if let Some(quota) = quota(&directory) {
                    let before = stat(&directory);
                    groups.push(Group {
                        directory,
                        name,
                        quota,
                        before,
                    });
                }
            }
        }
        Self { groups }
    }

    /// What the groups were held up since.
    #[must_use]
    pub fn since(&self) -> Vec<Throttled> {
        let held = |group: &Group| {
            let now = stat(&group.directory);
            let times = now.times.saturating_sub(group.before.times);
            (times != 0).then(|| Throttled {
                group: group.name.clone(),
                quota: group.quota,
                times,
                time: now.time.saturating_sub(group.before.time),
            })
        };
        self.groups.iter().filter_map(held).collect()
    }
}

/// Where the groups are that can have a quota: the mount, and the process's path below it.
fn places(mounts: &str, membership: &str) -> Vec<(PathBuf, String)> {
    let mut places = Vec::new();
    for line in membership.lines() {
        // `ID:CONTROLLERS:PATH`; version 2 has no controllers here.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let first = controllers.is_empty();
        if !first && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        for mount in mounts.lines() {
            // `ID PARENT DEVICE ROOT POINT OPTIONS… - TYPE SOURCE SUPER-OPTIONS`
            let Some((head, tail)) = mount.split_once(" - ") else {
                continue;
            };
            let mut head = head.split(' ').skip(3);
            let (Some(root), Some(point)) = (head.next(), head.next()) else {
                continue;
            };
            let mut tail = tail.split(' ');
            let kind = tail.next();
            let options = tail.nth(1).unwrap_or_default();
            let fits = match first {
                true => kind == Some("cgroup2"),
                false => kind == Some("cgroup") && options.split(',').any(|name| name == "cpu"),
            };
            let below = path.strip_prefix(root.trim_end_matches('/'));
            if let (true, Some(below)) = (fits, below) {
                places.push((
                    PathBuf::from(point),
                    format!("/{}", below.trim_start_matches('/')),
                ));
                break;
            }
        }
    }
    places
}

fn quota(directory: &Path) -> Option<Quota> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let (time, period) = match read("cpu.max") {
        Some(text) => {
            let (time, period) = text.trim().split_once(' ')?;
            (time.parse().ok()?, period.parse().ok()?)
        }
        None => (
            read("cpu.cfs_quota_us")?.trim().parse().ok()?,
            read("cpu.cfs_period_us")?.trim().parse().ok()?,
        ),
    };
    Some(Quota {
        time: Duration::from_micros(time),
        period: Duration::from_micros(period),
    })
}

fn stat(directory: &Path) -> Stat {
    let text = std::fs::read_to_string(directory.join("cpu.stat")).unwrap_or_default();
    let mut found = Stat::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let value = value.parse().unwrap_or(0);
        match name {
            "nr_throttled" => found.times = value,
            "throttled_usec" => found.time = Duration::from_micros(value),
            "throttled_time" => found.time = Duration::from_nanos(value),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu\n\
27 25 0:24 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn both_versions() {
        let membership = "3:cpuset:/a\n2:cpu,cpuacct:/jobs/slow\n0::/user.slice\n";
        assert_eq!(
            places(MOUNTS, membership),
            [
                ("/sys/fs/cgroup/cpu".into(), "/jobs/slow".to_owned()),
                ("/sys/fs/cgroup/unified".into(), "/user.slice".to_owned())
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_root() {
        let mounts = "9 1 0:25 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            places(mounts, "0::/docker/1/app\n"),
            [("/sys/fs/cgroup".into(), "/app".to_owned())]
        );
        assert_eq!(places(mounts, "0::/elsewhere\n"), []);
    }

    #[test]
    fn quotas_and_what_they_held_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("a file");
        };
        assert_eq!(quota(directory.path()), None);
        write("cpu.cfs_quota_us", "-1\n");
        write("cpu.cfs_period_us", "100000\n");
        assert_eq!(quota(directory.path()), None, "none");
        write("cpu.cfs_quota_us", "20000\n");
        let expected = Quota {
            time: Duration::from_millis(20),
            period: Duration::from_millis(100),
        };
        assert_eq!(quota(directory.path()), Some(expected));
        write("cpu.max", "max 100000\n");
        assert_eq!(quota(directory.path()), None, "none");
        write("cpu.max", "20000 100000\n");
        assert_eq!(quota(directory.path()), Some(expected));
        write(
            "cpu.stat",
            "nr_periods 9\nnr_throttled 3\nthrottled_time 7000\n",
        );
        let first = Stat {
            times: 3,
            time: Duration::from_nanos(7000),
        };
        assert_eq!(stat(directory.path()), first);
        write(
            "cpu.stat",
            "usage_usec 9\nnr_throttled 3\nthrottled_usec 7\n",
        );
        assert_eq!(stat(directory.path()), first);
    }
}
