//! Which file a path names at the moment: what is known of its content is known by that.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A file and what it held: another one, or a newer content, has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileKey {
    /// The key of a file, links followed.
    ///
    /// # Errors
    /// As `stat(2)` gives them.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}
