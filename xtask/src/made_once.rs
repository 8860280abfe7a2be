//! Directories of the cache that are made once, and again when what they are made of is another.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tools;

/// In a directory that is complete: what it was made of.
const STAMP: &str = ".pyscry-complete";

/// Returns the directory of this name in the cache. Where it is not complete, or was made of something
/// else, it is made anew: `make` fills the empty one.
pub(crate) fn made_once(
    name: impl AsRef<Path>,
    made_of: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = tools::cache()?.join(name);
    let stamp = directory.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == made_of) {
        return Ok(directory);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    make(&directory)?;
    fs::write(&stamp, made_of).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(directory)
}
