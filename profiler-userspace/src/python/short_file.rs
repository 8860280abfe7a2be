//! The part of a file's path that tells a person which it is: from its package's directory on, as
//! py-spy trims it (`json/decoder.py`, `app.py`).

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Paths that are remembered at most.
const MOST: usize = 1 << 16;

/// Where the files of a process are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Tells views of the file system apart; 0 is ours.
    view: u64,
    root: PathBuf,
    directory: PathBuf,
}

impl Files {
    /// Those of a process, as long as it is there; then those of this one.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let namespace = |process: PathBuf| {
            let found = std::fs::metadata(process.join("ns/mnt"));
            found.map_or(0, |found| found.ino())
        };
        let (theirs, ours) = (namespace(of("")), namespace(PathBuf::from("/proc/self")));
        let root = std::fs::read_link(of("root"));
        let in_chroot = root.is_ok_and(|root| root != Path::new("/"));
        let view = match (in_chroot, theirs) {
            // A process in a chroot has a view of its own.
            (true, _) => u64::from(pid) << 32 | theirs & 0xffff_ffff,
            (false, 0) => 0,
            (false, theirs) if theirs == ours => 0,
            (false, theirs) => theirs,
        };
        Self {
            view,
            root: match view {
                0 => PathBuf::from("/"),
                _ => of("root"),
            },
            directory: of("cwd"),
        }
    }

    /// Those of a process whose root and working directory are here.
    #[must_use]
    pub fn at(root: PathBuf, directory: PathBuf) -> Self {
        Self {
            view: 0,
            root,
            directory,
        }
    }

    /// Where a path of the process is for us.
    fn path(&self, path: &Path) -> PathBuf {
        let mut parts = path.components();
        match parts.next() {
            Some(Component::RootDir) => self.root.join(parts.as_path()),
            _ => self.directory.join(path),
        }
    }
}

/// Short paths that are known.
#[derive(Debug, Default)]
pub struct ShortFiles {
    known: HashMap<(u64, Arc<str>), Arc<str>>,
}

impl ShortFiles {
    /// The short path of a file of a process.
    pub fn of(&mut self, files: &Files, file: &Arc<str>) -> Arc<str> {
        let key = (files.view, Arc::clone(file));
        if let Some(short) = self.known.get(&key) {
            return Arc::clone(short);
        }
        let is_package = |directory: &Path| files.path(&directory.join("__init__.py")).exists();
        let short = match shorten(file, is_package) {
            short if short == &**file => Arc::clone(file),
            short => short.into(),
        };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(key, Arc::clone(&short));
        short
    }
}

/// What is left of a path without the directories above its package. Names that are no paths, as
/// `<string>`, stay whole.
#[must_use]
pub fn shorten(file: &str, is_package: impl Fn(&Path) -> bool) -> &str {
    if file.starts_with('<') {
        return file;
    }
    let mut above = Path::new(file);
    while let Some(parent) = above.parent() {
        above = parent;
        if above.as_os_str().is_empty() || !is_package(above) {
            break;
        }
    }
    let short = Path::new(file).strip_prefix(above).ok();
    match short.and_then(Path::to_str) {
        None | Some("") => file,
        Some(short) => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_their_package() {
        let packages = ["/lib/json", "/x/a", "/x/a/b", "rel/p"];
        let is_package = |path: &Path| packages.iter().any(|found| Path::new(found) == path);
        for (file, short) in [
            ("/lib/json/decoder.py", "json/decoder.py"),
            ("/lib/threading.py", "threading.py"),
            ("/x/a/b/c.py", "a/b/c.py"),
            ("/x/a/other/c.py", "c.py"),
            ("rel/p/m.py", "p/m.py"),
            ("app.py", "app.py"),
            ("./app.py", "app.py"),
            (
                "<frozen importlib._bootstrap>",
                "<frozen importlib._bootstrap>",
            ),
            ("<a/b>", "<a/b>"),
            ("", ""),
            ("/", "/"),
            ("/é/工 具.py", "工 具.py"),
        ] {
            assert_eq!(shorten(file, is_package), short, "{file}");
        }
    }

    #[test]
    fn files_of_this_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let package = directory.path().join("pack");
        std::fs::create_dir(&package).expect("made");
        std::fs::write(package.join("__init__.py"), "").expect("written");
        let file = package.join("m.py").to_string_lossy().into_owned();
        let mut short = ShortFiles::default();
        let files = Files::of(std::process::id());
        assert_eq!(&*short.of(&files, &file.as_str().into()), "pack/m.py");
        std::fs::remove_file(package.join("__init__.py")).expect("removed");
        // Remembered.
        assert_eq!(&*short.of(&files, &file.as_str().into()), "pack/m.py");
    }
}
