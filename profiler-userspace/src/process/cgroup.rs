//! The control group of a process, out of `/proc/PID/cgroup`.

use super::container::ContainerId;

/// Hierarchies of version 1 in which container managers and systemd put processes, in the order of
/// how much their paths tell.
const TELLING: [&str; 5] = ["pids", "cpu", "memory", "devices", "name=systemd"];
/// What the kernel writes behind the path of a group that was removed.
const REMOVED: &str = " (deleted)";

/// The path that tells most: `/` where a process is in no group of its own.
///
/// Under version 2 there is one. Hosts with both versions often leave that one at `/` and have the
/// groups in version 1, or have in one the container and in the other the service around it.
#[must_use]
pub fn path(text: &str) -> String {
    let lines: Vec<(&str, &str)> = text.lines().filter_map(hierarchy).collect();
    let unified = lines.iter().filter(|(names, _)| names.is_empty());
    let named = TELLING.iter().flat_map(|telling| {
        let has = move |(names, _): &&(&str, &str)| names.split(',').any(|name| name == *telling);
        lines.iter().filter(has)
    });
    let in_order: Vec<&str> = unified
        .chain(named)
        .chain(&lines)
        .map(|(_, path)| *path)
        .collect();
    in_order
        .iter()
        .find(|path| ContainerId::innermost(path).is_some())
        .or_else(|| in_order.iter().find(|path| **path != "/"))
        .map_or_else(|| "/".to_owned(), |path| (*path).to_owned())
}

/// The controllers of a line and its path.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    Some((controllers, path.strip_suffix(REMOVED).unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "/docker/3b1d2e4a5c6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";

    #[test]
    fn version_2() {
        for (text, expected) in [
            (
                "0::/system.slice/nginx.service\n",
                "/system.slice/nginx.service",
            ),
            ("0::/\n", "/"),
            ("", "/"),
            ("0::/a:b/c\n", "/a:b/c"),
            ("0::/gone.scope (deleted)\n", "/gone.scope"),
        ] {
            assert_eq!(path(text), expected, "{text:?}");
        }
    }

    #[test]
    fn version_1() {
        let text = "12:pids:/user.slice/user-1000.slice/session-2.scope\n\
                    11:cpuset:/\n\
                    10:perf_event:/\n\
                    4:cpu,cpuacct:/user.slice\n\
                    1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n";
        assert_eq!(path(text), "/user.slice/user-1000.slice/session-2.scope");
        let text = "3:cpuacct,cpu:/batch\n2:memory:/limits/batch\n1:name=systemd:/\n";
        assert_eq!(path(text), "/batch");
        assert_eq!(path("2:freezer:/mine\n1:name=systemd:/\n"), "/mine");
    }

    #[test]
    fn both_versions() {
        let text = "5:pids:/system.slice/app.service\n\
                    1:name=systemd:/system.slice/app.service\n0::/\n";
        assert_eq!(path(text), "/system.slice/app.service");
        let text = format!(
            "5:pids:{DOCKER}\n1:name=systemd:{DOCKER}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(path(&text), DOCKER);
    }
}
