//! The output file: opened before the recording, so that a path that cannot be written is an
//! error then and not after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use crate::privilege;

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}")]
pub struct OutputError {
    path: PathBuf,
    source: io::Error,
}

/// A file that will be written. What it held before stays until then; a file that was not there
/// is removed again when nothing was written.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    made: bool,
    written: bool,
}

/// Opens a file, or makes it; the second value says which.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            if let Some((user, group)) = privilege::behind_sudo() {
                // It is theirs. Where that cannot be, it is root's, and as good.
                let _root_keeps_it = fchown(&file, Some(user), Some(group));
            }
            Ok((file, true))
        }
        // A link to nothing is there as well, and its target is made.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let made = !path.exists();
            Ok((options.create(true).truncate(false).open(path)?, made))
        }
        Err(error) => Err(error),
    }
}

impl OutputFile {
    /// Opens a path for writing.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        let (file, made) = open(path).map_err(|source| OutputError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
            made,
            written: false,
        })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Empties it, and gives it away to be written bit by bit; `None` for a device or a pipe, which
    /// cannot be read again.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn stream(&mut self) -> Result<Option<File>, OutputError> {
        let mut begin = || {
            if !self.file.metadata()?.is_file() {
                return Ok(None);
            }
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.try_clone().map(Some)
        };
        let file = begin().map_err(|source| OutputError {
            path: self.path.clone(),
            source,
        })?;
        self.written |= file.is_some();
        Ok(file)
    }

    /// The file as the system knows it: device and inode.
    ///
    /// # Errors
    /// What the system says.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let found = self.file.metadata()?;
        Ok((found.dev(), found.ino()))
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&mut self, content: &[u8]) -> Result<(), OutputError> {
        let mut write = || {
            // Devices and pipes have no length and no position.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
                self.file.rewind()?;
            }
            self.file.write_all(content)?;
            self.file.flush()
        };
        write().map_err(|source| OutputError {
            path: self.path.clone(),
            source,
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.made && !self.written {
            let _gone_already = std::fs::remove_file(&self.path);
        }
    }
}
