//! Files below a target's root, which the target's links cannot lead out of.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A directory that is the root of a process; it stays open when the process ends.
#[derive(Debug)]
pub(super) struct Root {
    directory: File,
}

impl Root {
    /// Opens `/proc/PID/root` or `/`.
    ///
    /// # Errors
    /// `ENOENT` when the process is gone, `EACCES` without the right to look.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(path)?;
        Ok(Self { directory })
    }

    /// Opens a regular file for reading, by its path inside: absolute links begin at this root,
    /// too. Never waits, as opening a FIFO would.
    ///
    /// # Errors
    /// As opening gives them, `EINVAL` for what is no regular file.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: plain numbers, for which 0 is a value.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        // SAFETY: path and options live through the call, and the size is that of the options.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                self.directory.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and that nobody else has.
        let file = unsafe { File::from_raw_fd(descriptor as i32) };
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let name = format!("pyscry-rooted-{}", std::process::id());
        let outside = std::env::temp_dir().join(name);
        let inside = outside.join("root");
        std::fs::create_dir_all(inside.join("etc")).expect("a directory");
        std::fs::write(outside.join("secret"), "outside").expect("a file");
        std::fs::write(inside.join("etc/file"), "inside").expect("a file");
        symlink("/etc/file", inside.join("absolute")).expect("a link");
        symlink("../secret", inside.join("upwards")).expect("a link");
        let root = Root::open(&inside).expect("a root");
        let mut text = String::new();
        root.file(Path::new("/absolute"))
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("a file");
        assert_eq!(text, "inside");
        assert!(root.file(Path::new("/upwards")).is_err());
        assert!(root.file(Path::new("/../secret")).is_err());
        assert!(root.file(Path::new("/etc")).is_err(), "no regular file");
        std::fs::remove_dir_all(&outside).expect("removed");
    }
}
