//! Small libraries that a test compiles.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};

/// Runs a tool, which must succeed.
///
/// # Panics
/// When it does not.
pub fn run<S: AsRef<OsStr>>(directory: &Path, program: &str, arguments: &[S]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Compiles a source file with GCC into a shared library beside it.
///
/// # Panics
/// When that fails.
#[must_use]
pub fn library(directory: &Path, source: &str, text: &str, flags: &[&str]) -> PathBuf {
    std::fs::write(directory.join(source), text).expect("a source file");
    let compiler = if source.ends_with(".c") { "gcc" } else { "g++" };
    let mut arguments = vec!["-shared", "-fPIC", "-o", "libtest.so", source];
    arguments.extend(flags);
    run(directory, compiler, &arguments);
    directory.join("libtest.so")
}

/// An instruction that a test finds again by [`marks`], a statement of a C function.
#[must_use]
pub fn mark(number: u32) -> String {
    format!(
        r#"__asm__ volatile("1: nop\n.pushsection .marks,\"a\"\n.long {number}, 1b - .\n.popsection")"#
    )
}

/// The addresses of all [`mark`]s of a file, by their numbers.
///
/// # Panics
/// When the file is no ELF file or has none.
#[must_use]
pub fn marks(path: &Path) -> Vec<u64> {
    let data = std::fs::read(path).expect("a file");
    let elf = object::File::parse(&*data).expect("an ELF file");
    let section = elf.section_by_name(".marks").expect("marks");
    let bytes = section.data().expect("its bytes");
    let places = (section.address() + 4..).step_by(8);
    let mut found = bytes
        .chunks_exact(8)
        .zip(places)
        .map(|(bytes, place)| {
            let number = |from: usize| {
                let bytes = bytes[from..from + 4].try_into();
                i32::from_le_bytes(bytes.expect("four bytes"))
            };
            (number(0), place.wrapping_add_signed(number(4).into()))
        })
        .collect::<Vec<_>>();
    found.sort_unstable();
    found.into_iter().map(|(_, address)| address).collect()
}

/// Address and size of a function.
///
/// # Panics
/// When the file has no such symbol.
#[must_use]
pub fn function(path: &Path, name: &str) -> (u64, u64) {
    let data = std::fs::read(path).expect("a file");
    let elf = object::File::parse(&*data).expect("an ELF file");
    let symbol = elf
        .symbols()
        .chain(elf.dynamic_symbols())
        .find(|symbol| symbol.name() == Ok(name))
        .unwrap_or_else(|| panic!("{} has no {name}", path.display()));
    (symbol.address(), symbol.size())
}
