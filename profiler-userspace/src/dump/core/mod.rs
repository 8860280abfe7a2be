//! The dump of a process that ended, by its core file.
//!
//! - [`notes`]: what the kernel, or gdb, wrote of the process.
//! - [`memory`]: its memory: of the core file, and of the files that were mapped for what that
//!   leaves out.

mod memory;
mod notes;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::FileHeader as _;

use super::error::DumpError;
use super::interpreters;
use super::model::{DumpOptions, ProcessDump, Thread, ThreadState};
use super::reader::{Reader, incomplete};
use super::walk::walk;
use crate::python::inspect;
use crate::python::locate::{self, LocateError};
use crate::python::short_file::Files;
use memory::CoreMemory;
use notes::Notes;

/// Why a core file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// It cannot be opened.
    #[error("cannot read it: {0}")]
    Open(#[from] io::Error),
    /// It is no core file.
    #[error("this is no core file of a process on x86_64")]
    NoCore,
    /// It is damaged.
    #[error("the core file is damaged: {0}")]
    Broken(#[from] object::Error),
    /// A file that the process had mapped is needed, and is not here.
    #[error(
        "no Python was found: the core file leaves out what was in {}, and {why}. Read it where \
         the process ran",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is with it.
        why: &'static str,
    },
}

/// Reads all threads of a core file.
///
/// # Errors
/// [`DumpError`].
pub fn dump(path: &Path, options: &DumpOptions) -> Result<ProcessDump, DumpError> {
    let in_core = |source: CoreError| DumpError::Core {
        path: path.to_owned(),
        source,
    };
    let data = map(path).map_err(|error| in_core(error.into()))?;
    let notes = parse(&data).map_err(in_core)?;
    let mem = CoreMemory::new(&data, &notes, path).map_err(|error| in_core(error.into()))?;
    let pid = notes.pid;
    let executable = notes.executable();
    let located = locate::locate_in(
        pid,
        &mem,
        &mem.mappings(),
        |mapping| mem.place(&mapping.path),
        executable.as_deref(),
    );
    let located = located.map_err(|error| match (error, mem.first_missing()) {
        (LocateError::NotPython { .. }, Some((path, why))) => {
            in_core(CoreError::File { path, why })
        }
        (error, _) => DumpError::Inspect(error.into()),
    })?;
    let described = inspect::describe(&mem, pid, &located)?;
    // Where the process found its files, as far as they are still there. Its directory is not known.
    let files = Files::at(mem.root(&located.module), PathBuf::new());
    let mut reader = Reader::new(&mem, &described, files, options);
    let interpreters = interpreters::read(
        &mem,
        &described.layout,
        &described.entry,
        &reader,
        &described.states,
    );
    let mut threads = Vec::new();
    for state in &described.states {
        let interpreter = interpreters.get(&state.interp);
        let walked = walk(&mem, &described.entry, pid, state);
        let variables = reader.variables(&walked);
        let mut frames: Vec<_> = reader.frames(&walked, variables);
        frames.push(incomplete(walked.status));
        let holder = interpreter.map_or(0, |of| of.gil.holder);
        threads.push(Thread {
            id: state.thread_id,
            tid: notes.thread(state.thread_id),
            name: interpreter.and_then(|of| of.names.get(&state.thread_id).cloned()),
            state: ThreadState {
                owns_gil: holder != 0 && holder == state.address,
                ..ThreadState::default()
            },
            interpreter: interpreter.and_then(|of| of.id),
            frames: frames.into_iter().flatten().collect(),
            consistent: true,
            notes: Vec::new(),
        });
    }
    Ok(ProcessDump {
        pid,
        command: notes.command.clone(),
        version: located.version,
        executable: executable.unwrap_or(located.module).display().to_string(),
        core: Some((path.display().to_string(), notes.signal)),
        interpreters: interpreters.len(),
        threads,
    })
}

fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: who changes a core file while it is read makes us read something else, and who cuts it
    // off ends us: as with every file that is mapped.
    unsafe { Mmap::map(&file) }
}

fn parse(data: &[u8]) -> Result<Notes, CoreError> {
    let header = FileHeader64::<LittleEndian>::parse(data).map_err(|_| CoreError::NoCore)?;
    let endian = header.endian().map_err(|_| CoreError::NoCore)?;
    let is_core = header.e_type(endian) == elf::ET_CORE;
    if !is_core || header.e_machine(endian) != elf::EM_X86_64 {
        return Err(CoreError::NoCore);
    }
    Notes::read(header, endian, data)
}
