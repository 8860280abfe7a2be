//! The separate debug file of a stripped one, where GDB looks for it ("Debugging Information in
//! Separate Files" in its manual).

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object};

use super::image::Image;
use super::rooted::Root;

/// Where distributions put them.
pub(super) const DEBUG_DIRECTORY: &str = "usr/lib/debug";

/// A build id of fewer bytes could be anybody's.
const MIN_BUILD_ID: usize = 8;

/// A file's build id; `None` when it has none worth the name.
pub(super) fn build_id<'data>(elf: &ElfFile64<'data, LittleEndian>) -> Option<&'data [u8]> {
    elf.build_id()
        .ok()
        .flatten()
        .filter(|id| id.len() >= MIN_BUILD_ID)
}

/// The debug file of a file: in its own root by build id, then by link; in ours by build id.
/// `path` is the file's own, as the target sees it.
pub(super) fn find(elf: &ElfFile64<'_, LittleEndian>, path: &Path, root: &Path) -> Option<File> {
    let id = build_id(elf);
    let by_id = id.map(by_build_id);
    let link = elf.gnu_debuglink().ok().flatten();
    if by_id.is_none() && link.is_none() {
        return None;
    }
    let theirs = Root::open(root).ok();
    let ours = || Root::open(Path::new("/")).ok();
    if let (Some(id), Some(by_id)) = (id, &by_id) {
        let found = theirs.as_ref().and_then(|root| root.file(by_id).ok());
        if let Some(file) = found.filter(|file| has_build_id(file, id)) {
            return Some(file);
        }
    }
    if let (Some((name, sum)), Some(root)) = (link, &theirs) {
        let own = root.file(path).ok().and_then(|file| file.metadata().ok());
        let found = by_link(path, name)
            .into_iter()
            .filter_map(|candidate| root.file(&candidate).ok())
            .filter(|file| match (&own, file.metadata()) {
                // A link may name the file that it is in.
                (Some(own), Ok(other)) => (own.dev(), own.ino()) != (other.dev(), other.ino()),
                _ => true,
            })
            .find(|file| belongs(file, id, sum));
        if found.is_some() {
            return found;
        }
    }
    let (id, by_id) = id.zip(by_id)?;
    ours()?
        .file(&by_id)
        .ok()
        .filter(|file| has_build_id(file, id))
}

/// `usr/lib/debug/.build-id/ab/cdef….debug`.
fn by_build_id(id: &[u8]) -> PathBuf {
    let hex = id.iter().map(|byte| format!("{byte:02x}"));
    let hex = hex.collect::<String>();
    let (first, rest) = hex.split_at(2);
    Path::new(DEBUG_DIRECTORY)
        .join(".build-id")
        .join(first)
        .join(format!("{rest}.debug"))
}

/// Where a `.gnu_debuglink` in `path` may lead to.
fn by_link(path: &Path, name: &[u8]) -> Vec<PathBuf> {
    let Some(name) = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && !name.contains('/'))
    else {
        return Vec::new();
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let inside = directory.strip_prefix("/").unwrap_or(directory);
    let mut found = vec![
        directory.join(name),
        directory.join(".debug").join(name),
        Path::new(DEBUG_DIRECTORY).join(inside).join(name),
    ];
    // Where /lib is a link to /usr/lib, packages may have either.
    if let Ok(merged) = inside.strip_prefix("usr") {
        found.push(Path::new(DEBUG_DIRECTORY).join(merged).join(name));
    }
    found
}

fn has_build_id(file: &File, id: &[u8]) -> bool {
    let image = Image::map(file);
    image
        .elf()
        .is_some_and(|debug| build_id(&debug) == Some(id))
}

/// Whether a debug file found by name is the right one: by the build ids where both have one,
/// else by the checksum that the link states.
fn belongs(file: &File, id: Option<&[u8]>, sum: u32) -> bool {
    let image = Image::map(file);
    let Some(debug) = image.elf() else {
        return false;
    };
    match (id, build_id(&debug)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => crc32fast::hash(&image) == sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(
            by_build_id(&[0xab, 0xcd, 0x01]),
            Path::new("usr/lib/debug/.build-id/ab/cd01.debug")
        );
        let places = by_link(Path::new("/usr/lib/x/libz.so.1"), b"libz.debug");
        assert_eq!(
            places,
            [
                "/usr/lib/x/libz.debug",
                "/usr/lib/x/.debug/libz.debug",
                "usr/lib/debug/usr/lib/x/libz.debug",
                "usr/lib/debug/lib/x/libz.debug",
            ]
            .map(PathBuf::from)
        );
        assert!(by_link(Path::new("/a"), b"../../etc/passwd").is_empty());
    }
}
