//! Finds CPython in a process: the module that contains it, its version, and `_PyRuntime`, by
//! symbol, by section, and then by search.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use profiler_common::mem::Memory;

use super::debug_offsets;
use super::layout::PythonLayout;
use super::tables;
use super::version::Version;
use crate::elf::{Elf, ElfImage, LoadMap};
use crate::process::file_key::FileKey;
use crate::process::maps::{self, Mapping};
use crate::process::{RemoteMemory, Searchable};

/// How `_PyRuntime` was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// By its symbol.
    Symbol,
    /// As the start of the section `.PyRuntime` (3.10 on).
    Section,
    /// By what it must contain, in the module's writable memory.
    Search,
}

impl Strategy {
    /// All of them, the surest first.
    pub const ALL: [Self; 3] = [Self::Symbol, Self::Section, Self::Search];
}

/// Where CPython is in a process.
#[derive(Clone, Debug)]
pub struct Located {
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// How it was found.
    pub strategy: Strategy,
    /// The version.
    pub version: Version,
    /// The module as /proc/PID/maps names it.
    pub module: PathBuf,
    /// The module as we can open it.
    pub host_path: PathBuf,
    /// Which file that is.
    pub key: Option<FileKey>,
    /// What the loader added to the module's addresses.
    pub load_bias: u64,
    /// Address of `PyCode_Type`, where the module has the symbol.
    pub code_type: Option<u64>,
}

/// One file that a process runs code from.
#[derive(Debug)]
struct Module {
    path: PathBuf,
    host_path: PathBuf,
    mapping: Mapping,
    /// Which file it is; `None` where it cannot be looked at.
    key: Option<FileKey>,
}

/// The modules among mappings, those that look like Python first. `host_path` is where we open the
/// file of one.
fn modules(maps: &[Mapping], host_path: impl Fn(&Mapping) -> PathBuf) -> Vec<Module> {
    let mut seen = HashSet::new();
    let mut found: Vec<_> = maps
        .iter()
        .filter(|mapping| mapping.executable && mapping.inode != 0)
        .filter(|mapping| seen.insert((mapping.inode, mapping.path.clone())))
        .map(|mapping| {
            let host_path = host_path(mapping);
            Module {
                path: mapping.path.clone(),
                key: FileKey::of(&host_path).ok(),
                host_path,
                mapping: mapping.clone(),
            }
        })
        .collect();
    found.sort_by_key(|module| !base_name(&module.path).contains("python"));
    found
}

fn base_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The version in `python3.8`, `libpython3.8.so.1.0`, `libpython3.7m.so.1.0`.
fn version_in_name(path: &Path) -> Option<Version> {
    let name = base_name(path);
    let rest = name
        .strip_prefix("lib")
        .unwrap_or(&name)
        .strip_prefix("python")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    Version::parse(rest[..digits].trim_end_matches('.')).map(|version| Version {
        micro: None,
        ..version
    })
}

/// `PY_VERSION` as `Py_GetVersion` holds it: a string such as `3.8.18`, of its own or, where the
/// linker merged them, at the end of a path.
fn version_in_strings(elf: &Elf<'_>) -> Option<Version> {
    let constants = elf.section_data(".rodata")?;
    let starts = [&b"\x003."[..], b"/3."];
    let found = starts
        .iter()
        .flat_map(|start| memchr::memmem::find_iter(constants, *start));
    found.into_iter().find_map(|at| {
        let text = &constants[at + 1..(at + 17).min(constants.len())];
        let end = memchr::memchr(0, text)?;
        let text = std::str::from_utf8(&text[..end]).ok()?;
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+.abrc".contains(&b));
        Version::parse(text)
            .filter(|version| version.is_supported() && plain && text.matches('.').count() == 2)
    })
}

/// Why no CPython that can be profiled was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The process's mappings cannot be read.
    #[error("cannot read the mappings of process {pid}: {source}")]
    Maps {
        /// The process.
        pid: u32,
        /// Why.
        source: std::io::Error,
    },
    /// No module of the process has a CPython runtime.
    #[error("process {pid} ({executable}) is not a Python: no CPython runtime is mapped in it")]
    NotPython {
        /// The process.
        pid: u32,
        /// Its executable.
        executable: String,
    },
    /// A Python outside the range.
    #[error(
        "process {pid} runs Python {version}, and pyscry can profile 3.{} to 3.{}",
        super::version::OLDEST_MINOR,
        super::version::NEWEST_MINOR
    )]
    Unsupported {
        /// The process.
        pid: u32,
        /// Its version.
        version: Version,
    },
}

/// What is known of a file, for every process that maps it.
#[derive(Clone, Debug)]
enum Known {
    /// No process that maps it has its CPython from there.
    NotPython,
    /// It contains CPython.
    Python(Facts),
}

/// A file that contains CPython. Addresses are the file's own.
#[derive(Clone, Debug)]
struct Facts {
    runtime: u64,
    strategy: Strategy,
    version: Version,
    code_type: Option<u64>,
    loads: LoadMap,
}

impl Facts {
    fn in_module(&self, module: &Module) -> Option<Located> {
        let mapping = &module.mapping;
        let bias = self.loads.load_bias(mapping.start, mapping.offset)?;
        Some(Located {
            runtime: self.runtime.wrapping_add(bias),
            strategy: self.strategy,
            version: self.version,
            module: module.path.clone(),
            host_path: module.host_path.clone(),
            key: module.key,
            load_bias: bias,
            code_type: self.code_type.map(|address| address.wrapping_add(bias)),
        })
    }
}

/// Files that were looked at, whatever they are: none is looked at twice.
#[derive(Debug, Default)]
pub struct KnownFiles {
    files: HashMap<FileKey, Known>,
}

impl KnownFiles {
    fn of(&self, module: &Module) -> Option<&Known> {
        self.files.get(module.key.as_ref()?)
    }

    fn insert(&mut self, module: &Module, known: Known) {
        if let Some(key) = module.key {
            if self.files.len() >= MOST_FILES {
                // None of them is lost for good: those that are still in use are looked at again.
                self.files.clear();
            }
            self.files.insert(key, known);
        }
    }
}

/// Files that are remembered at most.
const MOST_FILES: usize = 1 << 16;

/// Finds CPython in process `pid`.
///
/// # Errors
/// See [`LocateError`].
pub fn locate(pid: u32) -> Result<Located, LocateError> {
    locate_among(pid, &mut KnownFiles::default())
}

/// As [`locate`], with what is known of files.
///
/// # Errors
/// See [`LocateError`].
pub fn locate_among(pid: u32, known: &mut KnownFiles) -> Result<Located, LocateError> {
    find(pid, &Strategy::ALL, known)
}

/// As [`locate`], with the given strategies only, in their order.
///
/// # Errors
/// See [`LocateError`].
pub fn locate_by(pid: u32, strategies: &[Strategy]) -> Result<Located, LocateError> {
    find(pid, strategies, &mut KnownFiles::default())
}

fn find(pid: u32, strategies: &[Strategy], known: &mut KnownFiles) -> Result<Located, LocateError> {
    let maps = maps::of_process(pid).map_err(|source| LocateError::Maps { pid, source })?;
    let modules = modules(&maps, |mapping| maps::host_path(pid, mapping));
    let image = Image {
        pid,
        mem: &RemoteMemory::new(pid),
        executable: &|| crate::process::proc_file::executable(pid).ok(),
    };
    find_in(&image, modules, strategies, known)
}

/// Finds CPython in what is left of process `pid`, whose memory is `mem`: in the file that
/// `host_path` gives for one of its mappings.
///
/// # Errors
/// See [`LocateError`].
pub fn locate_in<M: Searchable>(
    pid: u32,
    mem: &M,
    maps: &[Mapping],
    host_path: impl Fn(&Mapping) -> PathBuf,
    executable: Option<&Path>,
) -> Result<Located, LocateError> {
    let modules = modules(maps, host_path);
    let image = Image {
        pid,
        mem,
        executable: &|| executable.map(Path::to_owned),
    };
    find_in(&image, modules, &Strategy::ALL, &mut KnownFiles::default())
}

/// A process, or what is left of it.
struct Image<'a, M> {
    pid: u32,
    mem: &'a M,
    /// Its executable, as it sees it.
    executable: &'a dyn Fn() -> Option<PathBuf>,
}

fn find_in<M: Searchable>(
    image: &Image<'_, M>,
    mut modules: Vec<Module>,
    strategies: &[Strategy],
    known: &mut KnownFiles,
) -> Result<Located, LocateError> {
    let pid = image.pid;
    for module in &modules {
        if let Some(Known::Python(facts)) = known.of(module)
            && let Some(located) = facts.in_module(module)
        {
            return Ok(located);
        }
    }
    modules.retain(|module| !matches!(known.of(module), Some(Known::NotPython)));
    for strategy in strategies {
        for module in &modules {
            if let Some((located, facts)) = in_module(image, module, *strategy)? {
                known.insert(module, Known::Python(facts));
                return Ok(located);
            }
        }
    }
    // Versions before 3.7 have no _PyRuntime: only the name tells.
    for module in &modules {
        if let Some(version) = version_in_name(&module.path).filter(|v| !v.is_supported()) {
            return Err(LocateError::Unsupported { pid, version });
        }
    }
    for module in modules.iter().filter(|module| never_is_python(module)) {
        known.insert(module, Known::NotPython);
    }
    let executable = (image.executable)().map_or_else(
        || "no executable".to_owned(),
        |path| path.display().to_string(),
    );
    Err(LocateError::NotPython { pid, executable })
}

/// Whether a file in which nothing was found is none that a search may find something in later, when
/// its interpreter has begun.
fn never_is_python(module: &Module) -> bool {
    let Ok(image) = ElfImage::open(&module.host_path) else {
        return true;
    };
    let says_version = image
        .parse()
        .is_ok_and(|elf| version_in_strings(&elf).is_some());
    !says_version && !base_name(&module.path).contains("python")
}

fn in_module<M: Searchable>(
    process: &Image<'_, M>,
    module: &Module,
    strategy: Strategy,
) -> Result<Option<(Located, Facts)>, LocateError> {
    // A file that cannot be opened or is no ELF file cannot hold a runtime that we can find.
    let Ok(image) = ElfImage::open(&module.host_path) else {
        return Ok(None);
    };
    let Ok(elf) = image.parse() else {
        return Ok(None);
    };
    let Some(bias) = elf.load_bias(module.mapping.start, module.mapping.offset) else {
        return Ok(None);
    };
    let mem = process.mem;
    let looks_like_python = base_name(&module.path).contains("python");
    let (runtime, version) = match strategy {
        Strategy::Symbol => {
            let Some(symbol) = elf.symbol("_PyRuntime") else {
                return Ok(None);
            };
            let runtime = symbol.address.wrapping_add(bias);
            (runtime, version_of(mem, &elf, module, bias, runtime))
        }
        Strategy::Section => {
            let Some((address, _)) = elf.section(".PyRuntime") else {
                return Ok(None);
            };
            let runtime = address.wrapping_add(bias);
            (runtime, version_of(mem, &elf, module, bias, runtime))
        }
        // Other modules are not searched: a wrong guess is worse than none.
        Strategy::Search if !looks_like_python && !is_executable(process, module) => {
            return Ok(None);
        }
        Strategy::Search => {
            let version = version_of(mem, &elf, module, bias, 0);
            let Some(runtime) = search(mem, &elf, bias, version) else {
                return Ok(None);
            };
            (runtime, version_of(mem, &elf, module, bias, runtime))
        }
    };
    let Some(version) = version else {
        return Ok(None);
    };
    if !version.is_supported() {
        return Err(LocateError::Unsupported {
            pid: process.pid,
            version,
        });
    }
    let facts = Facts {
        runtime: runtime.wrapping_sub(bias),
        strategy,
        version,
        code_type: elf.symbol("PyCode_Type").map(|symbol| symbol.address),
        loads: elf.load_map(),
    };
    Ok(facts.in_module(module).map(|located| (located, facts)))
}

fn is_executable<M>(process: &Image<'_, M>, module: &Module) -> bool {
    (process.executable)().is_some_and(|path| path == module.path)
}

/// The version: the runtime's own word (3.13 on), the variable `Py_Version` (3.11 on), the
/// string, the file's name. `runtime` is 0 where it is not known.
fn version_of<M: Memory>(
    mem: &M,
    elf: &Elf<'_>,
    module: &Module,
    bias: u64,
    runtime: u64,
) -> Option<Version> {
    if let Ok(version) = debug_offsets::version(mem, runtime) {
        return Some(version);
    }
    let variable = elf
        .symbol("Py_Version")
        .and_then(|symbol| mem.read_u64(symbol.address.wrapping_add(bias)).ok());
    variable
        .map(|hex| Version::from_hex(hex & u64::from(u32::MAX)))
        .filter(|version| version.major == 3)
        .or_else(|| version_in_strings(elf))
        .or_else(|| version_in_name(&module.path))
}

/// Finds the runtime by its content: the cookie of 3.13 on, or an interpreter whose thread states
/// point back to it.
fn search<M: Searchable>(
    mem: &M,
    elf: &Elf<'_>,
    bias: u64,
    version: Option<Version>,
) -> Option<u64> {
    for (address, size) in elf.writable_segments() {
        let start = address.wrapping_add(bias);
        let Ok(bytes) = mem.read_some(start, size as usize) else {
            continue;
        };
        let first = start.next_multiple_of(8) - start;
        let words = bytes
            .get(first as usize..)
            .unwrap_or_default()
            .chunks_exact(8);
        for (index, word) in words.enumerate() {
            let candidate = start + first + 8 * index as u64;
            if word == debug_offsets::COOKIE {
                return Some(candidate);
            }
            let Some(layout) = version
                .filter(|v| v.major == 3)
                .and_then(|v| tables::of_minor(v.minor))
            else {
                continue;
            };
            let pointer = word
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            if pointer % 8 == 0
                && (0x1_0000..1 << 47).contains(&pointer)
                && is_interpreter(mem, &layout, pointer)
            {
                return Some(candidate.wrapping_sub(layout.runtime_interpreters));
            }
        }
    }
    None
}

/// Whether an interpreter's first thread state points back to it, and belongs to a thread: a
/// thread pointer points to itself, with glibc as with musl.
fn is_interpreter<M: Memory>(mem: &M, layout: &PythonLayout, interp: u64) -> bool {
    let check = || {
        let tstate = mem
            .read_u64(interp.wrapping_add(layout.interp_threads))
            .ok()?;
        if tstate == 0 || tstate % 8 != 0 {
            return None;
        }
        let back = mem
            .read_u64(tstate.wrapping_add(u64::from(layout.walk.tstate_interp)))
            .ok()?;
        if back != interp {
            return None;
        }
        let id_at = tstate.wrapping_add(u64::from(layout.walk.tstate_thread_id));
        let thread = mem.read_u64(id_at).ok()?;
        (thread != 0 && mem.read_u64(thread).ok()? == thread).then_some(())
    };
    check().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_names() {
        let of = |name: &str| version_in_name(Path::new(name)).map(|v| (v.major, v.minor));
        assert_eq!(of("/usr/bin/python3.11"), Some((3, 11)));
        assert_eq!(of("/usr/lib/libpython3.8.so.1.0"), Some((3, 8)));
        assert_eq!(of("/usr/lib/libpython3.7m.so.1.0"), Some((3, 7)));
        assert_eq!(of("/usr/bin/python2.7"), Some((2, 7)));
        assert_eq!(of("/usr/bin/python3"), None);
        assert_eq!(of("/usr/bin/bash"), None);
    }
}
