//! The interpreters that tests run on.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// One interpreter.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its whole version, `3.12.1`.
    pub version: String,
    /// Its executable, as it sees it itself.
    pub exe: PathBuf,
    /// Its root, where it lives in another one.
    pub root: Option<PathBuf>,
}

impl Interpreter {
    /// The 12 in 3.12.1.
    ///
    /// # Panics
    /// When the version is none.
    #[must_use]
    pub fn minor(&self) -> u8 {
        let minor = self
            .version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("{} is no version", self.version))
    }

    /// A command that runs it, in its root.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.root {
            None => Command::new(&self.exe),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(&self.exe);
                command
            }
        }
    }

    /// Whether it was built from source here: with its symbols, debug info and headers, which
    /// Debian's packages are without.
    #[must_use]
    pub fn is_built_here(&self) -> bool {
        self.root.is_none()
    }

    /// Its headers.
    ///
    /// # Panics
    /// When they are not where its installation has them.
    #[must_use]
    pub fn headers(&self) -> PathBuf {
        let prefix = self.exe.ancestors().nth(2).expect("a prefix");
        let found = prefix.join(format!("include/python3.{}", self.minor()));
        assert!(
            found.join("Python.h").exists(),
            "no headers in {}",
            found.display()
        );
        found
    }

    /// Puts a file where the interpreter sees it, and returns the path that it has there.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn place(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        // Tests of one process run side by side: each file has a directory of its own.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = format!("tmp/pyscry-tests/{}-{count}", std::process::id());
        let inside = Path::new("/").join(&directory);
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        let outside = root.join(&directory);
        std::fs::create_dir_all(&outside).expect("a directory for test programs");
        std::fs::write(outside.join(name), content).expect("a test program");
        inside.join(name)
    }
}

/// All interpreters.
///
/// # Panics
/// When nobody says which there are.
#[must_use]
pub fn all() -> Vec<Interpreter> {
    let Some(list) = std::env::var_os("PYSCRY_PYTHONS") else {
        panic!("PYSCRY_PYTHONS is not set: run the tests with `cargo xtask test`");
    };
    let text = std::fs::read_to_string(&list)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", list.to_string_lossy()));
    let found: Vec<_> = text.lines().filter_map(parse).collect();
    assert!(
        !found.is_empty(),
        "{} names no interpreter",
        list.to_string_lossy()
    );
    found
}

fn parse(line: &str) -> Option<Interpreter> {
    let mut fields = line.split('\t');
    let version = fields.next()?.to_owned();
    let exe = PathBuf::from(fields.next()?);
    let root = Some(fields.next()?)
        .filter(|root| *root != "-")
        .map(PathBuf::from);
    Some(Interpreter { version, exe, root })
}

/// Says that a test ran on a version, for the table at the end of `cargo xtask test`.
fn note(version: &str, test: &str) {
    if let Some(path) = std::env::var_os("PYSCRY_RAN")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
    {
        let _only_a_table = writeln!(file, "{version}\t{test}");
    }
}

/// Says that a test ran on all versions together.
///
/// # Panics
/// When nobody says which there are.
pub fn note_all(test: &str) {
    for interpreter in all() {
        note(&interpreter.version, test);
    }
}

/// Runs a test on every interpreter, and fails at the end when it failed on any.
///
/// # Panics
/// When the test failed somewhere.
pub fn on_each(test: &str, run: impl Fn(&Interpreter)) {
    on_all(test, all(), run);
}

/// As [`on_each`], on those that were built here: see [`Interpreter::is_built_here`].
///
/// # Panics
/// As there, and when there is none.
pub fn on_each_built_here(test: &str, run: impl Fn(&Interpreter)) {
    let mut chosen = all();
    chosen.retain(Interpreter::is_built_here);
    assert!(
        !chosen.is_empty(),
        "{test} needs an interpreter with symbols"
    );
    on_all(test, chosen, run);
}

fn on_all(test: &str, chosen: Vec<Interpreter>, run: impl Fn(&Interpreter)) {
    let mut failed = Vec::new();
    for interpreter in chosen {
        match catch_unwind(AssertUnwindSafe(|| run(&interpreter))) {
            Ok(()) => note(&interpreter.version, test),
            Err(_) => failed.push(interpreter.version),
        }
    }
    assert!(
        failed.is_empty(),
        "{test} failed on Python {}",
        failed.join(", ")
    );
}

/// Runs a test on one interpreter of the given minor version, of this system.
///
/// # Panics
/// When there is none, or the test failed.
pub fn on_one(test: &str, minor: u8, run: impl FnOnce(&Interpreter)) {
    let found = all()
        .into_iter()
        .find(|interpreter| interpreter.minor() == minor && interpreter.root.is_none())
        .unwrap_or_else(|| panic!("{test} needs a Python 3.{minor}: run `cargo xtask test`"));
    run(&found);
    note(&found.version, test);
}
