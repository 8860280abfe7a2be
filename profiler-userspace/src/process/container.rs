//! Containers, as their managers write them into the paths of control groups.

use std::fmt;

/// Digits of a container's id.
const DIGITS: usize = 64;
/// Digits that are shown, as `docker ps` does.
const SHOWN: usize = 12;

/// What a container is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerId {
    /// 64 hexadecimal digits, lower case: Docker, containerd, CRI-O, Podman.
    Digits(String),
    /// A name: LXC, Incus, systemd-nspawn.
    Name(String),
}

impl ContainerId {
    /// All containers that a control group's path lies in, outermost first: containers can hold
    /// containers.
    pub fn of_path(path: &str) -> impl DoubleEndedIterator<Item = Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let found: Vec<Self> = (0..parts.len())
            .filter_map(|index| {
                let before = index.checked_sub(1).map(|before| parts[before]);
                let behind = parts.get(index + 1).copied();
                digits(parts[index])
                    .map(Self::Digits)
                    .or_else(|| name(before, parts[index], behind).map(Self::Name))
            })
            .collect();
        found.into_iter()
    }

    /// The container that a control group's path lies in.
    #[must_use]
    pub fn innermost(path: &str) -> Option<Self> {
        Self::of_path(path).next_back()
    }

    /// Its first 12 digits, or its name.
    #[must_use]
    pub fn short(&self) -> &str {
        match self {
            Self::Digits(digits) => digits.get(..SHOWN).unwrap_or(digits),
            Self::Name(name) => name,
        }
    }

    /// All digits, or the name.
    #[must_use]
    pub fn whole(&self) -> &str {
        match self {
            Self::Digits(text) | Self::Name(text) => text,
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The id in a part of a path: alone (`ID`), or behind the manager's name (`docker-ID.scope`,
/// `kubepods-….slice:cri-containerd:ID`).
fn digits(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (manager, id) = match part.rfind(['-', ':']) {
        Some(at) => (&part[..at], &part[at + 1..]),
        None => ("", part),
    };
    // CRI-O's and Podman's monitor of a container, which runs outside of it.
    let monitor = manager.ends_with("conmon");
    let is_id = id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !monitor).then(|| id.to_ascii_lowercase())
}

/// The name of a container of LXC or of a machine of systemd, in a part of a path.
fn name(before: Option<&str>, part: &str, behind: Option<&str>) -> Option<String> {
    if matches!(before, Some("lxc" | "lxc.payload")) {
        return Some(part.to_owned());
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    if let Some(unit) = part.strip_prefix("systemd-nspawn@") {
        // Its own process, outside of the container, is in a group beside the container's.
        let outside = behind == Some("supervisor");
        return (!outside).then(|| unescape(unit.strip_suffix(".service").unwrap_or(unit)));
    }
    let unit = part.strip_prefix("machine-")?.strip_suffix(".scope")?;
    let name = unescape(unit);
    // Virtual machines are registered in the same way.
    let is_virtual = name.starts_with("qemu-");
    (before == Some("machine.slice") && !is_virtual && behind != Some("supervisor")).then_some(name)
}

/// systemd's names of units: `\x2d` is a `-`.
fn unescape(unit: &str) -> String {
    let mut pieces = unit.split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let byte = piece
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3b1d2e4a5c6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";
    const POD: &str = "pod0a1b2c3d-1111-2222-3333-444455556666";

    #[test]
    fn ids_as_managers_write_them() {
        let slice = POD.replace('-', "_");
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/system.slice/docker-{ID}.scope/init"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"),
            format!("/kubepods/burstable/{POD}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{slice}.slice/\
                 cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-{slice}.slice/crio-{ID}.scope"),
            format!("/kubepods.slice/kubepods-{slice}.slice/crio-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-{slice}.slice:cri-containerd:{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/default/{ID}"),
            format!("/docker/{}", ID.to_uppercase()),
        ] {
            let expected = Some(ContainerId::Digits(ID.to_owned()));
            assert_eq!(ContainerId::innermost(&path), expected, "{path}");
        }
        let id = ContainerId::innermost(&format!("/docker/{ID}")).expect("one");
        assert_eq!(id.to_string(), "3b1d2e4a5c6f");
    }

    #[test]
    fn names() {
        for (path, expected) in [
            ("/lxc/web", "web"),
            ("/lxc/101/ns/system.slice/cron.service", "101"),
            ("/lxc.payload/web/init.scope", "web"),
            ("/lxc.payload.web-1/system.slice", "web-1"),
            (
                "/machine.slice/systemd-nspawn@deb\\x2d12.service/payload/init.scope",
                "deb-12",
            ),
            ("/machine.slice/machine-deb\\x2d12.scope/payload", "deb-12"),
            ("/machine.slice/machine-odd\\xzz.scope", "odd\\xzz"),
        ] {
            let expected = Some(ContainerId::Name(expected.to_owned()));
            assert_eq!(ContainerId::innermost(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/user.slice/user-1000.slice/session-2.scope",
            "/lxc.monitor.web",
            "/lxc",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
            "/machine.slice/systemd-nspawn@deb.service/supervisor",
            "/docker/3b1d2e4a",
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/system.slice/crio-conmon-{ID}.scope"),
            &format!("/docker/{ID}0"),
        ] {
            assert_eq!(ContainerId::innermost(path), None, "{path}");
        }
    }

    #[test]
    fn one_in_another() {
        let inner = ID.replace('3', "4");
        let path = format!("/docker/{ID}/kubelet/kubepods/{POD}/{inner}");
        let all: Vec<_> = ContainerId::of_path(&path).collect();
        assert_eq!(
            all,
            [
                ContainerId::Digits(ID.to_owned()),
                ContainerId::Digits(inner)
            ]
        );
    }
}
