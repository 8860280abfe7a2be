//! `/proc/PID/maps`: what a process has mapped where.

use std::path::{Path, PathBuf};

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset of the first byte in the file.
    pub offset: u64,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// The file as the process sees it, without the kernel's ` (deleted)`; empty for none.
    pub path: PathBuf,
    /// Inode, 0 for no file.
    pub inode: u64,
}

/// Parses one line of `/proc/PID/maps`.
fn parse_line(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let perms = fields.next()?.as_bytes();
    let offset = fields.next()?;
    let _device = fields.next()?;
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or("").trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        writable: perms.get(1) == Some(&b'w'),
        executable: perms.get(2) == Some(&b'x'),
        path: PathBuf::from(path),
        inode,
    })
}

/// All mappings of a process, by address.
///
/// # Errors
/// As reading `/proc/PID/maps` gives them.
pub fn of_process(pid: u32) -> std::io::Result<Vec<Mapping>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// A file of the process, opened as the process would: through `map_files`, which works for
/// deleted and replaced files, else through its root.
#[must_use]
pub fn host_path(pid: u32, mapping: &Mapping) -> PathBuf {
    let direct = PathBuf::from(format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    ));
    if direct.exists() {
        return direct;
    }
    // Without the right to that directory (CAP_CHECKPOINT_RESTORE or root): the path is the
    // process's own where it has a mount namespace of its own, and ours where it has a chroot.
    let inside = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
    let through_root = Path::new(&format!("/proc/{pid}/root")).join(inside);
    if through_root.exists() {
        through_root
    } else {
        mapping.path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_shapes() {
        let line = "7f0a1000-7f0a3000 r-xp 00002000 fe:01 1234    /usr/lib/lib a.so (deleted)";
        let mapping = parse_line(line).expect("a mapping");
        assert_eq!((mapping.start, mapping.end), (0x7f0a_1000, 0x7f0a_3000));
        assert_eq!(mapping.path, PathBuf::from("/usr/lib/lib a.so"));
        assert!(mapping.executable && !mapping.writable);
        let anonymous = parse_line("00400000-00401000 rw-p 00000000 00:00 0 ").expect("a mapping");
        assert_eq!(anonymous.path, PathBuf::new());
        assert_eq!(parse_line("nonsense"), None);
    }
}
